"""One dream from words to picture: models ready, settings complete, optimise, snapshots out. The public API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from bigsleep.course import together
from bigsleep.errors import BigsleepError
from bigsleep.goal import Goal
from bigsleep.loading import Models, complete_settings
from bigsleep.models.perceptor import Perceptor, tokens_of
from bigsleep.origin import Going, Origin, start_with
from bigsleep.picture import Picture
from bigsleep.plan import planned
from bigsleep.prompt import Phrase, Prompt, parse_phrase
from bigsleep.recipe import FORMAT, circumstances
from bigsleep.settings import Settings
from bigsleep.snapshot import Progress, Snapshot, drawn
from bigsleep.state import encode, named


def read_prompt(text: str, settings: Settings) -> Prompt:
    """The prompt that ``text`` and ``settings.avoid`` make; a :class:`BigsleepError` if it has no words or too many."""
    prompt = Prompt.parse(text, settings.avoid)
    tokens_of([phrase.text for phrase in prompt.phrases])
    return prompt


def image_phrases(image_prompts: Iterable[str]) -> list[Phrase]:
    """Files and weights of image prompts, ``FILE`` or ``FILE:WEIGHT``."""
    return [parse_phrase(text, text) for text in image_prompts]


@torch.no_grad()
def image_features(path: str, perceptor: Perceptor) -> Tensor:
    """CLIP's features ``[D]`` of the image in a file, rounded to fp16, as pictures keep them."""
    image = ImageOps.fit(Picture.open(path).image, (perceptor.size, perceptor.size))
    pixels = pixels_of(image).to(next(perceptor.visual.parameters()).device)
    return perceptor.encode_images(pixels[None])[0].half().float().cpu()


def pixels_of(image: Image.Image) -> Tensor:
    """An RGB image as ``[3, H, W]`` in 0..1."""
    return (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .view(image.height, image.width, 3)
        .permute(2, 0, 1)
        / 255
    )


