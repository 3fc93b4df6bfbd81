"""Step 4: the text tower, a two-layer CLIP text transformer distilled from the sentence encoder.

    python -m training.text_tower DATA --minutes 12

Goes on from ``DATA/text_tower.pt`` where that exists.
"""

from __future__ import annotations

from pathlib import Path

import click
import clip
import torch
import torch.nn.functional as F
from clip.model import LayerNorm, Transformer
from torch import Tensor, nn

from training.run import Run
from training.texts import DIM

WIDTH, LAYERS, RANK, CONTEXT = 256, 2, 96, 77


class TextTower(nn.Module):
    """The text half of ``clip.model.CLIP`` with CLIP's names; its token table is a product of two thin ones."""

    def __init__(self) -> None:
        super().__init__()
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
        self.token_codes = nn.Embedding(49408, RANK)
        self.token_basis = nn.Linear(RANK, WIDTH, bias=False)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH) * 0.01)
        self.transformer = Transformer(WIDTH, LAYERS, WIDTH // 64, mask)
        self.ln_final = LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, DIM) * WIDTH**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        for block in self.transformer.resblocks:
            block.attn_mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token_basis(self.token_codes(tokens)) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2))
        return x[torch.arange(len(x)), tokens.argmax(1)] @ self.text_projection


def start_tokens(tower: TextTower, vectors: Tensor) -> None:
    """Begin with each token where the teacher puts its text, in the ``RANK`` main directions."""
    u, s, v = torch.pca_lowrank(vectors.float(), q=RANK, center=False, niter=4)
    tower.token_codes.weight.data.copy_(u * s / s.mean() * len(u) ** 0.5 * 0.1)
    tower.token_basis.weight.data.zero_()
    tower.token_basis.weight.data[:DIM].copy_(v)


def distillation(features: Tensor, target: Tensor) -> Tensor:
    """1 - cosine, and how far the batch's own similarities are from the teacher's (temperature 0.05)."""
    features = F.normalize(features.float(), dim=1)
    cosine = 1 - (features * target).sum(1).mean()
    teacher = (target @ target.T / 0.05).softmax(1)
    student = (features @ target.T / 0.05).log_softmax(1)
    return cosine + 0.2 * F.kl_div(student, teacher, reduction="batchmean")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--minutes", default=12.0, show_default=True)
@click.option("--batch", default=256, show_default=True)
@click.option("--lr", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, minutes: float, batch: int, lr: float, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    texts = torch.load(folder / "texts.pt", weights_only=True)
    meaning, vectors = texts["meaning"], texts["vectors"].float()
    tokens = clip.tokenize(texts["phrases"], truncate=True).int()
    lengths = tokens.argmax(1) + 1
    held_out = torch.rand(len(tokens)) < 0.01
    order = torch.argsort(lengths)
    order = order[~held_out[order]]
    tower = TextTower()
    start_tokens(tower, texts["tokens"])
    optimizer = torch.optim.AdamW(tower.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    parts = {"tower": tower, "optimizer": optimizer}
    run = Run(folder / "text_tower.pt", tower, parts, optimizer, minutes, warmup=100, floor=0.01)
    end = tokens.new_tensor([49407])
    for _ in run:
        # Phrases of like length together: short batches are cheap ones.
        start = int(torch.randint(len(order) - batch, ()))
        index = order[start : start + batch]
        length = int(lengths[index].max())
        batch_tokens = tokens[index, :length].long()
        if torch.rand(()) < 0.1:
            # Every position must be known: some phrases sit behind others, and mean the mixture.
            other = order[torch.randint(len(order), (batch,))]
            joined = [
                torch.cat([torch.cat([tokens[a, : lengths[a] - 1], tokens[b, 1 : lengths[b] - 1]])[: CONTEXT - 1], end])
                for a, b in zip(index.tolist(), other.tolist(), strict=True)
            ]
            batch_tokens = nn.utils.rnn.pad_sequence(joined, batch_first=True).long()
            target = F.normalize(vectors[meaning[index]] + vectors[meaning[other]], dim=1)
        else:
            target = vectors[meaning[index]]
        with torch.autocast("cpu", torch.bfloat16):
            features = tower(batch_tokens)
        loss = distillation(features, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        run.tell(loss)
    tower.load_state_dict(run.average)
    with torch.no_grad():
        unseen = torch.cat([F.normalize(tower(part.long()), dim=1) for part in tokens[held_out].split(256)])
    click.echo(f"cosine on unseen phrases {(unseen * vectors[meaning[held_out]]).sum(1).mean():.3f}")


if __name__ == "__main__":
    main()
