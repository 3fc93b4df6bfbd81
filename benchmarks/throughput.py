"""Pictures a minute, of lists: one process per prompt, ``batch`` with more and more dreams in a batch, a Ray cluster.

    python -m benchmarks.throughput [--prompts 32] [--full-prompts 4]

With the built-in pair: each command runs as a user runs it, start and loading included, over the first of the 100 prompts.
Ray's nodes are started beforehand, with one CPU each, and the time is that from the first picture to the last, for a
cluster is there before the list comes. With BigGAN-deep-512 and ViT-B/32 (random weights, read from files as the published
ones are; few steps): the same, and big-sleep 0.9.1 in one process per prompt, since it knows no lists.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.quality import read_prompts
from benchmarks.step import big_sleep_imagine, install_big_sleep, run_module

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "bigsleep"]
SIZE, STEPS, CUTOUTS = 512, 5, 32


def timed(args: list[str], prompts: list[str]) -> float:
    """Pictures a minute of one command over a list."""
    began = time.perf_counter()
    subprocess.run([*COMMAND, *args], input="\n".join(prompts), text=True, check=True, stdout=subprocess.DEVNULL)
    return 60 * len(prompts) / (time.perf_counter() - began)


def one_process_each(options: list[str], prompts: list[str], folder: str) -> float:
    began = time.perf_counter()
    for prompt in prompts:
        subprocess.run([*COMMAND, prompt, *options, "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
    return 60 * len(prompts) / (time.perf_counter() - began)


def lists(options: list[str], prompts: list[str], parallel: list[int]) -> dict[str, float]:
    """Pictures a minute by how they are made."""
    options = [*options, "--seed", "1", "--quiet"]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["process_per_prompt"] = one_process_each(options, prompts, folder)
        click.echo(f"process per prompt: {figures['process_per_prompt']:.2f} a minute")
    for count in parallel:
        with tempfile.TemporaryDirectory() as folder:
            args = ["batch", "-", *options, "--parallel", str(count), "--output-dir", folder]
            figures[f"batch_parallel_{count}"] = timed(args, prompts)
            click.echo(f"batch --parallel {count}: {figures[f'batch_parallel_{count}']:.2f} a minute")
    return figures


def on_ray(workers: int, prompts: list[str]) -> float:
    """Pictures a minute of as many nodes with one CPU each, from the first picture on."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(workers - 1):
        nodes.add_node(num_cpus=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            args = ["batch", "-", "--model", "emoji", "--seed", "1", "--quiet", "--output-dir", folder]
            process = subprocess.Popen(
                [*COMMAND, *args, "--ray", nodes.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert process.stdin and process.stdout
            process.stdin.write("\n".join(prompts))
            process.stdin.close()
            times = [time.perf_counter() for _ in process.stdout]
            assert process.wait() == 0 and len(times) == len(prompts)
    finally:
        nodes.shutdown()
    # The first picture of each worker is on its way while the clock does not run yet.
    return 60 * (len(times) - workers) / (times[-1] - times[workers - 1])


def write_models(folder: Path) -> None:
    """BigGAN-deep-512 and ViT-B/32 with random weights, in the published formats."""
    import torch
    from clip.model import CLIP
    from safetensors.torch import save_file

    from benchmarks.random_models import VIT_B_32, biggan_config, random_biggan

    config = biggan_config(SIZE)
    torch.save(random_biggan(config).state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(config.to_json_string())
    save_file(
        {name: tensor.contiguous() for name, tensor in CLIP(**VIT_B_32).state_dict().items()},
        folder / "clip.safetensors",
    )


def dream_as_big_sleep_does(folder: Path, prompt: str) -> None:
    """One prompt by big-sleep: its models read from the files, its steps, its picture written."""
    import torch
    from clip.model import CLIP
    from safetensors.torch import load_file

    from benchmarks.random_models import VIT_B_32

    def read(model: torch.nn.Module) -> torch.nn.Module:
        model.load_state_dict(torch.load(folder / "pytorch_model.bin"), strict=False)
        return model

    def clip() -> torch.nn.Module:
        model = CLIP(**VIT_B_32)
        model.load_state_dict(load_file(folder / "clip.safetensors"))
        return model

    imagine = big_sleep_imagine(SIZE, read, clip, text=prompt, num_cutouts=CUTOUTS, seed=1, save_every=STEPS)
    for step in range(STEPS):
        imagine.train_step(0, step)


def big_sleep_rate(models: Path, prompts: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        install_big_sleep(folder)
        began = time.perf_counter()
        for prompt in prompts:
            run_module("benchmarks.throughput", folder, "--worker", str(models), prompt)
        return 60 * len(prompts) / (time.perf_counter() - began)


def ratios(figures: dict[str, float], base: str) -> dict[str, float]:
    return {f"{name}_ratio": round(rate / figures[base], 2) for name, rate in figures.items() if name != base}


@click.command()
@click.option("--prompts", "count", default=32, show_default=True)
@click.option("--full-prompts", default=4, show_default=True, help="For the full-size models.")
@click.option("--worker", nargs=2, hidden=True)
def main(count: int, full_prompts: int, worker: tuple[str, str] | None) -> None:
    if worker:
        os.chdir(tempfile.mkdtemp())
        dream_as_big_sleep_does(Path(worker[0]), worker[1])
        return
    prompts = read_prompts(HERE / "prompts.txt")
    emoji = lists(["--model", "emoji"], prompts[:count], [1, 2, 4, 8])
    ray = {f"{workers}_workers": on_ray(workers, prompts[:count]) for workers in (1, 2)}
    click.echo(f"Ray: {ray}")
    full = {}
    if full_prompts:
        with tempfile.TemporaryDirectory() as folder:
            write_models(Path(folder))
            full["big_sleep"] = big_sleep_rate(Path(folder), prompts[:full_prompts])
            click.echo(f"big-sleep: {full['big_sleep']:.3f} a minute")
            models = ["--model", folder, "--clip", f"{folder}/clip.safetensors"]
            options = [*models, "--steps", str(STEPS), "--cutouts", str(CUTOUTS)]
            full |= lists(options, prompts[:full_prompts], [1, 2, 4])
    figures = {
        "emoji": {name: round(rate, 2) for name, rate in emoji.items()} | ratios(emoji, "process_per_prompt"),
        "ray": {name: round(rate, 2) for name, rate in ray.items()} | ratios(ray, "1_workers"),
        "full_size": {name: round(rate, 3) for name, rate in full.items()}
        | (ratios(full, "big_sleep") if full else {}),
    }
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
