"""Does a picture show what was asked for, all of it, where and as often and in the colour it was asked for?

    python -m benchmarks.scenes [--sheet scenes.png]
    python -m benchmarks.scenes --metadata evaluation_metadata.jsonl
    python -m benchmarks.scenes --free --sheet free.png

GenEval's form (Ghosh et al. 2023) for the built-in pair: single things, two, counted ones, coloured ones, places, two with
a colour each, and as a seventh kind, which the mean leaves out, settings. Prompts come from GenEval's templates over our
concepts, drawn by a seed; no two things of a prompt, nor a thing and its setting, ever came together in training. A detector
judges (``benchmarks.judge``). Beside the dream stand what simpler programs would have made: ``lookup``, the nearest class
by name and no more; ``plan``, what the words alone say goes where; ``auditions``, what the perceptor then chooses, without
a step. Intervals are 95 % of 1,000 bootstrap samples of the prompts.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.judge import SIZE, Judge
from bigsleep import Dream, Models, Settings
from bigsleep.course import together
from training.nouns import held_out, is_plural, plural, shown_by, with_article

HERE = Path(__file__).parent
KINDS = ("single_object", "two_object", "counting", "colors", "position", "color_attr", "setting")
MEAN_OF = KINDS[:6]
VARIANTS: dict[str, dict[str, Any]] = {
    "lookup": {"layers": "1", "steps": 0, "auditions": 1},
    "plan": {"steps": 0, "auditions": 1},
    "auditions": {"steps": 0},
    "dream": {},
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
NUMBERS = {2: "two", 3: "three", 4: "four"}
PLACES = ("left of", "right of", "above", "below")
SETTINGS = {
    "night": "at night", "outer space": "in outer space", "sea": "in the sea", "underwater": "underwater",
    "forest": "in the forest", "sunset": "at sunset", "beach": "on the beach", "city": "in the city",
    "desert": "in the desert", "snow": "in the snow", "rain": "in the rain", "meadow": "in a meadow",
    "mountains": "in the mountains", "room": "in a room", "sky": "in the sky",
}  # fmt: skip
# GenEval's names of things that are called otherwise here; those in neither table are not drawn.
GENEVAL = {
    "tv": "television", "cell phone": "phone", "tie": "necktie", "handbag": "bag", "wine glass": "wine",
    "computer keyboard": "keyboard", "sports ball": "ball",
}  # fmt: skip


def drawn_prompts(nouns: list[str], each: int, seed: int) -> Iterator[dict[str, Any]]:
    """``each`` prompts of every kind over ``nouns``, as GenEval's metadata."""
    chance = random.Random(seed)

    def things(count: int, coloured: bool = False) -> list[str]:
        while True:
            names = chance.sample(nouns, count)
            if (count == 1 or held_out(*names)) and not (coloured and "person" in names):
                return names

    for kind in KINDS:
        for number in range(each):
            names = things(2 if kind in ("two_object", "position", "color_attr") else 1, kind.startswith("color"))
            include: list[dict[str, Any]] = [{"class": name, "count": 1} for name in names]
            asked: dict[str, Any] = {"tag": kind, "include": include}
            said = " and ".join(map(with_article, names))
            if kind == "counting":
                while is_plural(names[0]):
                    names = things(1)
                count = chance.choice(list(NUMBERS))
                asked |= {
                    "include": [{"class": names[0], "count": count}],
                    "exclude": [{"class": names[0], "count": count + 1}],
                }
                said = f"{NUMBERS[count]} {plural(names[0])}"
            elif kind.startswith("color"):
                for thing, colour in zip(include, chance.sample(COLOURS, len(names)), strict=True):
                    thing["color"] = colour
                said = " and ".join(with_article(f"{thing['color']} {thing['class']}") for thing in include)
            elif kind == "position":
                place = PLACES[number % 4]
                include.reverse()
                include[1]["position"] = [place, 0]
                said = f"{with_article(names[0])} {place} {with_article(names[1])}"
            elif kind == "setting":
                fitting = [setting for setting in SETTINGS if held_out(names[0], setting)]
                while not fitting:
                    names = things(1)
                    fitting = [setting for setting in SETTINGS if held_out(names[0], setting)]
                asked["setting"] = chance.choice(fitting)
                asked["include"] = [{"class": names[0], "count": 1}]
                said = f"{with_article(names[0])} {SETTINGS[asked['setting']]}"
            yield asked | {"prompt": f"a photo of {said}"}


def read_metadata(path: Path, nouns: list[str]) -> list[dict[str, Any]]:
    """Those of GenEval's own prompts whose things are all drawn here."""
    kept, lines = [], [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    for asked in lines:
        for thing in [*asked["include"], *asked.get("exclude", [])]:
            thing["class"] = GENEVAL.get(thing["class"], thing["class"])
        if all(thing["class"] in nouns for thing in asked["include"]):
            kept.append(asked)
    click.echo(f"{len(kept)} of {len(lines)} prompts are about things that are drawn here; the others are skipped")
    return kept


def dreams(
    prompts: list[str],
    settings: Settings,
    models: Models,
    parallel: int,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Tensor], float]:
    """The last picture of each prompt, ``[3, SIZE, SIZE]`` in 0..1, and the seconds that one took by ``clock``."""
    place: dict[Dream, int] = {}
    pictures, began = {}, clock()

    def begun() -> Iterator[Dream]:
        for number, prompt in enumerate(prompts):
            dreaming = Dream(prompt, settings, models=models)
            place[dreaming] = number
            yield dreaming

    with click.progressbar(length=len(prompts), label="dreaming") as bar:
        for dreaming, found in together(begun(), parallel):
            if isinstance(found, Exception):
                raise found
            if found.last:
                pictures[place.pop(dreaming)] = reduced(found.image)
                bar.update(1)
    return [pictures[i] for i in range(len(prompts))], (clock() - began) / len(prompts)