class Dream:
    """One prompt, optimised once. Iterate over it for its snapshots; ``best`` is the best so far.

    Parameters
    ----------
    prompt
        Words, as on the command line: ``"a house|a garden:0.5"``.
    settings
        Options; single ones may also be given by name: ``Dream("a house", steps=200, seed=1)``.
    models
        Loaded models to use again; loaded as the settings say where left out.
    on_step
        Called with a :class:`Progress` after every step, and after every few auditions before the first.
    note
        Called with each line a user should see.
    start
        A picture to begin with, or the path of one: as the option ``start``.
    origin
        What to begin with otherwise: a dream to go on with, or to see again (see :mod:`bigsleep.origin`).

    Raises
    ------
    BigsleepError
        For a prompt or option that cannot be used, before any model is loaded where that can be known. While iterating,
        where the dream diverges or the memory ends.

    Examples
    --------
    >>> for snapshot in Dream("a red heart", model="emoji", steps=20, save_every=10, seed=1):
    ...     print(snapshot.step, tuple(snapshot.image.shape))
    10 (3, 512, 512)
    20 (3, 512, 512)
    """

    def __init__(
        self,
        prompt: str,
        settings: Settings | None = None,
        *,
        models: Models | None = None,
        on_step: Callable[[Progress], None] | None = None,
        note: Callable[[str], None] = lambda _: None,
        start: Picture | str | Path | None = None,
        origin: Origin | None = None,
        **options: Any,
    ) -> None:
        asked = Settings.of({**(asdict(settings) if settings else {}), **options})
        self.prompt = read_prompt(prompt, asked)
        start = start or asked.start
        name = "the picture" if isinstance(start, Picture) else str(start)
        if origin is None and start is not None:
            start = start if isinstance(start, Picture) else Picture.open(start)
        self.models = models or Models.load(asked, note)
        if origin is None and isinstance(start, Picture):
            origin = start_with(start, name, self.models.weights, note)
        self.origin = origin or Origin()
        self.origin.check(self.models.weights)
        # Latents mean what they did only under the classes that they were dreamt with.
        self.settings = complete_settings(asked.filled(self.origin.classes()), self.models, note)
        if self.settings.model == "emoji" and self.settings.classes == "sigmoid":
            # A little of each of its classes is one flat colour, whose gradient is 0.
            raise BigsleepError("--classes sigmoid shows the built-in model nothing: give softmax", usage=True)
        self.images = self.origin.images or tuple(
            image_features(phrase.text, self.models.perceptor) for phrase in image_phrases(asked.image_prompt)
        )
        self.broken_off: Going | None = None  # what to go on from, as of the last snapshot
        generator = self.models.generator
        self.plan = planned(
            self.prompt, self.settings, generator.alpha, generator.class_names if generator.alpha else ()
        )
        self.on_step, self.note = on_step, note
        # What was shown at each step, by seed, where a film is wanted: ``trails`` is then a dictionary to be filled.
        self.trails: dict[int, list[Mapping[str, Tensor]]] | None = None
        self.best: Snapshot | None = None
        self.stopped = threading.Event()

    def stop(self) -> None:
        """End after the step in progress, with a last snapshot. May be called from a signal handler or a thread."""
        self.stopped.set()

    def __iter__(self) -> Iterator[Snapshot]:
        """Optimise from the start; a snapshot every ``save_every`` steps and at the end.

        With ``best_of``, until one seed is left: a snapshot of the best where others are dropped.
        """
        for _, outcome in together([self]):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def goal(self) -> Goal:
        """What CLIP makes of the prompt, and of what each layer is to be."""
        phrases = self.prompt.phrases
        parts = self.plan.parts if self.plan else []
        encoded = self.models.perceptor.encode_text([*(phrase.text for phrase in phrases), *parts]).to(
            self.models.device
        )
        features, own = encoded[: len(phrases)], encoded[len(phrases) :]
        weights = [phrase.weight for phrase in (*phrases, *image_phrases(self.settings.image_prompt))]
        if self.images:
            images = F.normalize(torch.stack(self.images).float(), dim=1).to(self.models.device)
            features = torch.cat([features, images])
        one = torch.ones(1, device=self.models.device)
        goals = tuple(Goal(row[None], one) for row in own)
        return Goal(features, torch.tensor(weights, device=self.models.device), goals)

    def picture(self, snapshot: Snapshot) -> Picture:
        """``snapshot`` as a picture with the recipe to make it again inside, and the state to go on from."""
        recipe = {
            "format": FORMAT,
            "prompt": self.prompt.text,
            "settings": asdict(self.recorded(snapshot.seed)),
            "layers": list(snapshot.layers),
            "score": round(snapshot.score, 6),
            "step": snapshot.step,
            "weights": self.models.weights,
            **circumstances(),
        }
        if snapshot.undone:
            recipe["undone"] = snapshot.undone
        if snapshot.heard:
            recipe["heard"] = snapshot.heard
        if any(size != 1 for _, size, _ in snapshot.company):
            recipe["company"] = [list(run) for run in snapshot.company]
        state = dict(snapshot.latents)
        state |= named("image", {str(number): features for number, features in enumerate(self.images)})
        if self.origin.start is not None:
            state |= named("start", self.origin.start)
        if snapshot.share == 1 or self.broken_off is None or self.broken_off.share == 1:
            return Picture(drawn(snapshot.image), recipe, encode(state, torch.float16))
        going, best = self.broken_off, self.broken_off.best
        marked = {"step": best.step, "score": best.score, "seed": best.seed}
        recipe["going"] = {"step": going.step, "share": going.share, "best": marked}
        if self.settings.until == "plateau":  # which is told by them
            recipe["going"]["scores"] = [list(pair) for pair in going.scores]
        if going.undone[0]:
            recipe["going"]["undone"] = list(going.undone)
            marked["undone"] = best.undone
        state |= named("search", going.state)
        if best.step != snapshot.step:
            state |= named("best", best.latents)
        return Picture(drawn(snapshot.image), recipe, encode(state))

    def begun(self) -> Mapping[str, Tensor] | None:
        """The latents to begin with, looked for where there is only an image; None for auditions."""
        image = self.origin.image
        if image is not None:
            from bigsleep.find import Finder

            assert self.settings.seed is not None
            random = torch.Generator().manual_seed(self.settings.seed)
            found = Finder(self.models.optimizer, image, self.settings, random)(self.stopped.is_set)
            start = {name: tensor.half().float() for name, tensor in found.items()}
            self.origin = replace(self.origin, start=start, image=None)
        if self.origin.steered:
            self.origin = replace(self.origin, start=self.steered(), steered=False)
        return self.origin.start

    def steered(self) -> Mapping[str, Tensor] | None:
        """The latents that a picture's are changed to for other words; they themselves where it is no picture of sprites."""
        start, generator = self.origin.start, self.models.generator
        if start is None or self.plan is None or not generator.alpha:
            return start
        from bigsleep.steer import steered

        words = read_prompt(self.origin.recipe["prompt"], self.settings)
        earlier = planned(words, self.settings, True, generator.class_names)
        found = steered(self.models.optimizer.start, self.goal(), self.plan, earlier, start, self.settings)
        return {name: tensor.half().float() for name, tensor in found.items()}

    def growth(self, frames: int) -> Iterator[Image.Image]:
        """``frames`` images of how the best picture grew, at equal change; of a dream whose ``trails`` were filled."""
        from bigsleep.morph import growth

        assert self.best is not None and self.trails is not None, "the dream is over, and was remembered"
        began = self.origin.going.step if self.origin.going else 0
        trail = self.trails.get(self.best.seed, [])[: max(0, self.best.step - began + 1)]
        states = [{name: tensor.float() for name, tensor in state.items()} for state in trail]
        return growth(states or [self.best.latents], self.settings, self.models, frames)

    def recorded(self, seed: int) -> Settings:
        """The settings as a recipe has them: of one seed, and with no folder names."""
        images = tuple(Path(image).name for image in self.settings.image_prompt)
        start = None if self.origin.start is None else self.origin.picture
        return replace(self.settings, seed=seed, best_of=1, start=start, image_prompt=images)


def dream(prompt: str, settings: Settings | None = None, **options: Any) -> Picture:
    """Dream once and return the best picture.

    Parameters
    ----------
    prompt, settings, **options
        As for :class:`Dream`.

    Raises
    ------
    BigsleepError
        As for :class:`Dream`.

    Examples
    --------
    >>> dream("a beautiful house", model="emoji", steps=5, seed=1).image.size
    (512, 512)
    """
    dreaming = Dream(prompt, settings, **options)
    for _ in dreaming:
        pass
    assert dreaming.best is not None
    return dreaming.picture(dreaming.best)
