"""Step 6: the trained pair in the formats that bigsleep loads.

    python -m training.export DATA

writes ``bigsleep/models/emoji/``: the generator as a ``pytorch_pretrained_biggan`` checkpoint in fp16, the perceptor in
CLIP's layout with its matrices in 8 bits a number and a scale a row, and, where it has been trained,
``benchmarks/judge.safetensors``.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from training.generator import emoji_config
from training.pictures import Pictures
from training.texts import concept_text

ROOT = Path(__file__).parent.parent
N_STATS = 2  # rows of batch-norm statistics; all the same, since truncation is not trained


def spectral(weight: Tensor) -> dict[str, Tensor]:
    """Tensors under which the library's spectral norm leaves ``weight`` as it is: u and v, with u^T W v = 1."""
    weight = weight.half().contiguous()
    matrix = weight.float().flatten(1)
    u = F.normalize(torch.ones(len(matrix)), dim=0)
    for _ in range(15):
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    return {"weight_orig": weight, "weight_u": u / torch.dot(u, matrix @ v), "weight_v": v}


def library_generator(average: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """The twin's averaged weights under the library's names."""
    state = {"embeddings.weight": average["codes.weight"].T.contiguous().half()}
    for name, value in average.items():
        name, _, part = name.rpartition(".")
        target = f"generator.{name.removesuffix('.norm')}"
        if part == "running_mean":
            state[f"{target}.running_means"] = value.half().expand(N_STATS, -1).contiguous()
        elif part == "running_var":
            state[f"{target}.running_vars"] = value.float().expand(N_STATS, -1).contiguous()
        elif name == "bn" and part in ("weight", "bias"):
            state[f"{target}.{part}"] = value.half()
        elif name == "conv_to_rgb":
            # The library's last convolution makes `width` channels and throws all but three away.
            padded = torch.zeros(width, *value.shape[1:])
            padded[:3] = value
            whole = {"bias": padded.half()} if part == "bias" else spectral(padded)
            state |= {f"{target}.{key}": tensor for key, tensor in whole.items()}
        elif part == "weight" and name != "codes":
            state |= {f"{target}.{key}": tensor for key, tensor in spectral(value).items()}
        elif part == "bias":
            state[f"{target}.bias"] = value.half()
    return state


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in 8 bits with a scale per row, all else in fp16; ``bigsleep.models.weights.unpacked`` undoes it."""
    result = {}
    for name, value in state.items():
        if value.ndim == 2 and value.numel() > 50_000:
            scale = value.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
            result[f"{name}:int8"] = (value / scale).round().to(torch.int8)
            result[f"{name}:scale"] = scale.half()
        elif value.is_floating_point():
            result[name] = value.half().contiguous()
    return result


def clip_state(image: dict[str, Tensor], text: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both towers in CLIP's layout; the token table stays a product of two."""
    state = packed({f"visual.{name}": value for name, value in image.items()} | text)
    codes = {key: state.pop(f"token_codes.weight:{key}") for key in ("int8", "scale")}
    state["token_embedding.weight:left:int8"], state["token_embedding.weight:left:scale"] = codes.values()
    state["token_embedding.weight:right"] = state.pop("token_basis.weight").T.contiguous()
    state["logit_scale"] = torch.tensor(3.2)
    return state


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
def main(folder: Path) -> None:
    concepts = Pictures.load(folder).concepts
    target = ROOT / "bigsleep/models/emoji"
    target.mkdir(exist_ok=True)
    config = emoji_config(len(concepts))
    config.n_stats = N_STATS
    generator = torch.load(folder / "generator.pt", weights_only=True)["average"]
    state = library_generator(generator, config.channel_width)
    state["class_features"] = torch.load(folder / "texts.pt", weights_only=True)["concepts"].half()
    save_file(state, target / "generator.safetensors")
    table = config.to_dict() | {"class_names": [concept_text(concept["label"]) for concept in concepts]}
    (target / "config.json").write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n")
    image, text = (
        torch.load(folder / f"{name}.pt", weights_only=True)["average"] for name in ("image_tower", "text_tower")
    )
    save_file(clip_state(image, text), target / "perceptor.safetensors")
    judge = folder / "judge.pt"
    if judge.exists():
        state = packed(torch.load(judge, weights_only=True)["average"])
        state["basis"] = torch.load(folder / "texts.pt", weights_only=True)["basis"].half()
        save_file(state, ROOT / "benchmarks/judge.safetensors")
    for path in sorted(target.iterdir()):
        click.echo(f"{path.relative_to(ROOT)} {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
