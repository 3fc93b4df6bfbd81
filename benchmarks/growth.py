"""How a step's time and memory grow with cutouts and size, at full size with random weights.

    python -m benchmarks.growth [--plot examples/growth.png]

Each point runs in a process of its own. ``--plot`` needs matplotlib.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.step import run_worker

CUTOUTS = [8, 32, 64, 128, 256]
SIZES = [128, 256, 512]


@click.command()
@click.option("--plot", type=click.Path(path_type=Path))
def main(plot: Path | None) -> None:
    points = [(512, cutouts) for cutouts in CUTOUTS] + [(size, 64) for size in SIZES[:-1]]
    rows = []
    for size, cutouts in points:
        result = run_worker("", "ours", str(size), str(cutouts))
        rows.append(
            {
                "size": size,
                "cutouts": cutouts,
                "seconds": round(result["seconds"], 2),
                "memory_mb": round(result["memory"]),
            }
        )
        click.echo("| {size} | {cutouts} | {seconds} | {memory_mb} |".format(**rows[-1]))
    if plot:
        draw(rows, plot)
    click.echo(json.dumps({"points": rows}))


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Seconds and memory of a step at 512 px against cutouts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen = [row for row in rows if row["size"] == 512]
    cutouts = [row["cutouts"] for row in chosen]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3))
    for axes, label, values in (
        (left, "seconds a step", [row["seconds"] for row in chosen]),
        (right, "peak memory, GB", [row["memory_mb"] / 1000 for row in chosen]),
    ):
        axes.plot(cutouts, values, marker="o")
        axes.set(xlabel="cutouts", ylabel=label, ylim=(0, 1.1 * max(values)))
    figure.suptitle("BigGAN-deep-512 and ViT-B/32 on two CPU cores")
    figure.savefig(path, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
