"""Every option of a dream: its default, its range and its help. The command line, the API and the recipe read it here.

Where a picture goes (folder, file name, overwriting) is no option of the dream; those live in ``commands.options``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bigsleep.errors import BigsleepError

KINDS = {str: "text", int: "a number", float: "a number", bool: "true or false"}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
SIZES = (128, 256, 512)  # sides of pictures: the published BigGANs'


def option(
    default: Any,
    help: str,
    *,
    kind: type = str,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
    many: bool = False,
    joined: bool = False,
    shown: str | None = None,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A dataclass field that knows its range (``least <= value <= most``, ``value > above``) and its help text.

    Where it is ``joined``, what the command line is given several times is one text, with | between.
    """
    metadata = dict(
        help=help, kind=kind, least=least, most=most, above=above, choices=choices, many=many, joined=joined,
        shown=shown, parse=parse,
    )  # fmt: skip
    return field(default=default, metadata=metadata)


def parse_seconds(text: str) -> float:
    """``"90"``, ``"90s"``, ``"3m"``, ``"1h30m"`` → seconds.

    Raises
    ------
    ValueError
        If the text is no duration.
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    if not match or not any(match.groups()):
        raise ValueError("write it like 90s, 3m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True)
class Settings:
    """One dream's options. ``None`` means "what the model prefers", or for ``seed`` "draw one".

    Fields are annotated as complete settings hold them (see :meth:`filled`); until then they too may be ``None``.

    Raises
    ------
    BigsleepError
        From the constructor, if a value is out of its range or of the wrong type.
    """

    preset: str | None = option(
        None, "Preferences instead of the model's: Big Sleep's or FuseDream's own, a minute's, or half an hour's.",
        choices=("bigsleep", "fusedream", "fast", "best"), shown="none",
    )  # fmt: skip
    steps: int | None = option(None, "Optimisation steps.", kind=int, least=0, most=1_000_000, shown="the model's")
    time: float | None = option(
        None, "Time budget for the optimisation instead of --steps: 90s, 3m, 1h.", kind=float, above=0,
        parse=parse_seconds,
    )  # fmt: skip
    until: str = option(
        "end", "When it is done: at its end, or once the score has not risen by more than its noise for a fifth of it.",
        choices=("end", "plateau"),
    )  # fmt: skip
    seed: int | None = option(
        None, "Seed of all that is random.", kind=int, least=0, most=2**63 - 1, shown="random, and reported"
    )
    lr: float = option(
        None, "Adam's step size for the noise; for BigGAN, alone, for the classes too.", kind=float, above=0, most=100,
        shown="the model's",
    )  # fmt: skip
    class_lr: float = option(
        None, "Adam's step size for the classes.", kind=float, above=0, most=100, shown="the model's"
    )
    schedule: str = option(
        None, "How the step size goes on: constant, or down along a cosine.", choices=("constant", "cosine"),
        shown="the model's",
    )  # fmt: skip
    cutouts: int = option(
        None, "Random crops that CLIP sees in each step.", kind=int, least=1, most=4096, shown="the model's"
    )
    cutout_min: float = option(
        None, "Least side of a cutout, as a share of the picture's.", kind=float, above=0, most=2, shown="the model's"
    )
    cutout_max: float = option(None, "Greatest side of a cutout.", kind=float, above=0, most=2, shown="the model's")
    center_bias: bool = option(False, "Cutouts lie mostly near the middle.", kind=bool)
    views: str = option(
        None, "What CLIP sees in a step: cutouts, or FuseDream's AugCLIP, the whole picture changed in ways of its own.",
        choices=("cutouts", "augclip"), shown="the model's",
    )  # fmt: skip
    augment: float = option(
        None, "How much cutouts are tilted, mirrored, tinted and roughened.", kind=float, least=0, most=1,
        shown="the model's",
    )  # fmt: skip
    resample: str = option(
        None, "How pixels become a cutout's: nearest is Big Sleep's, antialiased is near CLIP's own way.",
        choices=("nearest", "bilinear", "antialiased"), shown="the model's",
    )  # fmt: skip
    image_size: int = option(
        None, "Side of the picture in pixels; picks the matching BigGAN.", kind=int, choices=SIZES,
        shown="512",
    )  # fmt: skip
    truncation: float = option(1.0, "BigGAN's truncation: lower is plainer.", kind=float, above=0, most=1)
    classes: str = option(
        None, "How class logits become class shares; linear ones are shares, without a bound.",
        choices=("sigmoid", "softmax", "linear"), shown="the model's",
    )  # fmt: skip
    max_classes: int | None = option(
        None, "Mix at most this many classes (a differentiable top-k).", kind=int, least=1, shown="no limit"
    )
    class_temperature: float = option(2.0, "How evenly --max-classes mixes them.", kind=float, above=0, most=1000)
    latents: str = option(
        None, "What is optimised: the latents' rows, or FuseDream's basis, a mixture of the five best auditions.",
        choices=("rows", "basis"), shown="the model's",
    )  # fmt: skip
    stages: str = option(
        None, "Latents of the generator's stages: free rows, one row until --release, or one row.",
        choices=("free", "released", "shared"), shown="the model's",
    )  # fmt: skip
    release: float = option(
        0.4, "Share of the steps after which --stages released frees the rows.", kind=float, least=0, most=1
    )
    init: str = option(
        None, "Start from the classes whose names fit the words, from any single class, or at random.",
        choices=("words", "classes", "random"), shown="the model's",
    )  # fmt: skip
    auditions: int = option(
        None, "Random starts that are tried; the best one dreams.", kind=int, least=1, most=100_000,
        shown="the model's",
    )  # fmt: skip
    layers: str = option(
        None, "How many things, each with latents of its own, the picture may be made of: auto is what the words name.",
        choices=("auto", *map(str, range(1, 10))), shown="the model's",
    )  # fmt: skip
    finish: str = option(
        None, "How drawings are enlarged: with the edges of a drawing, or smoothly.", choices=("crisp", "smooth"),
        shown="crisp, where the model draws",
    )  # fmt: skip
    noise_weight: float = option(
        None, "Weight of the penalties on the noise.", kind=float, least=0, most=1000, shown="the model's"
    )
    class_weight: float = option(
        None, "Weight of the penalty on the classes.", kind=float, least=0, most=1000, shown="the model's"
    )
    ema: float = option(
        None, "Decay of the moving average of the latents that is shown.", kind=float, least=0, most=0.9999,
        shown="the model's",
    )  # fmt: skip
    avoid: tuple[str, ...] = option((), "A phrase to stay away from; may be given again.", many=True)
    start: str | None = option(
        None, "A picture to begin with: one of bigsleep's gives its latents, any other image is looked for first."
    )
    image_prompt: tuple[str, ...] = option(
        (), "An image to be like beside the words, FILE or FILE:WEIGHT; may be given again.", many=True
    )
    model: str = option(
        "auto", "Generator: auto, emoji, biggan-deep-128, -256, -512, or a file or folder of one.", shown="auto"
    )
    clip: str | None = option(
        None,
        "CLIP: one of OpenAI's nine names, emoji, openclip:NAME/WEIGHTS or a file; several look together.",
        shown="what goes with --model",
        joined=True,
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.")
    precision: str = option(
        "auto", "Arithmetic of the steps; fp16 is CLIP's alone.", choices=("auto", "fp32", "bf16", "fp16")
    )
    threads: int = option(
        None, "CPU threads of a dream; a part of what makes its bytes.", kind=int, least=1, most=1024, shown="all cores"
    )
    compile: bool = option(False, "Compile the models' steps: a slow start, then faster on a GPU.", kind=bool)
    best_of: int = option(
        1, "Seeds that a dream starts with; the weaker half is dropped time and again.", kind=int, least=1, most=1024
    )
    save_every: int = option(None, "Steps between snapshots.", kind=int, least=1, most=1_000_000, shown="the model's")

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, checked(item.name, getattr(self, item.name), item.metadata))
        if self.steps is not None and self.time is not None:
            raise BigsleepError("--steps and --time exclude each other: give one of them", usage=True)
        if self.cutout_min is not None and self.cutout_max is not None and self.cutout_min > self.cutout_max:
            raise BigsleepError("--cutout-min is greater than --cutout-max: swap them", usage=True)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Settings of named ``options``; an unknown name is a :class:`BigsleepError`, not a ``TypeError``."""
        for name in options:
            rules_of(name)
        return cls(**options)

    def filled(self, preferences: Mapping[str, Any]) -> Settings:
        """These settings with each ``None`` replaced by the ``preferences`` of a model, where it has one.

        A time budget stands instead of the preferred steps. For a model that has one step size for noise and classes,
        ``lr`` alone sets both.
        """
        if self.lr is not None and "lr" in preferences and preferences["lr"] == preferences.get("class_lr"):
            preferences = {**preferences, "class_lr": self.lr}
        missing = {name: value for name, value in preferences.items() if getattr(self, name) is None}
        if self.time is not None:
            missing.pop("steps", None)
        return replace(self, **missing)


