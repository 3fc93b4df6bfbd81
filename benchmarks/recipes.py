"""What does each part of a recipe bring? Dreams of the built-in pair beside each other, judged apart.

    python -m benchmarks.recipes FOLDER [--group scenes ...] [--each 6]
    python -m benchmarks.recipes FOLDER --collapse [--each 1]

``scenes`` are prompts of ``benchmarks.scenes`` under the default recipe, under less of it, and without any search; ``random``
are single things, in one picture and from a random start, as BigGAN has it, where a search has something to find. Two
judges see the last picture of each, and neither has steered it: ``benchmarks.quality``'s image tower says how like the words
it is and where the right prompt ranks among all, ``benchmarks.scenes``' detector whether it is right. Intervals are 95 % of
1,000 bootstrap samples of the prompts, those of differences of the same prompts. ``--collapse`` looks at dreams of up to
4,000 steps on the way. Writes ``recipes.json`` with every figure, a table, a plot and grids of pictures into FOLDER.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import judge as detector
from benchmarks import quality
from benchmarks.scenes import drawn_prompts, dreams, interval, reduced, save_sheet
from bigsleep import Dream, Models, Settings
from bigsleep.dreamer import together
from training.nouns import shown_by

# The default recipe, then less and less of it, down to no search at all.
SCENES: dict[str, dict[str, Any]] = {
    "default": {},
    "auditions, no step": dict(steps=0),
    "the words, no audition": dict(steps=0, auditions=1),
    "nearest name, nothing else": dict(layers="1", steps=0, auditions=1),
    "one picture for layers": dict(layers="1"),
    "no augmentation": dict(augment=0.0),
    "10 steps": dict(steps=10),
    "preset fast": dict(preset="fast"),
    "preset best": dict(preset="best"),
}
ALONE = dict(layers="1", init="random", auditions=1)
SIZES = dict(cutout_min=0.5, cutout_max=0.95)
BIG_SLEEPS = SIZES | dict(lr=0.07, class_lr=0.07, schedule="constant", augment=0.0, stages="free", noise_weight=1.0, ema=0.5, resample="nearest")  # fmt: skip
# The default recipe's steps, then the same with one part as Big Sleep has it or without, then other recipes.
RANDOM: dict[str, dict[str, Any]] = {
    "the default's steps": ALONE,
    "no search": ALONE | dict(steps=0),
    "60 auditions, no step": ALONE | dict(auditions=60, steps=0),
    "60 of single classes, no step": ALONE | dict(auditions=60, init="classes", steps=0),
    "60 auditions first": ALONE | dict(auditions=60),
    "60 of single classes first": ALONE | dict(auditions=60, init="classes"),
    "240 of single classes first": ALONE | dict(auditions=240, init="classes"),
    "FuseDream's, 400 auditions, 100 steps of 10": dict(preset="fusedream", auditions=400, steps=100, cutouts=10),
    "Big Sleep's (softmax)": ALONE | BIG_SLEEPS,
    "no augmentation": ALONE | dict(augment=0.0),
    "AugCLIP's views": ALONE | dict(views="augclip"),
    "Big Sleep's cutout sizes": ALONE | SIZES,
    "Big Sleep's step sizes": ALONE | dict(lr=0.07, class_lr=0.07),
    "constant step size": ALONE | dict(schedule="constant"),
    "stages apart": ALONE | dict(stages="free"),
    "no class penalty": ALONE | dict(class_weight=0.0),
    "no moving average": ALONE | dict(ema=0.0),
    "1 cutout for 6": ALONE | dict(cutouts=1),
    "from the words, as by default": dict(layers="1"),
    "preset fast": dict(layers="1", preset="fast"),
    "preset best": dict(layers="1", preset="best"),
}
LOOKS = (20, 40, 100, 200, 400, 700, 1000, 1500, 2000, 2500, 3000, 3500, 4000)
SIDE = detector.SIZE


@dataclass
class Seen:
    """What the judges say of one variant's pictures ``[N, 3, SIDE, SIDE]``, prompt by prompt."""

    pictures: Tensor
    likeness: Tensor  # cosine to its own prompt
    first: Tensor  # whether no other prompt is more like it
    right: Tensor
    natural: Tensor  # cosine to the nearest of the generator's own samples
    seconds: float


