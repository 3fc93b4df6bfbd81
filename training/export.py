"""Step 6: what has been trained, in the formats that bigsleep loads.

    python -m training.export DATA

writes what DATA holds, and leaves the rest as it is: the generator into ``bigsleep/models/emoji/`` as a
``pytorch_pretrained_biggan`` checkpoint in fp16, with a ``config.json`` that names its classes and says which are
grounds; the image tower, or the text tower, into the perceptor there, in CLIP's layout with its matrices in 8 bits a number
and a scale a row; the detector into ``benchmarks/``.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from bigsleep.models.catalogue import load_perceptor
from training.generator import class_names, emoji_config
from training.grounds import GROUNDS
from training.texts import concept_text

ROOT = Path(__file__).parent.parent
PAIR = ROOT / "bigsleep/models/emoji"
USED = 4  # channels of the picture: red, green, blue, alpha
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
            # The library's last convolution makes `width` channels, of which few are used.
            padded = torch.zeros(width, *value.shape[1:])
            padded[:USED] = value
            whole = {"bias": padded.half()} if part == "bias" else spectral(padded)
            state |= {f"{target}.{key}": tensor for key, tensor in whole.items()}
        elif part == "weight" and name != "codes":
            state |= {f"{target}.{key}": tensor for key, tensor in spectral(value).items()}
        elif part == "bias":
            state[f"{target}.bias"] = value.half()
    return state


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in 8 bits with a scale per row, all else in fp16; ``bigsleep.models.checkpoint.unpacked`` undoes it."""
    result = {}
    for name, value in state.items():
        if value.ndim == 2 and value.numel() > 50_000:
            scale = value.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
            result[f"{name}:int8"] = (value / scale).round().to(torch.int8)
            result[f"{name}:scale"] = scale.half()
        elif value.is_floating_point():
            result[name] = value.half().contiguous()
    return result


def text_state(average: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower in CLIP's layout; the token table stays a product of two."""
    state = packed(average)
    codes = {key: state.pop(f"token_codes.weight:{key}") for key in ("int8", "scale")}
    state["token_embedding.weight:left:int8"], state["token_embedding.weight:left:scale"] = codes.values()
    state["token_embedding.weight:right"] = state.pop("token_basis.weight").T.contiguous()
    state["logit_scale"] = torch.tensor(3.2)
    return state


def export_perceptor(image: dict[str, Tensor] | None, text: dict[str, Tensor] | None) -> None:
    """New weights for the towers that are given; the other one's tensors as they lie in the file."""
    path = PAIR / "perceptor.safetensors"
    state = load_file(path)
    for of_image, average in ((True, image), (False, text)):
        if average is not None:
            state = {key: value for key, value in state.items() if key.startswith("visual.") != of_image}
            if of_image:
                average = {
                    f"visual.{key}": value for key, value in average.items() if not key.endswith("batches_tracked")
                }
            state |= packed(average) if of_image else text_state(average)
    save_file(state, path)


def class_keywords(folder: Path, names: list[str]) -> list[list[str]]:
    """What else each class is known by: emojibase's tags; nothing for grounds."""
    concepts = json.loads((folder / "concepts.json").read_text())
    known = {concept_text(concept["label"]): concept["tags"] for concept in concepts}
    return [known.get(name, []) for name in names]


def export_generator(average: dict[str, Tensor], names: list[str], keywords: list[list[str]]) -> None:
    """The generator with its table of classes, and what each class means to the perceptor."""
    config = emoji_config(len(names))
    config.n_stats = N_STATS
    before = json.loads((PAIR / "config.json").read_text())["class_names"]
    known = dict(zip(before, load_file(PAIR / "generator.safetensors")["class_features"].float(), strict=True))
    # Concepts keep the vectors that their names and tags were given once; grounds mean what their names say.
    plain = load_perceptor("emoji").encode_text(names)
    rows = [known[name] if name in known and name not in GROUNDS else plain[i] for i, name in enumerate(names)]
    state = library_generator(average, config.channel_width) | {"class_features": torch.stack(rows).half()}
    save_file(state, PAIR / "generator.safetensors")
    grounds = [i for i, name in enumerate(names) if i >= len(names) - len(GROUNDS)]
    table = config.to_dict() | {"alpha": True, "grounds": grounds, "class_names": names, "class_keywords": keywords}
    (PAIR / "config.json").write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
def main(folder: Path) -> None:
    def trained(name: str) -> dict[str, Tensor] | None:
        path = folder / f"{name}.pt"
        return torch.load(path, weights_only=True)["average"] if path.exists() else None

    if generator := trained("generator"):
        names = class_names(folder)
        export_generator(generator, names, class_keywords(folder, names))
    export_perceptor(trained("image_tower"), trained("text_tower"))
    for path in sorted(PAIR.iterdir()):
        click.echo(f"{path.relative_to(ROOT)} {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