def reduced(image: Tensor) -> Tensor:
    """An image ``[3, H, W]`` as the judge sees it: ``[3, SIZE, SIZE]``."""
    return F.interpolate(image[None], (SIZE, SIZE), mode="bilinear", antialias=True)[0]


def shares(kinds: list[str], right: list[bool]) -> dict[str, Any]:
    """Shares of right pictures, by kind, ``overall`` the mean over GenEval's six, and their bootstrap intervals."""
    mark, generator = torch.tensor(right, dtype=torch.float), torch.Generator().manual_seed(0)
    by_kind, drawn = {}, {}
    for kind in [kind for kind in KINDS if kind in kinds]:
        own = mark[torch.tensor([k == kind for k in kinds])]
        by_kind[kind] = round(float(own.mean()), 3)
        drawn[kind] = own[torch.randint(len(own), (1000, len(own)), generator=generator)].mean(1)
    six = [kind for kind in by_kind if kind in MEAN_OF]
    overall = sum(by_kind[kind] for kind in six) / len(six)
    mean = torch.stack([drawn[kind] for kind in six]).mean(0)
    intervals = {kind: interval(samples) for kind, samples in ({"overall": mean} | drawn).items()}
    return {"overall": round(overall, 3), "kinds": by_kind, "intervals": intervals}


def table(figures: dict[str, Any]) -> str:
    """Shares in words."""
    every = {"overall": figures["overall"]} | figures["kinds"]
    return ", ".join(
        f"{kind} {share:.2f} ({low:.2f} to {high:.2f})"
        for (kind, share), (low, high) in zip(every.items(), figures["intervals"].values(), strict=True)
    )


def interval(samples: Tensor) -> list[float]:
    return [round(float(samples.quantile(q)), 3) for q in (0.025, 0.975)]


def save_sheet(path: Path, prompts: list[str], rows: list[list[Tensor]], marks: list[list[bool]] | None) -> None:
    """A line per prompt and a picture per variant, framed green where the judge says it is right, red where not."""
    columns = max(1, 12 // len(rows))
    wide, high = SIZE * len(rows) + 12, SIZE + 18
    sheet = Image.new("RGB", (wide * columns, high * -(-len(prompts) // columns)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, prompt in enumerate(prompts):
        x, y = i % columns * wide, i // columns * high
        pen.text((x + 2, y + 2), prompt, fill="black")
        for column, row in enumerate(rows):
            pixels = (row[i].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (x + SIZE * column, y + 14))
            if marks:
                frame = (x + SIZE * column, y + 14, x + SIZE * (column + 1) - 2, y + 12 + SIZE)
                pen.rectangle(frame, outline="green" if marks[column][i] else "red", width=2)
    sheet.save(path)


@click.command()
@click.option("--prompts-per-kind", "each", default=50, show_default=True, type=click.IntRange(1))
@click.option("--metadata", type=click.Path(path_type=Path, exists=True), help="GenEval's own prompts, in its format.")
@click.option("--variants", default=",".join(VARIANTS), show_default=True, help="Which of them, the dream last.")
@click.option("--free", is_flag=True, help="Dream of benchmarks/free_prompts.txt, which no judge can judge.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write the pictures to this file.")
@click.option("--seed", default=1, show_default=True)
@click.option("--parallel", default=8, show_default=True)
def main(
    each: int, metadata: Path | None, variants: str, free: bool, sheet: Path | None, seed: int, parallel: int
) -> None:
    base = Settings.of({"model": "emoji", "seed": seed, "save_every": 1_000_000})
    models = Models.load(base)
    judge = Judge.load()
    drawn = set(models.generator.class_names)
    nouns = [noun for noun in judge.nouns if drawn & set(shown_by(noun))]
    if free:
        asked = [{"prompt": line} for line in (HERE / "free_prompts.txt").read_text().splitlines()]
    else:
        asked = read_metadata(metadata, nouns) if metadata else list(drawn_prompts(nouns, each, seed))
    prompts, rows, marks, figures, seconds = [one["prompt"] for one in asked], [], [], {}, 0.0
    for variant in variants.split(","):
        settings = Settings.of({**asdict(base), **VARIANTS[variant]})
        pictures, seconds = dreams(prompts, settings, models, parallel)
        rows.append(pictures)
        if not free:
            sights = judge.look(torch.stack(pictures))
            marks.append([judge.right(one, sight) for one, sight in zip(asked, sights, strict=True)])
            figures[variant] = shares([one["tag"] for one in asked], marks[-1])
            click.echo(f"{variant}, {seconds:.1f} s a picture: {table(figures[variant])}")
    if sheet:
        save_sheet(sheet, prompts, rows, marks or None)
    if not free:
        whole = figures.pop("dream", {})
        last = {"prompts": len(asked), **whole, **figures, "judge": judge.table["accuracy"]}
        click.echo(json.dumps(last | {"seconds_per_picture": round(seconds, 2)}))


if __name__ == "__main__":
    main()
