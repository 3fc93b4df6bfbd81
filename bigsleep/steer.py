"""Steering a picture of sprites: other words for it, which keep of it what they leave as it was.

Gradients recolour a sprite but make no dog a lion. So a thing whose words have changed is cast anew, with the noise and,
where the words leave the layout, the place of the one before it; the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bigsleep.cutouts import whole
from bigsleep.goal import Goal
from bigsleep.layers import Layer, Layers, latents_of, layers_of, layers_pattern
from bigsleep.plan import Plan
from bigsleep.settings import Settings
from bigsleep.start import Stage, Start
from bigsleep.state import fitted


def steered(
    start: Start,
    goal: Goal,
    plan: Plan,
    earlier: Plan | None,
    state: Mapping[str, Tensor],
    settings: Settings,
) -> dict[str, Tensor]:
    """The state that a dream of ``plan`` begins with, from the ``state`` of a picture of an ``earlier`` plan.

    The words choose classes, and no audition does.

    Raises
    ------
    BigsleepError
        If ``state`` is of another generator.
    """
    assert settings.seed is not None, "complete settings have a seed"
    random = torch.Generator().manual_seed(settings.seed)
    stage = Stage(start, goal, plan, replace(settings, auditions=1), whole(), random)
    generator = start.generator
    pattern = layers_pattern(state, generator.stages, generator.noise_size, generator.num_classes)
    before, made = layers_of(fitted(state, pattern), settings), stage.best()
    own = dict(zip(before.order, before, strict=True))
    stays = earlier is not None and laid_out(earlier) == laid_out(plan)
    layers = [
        changed(stage, number, new, own[number], stays) if number in own and own[number].ground == new.ground else new
        for number, new in zip(made.order, made, strict=True)
    ]
    found = Layers(layers, before.paper if stays else made.paper, made.order)
    return {name: part.detach().clone() for name, part in found.state().items()}


def changed(stage: Stage, number: int, new: Layer, old: Layer, stays: bool) -> Layer:
    """The ``number``-th layer of the new words, with what they leave of the ``old`` one."""
    thing = stage.thing(number)
    may_play = [stage.ground] if thing is None else [role.place for role in stage.roles[thing]]
    coloured = thing is not None and stage.plan.things[thing].colour is not None
    plays = int(old.latents.forward()[1].mean(0).argmax()) in may_play
    # No chance shall tint what has its colour from the words.
    noise = new.latents.noise if coloured else old.latents.noise
    logits = old.latents.logits if plays else new.latents.logits
    tint = old.tint if plays and not coloured else new.tint
    stand = old if stays else new
    latents = latents_of(noise.detach(), logits.detach(), stage.settings)
    return Layer(latents, stand.placement.detach(), tint.detach(), stand.mirror, new.ground, moves=not new.ground)


def laid_out(plan: Plan) -> tuple[object, ...]:
    """What of a plan says where things stand."""
    return plan.tree, plan.ground is None, [(thing.count, thing.size, thing.place) for thing in plan.things]
