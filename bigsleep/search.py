"""One dream's search: where it stands, what it is told by, and what a step changes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bigsleep.cutouts import Cutouts, around, draw_augclip, draw_cutouts
from bigsleep.goal import Goal, View
from bigsleep.history import History
from bigsleep.latents import LONGEST, Adam, Basis, MovingAverage, class_penalty, noise_penalty
from bigsleep.layers import Layers, layers_of
from bigsleep.settings import Settings
from bigsleep.start import COVERAGE

EVALUATION_CUTOUTS = 16
PART_CUTOUTS = 2  # of each layer's place
PLACE_RATE = 0.01  # Adam's step size for where layers stand
PLACE_STEPS = 40  # of that size; where there are more each is shorter, so that things stay about where they were put


class Search:
    """One dream's state: its goal, layers of latents, Adam, moving average, and its own chance.

    ``settings`` must be complete (no model preference left open). ``random`` is the dream's only source of chance and
    lives on the CPU, so that a seed means the same on every device and in any company.
    """

    layers: Layers
    adam: Adam
    average: MovingAverage
    history: History

    def __init__(self, goal: Goal, settings: Settings, random: torch.Generator) -> None:
        self.goal, self.settings, self.random = goal, settings, random
        self.evaluation = self.draw(EVALUATION_CUTOUTS, augment=0.0)
        self.heard = 0  # auditions, where they were cut short
        self.company: list[list[int]] = []  # steps made so: how many, among how many searches, in which place

    def shape(self) -> tuple[object, ...]:
        """Searches of equal shapes take each other's place in a pass without a change to the others' last digits."""
        grounds = tuple(layer.ground for layer in self.layers)
        return grounds, tuple(self.layers.order), self.settings.cutouts, len(self.goal.parts)

    def met(self, size: int, place: int) -> None:
        """Remember that a step was made as the ``place``-th of ``size`` alike; of 0 where they were not alike."""
        if self.company and self.company[-1][1:] == [size, place]:
            self.company[-1][0] += 1
        else:
            self.company.append([1, size, place])

    def begin(self, layers: Layers) -> None:
        """Start from ``layers``."""
        self.layers = layers
        self.adam = Adam(*self.rated())
        self.average = MovingAverage(layers, self.settings.ema)
        self.history = History(layers, self.adam, self.average)

    def rated(self) -> list[tuple[nn.Parameter, float]]:
        """What Adam moves, with its step sizes.

        Not tints, which are the words' and which steps only darken. Nor a ground that things stand on and that does not
        move: steps bend it towards the things, and it becomes less of a ground.
        """
        rated = []
        for layer in self.layers:
            if layer.ground and len(self.layers) > 1 and not layer.placement.requires_grad:
                continue
            latents = layer.latents
            rated += [(latents.noise, self.settings.lr), (latents.logits, self.settings.class_lr)]
            if layer.placement.requires_grad and not layer.ground:
                rated.append((layer.placement, PLACE_RATE))
        return rated

    def views(self) -> list[View]:
        """What CLIP sees in a step: cutouts of the whole, and, where layers have goals of their own, of their places."""
        settings = self.settings
        augclip = settings.views == "augclip"
        seen = draw_augclip(settings.cutouts, self.random) if augclip else self.draw(settings.cutouts, settings.augment)
        views = [View(self.goal, seen)]
        parts = [
            (layer, self.goal.parts[i])
            for layer, i in zip(self.layers, self.layers.order, strict=True)
            if i < len(self.goal.parts)  # a picture begun with may have more layers than the words name
        ]
        for layer, goal in parts:
            if goal is not None and not layer.ground and len(parts) > 1:
                views.append(View(goal, around(layer.placement, PART_CUTOUTS, self.random), COVERAGE / len(parts)))
        return views

    def shown(self) -> dict[str, Tensor]:
        """The state of the picture shown: the averaged layers."""
        layers = self.layers.averaged(self.average.values()).plain()
        return {name: part.detach() for name, part in layers.state().items()}

    def show(self, state: Mapping[str, Tensor]) -> None:
        """Begin anew from what :meth:`shown` gave."""
        device = next(self.layers.parameters()).device
        layers = layers_of(state, self.settings)
        for layer, before in zip(layers, self.layers, strict=True):
            if isinstance(before.latents, Basis):
                layer.latents = Basis.around(layer.latents, len(before.latents.noise) // 2, before.latents.embeddings)
        self.begin(layers.to(device))

    def state(self) -> dict[str, Tensor]:
        """All that the search goes on from: parameters, Adam's moments, the average, and where chance stands.

        These are the tensors themselves and not copies: :meth:`restore` writes into them, and steps change them.
        """
        tensors = self.layers.state()
        names = {id(tensor): name for name, tensor in tensors.items()}
        for part, _, mean, square in self.adam.parts:
            tensors |= {f"mean.{names[id(part)]}": mean, f"square.{names[id(part)]}": square}
        for part, total in zip(self.layers.parameters(), self.average.sums, strict=True):
            tensors[f"average.{names[id(part)]}"] = total
        counts = {
            "steps": torch.tensor(self.adam.steps),
            "weight": torch.tensor(self.average.weight, dtype=torch.float64),
        }
        return tensors | counts | {"random": self.random.get_state()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave; the search must have begun, with as many layers of the same sizes."""
        self.adam.steps, self.average.weight = int(state["steps"]), float(state["weight"])
        self.random.set_state(state["random"])
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def draw(self, count: int, augment: float) -> Cutouts:
        least, most = self.settings.cutout_min, self.settings.cutout_max
        bias = self.settings.center_bias
        return draw_cutouts(count, least, most, augment, self.random, self.settings.resample, center_bias=bias)

    def penalty(self, noise: Tensor, shares: Tensor) -> Tensor:
        """What noise ``[L, S, Z]`` and class shares ``[L, S, C]`` cost beside their picture's likeness."""
        return torch.stack([self.layer_penalty(*rows) for rows in zip(noise, shares, strict=True)]).sum(0)

    def layer_penalty(self, noise: Tensor, shares: Tensor) -> Tensor:
        penalty = self.settings.class_weight * class_penalty(shares, self.settings.classes)
        if self.settings.noise_weight == 0:  # where it counts for nothing, noise may be what has no deviation
            return penalty
        return self.settings.noise_weight * noise_penalty(noise, self.settings.truncation) + penalty

    def update(self, share: float) -> None:
        """Follow the gradients that the latents have, a ``share`` in 0..1 of the way through the dream."""
        if self.tied(share):
            self.layers.tie_gradients()
        self.history.remember()
        rate = self.rate_at(share) * self.history.rate
        steps = round(self.adam.steps / share) if share else 0  # that the dream has, as far as this one tells
        slower = rate * min(1, PLACE_STEPS / max(steps, 1))
        # A generator knows no longer noise than is drawn, and what steps find there pleases CLIP alone.
        truncation, held = self.settings.truncation, self.settings.noise_weight == 0
        longest = [layer.latents.lengths().clamp_min(LONGEST * truncation) if held else None for layer in self.layers]
        self.adam.step(rate, {layer.placement: slower for layer in self.layers})
        for layer, most in zip(self.layers, longest, strict=True):
            layer.latents.clamp(truncation, most)
        self.average.update(self.adam.steps)

    def rate_at(self, share: float) -> float:
        return 1.0 if self.settings.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))

    def tied(self, share: float) -> bool:
        """Whether the stages still share one row."""
        return self.settings.stages == "shared" or (
            self.settings.stages == "released" and share < self.settings.release
        )
