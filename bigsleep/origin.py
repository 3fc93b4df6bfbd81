"""Where a dream begins when not with words alone: at a picture's latents, or where a dream was broken off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from bigsleep.errors import BigsleepError
from bigsleep.picture import Picture
from bigsleep.recipe import checked_recipe, settings_of
from bigsleep.settings import Settings
from bigsleep.state import decode, part_of

MOST_STEPS = 1_000_000
MOST_COMPANY = 256  # dreams at once that a picture may ask for when it is seen again


@dataclass(frozen=True)
class Mark:
    """The best of a dream so far: its latents, step, score and seed, and how many steps were undone before it."""

    latents: Mapping[str, Tensor]
    step: int
    score: float
    seed: int
    undone: int = 0


@dataclass(frozen=True)
class Going:
    """A dream broken off: how far it was, all that its search knew, and the best of what it had shown.

    ``scores`` are those of its snapshots, each with the share of the dream before it; ``undone`` how many of its steps
    were taken back, in all and in a row.
    """

    step: int
    share: float
    state: Mapping[str, Tensor]
    best: Mark
    scores: tuple[tuple[float, float], ...] = ()
    undone: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Origin:
    """What a dream begins with.

    ``start`` are latents by name, or None for auditions; ``going`` a dream to go on with instead; ``image`` one whose
    likeness is to be found first. Where ``steered``, ``start`` is first changed to what other words ask for. ``until`` is the
    step whose picture is asked for, where a dream is to be seen again.
    ``images`` are features ``[D]`` of image prompts. Of ``carried`` latents only the noise is taken, into auditions' classes.
    ``company`` says among how many searches steps were made: ``(steps, searches, place)`` in turn; ``heard``, after how many
    auditions the first was, where they were cut short.
    """

    picture: str = ""
    start: Mapping[str, Tensor] | None = None
    going: Going | None = None
    until: int | None = None
    images: tuple[Tensor, ...] = ()
    job: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    image: Image.Image | None = None
    carried: Mapping[str, Tensor] | None = None
    steered: bool = False
    company: tuple[tuple[int, int, int], ...] = ()
    heard: int = 0

    def classes(self) -> dict[str, Any]:
        """How the logits of ``start`` become class shares, as a setting by name; empty where there are none."""
        settings = self.recipe.get("settings")
        return {"classes": settings.get("classes")} if self.start and isinstance(settings, dict) else {}

    def check(self, weights: Mapping[str, str]) -> None:
        """Raise :class:`BigsleepError` if the latents are not of the generator that has these ``weights``."""
        then = self.recipe.get("weights")
        if (
            (self.going or (self.start and self.until is None))
            and isinstance(then, dict)
            and then.get("generator") != weights["generator"]
        ):
            raise BigsleepError(
                f"{self.picture or 'it'} was dreamt by a generator of other weights: begin with its pixels, --start",
                usage=True,
            )


def again(picture: Picture, name: str) -> tuple[Settings, Origin]:
    """How to make ``picture`` again: its settings, and what its dream began with; ``name`` is for messages."""
    return read(picture, name, until=picture.recipe.get("step"))


def onward(picture: Picture, name: str) -> tuple[Settings, Origin]:
    """How to go on with ``picture``: where its dream was broken off, or with its latents where it was finished."""
    settings, origin = read(picture, name)
    if origin.going is None:
        return settings, beginning(picture, name)[1]
    return settings, origin


def beginning(picture: Picture, name: str) -> tuple[Settings, Origin]:
    """How to begin a new dream with the latents of ``picture``, rounded as its file would hold them once finished."""
    settings, origin = read(picture, name)
    latents = shown_of(picture.latents)
    if not latents:
        raise BigsleepError(f"{name} holds no latents to go on from: begin with its pixels, --start", usage=True)
    start = {key: tensor.half().float() if tensor.is_floating_point() else tensor for key, tensor in latents.items()}
    return settings, replace(origin, picture=Path(name).name, start=start, going=None, job=None, company=(), heard=0)


def start_with(picture: Picture, name: str, weights: Mapping[str, str], note: Callable[[str], None]) -> Origin:
    """How a dream with other words begins with any ``picture``: by its latents, if it is of these ``weights``."""
    recipe = picture.recipe
    if picture.state and isinstance(recipe.get("weights"), dict):
        if recipe["weights"].get("generator") == weights["generator"]:
            return replace(beginning(picture, name)[1], images=())
        settings = recipe.get("settings")
        model = settings.get("model") if isinstance(settings, dict) else None
        note(f"{name} was dreamt by another generator, {str(model)[:80]}: it is looked for in this one")
    return Origin(Path(name).name, image=picture.image)


def read(picture: Picture, name: str, until: int | None = None) -> tuple[Settings, Origin]:
    """The settings and the origin of a picture's dream, checked as far as that goes without its models."""
    recipe = checked_recipe(picture.recipe, name)
    settings = settings_of(recipe, name)
    try:
        state = decode(picture.state) if picture.state else {}
        start = part_of(state, "start") or None
        images = tuple(part_of(state, "image").values())
        going = None if until is not None else going_of(recipe, state)
        company = company_of(recipe)
        heard = recipe.get("heard", 0)
        if not isinstance(heard, int):
            raise BigsleepError("its auditions are no number")
    except BigsleepError as error:
        raise BigsleepError(f"{name} is damaged: {error}", usage=True) from error
    job = recipe.get("job")
    origin = Origin(
        settings.start or "",
        start,
        going,
        until,
        images,
        job if isinstance(job, str) else None,
        recipe,
        company=company,
        heard=heard,
    )
    return settings, origin