class Judges:
    """Both judges, and what the generator's own samples look like to one of them."""

    def __init__(self, asked: list[dict[str, Any]], models: Models) -> None:
        self.asked, self.prompts = asked, [one["prompt"] for one in asked]
        self.detector, self.tower = detector.Judge.load(), quality.Judge()
        self.words = self.tower.vectors(self.prompts)
        self.samples = self.features(samples_of(models))

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        small = F.interpolate(pictures, size=(64, 64), mode="bilinear", antialias=True)
        return F.normalize(self.tower.tower(small), dim=1)

    def __call__(self, pictures: Tensor, seconds: float) -> Seen:
        features = self.features(pictures)
        cosines = features @ self.words.T
        own = cosines.diagonal()
        sights = self.detector.look(pictures)
        right = [self.detector.right(one, sight) for one, sight in zip(self.asked, sights, strict=True)]
        natural = (features @ self.samples.T).amax(1)
        return Seen(
            pictures, own, (cosines <= own[:, None]).all(1).float(), torch.tensor(right).float(), natural, seconds
        )


@torch.no_grad()
def samples_of(models: Models) -> Tensor:
    """A picture of each class as the generator makes it, with noise."""
    from bigsleep.latents import draw_noise

    generator, random = models.generator, torch.Generator().manual_seed(0)
    pictures = []
    for shares in torch.eye(generator.num_classes).split(64):
        noise = draw_noise(len(shares), 1, generator.noise_size, generator=random).expand(-1, generator.stages, -1)
        shown = models.optimizer.start.pictures(noise, shares[:, None].expand(-1, generator.stages, -1))
        pictures.append(shown)
    return torch.cat(pictures)


def bootstrap(values: Tensor) -> list[float]:
    """The mean of ``values`` ``[N]`` and its interval."""
    drawn = torch.randint(len(values), (1000, len(values)), generator=torch.Generator().manual_seed(0))
    return [round(float(values.mean()), 4), *interval(values[drawn].mean(1))]


def row(name: str, seen: Seen, base: Seen) -> dict[str, Any]:
    """The figures of one variant, and how they differ from those of ``base``, prompt by prompt."""
    return {
        "name": name,
        "seconds": round(seen.seconds, 2),
        "likeness": bootstrap(seen.likeness),
        "difference": bootstrap(seen.likeness - base.likeness),
        "right": bootstrap(seen.right),
        "first": round(float(seen.first.mean()), 3),
        "natural": round(float(seen.natural.mean()), 3),
    }


def asked_of(group: str, each: int, models: Models) -> list[dict[str, Any]]:
    """The prompts of a group, as GenEval's metadata."""
    judge, drawn = detector.Judge.load(), set(models.generator.class_names)
    nouns = [noun for noun in judge.nouns if drawn & set(shown_by(noun))]
    if group == "scenes":
        return list(drawn_prompts(nouns, each, seed=2))
    single = [one for one in drawn_prompts(nouns, 4 * each, seed=3) if one["tag"] == "single_object"]
    return list({one["prompt"]: one for one in single}.values())


