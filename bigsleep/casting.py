"""Which class plays which thing: names first, then the nearest in the perceptor's sense of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bigsleep.goal import Goal
from bigsleep.models.generator import Generator
from bigsleep.models.perceptor import Perceptor
from bigsleep.plan import COLOURS, Plan, Thing, bare, last_noun

NEAREST = 5  # classes that --init words lets audition
# What it is worth, beside cosines of 0.5 to 1, that a class is called what the thing is called; that it is a kind of it, as a
# running shoe is a shoe, or has its name as a keyword, as a flying saucer "ufo"; and that it is a face, of a thing that
# wears something on its head.
SAME_NAME, KIND, FACED = 1.0, 0.1, 0.4
COMMON = 30  # classes with a keyword, from which on it says little: 156 are a "face"


@dataclass(frozen=True)
class Role:
    """A class that may play a thing, and how well its name fits, a cosine and more."""

    place: int
    fit: float


class Casting:
    """Classes for words, by a generator's names and a perceptor's text features."""

    def __init__(self, generator: Generator, perceptor: Perceptor) -> None:
        self.generator, self.perceptor = generator, perceptor
        self.grounds = set(generator.grounds)

    def nearest_classes(self, goal: Goal) -> tuple[list[int], Tensor]:
        """The classes whose names CLIP finds most like the words, best first, and their names' scores."""
        scores = goal.score(self.features).cpu()
        best = scores.topk(min(NEAREST, len(scores)))
        return best.indices.tolist(), best.values

    @cached_property
    def features(self) -> Tensor:
        """Unit text features ``[C, D]`` of the class names."""
        features = self.generator.class_features
        if features is None or self.perceptor.name != "emoji":
            features = self.perceptor.encode_text(self.generator.class_names)
        return F.normalize(features.float(), dim=1).to(self.generator.embeddings.device)

    def roles(self, plan: Plan, faced: set[int]) -> list[list[Role]]:
        """Who may play each thing, best first. For things in ``faced`` a face goes before a whole figure."""
        texts = [text for thing in plan.things for text in (thing.noun, thing.text)]
        likeness = self.perceptor.encode_text(texts).to(self.features.device) @ self.features.T
        likeness = torch.maximum(likeness[::2], likeness[1::2]).cpu()
        likeness[:, list(self.grounds)] = -1
        return [
            self.best(thing, row, i in faced) for i, (thing, row) in enumerate(zip(plan.things, likeness, strict=True))
        ]

    def best(self, thing: Thing, likeness: Tensor, faced: bool) -> list[Role]:
        names, fit = self.generator.class_names, likeness.clone()
        for rank, name in enumerate(spellings(thing)):
            if name in names and (place := names.index(name)) not in self.grounds:
                fit[place] += SAME_NAME - 0.05 * rank
        for place in self.kinds.get(thing.noun) or self.kinds.get(self.head(thing), set()):
            fit[place] += KIND if fit[place] < SAME_NAME else 0.0
        if faced and f"{thing.noun} face" in names:
            fit[names.index(f"{thing.noun} face")] += FACED
        top = fit.topk(min(NEAREST, len(fit)))
        return [Role(place, value) for place, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)]

    def head(self, thing: Thing) -> str:
        """The word that says what a thing is, where its noun has several: the last, or the one before what it does."""
        words = thing.noun.split()
        doing = len(words) > 1 and words[-1].endswith("ing") and words[-1] not in self.generator.class_names
        return last_noun(" ".join(words[:-1] if doing else words))

    @cached_property
    def kinds(self) -> dict[str, set[int]]:
        """The classes that are kinds of a thing: its noun ends their names, or is a keyword of theirs that tells them apart."""
        known = places_by(self.generator.keywords)
        kinds = {word: places for word, places in known.items() if len(places) <= COMMON}
        for word, places in places_by([[last_noun(name)] for name in self.generator.class_names]).items():
            kinds[word] = kinds.get(word, set()) | places
        return kinds

    def ground(self, thing: Thing) -> int:
        """The class for what lies behind: a ground of that name, else the nearest of all."""
        names = self.generator.class_names
        if called := [place for place in self.generator.grounds if names[place] == thing.noun]:
            return called[0]
        likeness = (self.perceptor.encode_text([thing.text]).to(self.features.device) @ self.features.T)[0]
        likeness[list(self.grounds)] += 0.15  # a ground fits behind things better than a thing does
        return int(likeness.argmax())


def places_by(words: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    """Which of a list's rows have each of their words."""
    found: dict[str, set[int]] = {}
    for place, row in enumerate(words):
        for word in row:
            found.setdefault(word, set()).add(place)
    return found


def spellings(thing: Thing) -> list[str]:
    """What a class for ``thing`` may be called, the likeliest first."""
    noun = thing.noun
    own = [bare(thing.text), *([f"{thing.colour} {noun}"] if thing.colour else []), noun]
    usual = [f"{colour} {noun}" for colour in COLOURS[:8]]  # a heart is a red heart, an apple a red apple
    return list(dict.fromkeys([*own, f"{noun} face", *usual]))