def company_of(recipe: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    """Among how many searches a recipe's steps were made; those that were not alike, which no copies stand for, count as alone."""
    runs = []
    try:
        for steps, size, place in recipe.get("company", ()):
            if not (
                0 < int(steps) <= MOST_STEPS
                and 0 <= int(size) <= MOST_COMPANY
                and 0 <= int(place) <= max(0, int(size) - 1)
            ):
                raise ValueError
            runs.append((int(steps), max(1, int(size)), int(place)))
    except (TypeError, ValueError, OverflowError) as error:
        raise BigsleepError("what it says of the dreams beside it cannot be used") from error
    return tuple(runs)


def shown_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a picture's state that make what is shown, without what else its dream is made again by."""
    others = ("start", "image", "search", "best")
    return {name: tensor for name, tensor in state.items() if name.partition(".")[0] not in others}


def going_of(recipe: Mapping[str, Any], state: Mapping[str, Tensor]) -> Going | None:
    """The dream broken off that a recipe and a state tell of; None where it had come to its end."""
    told = recipe.get("going")
    if told is None:
        return None
    try:
        best, step, share = told["best"], int(told["step"]), float(told["share"])
        latents = part_of(state, "best") or shown_of(state)
        mark = Mark(latents, int(best["step"]), float(best["score"]), int(best["seed"]), int(best.get("undone", 0)))
        search = part_of(state, "search")
        if not (0 <= share <= 1 and 0 <= step <= MOST_STEPS and latents):
            raise ValueError
        undone, running = map(int, told.get("undone", (0, 0)))
        # Each step that was undone has cost itself and, but for the first, the one that led to it.
        if not (0 <= running <= undone <= step and 0 <= step - int(search["steps"]) <= 2 * undone):
            raise ValueError
        if not 0 <= float(search["weight"]) <= 1:
            raise ValueError
        torch.Generator().set_state(search["random"])
        scores = tuple((float(when), float(score)) for when, score in told.get("scores", ()))
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise BigsleepError("what it says of its unfinished dream cannot be used") from error
    return Going(step, share, search, mark, scores, (undone, running))
