"""One optimisation step at full size: bigsleep against big-sleep 0.9.1, in time and memory.

    python -m benchmarks.step [--case 512/64 ...] [--layers 2 | --clips]

big-sleep is installed into a folder of its own and patched from outside: its demand for CUDA, its ``.cuda()`` calls, and
its downloads, which random weights replace. ``folded`` is the same with the weights frozen, BigGAN's spectral norms
folded and its last convolution cut to three channels. Each runs in its own process, so that its peak memory is its own;
the processes of a case run one after the other, twice around, and the least time of a step counts. With ``--layers``
bigsleep's step in so many layers stands beside its step in one, instead of big-sleep; with ``--clips`` its step under ViT-B/32
and RN50x4 together beside those under each alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import click

from benchmarks.memory import peak_memory

CASES = ["512/16", "512/64", "512/128", "256/32"]
STEPS = 2  # timed, after one that is not


def prepare_ours(
    size: int, cutouts: int, layers: int = 1, clips: tuple[str, ...] = ("ViT-B/32",)
) -> Callable[[], None]:
    """bigsleep's step, as a dream on this machine runs it; with ``layers``, BigGAN's pass is in so many upright stripes."""
    import torch
    from clip.model import CLIP
    from safetensors.torch import save_file

    from benchmarks.random_models import CLIPS, biggan_config, random_biggan
    from bigsleep import Settings
    from bigsleep.goal import Goal
    from bigsleep.loading import DTYPES, find_precision
    from bigsleep.models.catalogue import generator_row, load_perceptor
    from bigsleep.models.generator import Generator
    from bigsleep.optimizer import Optimizer

    config = biggan_config(size)
    generator = Generator(config, random_biggan(config).state_dict())
    with tempfile.TemporaryDirectory() as folder:  # files, from which text towers may come again
        files = [f"{folder}/{number}.safetensors" for number in range(len(clips))]
        for name, file in zip(clips, files, strict=True):
            save_file(CLIP(**CLIPS[name]).state_dict(), file)
        perceptor = load_perceptor("|".join(files))
        goal = Goal(perceptor.encode_text(["a beautiful house"]), torch.ones(1))
    preferred = generator_row(f"biggan-deep-{size}").preferred("cpu")
    settings = Settings(cutouts=cutouts, seed=0).filled(preferred)
    dtype = DTYPES[find_precision("auto", torch.device("cpu"))]
    optimizer = Optimizer(generator, perceptor, dtype)
    search = optimizer.search(goal, settings, torch.Generator().manual_seed(0))
    if layers > 1:
        optimizer.fast_generator = striped(optimizer.fast_generator, layers)
    return lambda: optimizer.step([search], [0.0]) and None


def striped(generator: Any, layers: int) -> Any:
    """A generator that makes each picture of ``layers`` copies of its latents, in soft stripes that are optimised too."""
    import torch

    places = torch.linspace(0, 1, generator.size)
    centres = (torch.arange(layers) + 0.5) / layers
    stripes = (-4 * layers * (places - centres[:, None]).abs()).requires_grad_()

    def forward(noise: Any, classes: Any) -> Any:
        masks = stripes.softmax(0)[None, :, None].expand(len(noise), -1, generator.size, -1)
        return generator(*(part[:, None].expand(-1, layers, -1, -1) for part in (noise, classes)), masks)

    return forward


def prepare_big_sleep(size: int, cutouts: int, folded: bool) -> Callable[[], None]:
    """big-sleep 0.9.1's step on the CPU, with random weights."""
    from clip.model import CLIP

    from benchmarks.random_models import VIT_B_32, settle

    def random_generator(model: Any) -> Any:
        settle(model)
        return fold(model) if folded else model

    imagine = big_sleep_imagine(
        size, random_generator, lambda: CLIP(**VIT_B_32), text="a beautiful house", num_cutouts=cutouts, seed=0
    )
    if folded:
        imagine.model.perceptor.requires_grad_(False)
        imagine.model.model.biggan.requires_grad_(False)
    return lambda: imagine.train_step(0, 0) and None


def big_sleep_imagine(
    size: int, ready: Callable[[Any], Any], clip: Callable[[], Any], config: Any = None, **options: Any
) -> Any:
    """big-sleep's own ``Imagine`` on the CPU; ``ready`` gives its BigGAN weights, and ``clip`` makes its CLIP."""
    import torch

    from benchmarks.random_models import biggan_config
    from bigsleep.models.perceptor import MEAN, STD

    honest, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self, *_, **__: self
    from big_sleep import big_sleep, biggan

    torch.cuda.is_available = honest
    config = biggan.BigGANConfig.from_dict((config or biggan_config(size)).to_dict())
    biggan.BigGAN.from_pretrained = big_sleep.BigGAN.from_pretrained = lambda _: ready(biggan.BigGAN(config))
    normalise = __import__("torchvision").transforms.Normalize(MEAN, STD)
    big_sleep.load = lambda *_, **__: (clip().eval(), normalise)
    return big_sleep.Imagine(**{"image_size": size, "open_folder": False, "save_every": 10**9, **options})


def fold(model: object) -> object:
    """What big-sleep's faster fork does to the generator that matters on a CPU."""
    import torch

    for module in model.modules():
        if hasattr(module, "weight_orig"):
            torch.nn.utils.remove_spectral_norm(module.eval())
    last = model.generator.conv_to_rgb
    last.weight = torch.nn.Parameter(last.weight.detach()[:3])
    last.bias = torch.nn.Parameter(last.bias.detach()[:3])
    last.out_channels = 3
    return model


