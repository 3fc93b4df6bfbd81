"""Scenes to learn from: what a composite of the art shows, where, and how that is said. ``training.rendering`` paints them.

A scene is up to four things, each somewhere, of some size and perhaps repainted, over a ground: one of the drawn grounds,
the same made up of the art, or something plain. Each has a sibling: the same but for one thing that another
replaces, or that is missing, or another number, colour or ground, with the caption that then is right.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from training.layouts import (
    CLOTHES,
    EYEWEAR,
    HATS,
    Places,
    above,
    alone,
    beside,
    front,
    holding,
    in_a_row,
    inside,
    left,
    on,
    several,
    small_and_large,
    wearing,
)  # fmt: skip
from training.nouns import held_out, noun_of, plural, with_article
from training.painting import PAINTS
from training.texts import COLOUR_WORDS, concept_text


def words(text: str) -> set[str]:
    return set(text.split())


# Faces and signs say nothing in a scene that a reader would ask for.
NO_PARTS = words(
    """face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-unwell face-concerned
    face-negative emotion hand-fingers-closed hand-prop cat-face monkey-face body-parts award-medal religion office
    science medical place-religious place-map hotel"""
)
YET_PARTS = {
    "skull",
    "cat face",
    "eyes",
    "trophy",
    "scissors",
    "microscope",
    "telescope",
    "compass",
    "luggage",
    "church",
}
BEINGS = words(
    """person person-role person-fantasy animal-mammal animal-bird animal-amphibian animal-reptile animal-marine
    animal-bug face-costume"""
)
NO_BEINGS = {"pig nose", "paw prints", "feather", "wing", "spiral shell", "coral", "oyster", "spider web", "microbe"}
HELD = words(
    """plant-flower food-fruit food-sweet food-prepared food-vegetable drink event sport game musical-instrument tool
    sound light-video household computer heart clothing book-paper phone writing"""
)

# What is said of a ground, and how it is made up of the art: colours above and below, where they meet (None: they blend),
# and what is scattered over it: (concepts, how many, least and greatest size, highest and lowest place).
Scatter = tuple[str, tuple[int, int], tuple[float, float], tuple[float, float]]
STARS: Scatter = ("star,glowing star,sparkles", (3, 9), (0.06, 0.16), (-0.95, 0.6))
SETTINGS: dict[str, tuple[str, tuple, tuple, float | None, list[Scatter]]] = {
    "night": ("{} at night|{} in the night|{} under the moon|{} in the moonlight", (0.03, 0.05, 0.2), (0.12, 0.14, 0.4), None,
              [STARS, ("crescent moon,full moon", (1, 1), (0.15, 0.3), (-0.8, -0.5))]),
    "outer space": ("{} in space|{} in outer space|{} among the stars|{} under the stars", (0.02, 0.02, 0.12), (0.15, 0.05, 0.3), None,
                    [STARS, STARS, ("ringed planet,shooting star", (0, 1), (0.12, 0.25), (-0.8, 0.8))]),
    "sea": ("{} in the sea|{} at sea|{} on the sea|{} in the ocean|{} on the water", (0.6, 0.85, 1), (0.05, 0.35, 0.75), 0.45,
            [("water wave", (1, 4), (0.1, 0.25), (0.3, 0.95))]),
    "underwater": ("{} underwater|{} under water|{} at the bottom of the sea", (0.2, 0.6, 0.9), (0.02, 0.2, 0.55), None,
                   [("bubbles,tropical fish,coral", (2, 5), (0.1, 0.22), (-0.8, 0.9))]),
    "forest": ("{} in the forest|{} in the woods|{} among trees", (0.65, 0.85, 0.75), (0.15, 0.4, 0.15), 0.65,
               [("evergreen tree,deciduous tree", (5, 10), (0.3, 0.55), (-0.5, 0.3))]),
    "sunset": ("{} at sunset|{} in the evening|{} in front of the setting sun", (0.45, 0.2, 0.55), (1, 0.6, 0.2), None,
               [("sun,full moon", (1, 1), (0.25, 0.4), (0.1, 0.5))]),
    "beach": ("{} on the beach|{} at the beach", (0.5, 0.8, 1), (0.95, 0.85, 0.6), 0.6,
              [("palm tree,umbrella on ground,spiral shell", (1, 3), (0.15, 0.4), (0.1, 0.7)), ("sun", (0, 1), (0.2, 0.3), (-0.8, -0.6))]),
    "city": ("{} in the city|{} in town|{} among buildings", (0.6, 0.8, 0.95), (0.55, 0.55, 0.6), 0.85,
             [("office building,hotel,department store,bank", (4, 8), (0.3, 0.5), (-0.1, 0.4))]),
    "desert": ("{} in the desert", (0.7, 0.85, 1), (0.93, 0.76, 0.45), 0.55,
               [("cactus", (1, 4), (0.15, 0.35), (0, 0.5)), ("sun", (0, 1), (0.2, 0.3), (-0.8, -0.5))]),
    "snow": ("{} in the snow|{} in winter", (0.7, 0.8, 0.95), (0.97, 0.98, 1), 0.6,
             [("snowflake,snowflake,evergreen tree", (5, 11), (0.08, 0.2), (-0.9, 0.4))]),
    "rain": ("{} in the rain|{} on a rainy day", (0.45, 0.5, 0.6), (0.65, 0.7, 0.78), None,
             [("cloud,cloud with rain", (1, 3), (0.35, 0.5), (-0.85, -0.6)), ("droplet", (6, 14), (0.05, 0.1), (-0.5, 0.9))]),
    "meadow": ("{} in a meadow|{} on the grass|{} in a garden", (0.55, 0.8, 1), (0.4, 0.75, 0.3), 0.5,
               [("blossom,tulip,seedling,herb", (3, 8), (0.08, 0.2), (0.3, 0.95))]),
    "mountains": ("{} in the mountains|{} in front of mountains", (0.6, 0.8, 1), (0.45, 0.65, 0.35), 0.75,
                  [("mountain,snow-capped mountain,mount fuji", (1, 3), (0.5, 0.9), (-0.1, 0.4))]),
    "room": ("{} in a room|{} indoors|{} at home", (0.95, 0.88, 0.75), (0.75, 0.55, 0.35), 0.75,
             [("window,framed picture,door,couch and lamp,chair", (1, 3), (0.2, 0.4), (-0.6, 0.3))]),
    "sky": ("{} in the sky|{} in the clouds|{} flying through the air", (0.3, 0.7, 0.95), (0.8, 0.92, 1), None,
            [("cloud", (2, 5), (0.2, 0.4), (-0.9, 0.9))]),
    "rainbow": ("{} under a rainbow|{} and a rainbow|{} below a rainbow", (0.6, 0.85, 1), (0.45, 0.75, 0.35), 0.7,
                [("rainbow", (1, 1), (0.85, 1.1), (-0.35, -0.05))]),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A concept by its index, the word it is called by, and the paint it has, if another than its own."""

    concept: int
    word: str
    paint: str | None = None

    @property
    def phrase(self) -> str:
        return f"{self.paint} {COLOUR_WORDS.sub('', self.word)}" if self.paint else self.word


