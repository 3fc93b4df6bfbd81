"""From picture to picture: the paths that their latents go, and images at equal change along them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from bigsleep.errors import BigsleepError
from bigsleep.film import at_equal_change
from bigsleep.goal import Goal
from bigsleep.layers import layers_pattern, shares_of
from bigsleep.origin import shown_of
from bigsleep.picture import Picture
from bigsleep.recipe import checked_recipe, settings_here, settings_of
from bigsleep.settings import Settings
from bigsleep.state import fitted

if TYPE_CHECKING:
    from bigsleep.loading import Models

State = Mapping[str, Tensor]
PROBES = 6  # looks at how much changes, between two pictures
MOST_KEYS = 48  # looks at a dream's growth
FAR = 0.9995  # cosine of two directions above which the sphere between them is flat


def morph(
    pictures: Sequence[Picture], frames: int, *, loop: bool = False, models: Models | None = None
) -> Iterator[Image.Image]:
    """``frames`` images from the first of ``pictures`` by way of all to the last, or back to the first in a ``loop``.

    Noise goes along the sphere, everything else straight, and about as much changes from any image to the next.

    Raises
    ------
    BigsleepError
        If there are fewer than two pictures, one has no latents, or they are of different generators.
    """
    settings, states = alike(pictures, [f"picture {number}" for number in range(1, len(pictures) + 1)])
    if models is None:
        from bigsleep.loading import Models

        models = Models.load(settings)
    return Path(states, settings, models, loop).images(frames)


def alike(pictures: Sequence[Picture], names: Sequence[str]) -> tuple[Settings, list[dict[str, Tensor]]]:
    """The settings of the first of ``pictures``, and all their latents, if they can be one morph's."""
    if len(pictures) < 2:
        raise BigsleepError("a morph needs two pictures at least", usage=True)
    makers, states = [], []
    for picture, name in zip(pictures, names, strict=True):
        settings = settings_of(checked_recipe(picture.recipe, name), name)
        weights = picture.recipe.get("weights")
        makers.append(
            (settings.model, settings.truncation, weights.get("generator") if isinstance(weights, dict) else "")
        )
        try:
            latents = shown_of(picture.latents)
        except BigsleepError as error:
            raise BigsleepError(f"{name} is damaged: {error}", usage=True) from error
        if not latents:
            raise BigsleepError(f"{name} holds no latents: it was saved without, or by another program", usage=True)
        states.append(with_shares(latents, settings))
        if makers[-1] != makers[0]:
            raise BigsleepError(
                f"{name} is of another generator ({settings.model}) than {names[0]} ({makers[0][0]}): "
                "a morph needs pictures of one",
                usage=True,
            )
    return settings_here(settings_of(pictures[0].recipe, names[0])), states


def with_shares(state: State, settings: Settings) -> dict[str, Tensor]:
    """A state with class shares in the place of their logits, so that between two of them shares go straight."""
    if not all(tensor.is_floating_point() for tensor in state.values()):
        raise BigsleepError("what it holds of its dream is damaged: there are no such latents", usage=True)
    return {name: shares_of(tensor, settings) if name.endswith(".logits") else tensor for name, tensor in state.items()}


def growth(trail: Sequence[State], settings: Settings, models: Models, frames: int) -> Iterator[Image.Image]:
    """``frames`` images of a dream from its beginning to its picture, whose ``trail`` of states has one for each step."""
    count = min(len(trail), MOST_KEYS)
    keys = [trail[round(number * (len(trail) - 1) / max(1, count - 1))] for number in range(count)]
    keys = [with_shares(state, settings) for state in (keys if count > 1 else keys * 2)]
    return Path(keys, settings, models).images(frames, probes=1)


class Path:
    """A way by ``states`` (as of :func:`with_shares`); place 1.5 is halfway between the second and the third of them."""

    def __init__(self, states: Sequence[State], settings: Settings, models: Models, loop: bool = False) -> None:
        generator = models.generator
        sizes = generator.stages, generator.noise_size, generator.num_classes
        states = [fitted(state, layers_pattern(state, *sizes)) for state in states]
        self.states = matched(states, generator.embeddings)
        if loop:
            self.states = matched([*self.states, self.states[0]], generator.embeddings)
        self.loop, self.models = loop, models
        self.settings = replace(settings, classes="linear", max_classes=None)

    def images(self, count: int, probes: int = PROBES) -> Iterator[Image.Image]:
        """``count`` images at equal change, ``probes`` looks between two states; a loop leaves out the first again."""
        looks = [self.look(part / probes) for part in range(probes * (len(self.states) - 1) + 1)]
        changes = [float((a - b).abs().mean()) for a, b in itertools.pairwise(looks)]
        del looks
        for place in itertools.islice(at_equal_change(changes, count + self.loop), count):
            yield image_of(self.models, self.settings, self.at(place / probes))

    def look(self, place: float) -> Tensor:
        """The picture at a place, small: ``[3, 64, 64]`` in 0..1."""
        return pixels_at(self.models, self.settings, self.at(place), 64)

    def at(self, place: float) -> dict[str, Tensor]:
        """The state at a place."""
        first = min(int(place), len(self.states) - 2)
        return between(self.states[first], self.states[first + 1], place - first)


