"""A foreign image found in the generator: the latents whose picture is most like it.

As pix2latent does (Huh et al. 2020, arXiv 2005.01703): where the thing stands, how large it is and how it is tinted are free,
and the search begins at the best of many auditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from bigsleep.latents import Adam
from bigsleep.layers import Layer, Layers, box_of, latents_of, sprites_of, tinted, warped
from bigsleep.optimizer import Optimizer
from bigsleep.settings import Settings

SIDE = 128  # of the pictures that are compared
CLASSES = 24  # whose names are most like the image, and which audition
AUDITIONS = 96
STARTS, TRIAL = 4, 40  # auditions that go on, and the steps after which the best of them goes on alone
STEPS = 200
RATES = {"noise": 0.05, "logits": 0.25, "placement": 0.01, "tint": 0.01}
FEATURE_WEIGHT, NOISE_WEIGHT, CLASS_WEIGHT = 0.1, 0.002, 0.002
HEAD_START = 0.97  # share of an audition's class
PLAIN = 0.06  # deviation of an image's border up to which it is paper that something stands on
EMPTY = 0.5  # what a generator without alpha pays for a picture that does not cover the image


class Finder:
    """Looks for one ``image`` in a generator; ``random`` draws the auditions. Deterministic, and far from done: see ``STEPS``."""

    def __init__(self, optimizer: Optimizer, image: Image.Image, settings: Settings, random: torch.Generator) -> None:
        self.optimizer, self.generator, self.settings, self.random = optimizer, optimizer.generator, settings, random
        self.linear = settings.classes == "linear"  # which knows no likely classes: it is looked for in others
        if self.linear:
            self.settings = replace(settings, classes="softmax", max_classes=None)
        self.device = optimizer.device
        image = ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.LANCZOS)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3)
        self.target = pixels.permute(2, 0, 1).to(self.device) / 255
        self.scales = [F.avg_pool2d(self.target[None], size) for size in (1, 2, 4, 8, 16)]
        border = torch.cat([self.target[:, :4].flatten(1), self.target[:, -4:].flatten(1), self.target[:, :, :4].flatten(1), self.target[:, :, -4:].flatten(1)], 1)  # fmt: skip
        self.paper = border.median(1).values
        self.standing = self.generator.alpha and float((border - self.paper[:, None]).abs().mean()) < PLAIN
        with torch.no_grad():
            self.features = self.seen(self.target[None])

    def seen(self, pictures: Tensor) -> Tensor:
        """The perceptor's features ``[B, D]`` of whole pictures."""
        size = self.optimizer.perceptor.size
        pictures = F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)
        return self.optimizer.fast_perceptor.encode_images(pictures)

    def unlikeness(self, pictures: Tensor) -> Tensor:
        """How far pictures ``[B, 3, SIDE, SIDE]`` are from the image: in pixels at several scales, and in features."""
        pixels = sum(
            (F.avg_pool2d(pictures, 2**i) - scale).abs().mean((1, 2, 3)) for i, scale in enumerate(self.scales)
        )
        return pixels / len(self.scales) + FEATURE_WEIGHT * (1 - self.seen(pictures) @ self.features[0])

    def __call__(self, stopped: Callable[[], bool] = lambda: False) -> dict[str, Tensor]:
        """The state to begin with, as :meth:`bigsleep.search.Search.shown` has it."""
        found = self.auditioned()
        losses = self.descend(found, 0, TRIAL, stopped)
        best = found[int(losses.argmin())]
        self.descend([best], TRIAL, STEPS, stopped)
        if not self.generator.alpha:  # its pictures are whole ones: where it stood in the image is forgotten
            best = Layers([Layer(only(best).latents, torch.zeros(4), torch.zeros(6), ground=True, moves=False)])
        state = {name: tensor.detach().cpu().clone() for name, tensor in best.state().items()}
        if self.linear:
            state["layer0.logits"] = state["layer0.logits"].softmax(-1)
        return state

    def classes(self) -> list[int]:
        """The classes whose names are most like the image, best first; where they have no names, some at random."""
        count = min(CLASSES, self.generator.num_classes)
        if self.generator.names is None and self.generator.class_features is None:
            return torch.randperm(self.generator.num_classes, generator=self.random)[:count].tolist()
        likeness = self.optimizer.start.casting.features @ self.features[0].float()
        return likeness.topk(count).indices.tolist()

    @torch.no_grad()
    def auditioned(self) -> list[Layers]:
        """The ``STARTS`` best of ``AUDITIONS`` in the classes nearest to the image."""
        classes, layered, losses = self.classes(), list[Layers](), list[Tensor]()
        for begin in range(0, AUDITIONS, len(classes)):
            part = classes[: min(len(classes), AUDITIONS - begin)]
            made = [self.layers_in(number) for number in part]
            for few in (made[i : i + 8] for i in range(0, len(made), 8)):
                if self.standing:
                    self.stand(few)
                losses.append(self.unlikeness(self.pictures(few)))
            layered += made
        order = torch.cat(losses).argsort().tolist()
        return [layered[i] for i in order[:STARTS]]

    def layers_in(self, number: int) -> Layers:
        """A layer of random noise in one class."""
        generator = self.generator
        noise = torch.randn(1, generator.noise_size, generator=self.random).expand(generator.stages, -1)
        others = 1 if self.settings.classes == "sigmoid" else generator.num_classes - 1
        logits = torch.full(
            (generator.stages, generator.num_classes), -6.0 if self.settings.classes == "sigmoid" else 0.0
        )
        logits[:, number] = math.log(HEAD_START / (1 - HEAD_START) * others)
        latents = latents_of(noise, logits, self.settings)
        layer = Layer(latents, torch.zeros(4), torch.zeros(6), ground=self.generator.alpha and not self.standing)
        return Layers([layer], self.paper.tolist()).to(self.device)

    def stand(self, layered: Sequence[Layers]) -> None:
        """Put each thing where the image has what differs from its paper, and as large."""
        inked = (self.target - self.paper[:, None, None]).abs().amax(0) > 0.12
        image = torch.zeros(4, SIDE, SIDE, device=self.device)
        image[3] = inked
        left, top, right, bottom = box_of(image)
        for layers, sprite in zip(layered, self.sprites(layered), strict=True):
            own_left, own_top, own_right, own_bottom = box_of(sprite)
            wide, high = (right - left) / (own_right - own_left), (bottom - top) / (own_bottom - own_top)
            share = math.sqrt(max(1e-3, wide * high))
            x = (left + right) / 2 - share * (own_left + own_right) / 2
            y = (top + bottom) / 2 - share * (own_top + own_bottom) / 2
            only(layers).placement.copy_(torch.tensor([x, y, math.log(share), 0.0]))

    def sprites(self, layered: Sequence[Layers]) -> Tensor:
        """``[B, 4, H, W]``, premultiplied RGBA in 0..1; opaque where the generator has no alpha."""
        noise, shares = (torch.cat(parts) for parts in zip(*(layers.latents() for layers in layered), strict=True))
        made = self.generator(noise, shares)
        if self.generator.alpha:
            return sprites_of(made)
        made = F.interpolate(made / 2 + 0.5, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return torch.cat([made, torch.ones_like(made[:, :1])], 1)

    def pictures(self, layered: Sequence[Layers]) -> Tensor:
        """``[B, 3, SIDE, SIDE]`` in 0..1, one of each of ``layered``."""
        sprites = self.sprites(layered)
        if self.generator.alpha:
            return torch.stack(
                [layers.composed(sprite[None], SIDE) for layers, sprite in zip(layered, sprites, strict=True)]
            )
        made = []
        for layers, sprite in zip(layered, sprites, strict=True):
            layer = only(layers)
            seen = warped(tinted(sprite, layer.tint), layer, SIDE)
            # Beside the picture nothing is compared, and that it ends there costs.
            made.append(seen[:3] + (1 - seen[3:]) * (self.target + EMPTY))
        return torch.stack(made)

    def descend(self, layered: Sequence[Layers], first: int, last: int, stopped: Callable[[], bool]) -> Tensor:
        """Steps ``first``..``last`` of ``STEPS`` towards the image; how far each is from it in the end."""
        rated: list[tuple[nn.Parameter, float]] = []
        for layers in layered:
            layer = only(layers)
            rated += [
                (layer.latents.noise, RATES["noise"]),
                (layer.latents.logits, RATES["logits"]),
                (layer.tint, RATES["tint"]),
            ]
            rated += [] if layer.ground else [(layer.placement, RATES["placement"])]
        adam, losses = Adam(*rated), torch.zeros(len(layered))
        for step in range(first, last):
            if stopped():
                break
            losses = self.unlikeness(self.pictures(layered))
            penalties = [self.penalty(layers) for layers in layered]
            (losses.sum() + torch.stack(penalties).sum()).backward()
            for layers in layered:
                logits = only(layers).latents.logits
                assert logits.grad is not None, "a step follows a backward pass"
                logits.grad = logits.grad.mean(0, keepdim=True).expand_as(logits).contiguous()
                if step < STEPS // 2:
                    layers.tie_gradients()
            adam.step(0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        return losses.detach()

    def penalty(self, layers: Layers) -> Tensor:
        """What keeps noise likely and classes few."""
        noise, shares = layers.latents()
        return (
            NOISE_WEIGHT * noise.square().mean()
            - CLASS_WEIGHT * (shares * shares.clamp_min(1e-12).log()).sum(-1).mean()
        )


def only(layers: Layers) -> Layer:
    """The one layer of a picture that has one."""
    return next(iter(layers))