@dataclass(frozen=True)
class Scene:
    """What a picture shows and how that is said.

    ``template`` says the things: ``{0}``, ``{1}`` with their articles, ``{a}``, ``{b}`` without, ``{n}``, ``{many}`` for a
    number; ``saying`` what stands behind them.
    """

    kind: str
    things: tuple[Thing, ...]
    places: Places
    template: str
    setting: str | None = None
    saying: str = "{}"

    @property
    def caption(self) -> str:
        number = {1: "one", 2: "two", 3: "three", 4: "four"}[len(self.places)]
        bare = [thing.phrase for thing in self.things]
        named = {"a": bare[0], "b": bare[-1], "n": number, "many": plural(bare[0])}
        return self.saying.format(self.template.format(*map(with_article, bare), **named))


# How often a kind comes, what is said, where things go. "{0}" stands first in the places' order.
KINDS: dict[str, tuple[float, str, Callable[[random.Random], Places]]] = {
    "wearing a hat": (0.8, "{0} wearing {1}|{0} wearing {1}|{0} with {1}|{0} with {1} on its head|{0} in {1}", wearing(HATS)),
    "wearing glasses": (0.25, "{0} wearing {1}|{0} with {1}", wearing(EYEWEAR)),
    "wearing clothes": (0.25, "{0} wearing {1}|{0} with {1}|{0} in {1}", wearing(CLOTHES)),
    "on": (1.2, "{0} on {1}|{0} on top of {1}|{0} sitting on {1}|{0} riding {1}|{0} standing on {1}|{1} under {0}|{1} beneath {0}", on),
    "above": (0.9, "{0} above {1}|{0} over {1}|{0} flying over {1}|{1} below {0}|{1} under {0}", above),
    "left": (0.9, "{0} left of {1}|{0} to the left of {1}|{1} right of {0}|{1} to the right of {0}", left),
    "next to": (1.3, "{0} next to {1}|{0} beside {1}|{0} near {1}|{0} by {1}", beside),
    "and": (1.7, "{0} and {1}|{0} and {1}|{0} with {1}", beside),
    "in front of": (0.8, "{0} in front of {1}|{0} before {1}|{1} behind {0}|{1} with {0} in front of it", front),
    "holding": (1.2, "{0} holding {1}|{0} holding {1}|{0} with {1}|{0} carrying {1}|{0} playing with {1}|{0} eating {1}", holding),
    "inside": (0.6, "{0} in {1}|{0} inside {1}", inside),
    "size": (0.8, "a small {a} and a large {b}|a tiny {a} next to a giant {b}|a big {b} with a little {a}|a large {b} and a small {a}", small_and_large),
    "three things": (0.7, "{0}, {1} and {2}", in_a_row),
    "two of it": (0.6, "{n} {many}", several(2)),
    "three of it": (0.6, "{n} {many}", several(3)),
    "four of it": (0.6, "{n} {many}", several(4)),
    "colour": (1.0, "{0}", alone),
    "two colours": (1.0, "{0} and {1}", beside),
    "setting": (3.2, "{0}", alone),
    "alone": (1.0, "{0}", alone),
}  # fmt: skip