def between(one: State, other: State, share: float) -> dict[str, Tensor]:
    """A ``share`` of the way from one state to another: noise along the sphere, angles the short way, the rest straight."""
    found = {}
    for name, here in one.items():
        there, kind = other[name], name.rpartition(".")[2]
        if kind == "noise":
            found[name] = along_sphere(here, there, share)
        elif kind == "stand":  # mirrored or not, behind all or not: there is nothing between
            found[name] = here if share < 0.5 else there
        elif kind == "placement":
            turn = there - here
            turn[3] = math.remainder(turn[3].item(), 2 * math.pi)
            found[name] = here + share * turn
        else:
            found[name] = here.lerp(there, share)
    return found


def along_sphere(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Rows ``[S, Z]`` between rows: directions along the great circle (Shoemake 1985), lengths straight."""
    lengths = one.norm(dim=1, keepdim=True).clamp_min(1e-8), other.norm(dim=1, keepdim=True).clamp_min(1e-8)
    here, there = one / lengths[0], other / lengths[1]
    cosine = (here * there).sum(1, keepdim=True).clamp(-FAR, FAR)
    angle = cosine.acos()
    direction = (((1 - share) * angle).sin() * here + (share * angle).sin() * there) / angle.sin()
    straight = here.lerp(there, share)
    flat = (here * there).sum(1, keepdim=True) > FAR
    return torch.where(flat, straight, direction) * lengths[0].lerp(lengths[1], share)


def matched(states: Sequence[State], embeddings: Tensor) -> list[dict[str, Tensor]]:
    """``states`` with their layers in an order in which each follows the one most like it, and as many in all.

    A layer without a partner grows out of a point where it stands, or shrinks into one.
    """
    most = max(layers_in(state) for state in states)
    found = [padded(states[0], most, states)]
    for state in states[1:]:
        found.append(paired(found[-1], padded(state, most, found), embeddings.cpu()))
    return found


def layers_in(state: State) -> int:
    return len({name.partition(".")[0] for name in state if name.startswith("layer")})


def layer_of(state: State, number: int) -> dict[str, Tensor]:
    return {name.partition(".")[2]: tensor for name, tensor in state.items() if name.startswith(f"layer{number}.")}


def padded(state: State, count: int, others: Sequence[State]) -> dict[str, Tensor]:
    """A state with ``count`` layers, those it lacks taken from ``others`` and too small to be seen."""
    full = dict(state)
    for number in range(layers_in(state), count):
        model = next(layer_of(other, number) for other in others if layers_in(other) > number)
        placement = model["placement"].clone()
        placement[2] = math.log(0.01)
        ground = model["stand"].clone()
        ground[1] = 0.0
        full |= {
            f"layer{number}.{name}": part for name, part in (model | {"placement": placement, "stand": ground}).items()
        }
    return full


def paired(before: State, state: State, embeddings: Tensor) -> dict[str, Tensor]:
    """``state`` with each layer in the place of the layer of ``before`` that it is most like; grounds stay behind."""
    count = layers_in(state)
    if count == 1:
        return dict(state)

    def seen(of: State, number: int) -> Tensor:
        return torch.nn.functional.normalize(embeddings @ layer_of(of, number)["logits"].mean(0), dim=0)

    def grounded(of: State, number: int) -> bool:
        return bool(layer_of(of, number)["stand"][1] > 0.5)

    pairs: list[tuple[float, int, int]] = sorted(
        (
            (float(seen(before, i) @ seen(state, j)) - 4 * (grounded(before, i) != grounded(state, j)), i, j)
            for i in range(count)
            for j in range(count)
        ),
        reverse=True,
    )
    order: dict[int, int] = {}
    for _, i, j in pairs:
        if i not in order and j not in order.values():
            order[i] = j
    layers: dict[str, Any] = {name: part for name, part in state.items() if not name.startswith("layer")}
    for i, j in order.items():
        layers |= {f"layer{i}.{name}": part for name, part in layer_of(state, j).items()}
    return layers


def pixels_at(models: Models, settings: Settings, state: State, side: int) -> Tensor:
    """The picture ``[3, side, side]`` in 0..1 of a state."""
    nothing = Goal(torch.zeros(1, 1), torch.ones(1))
    search = models.optimizer.search(nothing, settings, torch.Generator().manual_seed(0), start=state)
    return models.optimizer.finished(search, side).cpu()


def image_of(models: Models, settings: Settings, state: State) -> Image.Image:
    """The picture of a state, as an image."""
    pixels = pixels_at(models, settings, state, settings.image_size)
    return Image.fromarray((pixels * 255 + 0.5).byte().permute(1, 2, 0).numpy())
