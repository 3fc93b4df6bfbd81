"""What a prompt's words say of a picture: its things, how many, how large, of which colour, how they stand, and where.

Read once, by rules, before any model sees the words: a sentence encoder cannot tell who wears whom (its cosine of "a
cat wearing a crown" and "a crown wearing a cat" is 0.99). What the rules do not know is one phrase and one thing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from inflection import singularize

from bigsleep.errors import BigsleepError
from bigsleep.prompt import Place, Prompt
from bigsleep.settings import Settings

MOST_LAYERS = 9

COUNTING = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS = {word: number for number, word in enumerate(COUNTING, 1)}
NUMBERS |= {"a pair of": 2, "a couple of": 2, "both": 2}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray")
SIZES = dict.fromkeys(("small", "little", "tiny"), 0.55) | dict.fromkeys(("large", "big", "huge", "giant"), 1.6)
# Words about the picture, or that no picture of 64 pixels shows: a class is looked for without them.
OPENING = re.compile(
    r"^(?:an? |the )?(?:\w+ )?(?:drawing|photo|photograph|picture|painting|image|sketch|illustration|cartoon|icon|emoji) of "
)
PLAIN = {"beautiful", "lovely", "nice", "pretty", "cute", "happy", "lonely", "old", "young", "new", "single", "ripe"}
DETERMINERS = {"a", "an", "the", "some", "my", "its", "his", "her", "their", "your", "our"}

# What one thing does to another, as it is laid out; the longest wording that fits is taken.
RELATIONS = {
    "wearing": "wearing|dressed in|with {} on its head",
    "holding": "holding|carrying|eating|drinking|reading|playing with|playing|catching|pushing",
    "with": "with",
    "beside": "next to|beside|near|by|alongside|together with|and|plus|&|,|, and",
    "left": "to the left of|on the left of|left of",
    "right": "to the right of|on the right of|right of",
    "on": "on top of|sitting on|sits on|standing on|stands on|lying on|sleeping on|sitting in|riding on|riding|upon|on",
    "above": "above|flying over|flying above|jumping over|over",
    "under": "underneath|under|below|beneath",
    "front": "in front of|before",
    "behind": "behind",
    "inside": "inside of|inside|in",
    "among": "surrounded by|among|amid|between",
}
BINDING = {"wearing": 0, "holding": 0, "with": 0, "beside": 1}  # what binds tighter is joined first; all others last
# Where a worn thing goes; these also make "with" mean "wearing".
WORN = (
    {word: "head" for word in ("crown", "hat", "cap", "helmet", "wig", "halo", "headphone", "headphones", "ribbon", "bow", "turban")}
    | {word: "eyes" for word in ("glasses", "sunglasses", "goggles", "mask", "moustache")}
    | {word: "body" for word in ("scarf", "tie", "necktie", "shirt", "t-shirt", "dress", "coat", "jacket", "backpack", "medal", "vest", "kimono")}
)  # fmt: skip

# Grounds by the words that call for them, behind a preposition.
SETTINGS = {
    "night": "night|nighttime|midnight|moonlight|dark|moon",
    "outer space": "stars|space|outer space|galaxy|universe|cosmos|milky way",
    "sea": "sea|ocean|water|waves|lake|harbour|harbor|river",
    "underwater": "underwater|deep sea|sea floor|bottom of the sea",
    "forest": "forest|forests|woods|wood|jungle|trees",
    "sunset": "sunset|sundown|dusk|evening|dawn|sunrise|setting sun",
    "beach": "beach|shore|seaside|sand",
    "city": "city|town|street|streets|skyline|road",
    "desert": "desert|dunes|sahara",
    "snow": "snow|winter|ice|blizzard|snowy day",
    "rain": "rain|storm|rainy day|thunderstorm",
    "meadow": "meadow|field|fields|garden|grass|park|lawn|countryside|spring",
    "mountains": "mountains|alps|hills",
    "room": "room|living room|kitchen|bedroom|house|home|office|school",
    "sky": "sky|clouds|air|blue sky",
}
INDOORS = {"house", "office", "school", "moon", "wood", "home", "ice"}  # things as well: a setting only without "a"
PREPOSITIONS = "at|in|on|by|under|over|among|across|through|into|above|against|during"


@dataclass(frozen=True)
class Thing:
    """A thing to draw: ``text`` is what its layer is judged by, ``noun`` (singular, bare) what its class is looked for by.

    ``size`` is a factor on the usual size; ``place`` is where the prompt says it stands.
    """

    text: str
    noun: str
    count: int = 1
    colour: str | None = None
    size: float = 1.0
    place: Place | None = None


@dataclass(frozen=True)
class Plan:
    """``things`` and how they stand: ``tree`` is a thing's index, or ``(relation, tree, tree)``; ``ground`` lies behind.

    Things whose place the prompt says are in no tree.
    """

    things: tuple[Thing, ...]
    tree: Any = None
    ground: Thing | None = None

    @property
    def layers(self) -> int:
        """How many layers it asks for."""
        return sum(thing.count for thing in self.things) + (self.ground is not None)

    @property
    def parts(self) -> list[str]:
        """What each layer is judged by, in the order that :func:`bigsleep.layouts.arranged` numbers them."""
        ground = [self.ground.text] if self.ground else []
        return ground + [thing.text for thing in self.things for _ in range(thing.count)]

    def lines(self) -> list[str]:
        """The plan to read: a line a thing, one for the ground, one for how they stand."""
        told = [f"ground: {self.ground.text}"] if self.ground else []
        for thing in self.things:
            extra = [f"{thing.count} times"] * (thing.count > 1) + [thing.colour or ""] * bool(thing.colour)
            extra += [{True: "small", False: "large"}[thing.size < 1]] * (thing.size != 1)
            if thing.place:
                extra.append(f"at {thing.place.x:.2f}, {thing.place.y:.2f}, size {thing.place.size:.2f}")
            told.append(f"thing: {thing.noun}" + (f" ({', '.join(extra)})" if extra else ""))
        return told + ([f"layout: {self.spoken(self.tree)}"] if isinstance(self.tree, tuple) else [])

    def spoken(self, tree: Any) -> str:
        if isinstance(tree, int):
            return self.things[tree].noun
        relation, first, second = tree
        return f"({self.spoken(first)} {relation} {self.spoken(second)})"


def plan_of(prompt: Prompt, names: Collection[str] = ()) -> Plan:
    """What ``prompt`` says; ``names`` of classes are never taken apart ("bow and arrow").

    Raises
    ------
    BigsleepError
        If there are two grounds.
    """
    reader = Reader(names)
    trees: list[Any] = []
    for phrase in prompt.wanted:
        if phrase.place is not None and phrase.place.ground:
            reader.set_ground(phrase.text)
        elif phrase.place is not None:
            reader.add(phrase.text, phrase.place)
        else:
            trees.append(reader.read(phrase.text))
    return Plan(tuple(reader.things), chained("beside", [tree for tree in trees if tree is not None]), reader.ground)


def chained(relation: str, trees: Iterable[Any]) -> Any:
    """``trees`` joined from the left by one relation; None for none."""
    whole = None
    for tree in trees:
        whole = tree if whole is None else (relation, whole, tree)
    return whole


def alternatives(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


WORDINGS = {wording: kind for kind, text in RELATIONS.items() for wording in text.split("|") if "{}" not in wording}
BETWEEN = re.compile(rf"\s*(,)\s*(?:and\s)?|\s+({alternatives(word for word in WORDINGS if word != ',')})\s+")
SETTING_WORDS = {word: ground for ground, text in SETTINGS.items() for word in text.split("|")}
SETTING = re.compile(
    rf"(?:^|\s|,\s*)(?:(?:{PREPOSITIONS})\s+(the\s+|an?\s+)?({alternatives(SETTING_WORDS)})|(underwater))(?=\s*(?:$|,))"
)


@dataclass
class Reader:
    """Reads phrases into things and trees; keeps the things, and the one ground."""

    names: Collection[str] = ()
    things: list[Thing] = field(default_factory=list)
    ground: Thing | None = None

    def set_ground(self, text: str) -> None:
        if self.ground is not None:
            raise BigsleepError(f"two grounds, {self.ground.text!r} and {text!r}: a picture has one", usage=True)
        self.ground = Thing(text, SETTING_WORDS.get(bare(text), bare(text)))

    def add(self, text: str, place: Place | None = None) -> int:
        self.things.append(thing_of(text, place))
        return len(self.things) - 1

    def read(self, phrase: str) -> Any:
        """The tree of a phrase without a place; None where it names nothing but the ground."""
        text = OPENING.sub("", " ".join(phrase.lower().rstrip(" .!").split()))
        if bare(text) in self.names:
            return self.add(text)
        text = self.joined(text)
        text = self.without_setting(text)
        parts = [part for part in BETWEEN.split(text) if part is not None]
        chunks, words = parts[::2], parts[1::2]
        if not all(is_noun_phrase(chunk) for chunk in chunks):
            return self.add(phrase)
        trees: list[Any] = [self.add(chunks[0].replace("_", " "))]
        relations = []
        for word, chunk in zip(words, (chunk.replace("_", " ") for chunk in chunks[1:]), strict=True):
            if word == "with" and not self.drawn(chunk):
                self.things[-1] = replace(self.things[-1], text=f"{self.things[-1].text} with {chunk}")
                continue
            relations.append(WORDINGS[word])
            trees.append(self.add(chunk))
        return self.joined_up(trees, relations)

    def drawn(self, chunk: str) -> bool:
        """Whether what comes with a thing is one that a class may draw, and no part of it, as a giraffe's long neck is."""
        return not self.names or last_noun(chunk) in set(map(last_noun, self.names))

    def without_setting(self, text: str) -> str:
        """``text`` without what it says of where all this is; the last setting named becomes the ground."""
        while (setting := SETTING.search(text)) and not is_thing(setting):
            rest = (text[: setting.start()] + " " + text[setting.end() :]).strip(" ,")
            if not rest or rest in DETERMINERS:
                break
            if self.ground is None:
                self.set_ground(setting[3] or setting[2])
            text = rest
        return text

    def joined(self, text: str) -> str:
        """``text`` with the words of a class name that holds a relation joined by ``_``."""
        for name in self.names:
            if BETWEEN.search(name) and re.search(rf"\b{re.escape(name)}\b", text):
                text = text.replace(name, name.replace(" ", "_"))
        return text

    def joined_up(self, trees: list[Any], relations: list[str]) -> Any:
        """One tree: what is worn or held first, then what stands side by side, then how the whole stands."""
        for level in (0, 1, 2):
            i = 0
            while i < len(relations):
                if BINDING.get(relations[i], 2) > level:
                    i += 1
                    continue
                relation = self.meant(relations[i], trees[i + 1])
                trees[i : i + 2] = [(relation, trees[i], trees[i + 1])]
                del relations[i]
        return trees[0]

    def meant(self, relation: str, second: Any) -> str:
        """``with`` and ``wearing`` by what is worn where."""
        if relation not in ("with", "wearing"):
            return relation
        noun = self.things[second].noun.split()[-1] if isinstance(second, int) else ""
        if noun in WORN:
            return f"wearing-{WORN[noun]}"
        return "wearing-head" if relation == "wearing" else "holding"