class Writer:
    """Writes scenes: a caption, and where what goes.

    ``chance`` draws; ``unseen`` writes of held-out pairs only; ``painting`` is the share of things that are painted where
    the kind does not say.
    """

    def __init__(
        self, concepts: list[dict], chance: random.Random, unseen: bool = False, painting: float = 0.12
    ) -> None:
        self.chance, self.unseen, self.painting = chance, unseen, painting
        self.names = [concept_text(concept["label"]) for concept in concepts]
        self.nouns = [noun_of(name) for name in self.names]
        self.index = {name: i for i, name in enumerate(self.names)}
        groups = [concept["subgroup"] for concept in concepts]
        everything = range(len(concepts))
        self.parts = [i for i in everything if groups[i] not in NO_PARTS or self.names[i] in YET_PARTS]
        self.beings = [i for i in self.parts if groups[i] in BEINGS and self.names[i] not in NO_BEINGS]
        self.held = [i for i in self.parts if groups[i] in HELD]

    def thing(self, concept: int, paint: float = 0.0) -> Thing:
        """The concept under one of its names, repainted with a chance of ``paint``."""
        roll = self.chance.random()
        word = self.nouns[concept] if roll < 0.7 else re.sub(r" face$", "", self.names[concept])
        return Thing(concept, word, self.chance.choice(list(PAINTS)) if self.chance.random() < paint else None)

    def fits(self, *words: str) -> bool:
        """Whether these may come together here: in pairs, all held out, or none."""
        pairs = [(a, b) for i, a in enumerate(words) for b in words[:i]]
        return all(a != b for a, b in pairs) and all(held_out(a, b) == self.unseen for a, b in pairs)

    def pools(self, kind: str) -> list[list[int]]:
        """The concepts that a kind's things are drawn from."""
        worn = {"wearing a hat": HATS, "wearing glasses": EYEWEAR, "wearing clothes": CLOTHES}
        if kind in worn:
            return [self.beings, [self.index[name] for name in worn[kind] if name in self.index]]
        if kind == "holding":
            return [self.beings, self.held]
        return [self.parts] * len({which for which, *_ in KINDS[kind][2](self.chance)})

    def write(self, kind: str | None = None) -> Scene:
        """A scene of the ``kind``, of any where left out."""
        chance = self.chance
        kind = kind or chance.choices(list(KINDS), [weight for weight, _, _ in KINDS.values()])[0]
        _, templates, layout = KINDS[kind]
        setting = chance.choice(list(SETTINGS)) if kind == "setting" or chance.random() < 0.2 else None
        while True:
            concepts = [chance.choice(pool) for pool in self.pools(kind)]
            words = [self.nouns[i] for i in concepts] + ([setting] if kind == "setting" else [])
            if len(words) == 1 or self.fits(*words):
                break
            if kind == "setting":
                setting = chance.choice(list(SETTINGS))
        paint = {"colour": 1.0, "two colours": 1.0, "size": 0.0}.get(kind, self.painting)
        things = [self.thing(i, paint) for i in concepts]
        if kind == "two colours" and things[0].paint == things[1].paint:
            other = chance.choice([name for name in PAINTS if name != things[0].paint])
            things[1] = replace(things[1], paint=other)
        template = chance.choice(templates.split("|"))
        if kind != "setting" and setting and not self.unseen and any(held_out(word, setting) for word in words):
            setting = None
        saying = chance.choice(SETTINGS[setting][0].split("|")) if setting else "{}"
        return Scene(kind, tuple(things), layout(chance), template, setting, saying)

    def sibling(self, scene: Scene) -> Scene:
        """``scene`` with one difference that its caption tells: a thing, a number, a colour or the setting."""
        chance, kind = self.chance, scene.kind
        if kind in COUNTS:
            number = chance.choice([name for name in COUNTS if name != kind])
            return replace(scene, kind=number, places=KINDS[number][2](chance))
        if kind in ("colour", "two colours") and chance.random() < 0.7:
            return self.repainted(scene)
        if scene.setting and (kind == "setting" or chance.random() < 0.4):
            setting = chance.choice([name for name in SETTINGS if name != scene.setting])
            if held_out(self.nouns[scene.things[0].concept], setting) == self.unseen:
                return replace(scene, setting=setting, saying=chance.choice(SETTINGS[setting][0].split("|")))
        if len(scene.things) == 2 and chance.random() < 0.4:
            return self.without(scene, chance.randrange(2))
        return self.exchanged(scene)

    def repainted(self, scene: Scene) -> Scene:
        """Another paint for one thing; of two, their paints changed over as often."""
        things, chance = list(scene.things), self.chance
        if len(things) == 2 and chance.random() < 0.5:
            paints = [thing.paint for thing in things][::-1]
            things = [replace(thing, paint=paint) for thing, paint in zip(things, paints, strict=True)]
        else:
            which = chance.randrange(len(things))
            others = [name for name in PAINTS if name not in [thing.paint for thing in things]]
            things[which] = replace(things[which], paint=chance.choice(others))
        return replace(scene, things=tuple(things))

    def without(self, scene: Scene, which: int) -> Scene:
        """One of two things alone, where it was."""
        kept = 1 - which
        places = tuple((0, *place[1:]) for place in scene.places if place[0] == kept)
        return replace(scene, kind="alone", things=(scene.things[kept],), places=places, template="{0}")

    def exchanged(self, scene: Scene) -> Scene:
        """Another thing in the place of one."""
        which = self.chance.randrange(len(scene.things))
        pool = self.pools(scene.kind)[which]
        others = [self.nouns[thing.concept] for i, thing in enumerate(scene.things) if i != which]
        others += [scene.setting] if scene.kind == "setting" and scene.setting else []
        was = self.nouns[scene.things[which].concept]
        for _ in range(200):
            concept = self.chance.choice(pool)
            if self.nouns[concept] != was and self.fits(self.nouns[concept], *others):
                break
        things = list(scene.things)
        things[which] = replace(self.thing(concept), paint=things[which].paint)
        return replace(scene, things=tuple(things))


COUNTS = ("two of it", "three of it", "four of it")
