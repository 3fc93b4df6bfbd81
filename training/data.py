"""Step 1: openly licensed emoji art and its keywords, to one archive of pictures and one table of concepts.

    npm install --prefix DATA $(python -m training.data --packages)
    python -m training.data DATA

reads the npm packages below from ``DATA/node_modules`` and writes ``DATA/pictures.npz`` and
``DATA/concepts.json``, and ``DATA/drawn.npz``: what the generator draws, in large, a picture per class.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from training.grounds import GROUNDS, draw

PACKAGES = [
    "@iconify-json/noto@1.2.9",
    "@iconify-json/twemoji@1.2.5",
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@iconify-json/noto-v1@1.2.5",
    "@lobehub/fluent-emoji-3d@1.1.0",
    "emojibase-data@17.0.0",
]
STYLES = ["fluent-emoji-flat", "noto", "twemoji", "noto-v1", "fluent-emoji-3d"]

# What cannot be told apart or named from a picture of 64 pixels teaches the models nothing.
SKIPPED_SUBGROUPS = set(
    [
        "skin-tone",
        "hair-style",
        "keycap",
        "alphanum",
        "av-symbol",
        "arrow",
        "zodiac",
        "country-flag",
        "subdivision-flag",
        "family",
        "transport-sign",
        "punctuation",
        "gender",
        "math",
        "currency",
        "person-gesture",
        "warning",
        "geometric",
        "other-symbol",
        "person-symbol",
        "hand-fingers-open",
        "hand-fingers-partial",
        "hand-single-finger",
        "hands",
    ]
)
SKIPPED_LABELS = tuple(
    """o’clock|-thirty|button|: |speaker|oncoming |waxing|waning|quarter moon|wheelchair|white cane|person in m
    |pregnant |feeding|-facing fist|head shaking|Mx |bell with slash|tilted right""".replace("\n    ", "").split("|")
)

SIZE = 96  # pixels a side; enough for crops of a 64 px training picture
LARGE = 256  # of what the generator draws: reduced for its training, whole for measuring its enlarged pictures


def read_concepts(emojibase: Path) -> list[dict]:
    """Depictable emoji: dicts of ``hexcode``, ``label``, ``tags`` and ``subgroup``, in emojibase's order."""
    subgroups = json.loads((emojibase / "meta/groups.json").read_text())["subgroups"]
    concepts = []
    for row in json.loads((emojibase / "en/data.json").read_text()):
        if row.get("group") is None or "gender" in row:
            continue
        subgroup = subgroups[str(row["subgroup"])]
        label = row["label"]
        if subgroup in SKIPPED_SUBGROUPS or any(word in label for word in SKIPPED_LABELS):
            continue
        if subgroup == "person-role" and label.startswith(("man ", "woman ")):
            continue
        concepts.append(
            {
                "hexcode": row["hexcode"].lower(),
                "label": label,
                "tags": [tag for tag in row.get("tags", []) if tag.lower() != label.lower()],
                "subgroup": subgroup,
            }
        )
    return concepts


def without_variation_selector(hexcode: str) -> str:
    """Art packages disagree about U+FE0F in file names; without it they agree."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


class IconifyStyle:
    """SVG bodies of one Iconify package, looked up by Unicode code points."""

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        pack = json.loads((folder / "icons.json").read_text())
        self.icons, self.aliases = pack["icons"], pack.get("aliases", {})
        self.width, self.height = pack.get("width", 16), pack.get("height", 16)
        self.names = names

    def render(self, code: str) -> Image.Image | None:
        """RGBA picture of a code point sequence, or None where the style lacks it."""
        from resvg_py import svg_to_bytes

        name = self.names.get(code)
        name = self.aliases.get(name, {}).get("parent", name)
        icon = self.icons.get(name)
        if icon is None:
            return None
        box = f"0 0 {icon.get('width', self.width)} {icon.get('height', self.height)}"
        body = icon["body"]
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">{body}</svg>'
        png = svg_to_bytes(svg_string=svg, width=2 * LARGE, height=2 * LARGE)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


class WebpStyle:
    """A folder of ``<code points>.webp`` files."""

    def __init__(self, folder: Path) -> None:
        self.files = {without_variation_selector(path.stem): path for path in folder.glob("*.webp")}

    def render(self, code: str) -> Image.Image | None:
        path = self.files.get(code)
        return Image.open(path).convert("RGBA") if path else None


def open_styles(modules: Path) -> dict[str, IconifyStyle | WebpStyle]:
    """The five art styles, by name."""

    def names(pack: str) -> dict[str, str]:
        chars = json.loads((modules / "@iconify-json" / pack / "chars.json").read_text())
        return {without_variation_selector(code): name for code, name in chars.items()}

    styles: dict[str, IconifyStyle | WebpStyle] = {}
    for style in STYLES[:-1]:
        # noto-v1 ships an empty table; its icons carry noto's names.
        table = names("noto" if style == "noto-v1" else style)
        styles[style] = IconifyStyle(modules / "@iconify-json" / style, table)
    styles["fluent-emoji-3d"] = WebpStyle(modules / "@lobehub/fluent-emoji-3d/assets")
    return styles


def frame(picture: Image.Image, side: int = SIZE) -> np.ndarray | None:
    """Crop to the visible part, centre it with a margin of 5 %: premultiplied RGBA, uint8 ``[side, side, 4]``."""
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    inner = round(side * 0.9)
    scale = inner / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    picture = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGBa", (side, side))
    canvas.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(canvas)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--packages", is_flag=True, help="Print the npm packages to install, and stop.")
def main(folder: Path | None, packages: bool) -> None:
    if packages:
        click.echo(" ".join(PACKAGES))
        return
    if folder is None:
        raise click.UsageError("give the folder that holds node_modules")
    modules = folder / "node_modules"
    styles = open_styles(modules)
    pictures, concept_of, style_of, kept, drawn = [], [], [], [], []
    for concept in tqdm(read_concepts(modules / "emojibase-data")):
        code = without_variation_selector(concept["hexcode"])
        framed = {i: styles[style].render(code) for i, style in enumerate(STYLES)}
        arrays = {i: frame(picture) for i, picture in framed.items() if picture is not None}
        arrays = {i: array for i, array in arrays.items() if array is not None}
        if len(arrays) < 2:
            continue
        for i, array in arrays.items():
            pictures.append(array)
            concept_of.append(len(kept))
            style_of.append(i)
        drawn.append(frame(framed[min(arrays)], LARGE))
        kept.append(concept)
    drawn += [draw(name, LARGE) for name in GROUNDS]
    np.savez_compressed(folder / "drawn.npz", pictures=np.stack(drawn))
    np.savez(folder / "pictures.npz", pictures=np.stack(pictures), concept=concept_of, style=style_of)
    (folder / "concepts.json").write_text(json.dumps(kept, ensure_ascii=False, indent=0))
    click.echo(f"{len(kept)} concepts, {len(pictures)} pictures, by style {np.bincount(style_of).tolist()}")


if __name__ == "__main__":
    main()