def compared(group: str, variants: dict[str, dict[str, Any]], each: int, parallel: int, folder: Path) -> dict[str, Any]:
    base = Settings.of({"model": "emoji", "seed": 1, "save_every": 1_000_000})
    models = Models.load(base)
    judges = Judges(asked_of(group, each, models), models)
    rows, first, pictures = [], None, []
    for name, options in variants.items():
        settings = Settings.of({**asdict(base), **options})
        made, seconds = dreams(judges.prompts, settings, models, parallel, time.process_time)
        seen = judges(torch.stack(made), seconds)
        first = first or seen
        rows.append(row(name, seen, first))
        keep(folder, group, {"prompts": len(judges.prompts), "rows": rows})
        pictures.append(list(seen.pictures[:: max(1, len(seen.pictures) // 8)]))
        click.echo(json.dumps(rows[-1]))
    save_sheet(folder / f"{group}.png", judges.prompts[:: max(1, len(judges.prompts) // 8)], pictures, None)
    return {"prompts": len(judges.prompts), "rows": rows}


def keep(folder: Path, part: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Put figures beside those that ``folder`` has, in a file, a table and a plot; all of them."""
    file = folder / "recipes.json"
    known = (json.loads(file.read_text()) if file.exists() else {}) | {part: figures}
    file.write_text(json.dumps(known, indent=1) + "\n")
    groups = {name: known[name] for name in ("scenes", "random") if name in known}
    (folder / "recipes.md").write_text("\n".join(table(one) for one in groups.values()))
    (folder / "recipes.svg").write_text(plot(groups, known.get("collapse", {})))
    return known


def table(group: dict[str, Any]) -> str:
    """The rows of a group in Markdown."""
    lines = [
        "| recipe | likeness | beside the first | first of all | right | natural | CPU seconds |",
        "|---" * 7 + "|",
    ]
    for one in group["rows"]:
        likeness, change, right = one["likeness"], one["difference"], one["right"]
        beside = (
            "" if change[0] == change[1] == change[2] else f"{change[0]:+.3f} ({change[1]:+.3f} to {change[2]:+.3f})"
        )
        lines.append(
            f"| {one['name']} | {likeness[0]:.3f} ({likeness[1]:.3f} to {likeness[2]:.3f}) | {beside} | {one['first']:.2f} "
            f"| {right[0]:.2f} ({right[1]:.2f} to {right[2]:.2f}) | {one['natural']:.2f} | {one['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def plot(groups: dict[str, Any], far: dict[str, Any]) -> str:
    """An SVG: a dot with its interval for each recipe's likeness, and lines of likeness over steps."""
    parts, y = [], 24
    for name, group in groups.items():
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{name}: likeness of {group["prompts"]} pictures</text>')
        for one in group["rows"]:
            y += 18
            mean, low, high = (300 + 600 * value for value in one["likeness"])
            parts.append(f'<text x="290" y="{y + 4}" text-anchor="end">{one["name"]}</text>')
            parts.append(f'<path d="M{low:.0f} {y}H{high:.0f}" stroke="#789"/><circle cx="{mean:.0f}" cy="{y}" r="4"/>')
        y += 32
    for name, told in far.items():
        points = [(int(step), one["likeness"][0]) for step, one in told["steps"].items()]
        most = max(step for step, _ in points)
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{name}: likeness over steps, to {most}</text>')
        line = " ".join(f"{300 + 500 * (step / most) ** 0.5:.0f},{y + 110 - 200 * value:.0f}" for step, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="#357" stroke-width="2"/>')
        parts += [
            f'<text x="290" y="{y + 114 - 200 * value:.0f}" text-anchor="end">{value}</text>'
            f'<path d="M300 {y + 110 - 200 * value:.0f}H800" stroke="#ccc"/>'
            for value in (0, 0.2, 0.4)
        ]
        y += 140
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 {y}" font-family="sans-serif" font-size="13">'
    return "\n".join([head, f'<rect width="840" height="{y}" fill="white"/>', *parts, "</svg>"]) + "\n"


def collapse(each: int, folder: Path) -> dict[str, Any]:
    """The judge's likeness on the way through dreams of 4,000 steps, of the default recipe and with a random start."""
    found = {}
    for name, group, options in (("random start", "random", ALONE), ("default", "scenes", {})):
        base = Settings.of({"model": "emoji", "seed": 1, "save_every": 20, "steps": LOOKS[-1], **options})
        models = Models.load(base)
        asked = [one for one in asked_of(group, each, models) if one["tag"] != "setting"]
        judges = Judges(asked, models)
        place = {Dream(prompt, base, models=models): i for i, prompt in enumerate(judges.prompts)}
        shown: dict[int, Tensor] = {}
        rows, pictures = {}, []
        for dreaming, shot in together(iter(list(place)), parallel=len(place)):
            if isinstance(shot, Exception):
                raise shot
            if shot.step not in LOOKS:
                continue
            shown[place[dreaming]] = reduced(shot.image)
            if len(shown) == len(place):  # they go in step
                seen = judges(torch.stack([shown.pop(i) for i in range(len(place))]), 0.0)
                rows[shot.step] = {"likeness": bootstrap(seen.likeness), "right": round(float(seen.right.mean()), 3)}
                pictures.append(list(seen.pictures))
                click.echo(json.dumps({name: {shot.step: rows[shot.step]}}))
        save_sheet(folder / f"collapse-{group}.png", judges.prompts, pictures, None)
        found[name] = {"prompts": judges.prompts, "steps": rows}
        keep(folder, "collapse", found)
    return found


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--group", "groups", multiple=True, type=click.Choice(["scenes", "random"]), default=["scenes", "random"])
@click.option("--each", default=6, show_default=True, help="Prompts of each kind; four times as many single things.")
@click.option("--parallel", default=8, show_default=True)
@click.option("--collapse", "far", is_flag=True, help="Only look at dreams of 4,000 steps.")
def main(folder: Path, groups: tuple[str, ...], each: int, parallel: int, far: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if far:
        click.echo(json.dumps({"collapse": collapse(each, folder)}))
        return
    variants = {"scenes": SCENES, "random": RANDOM}
    click.echo(json.dumps({group: compared(group, variants[group], each, parallel, folder) for group in groups}))


if __name__ == "__main__":
    main()