def typed(name: str, value: Any) -> Any:
    """The ``value`` of an option as a table holds it, where text stands for any type: ``"3m"``, ``"yes"``, ``"a|b"``.

    Raises
    ------
    BigsleepError
        If there is no such option, or the text is none of its values.

    Examples
    --------
    >>> typed("steps", "20"), typed("avoid", "night|rain"), typed("time", "1m30s")
    (20, ('night', 'rain'), 90.0)
    """
    rules = rules_of(name)
    if not isinstance(value, str):
        return value
    try:
        if rules["parse"]:
            return rules["parse"](value)
        if rules["many"]:
            return tuple(part.strip() for part in value.split("|"))
        return TRUTH[value.lower()] if rules["kind"] is bool else rules["kind"](value)
    except (ValueError, KeyError):
        raise BigsleepError(f"{flag_of(name)} takes {KINDS[rules['kind']]}, not {value!r}", usage=True) from None


OPTIONS: dict[str, Mapping[str, Any]] = {item.name: item.metadata for item in fields(Settings)}


def rules_of(name: str) -> Mapping[str, Any]:
    """What :func:`option` was told of an option; a :class:`BigsleepError` that lists the known ones for no option."""
    if name not in OPTIONS:
        raise BigsleepError(f"unknown option {name!r}: known are {', '.join(sorted(OPTIONS))}", usage=True)
    return OPTIONS[name]


