"""The prompt language: phrases side by side (``a|b``), weighed (``a:2``), placed (``a@left``), and things to avoid."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bigsleep.errors import BigsleepError

# A digit before the colon is a time of day or a ratio ("at 12:30", "16:9"), not a weight.
WEIGHT = re.compile(r"(?P<text>(?:.*[^\d\s])?)\s*:\s*(?P<weight>-?\d+(?:\.\d+)?)", re.DOTALL)
PLACED = re.compile(r"(?P<text>.*\S)\s*@\s*(?P<place>[a-z-]+|\([^()]*\))", re.DOTALL | re.IGNORECASE)

SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
CENTRES = ("centre", "center", "middle")
GROUNDS = ("ground", "background", "behind")


@dataclass(frozen=True)
class Place:
    """Where a phrase shall stand: its middle ``x``, ``y`` in 0..1 from the top left, and its ``size`` as a share of the side.

    ``ground`` is what is behind all else, over the whole frame.
    """

    x: float = 0.5
    y: float = 0.5
    size: float = 1.0
    ground: bool = False


@dataclass(frozen=True)
class Phrase:
    """Words and how strongly the picture shall be like them; below zero, unlike them. ``place`` where they shall stand."""

    text: str
    weight: float = 1.0
    place: Place | None = None


@dataclass(frozen=True)
class Prompt:
    """What a user asked for: the ``text`` as typed and its ``phrases``, the ones to avoid last."""

    text: str
    phrases: tuple[Phrase, ...]

    @classmethod
    def parse(cls, text: str, avoid: tuple[str, ...] = ()) -> Prompt:
        """Read ``"a castle@left | a garden:0.5"`` and the phrases to ``avoid``.

        Raises
        ------
        BigsleepError
            If there are no words, a phrase is empty, a place is outside the picture, or nothing has a weight above zero.
        """
        if not text.strip():
            raise BigsleepError(
                'the prompt is empty: say what to dream of, as in bigsleep "a beautiful house"', usage=True
            )
        if not text.isascii() and text != text.encode("utf-8", "replace").decode():
            raise BigsleepError(f"the prompt {text!r} is not Unicode text: write it as UTF-8", usage=True)
        if "\0" in text:
            raise BigsleepError("the prompt holds a NUL character: take it out", usage=True)
        wanted = [parse_phrase(part, text) for part in text.split("|")]
        unwanted = [parse_phrase(part, phrases) for phrases in avoid for part in phrases.split("|")]
        if not any(phrase.weight > 0 for phrase in wanted):
            raise BigsleepError(f"no phrase of {text!r} has a weight above 0: nothing to dream of", usage=True)
        return cls(text, (*wanted, *(Phrase(phrase.text, -phrase.weight) for phrase in unwanted)))

    @property
    def wanted(self) -> tuple[Phrase, ...]:
        """The phrases that the picture shall show."""
        return tuple(phrase for phrase in self.phrases if phrase.weight > 0)


def parse_phrase(part: str, whole: str) -> Phrase:
    """One phrase with its weight and place; ``whole`` is what the user typed, for the message."""
    match = WEIGHT.fullmatch(part.strip())
    text, weight = (match["text"].strip(), float(match["weight"])) if match else (part.strip(), 1.0)
    placed = PLACED.fullmatch(text)
    place = parse_place(placed["place"], text) if placed else None
    if placed and place:
        text = placed["text"].strip()
    if not text:
        raise BigsleepError(f"an empty phrase in {whole!r}: put words on both sides of each |", usage=True)
    if not math.isfinite(weight) or abs(weight) > 1000:
        raise BigsleepError(f"the weight of {text!r} is too large: stay within -1000 and 1000", usage=True)
    return Phrase(text, weight, place)


def parse_place(text: str, phrase: str) -> Place | None:
    """The place that ``left``, ``top-right``, ``ground`` or ``(0.3,0.7,0.4)`` names; None for words that name none."""
    words = text.lower()
    if words.startswith("("):
        try:
            x, y, size = (*map(float, words.strip("()").split(",")), 0.5)[:3]
        except ValueError:
            x = y = size = math.nan
        if words.count(",") not in (1, 2) or not (0 <= x <= 1 and 0 <= y <= 1 and 0.05 <= size <= 2):
            raise BigsleepError(
                f"the place in {phrase!r} is none: write @(x,y) or @(x,y,size), x and y within 0 and 1 from the top left, "
                "the size from 0.05 to 2, as in @(0.3,0.7,0.4)",
                usage=True,
            )
        return Place(x, y, size)
    if words in GROUNDS:
        return Place(ground=True)
    if words in CENTRES:
        return Place(0.5, 0.5, 0.6)
    parts = words.split("-")
    if len(parts) > 2 or not set(parts) <= set(SIDES):
        return None
    across, down = (sum(SIDES[part][axis] for part in parts) for axis in (0, 1))
    corner = len(parts) == 2 and across and down
    if len(parts) == 2 and not corner:
        return None
    return Place(0.5 + 0.25 * across, 0.5 + 0.25 * down, 0.42 if corner else 0.5)
