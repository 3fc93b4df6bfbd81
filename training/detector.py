"""The judge of ``benchmarks.scenes``: a detector, trained on composites of the styles that the generator does not draw.

    python -m training.detector DATA --minutes 25

What finds things begins from nothing; what names them begins as the tower of ``benchmarks.quality``'s judge. Both see
every style of the art but the one that the generator draws, and none of the held-out pairs. Then they are examined: on
composites of held-out pairs in that very style, half of them showing what is asked for and half something near it, per kind
the share of its verdicts that are right. Resumes from ``DATA/detector.pt``; writes ``benchmarks/detector.safetensors``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.judge import CELLS, SIZE, WEIGHTS, Detector, Judge, boxes, cropped
from bigsleep.models.checkpoint import read_state
from training.grounds import GROUNDS
from training.nouns import JUDGED
from training.painting import NAMES
from training.pictures import Pictures
from training.rendering import Laid, Renderer
from training.run import Run
from training.scenes import COUNTS, Scene, Writer

TABLE = {"nouns": JUDGED, "colours": NAMES, "settings": [*GROUNDS, "plain"]}
OPEN = 0.35  # share of a thing that must be seen for it to be there
# GenEval's kinds, and settings: which scenes show them.
ASKED = {
    "single_object": ("alone",), "two_object": ("and", "next to"), "counting": COUNTS, "colors": ("colour",),
    "position": ("left", "above"), "color_attr": ("two colours",), "setting": ("setting",),
}  # fmt: skip


def judged_writer(concepts: list[dict], chance: random.Random, unseen: bool, others: float) -> Writer:
    """A writer whose things are the judge's nouns, each as often, and for a share ``others`` anything else."""
    writer = Writer(concepts, chance, unseen, painting=0.45)
    rows = {noun: [i for i, own in enumerate(writer.nouns) if own == noun] for noun in JUDGED}
    most = 12
    parts = [row[k * len(row) // most] for row in rows.values() if row for k in range(most)]
    rest = [i for i in writer.parts if writer.nouns[i] not in rows]
    writer.parts = parts + chance.choices(rest, k=int(len(parts) * others / (1 - others)))
    return writer


def natural_colours(art: Pictures) -> Tensor:
    """The colour name that most of each picture has, by hue, chroma and light; -1 where none has most of it."""
    names = []
    for part in art.pixels.split(256):
        rgba = F.avg_pool2d(part.float() / 255, 4)
        alpha = rgba[:, 3]
        rgb = rgba[:, :3] / alpha[:, None].clamp_min(0.1)
        light, dark = rgb.amax(1), rgb.amin(1)
        chroma = (light - dark) / light.clamp_min(0.05)
        red, green, blue = rgb.unbind(1)
        hue = torch.rad2deg(torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue)) % 360
        name = torch.full(light.shape, -1)
        for least, colour in ((0, "red"), (16, "orange"), (42, "yellow"), (70, "green"), (175, "blue"), (255, "purple"), (295, "pink"), (345, "red")):  # fmt: skip
            name[hue >= least] = NAMES.index(colour)
        name[(hue >= 12) & (hue < 50) & (light < 0.72)] = NAMES.index("brown")
        name[(chroma < 0.5) & (light > 0.8) & ((hue < 16) | (hue > 295))] = NAMES.index("pink")
        name[chroma < 0.18] = -1
        name[(chroma < 0.12) & (light > 0.85)] = NAMES.index("white")
        name[light < 0.3] = NAMES.index("black")
        shares = torch.stack([((name == i) * alpha).sum((1, 2)) for i in range(len(NAMES))], 1)
        share, best = (shares / alpha.sum((1, 2))[:, None].clamp_min(1)).max(1)
        names.append(torch.where(share > 0.7, best, -1))
    return torch.cat(names)


def targets(laid: Laid, noun_of_row: Tensor, colour_of_row: Tensor) -> dict[str, Tensor]:
    """What the maps shall say: ``heat`` ``[B, CELLS, CELLS]``, and of each thing ``at`` (picture, row, column), ``box``,
    ``noun`` and ``colour`` (-1: no saying)."""
    seen = laid.visible > 0.4
    down, across = seen.any(2), seen.any(1)
    there = ((laid.share > OPEN) & (down.sum(1) > 2) & (across.sum(1) > 2)).cpu()
    span = torch.arange(SIZE, device=seen.device)
    edges = []
    for line in (across, down):
        low = torch.where(line, span, SIZE).amin(1)
        high = torch.where(line, span, -1).amax(1) + 1
        edges += [low / SIZE, high / SIZE]
    left, right, top, bottom = (edge.cpu()[there] for edge in edges)
    box = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
    column, row = (box[:, :2] * CELLS).long().clamp(0, CELLS - 1).unbind(1)
    owner = laid.owner[there]
    cells = torch.arange(CELLS)
    spread = 0.35 + 0.1 * CELLS * box[:, 2:].amin(1)
    far = (
        (cells - column[:, None]) ** 2 / (2 * spread[:, None] ** 2),
        (cells - row[:, None]) ** 2 / (2 * spread[:, None] ** 2),
    )
    bumps = torch.exp(-far[1][:, :, None] - far[0][:, None, :])
    heat = torch.zeros(len(laid.pictures), CELLS, CELLS)
    for i, bump in zip(owner.tolist(), bumps, strict=True):
        heat[i] = torch.maximum(heat[i], bump)
    natural = colour_of_row[laid.row[there]]
    paint = laid.paint[there]
    return {
        "heat": heat, "at": torch.stack([owner, row, column], 1), "box": box, "noun": noun_of_row[laid.row[there]],
        "colour": torch.where(paint >= 0, paint, natural),
    }  # fmt: skip


def finding(maps: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    """CenterNet's focal loss of things' centres (Zhou et al. 2019), and the distance of their boxes."""
    heat, logit = wanted["heat"], maps[:, 0]
    share, centre = torch.sigmoid(logit), heat == 1
    missed = -(F.logsigmoid(logit) * (1 - share) ** 2)[centre].sum()
    imagined = -(F.logsigmoid(-logit) * share**2 * (1 - heat) ** 4)[~centre].sum()
    picture, row, column = wanted["at"].unbind(1)
    off = (boxes(maps[:, 1:])[picture, :, row, column] - wanted["box"]).abs().mean()
    return (missed + imagined) / centre.sum().clamp_min(1) + 6 * off


def naming(names: Tensor, colours: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    """Cross-entropies of the crops' nouns and, where there is a saying, colours."""
    return F.cross_entropy(names, wanted["noun"], label_smoothing=0.05) + F.cross_entropy(
        colours, wanted["colour"], ignore_index=-1
    )


def shaken(box: Tensor) -> Tensor:
    """Boxes as they might have been found."""
    centre = box[:, :2] + 0.06 * box[:, 2:] * torch.randn_like(box[:, 2:])
    return torch.cat([centre, box[:, 2:] * torch.exp(0.1 * torch.randn(len(box), 1, device=box.device))], 1)


def roughened(rgb: Tensor) -> Tensor:
    """Light, tint, softness and noise."""
    batch, device = len(rgb), rgb.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, device=device)

    rgb = (rgb - 0.5) * torch.exp(0.12 * normal(1, 1, 1) + 0.04 * normal(3, 1, 1)) + 0.5 + 0.05 * normal(1, 1, 1)
    half, size = batch // 2, int(torch.randint(56, SIZE, ()))
    soft = F.interpolate(rgb[:half], size=(size, size), mode="bilinear", antialias=True)
    rgb = torch.cat([F.interpolate(soft, size=(SIZE, SIZE), mode="bicubic"), rgb[half:]])
    return rgb + 0.03 * torch.rand(batch, 1, 1, 1, device=device) * torch.randn_like(rgb)


def asked_of(scene: Scene, kind: str, writer: Writer) -> dict[str, Any]:
    """GenEval's metadata for a prompt that ``scene`` answers."""
    nouns = [writer.nouns[thing.concept] for thing in scene.things]
    include: list[dict[str, Any]] = [{"class": noun, "count": 1} for noun in nouns]
    asked: dict[str, Any] = {"tag": kind, "include": include}
    if kind == "counting":
        include[0]["count"] = len(scene.places)
        asked["exclude"] = [{"class": nouns[0], "count": len(scene.places) + 1}]
    if kind in ("colors", "color_attr"):
        for wanted, thing in zip(include, scene.things, strict=True):
            wanted["color"] = thing.paint
    if kind == "position":
        include.reverse()
        include[1]["position"] = ["left of" if scene.kind == "left" else "above", 0]
    if kind == "setting":
        asked["setting"] = scene.setting
    return asked


def questions(writer: Writer, count: int) -> Iterator[tuple[dict[str, Any], Scene, Scene]]:
    """What is asked, a scene that shows it and one that does not, ``count`` of each kind."""
    chance = writer.chance
    for kind, scenes in ASKED.items():
        for _ in range(count):
            scene = writer.write(chance.choice(scenes))
            while scene.setting == "rainbow" or len(
                {writer.nouns[thing.concept] for thing in scene.things} - set(JUDGED)
            ):
                scene = writer.write(scene.kind)
            plain = kind in ("single_object", "two_object", "position", "color_attr")
            if kind != "setting":
                scene = replace(scene, setting=None, saying="{}")
            if plain and kind != "color_attr":
                scene = replace(scene, things=tuple(replace(thing, paint=None) for thing in scene.things))
            if kind == "position" and chance.random() < 0.6:
                wrong = replace(scene, places=tuple((1 - which, *place) for which, *place in scene.places))
            else:
                wrong = writer.sibling(scene)
            yield asked_of(scene, kind, writer), scene, wrong


@torch.no_grad()
def examine(judge: Judge, writer: Writer, renderer: Renderer, count: int) -> dict[str, float]:
    """By kind, the share of verdicts that are right: half of the pictures show what is asked for."""
    marks: dict[str, list[bool]] = {}
    asked, shown, wrong = zip(*questions(writer, count), strict=True)
    seeds = [writer.chance.randrange(2**31) for _ in asked]
    for scenes, verdict in ((shown, True), (wrong, False)):
        pictures = torch.cat([
            renderer.render(scenes[i : i + 50], seeds[i : i + 50], 0.3) for i in range(0, len(scenes), 50)
        ]).clamp(0, 1)  # fmt: skip
        for one, sight in zip(asked, judge.look(pictures), strict=True):
            marks.setdefault(one["tag"], []).append(judge.right(one, sight) == verdict)
    return {kind: round(sum(right) / len(right), 3) for kind, right in marks.items()}


def begun() -> Detector:
    """An untrained finder, and a namer with the other judge's convolutions."""
    network = Detector(TABLE)
    state = read_state(WEIGHTS.with_name("judge.safetensors"))
    tower = network.namer.tower.state_dict()
    tower.update({name: value.float() for name, value in state.items() if name in tower})
    network.namer.tower.load_state_dict(tower)
    return network


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", default=25.0, show_default=True, help="Training time in all, restarts included.")
@click.option("--batch", default=20, show_default=True)
@click.option("--lr", default=2e-3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", default=77, show_default=True)
def main(folder: Path, minutes: float, batch: int, lr: float, threads: int, device: str, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    art = Pictures.load(folder)
    network = begun().to(device, memory_format=torch.channels_last)
    fresh = [*network.finder.parameters(), *network.namer.noun.parameters(), *network.namer.colour.parameters()]
    groups = [{"params": fresh}, {"params": list(network.namer.tower.parameters()), "lr": lr / 5}]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.03, fused=True)
    chance = random.Random(seed)
    writer = judged_writer(art.concepts, chance, unseen=False, others=0.15)
    renderer = Renderer(art, folder, art.style != 0, 0.0, seed, device, SIZE)
    drawn = Renderer(art, folder, torch.ones(len(art.style), dtype=torch.bool), 1.0, seed + 1, "cpu", SIZE)
    places = {noun: i for i, noun in enumerate(JUDGED)}
    noun_of_row = torch.tensor([places.get(noun, len(JUDGED)) for noun in writer.nouns])[art.concept]
    colour_of_row = natural_colours(art)
    parts = {"network": network, "optimizer": optimizer}

    def exam(average: dict[str, Tensor], count: int) -> dict[str, float]:
        judge = Judge(Detector(TABLE), TABLE)
        judge.network.load_state_dict({name: value.to("cpu") for name, value in average.items()})
        return examine(judge, judged_writer(art.concepts, random.Random(3), True, 0.02), drawn, count)

    run = Run(
        folder / "detector.pt", network, parts, optimizer, minutes, decay=0.997, warmup=100, floor=0.01,
        report=lambda average: click.echo(f"step {run.step}, {run.spent / 60:.0f} minutes: {exam(average, 10)}"),
    )  # fmt: skip
    chance.seed(seed + run.step)
    for _ in run:
        scenes = [scene for scene in (writer.write() for _ in range(2 * batch)) if scene.setting != "rainbow"][:batch]
        laid = renderer.lay(scenes, [chance.randrange(2**31) for _ in scenes], 1.0)
        wanted = {name: value.to(device) for name, value in targets(laid, noun_of_row, colour_of_row).items()}
        setting = torch.tensor([TABLE["settings"].index(scene.setting or "plain") for scene in scenes], device=device)
        pictures = roughened(laid.pictures).contiguous(memory_format=torch.channels_last)
        crops = cropped(pictures, wanted["at"][:, 0], shaken(wanted["box"])).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            (maps, grounds), (names, colours) = network.finder(pictures), network.namer(crops)
        loss = finding(maps.float(), wanted) + F.cross_entropy(grounds.float(), setting)
        loss = loss + naming(names.float(), colours.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        run.tell(loss)
    accuracy = exam(run.average, 100)
    table = TABLE | {"accuracy": accuracy}
    state = {
        name: value.half().contiguous() for name, value in run.average.items() if not name.endswith("batches_tracked")
    }
    save_file({name: value.cpu() for name, value in state.items()}, WEIGHTS, {"table": json.dumps(table)})
    click.echo(f"{WEIGHTS} {WEIGHTS.stat().st_size / 1e6:.1f} MB, share of right verdicts: {accuracy}")


if __name__ == "__main__":
    main()
