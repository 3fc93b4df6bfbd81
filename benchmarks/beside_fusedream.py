"""What FuseDream's own code does, as numbers for the tests to hold ours against.

    git clone https://github.com/gnobitab/FuseDream
    python -m benchmarks.beside_fusedream FuseDream tests/fusedream.json

AugCLIP's views of a small picture and their gradient; then, with a small BigGAN and a small CLIP of random weights, the basis
that its auditions find and some steps from there, all chance told to both programs. From the clone come ``fusedream_utils.py``
and ``DiffAugment_pytorch.py``; CUDA, its BigGAN and ``lpips`` are replaced from outside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.beside_big_sleep import CONFIG, PROMPT, small_clip
from benchmarks.random_models import random_biggan
from bigsleep.cutouts import AugClip, draw_augclip, picked

SIDE, SIZE, VIEWS, STEPS = 40, 32, 6, 4
AUDITIONS, BATCH, BASIS = 20, 10, 5


def picture() -> Tensor:
    """A picture ``[1, 3, SIDE, SIDE]`` in 0..1."""
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def slope() -> Tensor:
    """A direction ``[VIEWS, 3, SIZE, SIZE]`` that the views' gradient is taken along."""
    return torch.randn(VIEWS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def views_of(step: int, count: int) -> AugClip:
    """The views of a step as ours take them; every other step's are smaller than the picture."""
    views = draw_augclip(count, torch.Generator().manual_seed(100 + step))
    return AugClip(views.chance, 0.85 + 0.05 * (step % 8))


def drawn() -> tuple[Tensor, Tensor, torch.Generator]:
    """Noise ``[AUDITIONS, 1, Z]``, classes ``[AUDITIONS]``, and the chance that is left, as ours draws them."""
    chance = torch.Generator().manual_seed(5)
    noise = torch.randn(AUDITIONS, 1, CONFIG.z_dim, generator=chance)
    return noise, torch.randint(CONFIG.num_classes, (AUDITIONS,), generator=chance), chance


class Told:
    """torch, or numpy's chance, as a module of theirs sees it, with some functions put in the place of others."""

    def __init__(self, module: Any, **others: Any) -> None:
        self.__dict__.update(others, module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def tell(augment: ModuleType, views: AugClip, side: int) -> None:
    """Let DiffAugment draw what ``views`` say."""
    chance, most, wide = views.chance, int(side * 0.125 + 0.5), int(side * 0.5 + 0.5)
    evenly = iter([chance[:, i].view(-1, 1, 1, 1) for i in range(3)])
    shifts = [picked(chance[:, i], 2 * most + 1) - most for i in (3, 4)]
    whole = iter(
        [part.view(-1, 1, 1) for part in (*shifts, *(picked(chance[:, i], side + 1 - wide % 2) for i in (5, 6)))]
    )
    augment.torch = Told(torch, rand=lambda *_, **__: next(evenly), randint=lambda *_, **__: next(whole))
    augment.np = SimpleNamespace(random=SimpleNamespace(rand=lambda: (views.scale - 0.8) / (1.2 - 0.8)))


def fusedreams_modules(folder: Path) -> tuple[ModuleType, ModuleType]:
    """``(fusedream_utils, DiffAugment_pytorch)`` of a clone, on the CPU."""
    sys.path.insert(0, str(folder))
    for name in ("lpips", "BigGAN_utils", "BigGAN_utils.utils"):
        sys.modules[name] = ModuleType(name)
    sys.modules["BigGAN_utils"].utils = sys.modules["BigGAN_utils.utils"]  # type: ignore[attr-defined]
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    import DiffAugment_pytorch  # type: ignore[import-not-found]
    import fusedream_utils  # type: ignore[import-not-found]

    return fusedream_utils, DiffAugment_pytorch


def their_views(augment: ModuleType) -> dict[str, Tensor]:
    """Views at two scales, and the gradient of one direction in them."""
    found = {}
    for step in (1, 6):
        tell(augment, views_of(step, VIEWS), SIDE)
        image = picture().requires_grad_()
        seen = augment.DiffAugment((image * 2 - 1).repeat(VIEWS, 1, 1, 1), policy="color,translation,resize,cutout")
        seen = torch.nn.functional.interpolate((seen + 1) / 2, size=SIZE, mode="bilinear")
        (gradient,) = torch.autograd.grad((seen * slope()).sum(), image)
        found |= {f"views {step}": seen, f"gradient {step}": gradient}
    return found


def their_steps(utils: ModuleType, augment: ModuleType) -> dict[str, Tensor]:
    """The basis that auditions find, and what its mixture is and its loss was after some steps."""
    library, (noise, classes, chance) = random_biggan(CONFIG), drawn()
    dream = utils.FuseDreamBaseGenerator.__new__(utils.FuseDreamBaseGenerator)
    dream.device, dream.interp_mode, dream.clip_model = "cpu", "bilinear", small_clip()

    class Theirs:
        shared = staticmethod(lambda one_hot: library.embeddings(one_hot.float()))

        def __call__(self, z: Tensor, y: Tensor) -> Tensor:
            return library.generator(torch.cat([z, y], 1), 1.0)

    dream.G = Theirs()
    dream.z_, dream.y_ = Drawn.of(noise[:, 0]), Drawn.of(torch.eye(CONFIG.num_classes)[classes])
    sets, embedded = dream.generate_basis(PROMPT, init_iters=AUDITIONS // BATCH, num_basis=BASIS)
    logits = [torch.randn(BASIS, CONFIG.z_dim, generator=chance) for _ in range(2)]
    begun = {"basis noise": sets[0], "basis embedded": embedded[0].detach()}
    told, losses, loss, rates = iter(logits), list[Tensor](), utils.AugmentLoss, iter(range(STEPS))
    utils.torch = Told(torch, randn=lambda *_, **__: next(told))

    def listening(image: Tensor, *given: Any, **options: Any) -> Tensor:
        tell(augment, views_of(next(rates), options["replicate"]), image.shape[3])
        losses.append(loss(image, *given, **options))
        return losses[-1]

    utils.AugmentLoss = listening
    _, z, y = dream.optimize_clip_score(
        sets, [part.detach() for part in embedded], PROMPT, opt_iters=STEPS, optimize_y=True
    )
    return begun | {"losses": torch.stack(losses).flatten(), "noise": z, "embedded": y}


class Drawn(Tensor):
    """Rows that are others whenever they are drawn, as their distributions are."""

    batches: Iterator[Tensor]

    @staticmethod
    def of(rows: Tensor) -> Drawn:
        """A batch of ``rows`` after the other."""
        made = torch.zeros_like(rows[:BATCH]).as_subclass(Drawn)
        made.batches = iter(rows.split(BATCH))
        return made

    def sample_(self) -> None:
        self.data = next(self.batches)


@click.command()
@click.argument("clone", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("file", type=click.Path(path_type=Path))
def main(clone: Path, file: Path) -> None:
    utils, augment = fusedreams_modules(clone)
    table = their_views(augment) | their_steps(utils, augment)
    rows = {name: told(value) for name, value in table.items()}
    file.write_text(json.dumps({name: [float(f"{x:.8g}") for x in row] for name, row in rows.items()}) + "\n")
    click.echo(json.dumps({"losses": rows["losses"]}))


def told(value: Tensor) -> list[float]:
    """A tensor's numbers, of a large one every 37th."""
    flat = value.detach().flatten()
    return flat[:: 37 if len(flat) > 2000 else 1].tolist()


if __name__ == "__main__":
    main()