def work(kind: str, size: int, cutouts: int) -> dict[str, float]:
    """Seconds of the fastest step, and the process's peak memory in MB."""
    if kind.isdigit():  # layers
        step = prepare_ours(size, cutouts, int(kind))
    elif kind not in ("ours", "folded", "big_sleep"):
        step = prepare_ours(size, cutouts, clips=tuple(kind.split("|")))
    else:
        step = prepare_ours(size, cutouts) if kind == "ours" else prepare_big_sleep(size, cutouts, kind == "folded")
    step()
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return {"seconds": min(times), "memory": peak_memory() / 2**20}


def step_flops(size: int, cutouts: int) -> int:
    """Floating-point operations of one of our steps."""
    from torch.utils.flop_counter import FlopCounterMode

    step = prepare_ours(size, cutouts)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def matmul_rate() -> float:
    """FLOP/s of products of ViT-B/32's shapes in the precision that steps run in here: bf16, or fp32 without it."""
    import torch

    from bigsleep.loading import DTYPES, find_precision

    dtype = DTYPES[find_precision("auto", torch.device("cpu"))]
    x, w = torch.randn(16 * 50, 768, dtype=dtype), torch.randn(768, 3072, dtype=dtype)
    best = float("inf")
    for _ in range(30):
        began = time.perf_counter()
        for _ in range(10):
            x @ w
        best = min(best, (time.perf_counter() - began) / 10)
    return 2 * 800 * 768 * 3072 / best


def run_worker(folder: str, *args: str) -> dict[str, float]:
    done = run_module("benchmarks.step", folder, "--worker", *args)
    return json.loads(done.splitlines()[-1])


def run_module(module: str, folder: str, *args: str) -> str:
    """What ``main`` of a benchmark prints in a process of its own that finds big-sleep in ``folder``."""
    program = f"import sys; sys.path.append({folder!r}); from {module} import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(done.stderr)
    return done.stdout


def install_big_sleep(folder: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, "big-sleep==0.9.1"]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)


@click.command()
@click.option("--case", "cases", multiple=True, default=CASES, show_default=True, help="SIZE/CUTOUTS")
@click.option("--layers", default=1, show_default=True, help="Compare a step in so many layers with one in one.")
@click.option("--clips", is_flag=True, help="Compare a step under two CLIPs with one under each.")
@click.option("--worker", nargs=3, hidden=True)
def main(cases: tuple[str, ...], layers: int, clips: bool, worker: tuple[str, str, str] | None) -> None:
    if worker:
        kind, size, cutouts = worker[0], int(worker[1]), int(worker[2])
        result = {"flops": step_flops(size, cutouts)} if kind == "flops" else work(kind, size, cutouts)
        click.echo(json.dumps(result | ({"rate": matmul_rate()} if kind == "flops" else {})))
        return
    if clips:
        click.echo(json.dumps({"cases": [under_clips(case) for case in cases]}))
        return
    if layers > 1:
        click.echo(json.dumps({"cases": [in_layers(case, layers) for case in cases]}))
        return
    with tempfile.TemporaryDirectory() as folder:
        install_big_sleep(folder)
        click.echo(json.dumps({"cases": [beside_big_sleep(folder, case) for case in cases]}))


def best_of_two(folder: str, case: str, *kinds: str) -> list[dict[str, float]]:
    """The result of each kind's faster round of two."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(2):
        for kind in kinds:
            result = run_worker(folder, kind, *case.split("/"))
            click.echo(f"{case} {kind}: {result['seconds']:.2f} s, {result['memory']:.0f} MB")
            best[kind] = min(best.get(kind, result), result, key=lambda found: found["seconds"])
    return [best[kind] for kind in kinds]


def in_layers(case: str, layers: int) -> dict[str, float]:
    one, several = best_of_two("", case, "1", str(layers))
    size, cutouts = map(int, case.split("/"))
    row = {"size": size, "cutouts": cutouts, "layers": layers, "seconds": round(several["seconds"], 2)}
    ratios = {f"ratio_{name}": round(several[name] / one[name], 3) for name in ("seconds", "memory")}
    return row | ratios


def under_clips(case: str) -> dict[str, float]:
    """Peak memory in MB under two CLIPs and under each alone, and the ratio to that of the larger one."""
    names = ["ViT-B/32", "RN50x4"]
    peaks = {name: run_worker("", name, *case.split("/"))["memory"] for name in [*names, "|".join(names)]}
    ratio = peaks["|".join(names)] / max(peaks[name] for name in names)
    return {name: round(peak) for name, peak in peaks.items()} | {"ratio": round(ratio, 3)}


def beside_big_sleep(folder: str, case: str) -> dict[str, float]:
    ours, folded, big_sleep = best_of_two(folder, case, "ours", "folded", "big_sleep")
    size, cutouts = case.split("/")
    flops = run_worker(folder, "flops", size, cutouts)
    row = {
        "size": int(size),
        "cutouts": int(cutouts),
        "seconds": round(ours["seconds"], 2),
        "ratio_big_sleep": round(big_sleep["seconds"] / ours["seconds"], 2),
        "ratio_folded": round(folded["seconds"] / ours["seconds"], 2),
        "memory_mb": round(ours["memory"]),
        "memory_ratio": round(ours["memory"] / big_sleep["memory"], 3),
        "roofline": round(flops["flops"] / flops["rate"] / ours["seconds"], 2),
    }
    click.echo(json.dumps(row))
    return row


if __name__ == "__main__":
    main()