def flag_of(name: str) -> str:
    """An option as the command line spells it."""
    return "--" + name.replace("_", "-")


def checked(name: str, value: Any, rules: Mapping[str, Any]) -> Any:
    """``value`` as its option's type, or a :class:`BigsleepError` that names the option and its range."""
    flag = flag_of(name)
    if rules["many"]:
        values = value if isinstance(value, (tuple, list)) else (value,)
        if not all(isinstance(one, str) for one in values):
            raise BigsleepError(f"{flag} takes text, not {value!r}", usage=True)
        return tuple(values)
    if value is None:
        return None
    kind = rules["kind"]
    if kind is str and type(value) is int:  # layers=2
        value = str(value)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise BigsleepError(f"{flag} takes {KINDS[kind]}, not {value!r}", usage=True)
    if kind is float:
        try:
            value = float(value)
        except OverflowError:  # of an integer: JSON's know no end
            raise BigsleepError(f"{flag} is too large a number", usage=True) from None
    if rules["choices"] and value not in rules["choices"]:
        raise BigsleepError(f"{flag} is {value}: choose {', '.join(map(str, rules['choices']))}", usage=True)
    # Written so that NaN fails too.
    least, most, above = rules["least"], rules["most"], rules["above"]
    if least is not None and not value >= least:
        raise BigsleepError(f"{flag} is {value}: it must be at least {least}", usage=True)
    if above is not None and not value > above:
        raise BigsleepError(f"{flag} is {value}: it must be more than {above}", usage=True)
    if not (most is None or value <= most) or value == float("inf"):
        raise BigsleepError(f"{flag} is {value}: it must be at most {most or 'finite'}", usage=True)
    return value