def is_thing(setting: re.Match[str]) -> bool:
    """Whether what reads like a setting is a thing after all: "on a house" is, "at home" is not."""
    article, word = (setting[1] or "").strip(), setting[2]
    return word in INDOORS and (article in ("a", "an") or word in ("house", "moon"))


def is_noun_phrase(chunk: str) -> bool:
    words = chunk.split()
    return 0 < len(words) <= 6 and words[-1] not in DETERMINERS


@lru_cache(maxsize=4096)
def last_noun(text: str) -> str:
    """The last word in the singular, which says what a name is of: "shoe" of "running shoes"."""
    return str(singularize(text.split()[-1]))


def bare(text: str) -> str:
    """Lower case, without the words in front that say how many or which."""
    words = text.lower().strip(" .!").split()
    while len(words) > 1 and words[0] in DETERMINERS:
        words = words[1:]
    return " ".join(words)


def thing_of(text: str, place: Place | None = None) -> Thing:
    """A thing out of a noun phrase: "two small red apples"."""
    words, count, colour, size = text.lower().split(), 1, None, 1.0
    for wording in ("a pair of", "a couple of"):
        if text.lower().startswith(wording + " "):
            words, count = words[3:], 2
    kept: list[str] = []
    for i, word in enumerate(words):
        last = i == len(words) - 1
        if word in DETERMINERS and not kept:
            continue
        if (word in NUMBERS or word.isdecimal()) and not kept and not last and count == 1:
            count = NUMBERS.get(word) or max(1, int(word[:4]))
        elif word in COLOURS and colour is None and not last and "of" not in kept:
            colour = "grey" if word == "gray" else word
        elif word in SIZES and size == 1 and not last:
            size = SIZES[word]
        elif word not in PLAIN or last:
            kept.append(word)
    noun = " ".join(kept or words)
    if count > 1:
        noun = singularize(noun)
    return Thing(
        text if count == 1 else f"a {noun}" if colour is None else f"a {colour} {noun}",
        noun,
        count,
        colour,
        size,
        place,
    )


