"""What a picture says of how it was made: read with care, and turned into settings and commands again."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bigsleep.errors import BigsleepError
from bigsleep.settings import OPTIONS, Settings, flag_of
from bigsleep.state import unpacked

FORMAT = 1  # of recipes and states; a picture with a greater one is of a newer bigsleep


def checked_recipe(recipe: Mapping[str, Any], where: object) -> Mapping[str, Any]:
    """A ``recipe`` as read, if it has all that a picture of ours says; ``where`` names the picture in messages.

    Raises
    ------
    BigsleepError
        If there is none, it is a newer bigsleep's, or it is damaged.
    """
    if not recipe:
        raise BigsleepError(
            f"{where} says nothing of how it was made: it is not bigsleep's, or was saved by another program or with "
            f"--no-recipe; as an image to begin with it will do: bigsleep WORDS --start {shlex.quote(str(where))}",
            usage=True,
        )
    made_by = made_with(recipe)
    if isinstance(recipe.get("format", 1), int) and recipe.get("format", 1) > FORMAT:
        raise BigsleepError(f"{where} was made by bigsleep {made_by}, which is newer: update this one", usage=True)
    kinds: dict[str, Any] = {"prompt": str, "settings": dict, "score": (int, float), "step": int, "versions": dict}
    for name, kind in kinds.items():
        if not isinstance(recipe.get(name), kind):
            raise BigsleepError(f"the recipe in {where} is damaged: it has no {name} that could be used", usage=True)
    settings_of(recipe, where)
    return recipe


def made_with(recipe: Mapping[str, Any]) -> str:
    """The version of bigsleep that a recipe names."""
    versions = recipe.get("versions")
    return printable(str(versions.get("bigsleep", "?"))[:40]) if isinstance(versions, dict) else "?"


def settings_of(recipe: Mapping[str, Any], where: object) -> Settings:
    """The settings that a recipe records; a :class:`BigsleepError` where this version knows them no more, or not yet."""
    try:
        settings = Settings.of(recipe["settings"])
        if settings.seed is None or settings.model == "auto" or (settings.steps is None and settings.time is None):
            raise BigsleepError("its settings are not complete")
    except (BigsleepError, TypeError) as error:
        raise BigsleepError(
            f"the recipe in {where}, made by bigsleep {made_with(recipe)}, cannot be used here "
            f"({printable(str(error)[:200])})",
            usage=True,
        ) from None
    return settings


def command_of(recipe: Mapping[str, Any], settings: Settings) -> str:
    """A line for the shell that makes a picture again, all its options named.

    A prompt of one word may be a command's name, so the command is said; one that begins with - stands behind --.
    """
    prompt, words = recipe["prompt"], []
    for item in fields(Settings):
        value = getattr(settings, item.name)
        if value == item.default or value is None:
            continue
        for one in value if OPTIONS[item.name]["many"] else (value,):
            words += [flag_of(item.name)] if one is True else [flag_of(item.name), str(one)]
    if prompt.startswith("-"):
        return shlex.join(["bigsleep", "dream", *words, "--", " -" if prompt == "-" else prompt])
    command = ["bigsleep"] if len(prompt.split()) > 1 else ["bigsleep", "dream"]
    return shlex.join([*command, prompt, *words])


def machine() -> str:
    """The kind of machine this is, as far as it decides a picture's bytes and names nobody's."""
    import torch

    return f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def differences(recipe: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of versions, machine and weights was otherwise when a picture was made, in words; empty where nothing."""
    said = []
    for name in ("versions", "weights"):
        then, here = recipe.get(name), now.get(name)
        if isinstance(then, dict) and isinstance(here, dict):
            said += [
                f"{part} {then[part]}, not {here[part]}" for part in here if part in then and then[part] != here[part]
            ]
    if "machine" in recipe and recipe["machine"] != now["machine"]:
        said.append(f"a {recipe['machine']}, not a {now['machine']}")
    return "; ".join(str(part)[:100] for part in said)


def circumstances() -> dict[str, Any]:
    """The versions and the machine that decide a picture's bytes beside its settings, for its recipe."""
    from importlib.metadata import version

    import torch

    return {"versions": {"bigsleep": version("bigsleep"), "torch": torch.__version__}, "machine": machine()}


def settings_here(settings: Settings) -> Settings:
    """``settings`` of a recipe as this machine can follow them: on a device that is here, with no more threads than cores."""
    import torch

    cores = os.cpu_count() or 1
    if (settings.threads or 0) > cores:
        settings = replace(settings, threads=cores)
    here = {"cpu", "cuda" if torch.cuda.is_available() else "", "mps" if torch.backends.mps.is_available() else ""}
    if settings.device.partition(":")[0] not in here:
        settings = replace(settings, device="auto", precision="auto")
    return settings


def described(path: Path, recipe: Mapping[str, Any], settings: Settings, state: bytes) -> str:
    """What ``bigsleep info`` says of the picture in ``path``."""
    going, versions = recipe.get("going"), recipe["versions"]
    length = f"step {recipe['step']}" + (f" of {settings.steps}" if settings.steps is not None else "")
    rows = [
        ("prompt", recipe["prompt"]),
        ("avoid", " | ".join(settings.avoid)),
        ("images", " | ".join(settings.image_prompt)),
        ("start", settings.start or ""),
        ("model", f"{settings.model}, CLIP {settings.clip}"),
        ("seed", str(settings.seed)),
        ("made", f"{length}, score {recipe['score']:.3f}"),
        ("by", ", ".join([*(f"{name} {number}" for name, number in versions.items()), str(recipe.get("machine", ""))])),
        ("holds", held_in(state, going)),
        ("again", shlex.join(["bigsleep", "redo", str(path)])),
        ("onward", shlex.join(["bigsleep", "continue", str(path)]) if state else ""),
        ("command", command_of(recipe, settings)),
    ]
    return "\n".join([str(path), *(f"  {name:8} {printable(text)}" for name, text in rows if text)])


def held_in(state: bytes, going: Any) -> str:
    """What can be gone on from, in words."""
    if not state:
        return "no latents: the words and the seed alone make it again"
    names = {name for name, _ in unpacked(state)}
    layers = len({name.partition(".")[0] for name in names if name.startswith("layer")})
    told = f"the latents of {layers} layer{'s' * (layers != 1)}"
    if isinstance(going, dict) and "search.random" in names:
        told += f", and its unfinished dream at step {going.get('step')}"
    return told


def printable(text: str) -> str:
    """``text`` from a file as a terminal may show it: what would move the cursor or change colours is escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
