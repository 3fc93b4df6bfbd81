"""The prompt language: phrases side by side (``a|b``), weighed (``a:2``), and things to avoid."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bigsleep.errors import BigsleepError

# A digit before the colon is a time of day or a ratio ("at 12:30", "16:9"), not a weight.
WEIGHT = re.compile(r"(?P<text>(?:.*[^\d\s])?)\s*:\s*(?P<weight>-?\d+(?:\.\d+)?)", re.DOTALL)


@dataclass(frozen=True)
class Phrase:
    """Words and how strongly the picture shall be like them; below zero, unlike them."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """What a user asked for: the ``text`` as typed and its ``phrases``, the ones to avoid last."""

    text: str
    phrases: tuple[Phrase, ...]

    @classmethod
    def parse(cls, text: str, avoid: tuple[str, ...] = ()) -> Prompt:
        """Read ``"a house|a garden:0.5"`` and the phrases to ``avoid``.

        Raises
        ------
        BigsleepError
            If there are no words, a phrase is empty, or nothing has a weight above zero.
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


def parse_phrase(part: str, whole: str) -> Phrase:
    """One phrase with its weight; ``whole`` is what the user typed, for the message."""
    match = WEIGHT.fullmatch(part.strip())
    text, weight = (match["text"].strip(), float(match["weight"])) if match else (part.strip(), 1.0)
    if not text:
        raise BigsleepError(f"an empty phrase in {whole!r}: put words on both sides of each |", usage=True)
    if not math.isfinite(weight) or abs(weight) > 1000:
        raise BigsleepError(f"the weight of {text!r} is too large: stay within -1000 and 1000", usage=True)
    return Phrase(text, weight)