def planned(prompt: Prompt, settings: Settings, alpha: bool, names: Collection[str] = ()) -> Plan | None:
    """What the words say of layers; None where one layer shall be the whole picture.

    Parameters
    ----------
    alpha
        Whether the generator makes sprites: then a single thing is worth a layer too.
    names
        Its classes' names, where they are words of the same kind as the prompt's.

    Raises
    ------
    BigsleepError
        If the prompt needs more layers than ``settings.layers``.
    """
    placed = sum(phrase.place is not None for phrase in prompt.wanted)
    if settings.layers == "1":
        if placed:
            raise BigsleepError(
                f"{prompt.text!r} says where things stand, and --layers is 1: give --layers {max(2, len(prompt.wanted))}",
                usage=True,
            )
        return None
    plan = plan_of(prompt, names)
    most = MOST_LAYERS if settings.layers == "auto" else int(settings.layers)
    if plan.layers > most and (placed or settings.layers != "auto"):
        raise BigsleepError(
            f"{prompt.text!r} asks for {plan.layers} layers, and --layers is {most}: ask for fewer things, or for more layers, "
            f"at most {MOST_LAYERS}",
            usage=True,
        )
    # Too much to set up thing by thing is one layer, as if nothing had been recognised.
    return plan if plan.layers <= most and (alpha or plan.layers > 1) else None
