"""How a search begins: auditions of random starts, and of ways to set up what the words ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bigsleep.casting import Casting, Role
from bigsleep.colours import tint_for
from bigsleep.cutouts import Cutouts, around, cut, whole
from bigsleep.errors import BigsleepError
from bigsleep.goal import Goal
from bigsleep.latents import MOST_NOISE, Basis, Latents, draw_noise, favour
from bigsleep.layers import PAPER, Layer, Layers, box_of, latents_of, shares_of, sprites_of
from bigsleep.layouts import LAYOUTS, WHOLE, Spot, arranged, relations_of
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.plan import Plan
from bigsleep.settings import Settings

BASIS = 5  # auditions that FuseDream mixes
TOGETHER = 8  # auditions in one pass
NAME_WEIGHT = 0.5  # of a class name's likeness to the words in its auditions, beside the picture's score
COVERAGE = 1.0  # of what is seen of each thing around its place, beside the score of the whole
CLOSE = 0.12  # a class whose name fits worse than the best one's by more is not tried
LIVELY = 0.5  # deviation of the noise that a thing begins with; at 0 all seeds would draw it alike
PAPERS = (PAPER, (0.86, 0.93, 0.99), (0.99, 0.93, 0.86), (0.9, 0.97, 0.88), (0.96, 0.9, 0.97), (0.99, 0.97, 0.85))
# Behind white things, which would be lost on the others.
DEEP_PAPERS = ((0.7, 0.85, 0.95), (0.76, 0.88, 0.72), (0.93, 0.84, 0.72), (0.7, 0.86, 0.86))


def never(heard: int) -> bool:
    """All auditions are to be heard."""
    return False


class Start:
    """Finds where searches begin. Names are judged by the whole perceptor, pictures by the steps' fast copies."""

    def __init__(
        self, generator: Generator, perceptor: Perceptor, fast_generator: Generator, fast_perceptor: Perceptor
    ) -> None:
        self.generator, self.perceptor = generator, perceptor
        self.fast_generator, self.fast_perceptor = fast_generator, fast_perceptor
        self.casting = Casting(generator, perceptor)
        self.device = generator.embeddings.device

    def __call__(
        self,
        goal: Goal,
        plan: Plan | None,
        settings: Settings,
        cutouts: Cutouts,
        random: torch.Generator,
        enough: Callable[[int], bool] = never,
    ) -> Layers:
        """The layers to begin with: the best of the auditions, seen in ``cutouts``. Without a plan there is one.

        Those of one layer, of which there may be thousands, ask after every few whether ``enough`` were heard.
        """
        if plan is None:
            return Layers([self.whole(self.alone(goal, settings, cutouts, random, enough))]).to(self.device)
        if self.generator.alpha and settings.init == "words":
            return Stage(self, goal, plan, settings, cutouts, random).best().to(self.device)
        return self.scattered(plan, settings, random).to(self.device)

    def whole(self, latents: Latents) -> Layer:
        """A layer that is the whole picture, and stays so."""
        return Layer(latents, torch.zeros(4), torch.zeros(6), ground=True, moves=False)

    def rest_on_basis(self, layer: Layer, settings: Settings) -> None:
        """Make the latents that a dream begins with a basis, where a basis can be what they are."""
        noise = layer.latents.noise
        if settings.classes == "linear" and noise.eq(noise[:1]).all():
            layer.latents = Basis.around(layer.latents, min(BASIS, settings.auditions), self.generator.embeddings)

    def scattered(self, plan: Plan, settings: Settings, random: torch.Generator) -> Layers:
        """A layer of random latents for each of a plan's things, where its words say that it stands."""
        spots = arranged(plan, [WHOLE] * plan.layers, [0] * len(relations_of(plan.tree)))
        noise, logits = self.random_latents(plan.layers, settings, random)
        layers = []
        for i, spot in enumerate(spots):
            latents = latents_of(noise[spot.layer], logits[spot.layer], settings)
            layer = Layer(latents, placement_of(spot), torch.zeros(6), ground=plan.ground is not None and i == 0)
            layers.append(layer)
        return Layers(layers, order=[spot.layer for spot in spots])

    def random_latents(self, count: int, settings: Settings, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise ``[count, S, Z]`` and class logits ``[count, S, C]``, whose rows are equal unless stages are free."""
        stages = self.generator.stages
        rows = stages if settings.stages == "free" else 1
        noise = draw_noise(count, rows, self.generator.noise_size, truncation=settings.truncation, generator=random)
        # Big Sleep's N(-3.9, 0.3), under which a sigmoid leaves each class 2 %; for a softmax around 0.
        mean = -3.9 if settings.classes == "sigmoid" else 0.0
        if settings.init == "classes" or settings.classes == "linear":
            noise = noise.clamp(-MOST_NOISE, MOST_NOISE)
            logits = torch.full((count, 1, self.generator.num_classes), mean)
            favour(logits, torch.randint(logits.shape[2], (count,), generator=random).tolist(), settings.classes)
        else:
            logits = mean + 0.3 * torch.randn(count, rows, self.generator.num_classes, generator=random)
        return noise.expand(-1, stages, -1), logits.expand(-1, stages, -1)

    def alone(
        self,
        goal: Goal,
        settings: Settings,
        cutouts: Cutouts,
        random: torch.Generator,
        enough: Callable[[int], bool] = never,
    ) -> Latents:
        """The latents of one layer that is the whole picture: the best audition's, or a basis of the best ones."""
        noise, logits = self.random_latents(settings.auditions, settings, random)
        names = torch.zeros(settings.auditions)
        if settings.init == "words":
            classes, likeness = self.casting.nearest_classes(goal)
            logits = logits.clone()
            favour(logits, classes, settings.classes)
            names = NAME_WEIGHT * likeness[torch.arange(settings.auditions) % len(likeness)]
        basis = settings.latents == "basis"
        if basis and settings.classes != "linear":
            raise BigsleepError("--latents basis mixes embeddings of classes: give --classes linear", usage=True)
        wanted = min(BASIS, settings.auditions) if basis else 1
        best = torch.arange(wanted)
        if settings.auditions > wanted:
            seen = whole(settings.resample) if settings.views == "augclip" else cutouts
            scores = torch.empty(0)
            for part in zip(noise.split(TOGETHER), logits.split(TOGETHER), strict=True):
                scores = torch.cat([scores, self.audition(goal, settings, seen, *part)])
                if enough(len(scores)):
                    break
            best = (scores + names[: len(scores)]).topk(wanted).indices
        if not basis:
            return latents_of(noise[int(best)], logits[int(best)], settings)
        return Basis.of(noise[best, 0], logits[best, 0], self.generator.embeddings, self.generator.stages, random)

    @torch.no_grad()
    def audition(self, goal: Goal, settings: Settings, cutouts: Cutouts, noise: Tensor, logits: Tensor) -> Tensor:
        """Scores ``[A]`` of starts ``[A, S, Z]`` and ``[A, S, C]``, each in all of ``cutouts``."""
        shares = shares_of(logits, settings)
        images = self.pictures(noise.to(self.device), shares.to(self.device))
        crops = [cut(image[None], cutouts, self.perceptor.size) for image in images]
        features = self.fast_perceptor.encode_images(torch.cat(crops))
        return goal.score(features).view(len(images), -1).mean(1).cpu()

    def pictures(self, noise: Tensor, shares: Tensor) -> Tensor:
        """Whole pictures ``[B, 3, size, size]`` in 0..1 of single layers."""
        made = self.fast_generator(noise, shares)
        if not self.generator.alpha:
            return made / 2 + 0.5
        sprites = sprites_of(made)
        return sprites[:, :3] + (1 - sprites[:, 3:]) * sprites.new_tensor(PAPER)[:, None, None]


def placement_of(spot: Spot) -> Tensor:
    return torch.tensor([spot.x, spot.y, math.log(max(spot.scale, 1e-2)), 0.0])


@dataclass(frozen=True)
class Choice:
    """One way to set a plan up: a role for each thing, a layout for each relation, a side for each layer to face."""

    roles: tuple[int, ...]
    layouts: tuple[int, ...]
    mirrors: tuple[float, ...]


class Stage:
    """Auditions of ways to set up what the words ask for, with a generator that has alpha.

    Gradients recolour things but do not rearrange them, while the perceptor judges finished arrangements rightly: so classes
    near each name, layouts and sides are tried, one change at a time, and what scores better is kept.
    """

    def __init__(
        self, start: Start, goal: Goal, plan: Plan, settings: Settings, cutouts: Cutouts, random: torch.Generator
    ) -> None:
        self.start, self.goal, self.plan, self.settings = start, goal, plan, settings
        self.cutouts, self.random = cutouts, random
        casting = start.casting
        self.roles = [close(roles) for roles in casting.roles(plan, faced(plan.tree))]
        self.ground = None if plan.ground is None else casting.ground(plan.ground)
        self.relations = relations_of(plan.tree)
        self.owner = [i for i, thing in enumerate(plan.things) for _ in range(thing.count)]  # layer → thing
        papers = DEEP_PAPERS if any(thing.colour == "white" for thing in plan.things) else PAPERS
        self.paper = papers[self.dice(len(papers))]
        self.noise = LIVELY * torch.randn(plan.layers, 1, start.generator.noise_size, generator=random)
        for i, thing in enumerate(self.owner, plan.ground is not None):
            if plan.things[thing].colour:
                self.noise[i] = 0  # no chance shall tint what has its colour from the words
        self.draw()

    def dice(self, sides: int) -> int:
        return int(torch.randint(sides, (), generator=self.random))

    @torch.no_grad()
    def draw(self) -> None:
        """A sprite for each class that may come on, its box, and the tint that gives it its colour."""
        wanted = [role.place for roles in self.roles for role in roles]
        wanted += [] if self.ground is None else [self.ground]
        places = list(dict.fromkeys(wanted))
        generator, device = self.start.fast_generator, self.start.device
        logits = self.logits_of(places)
        noise = torch.zeros(len(places), generator.stages, generator.noise_size)
        shares = shares_of(logits, self.settings)
        self.sprites = dict(zip(places, sprites_of(generator(noise.to(device), shares.to(device))).cpu(), strict=True))
        self.boxes = {place: box_of(sprite) for place, sprite in self.sprites.items()}
        self.tints = {
            (i, role.place): tint_for(self.sprites[role.place], thing.colour) if thing.colour else torch.zeros(6)
            for i, (thing, roles) in enumerate(zip(self.plan.things, self.roles, strict=True))
            for role in roles
        }

    def logits_of(self, places: Sequence[int]) -> Tensor:
        """Class logits ``[N, S, C]`` that begin near one class each."""
        generator = self.start.generator
        logits = torch.zeros(len(places), generator.stages, generator.num_classes)
        for row, place in zip(logits, places, strict=True):
            favour(row[None], [place], self.settings.classes)
        return logits

    def thing(self, layer: int) -> int | None:
        """The thing that a layer is; None for the ground."""
        number = layer - (self.ground is not None)
        return None if number < 0 else self.owner[number]

    def place(self, choice: Choice, layer: int) -> int:
        """The class of a layer."""
        thing = self.thing(layer)
        if thing is None:
            assert self.ground is not None
            return self.ground
        return self.roles[thing][choice.roles[thing]].place

    def layers(self, choice: Choice) -> Layers:
        """The layers that a choice makes."""
        places = [self.place(choice, layer) for layer in range(self.plan.layers)]
        boxes = [mirrored(self.boxes[place], side) for place, side in zip(places, choice.mirrors, strict=True)]
        made, spots = [], arranged(self.plan, boxes, choice.layouts)
        for spot in spots:
            thing, place = self.thing(spot.layer), places[spot.layer]
            ground = thing is None
            tint = torch.zeros(6) if thing is None else self.tints[thing, place]
            noise = self.noise[spot.layer].expand(self.start.generator.stages, -1)
            latents = latents_of(noise, self.logits_of([place])[0], self.settings)
            made.append(Layer(latents, placement_of(spot), tint, choice.mirrors[spot.layer], ground, moves=not ground))
        return Layers(made, self.paper, [spot.layer for spot in spots])

    def best(self) -> Layers:
        """The layers of the best way that the auditions found; of the words alone, where there is one audition."""
        mirrors = tuple(-1.0 if self.dice(2) else 1.0 for _ in range(self.plan.layers))
        best = Choice((0,) * len(self.roles), (0,) * len(self.relations), mirrors)
        left = self.settings.auditions - 1
        if left:
            score = self.scores([best])[0]
        while left > 0:
            ways = self.changes(best)
            if not ways:
                break
            order = torch.randperm(len(ways), generator=self.random).tolist()[:left]
            left -= len(order)
            found = self.scores([ways[i] for i in order])
            top = max(range(len(found)), key=found.__getitem__)
            if found[top] <= score:
                break
            best, score = ways[order[top]], found[top]
        return self.layers(best)

    def changes(self, choice: Choice) -> list[Choice]:
        """All that differ from a choice in one thing."""
        ways = []
        for i, roles in enumerate(self.roles):
            ways += [replace(choice, roles=put(choice.roles, i, r)) for r in range(len(roles)) if r != choice.roles[i]]
        for i, relation in enumerate(self.relations):
            options = range(len(LAYOUTS[relation]))
            ways += [replace(choice, layouts=put(choice.layouts, i, o)) for o in options if o != choice.layouts[i]]
        for i in range(int(self.ground is not None), self.plan.layers):
            ways.append(replace(choice, mirrors=put(choice.mirrors, i, -choice.mirrors[i])))
        return ways

    @torch.no_grad()
    def scores(self, choices: Sequence[Choice]) -> list[float]:
        """How good ways to set the plan up look, and how well their names fit."""
        size, device = self.start.perceptor.size, self.start.device
        crops, fits = [], []
        for choice in choices:
            layers = self.layers(choice)
            places = [self.place(choice, layer) for layer in layers.order]
            picture = layers.composed(torch.stack([self.sprites[place] for place in places]), size)[None].to(device)
            crops.append(cut(picture, self.cutouts, size))
            crops += [cut(picture, around(layer.placement, 1), size) for layer in layers if not layer.ground]
            fits.append(sum(roles[i].fit for roles, i in zip(self.roles, choice.roles, strict=True)) / len(self.roles))
        features = torch.cat([self.start.fast_perceptor.encode_images(part) for part in torch.cat(crops).split(64)])
        return [
            self.score(seen, layers) + NAME_WEIGHT * fit
            for seen, layers, fit in zip(
                features.view(len(choices), -1, features.shape[1]), map(self.layers, choices), fits, strict=True
            )
        ]

    def score(self, seen: Tensor, layers: Layers) -> float:
        """The score of one way, whose whole and parts have unit features ``seen`` ``[V, D]``."""
        count = len(self.cutouts)
        score = float(self.goal.score(seen[:count]).mean())
        parts = [
            float(goal.score(view[None]))
            for view, goal in zip(
                seen[count:], (self.goal.parts[i] for i in layers.order if i or self.ground is None), strict=True
            )
            if goal is not None
        ]
        return score + COVERAGE * sum(parts) / max(len(parts), 1)


def put(values: tuple, place: int, value: float) -> tuple:  # type: ignore[type-arg]
    return (*values[:place], value, *values[place + 1 :])


def close(roles: list[Role]) -> list[Role]:
    """The roles that fit about as well as the best."""
    return [role for role in roles if role.fit >= roles[0].fit - CLOSE]


def mirrored(box: tuple[float, float, float, float], side: float) -> tuple[float, float, float, float]:
    return box if side > 0 else (-box[2], box[1], -box[0], box[3])


def faced(tree: object) -> set[int]:
    """The things that wear something on their heads: of those a face shows more than a figure."""
    if not isinstance(tree, tuple):
        return set()
    relation, first, second = tree
    found = faced(first) | faced(second)
    return found | {first} if relation in ("wearing-head", "wearing-eyes") and isinstance(first, int) else found
