#!/usr/bin/env bash
# A list to a contact sheet: bash examples/sheet.sh LIST SHEET.png [OPTIONS OF BIGSLEEP...]
# The pictures stay in SHEET.png.d; the same command again makes only what is missing.
set -euo pipefail
list=$1 sheet=$2
shift 2
bigsleep batch "$list" --output-dir "$sheet.d" --name "{index:04d}-{slug}" --parallel 4 "$@"
python3 - "$sheet" "$sheet".d/*.png <<'PYTHON'
import math, sys
from PIL import Image

sheet, *paths = sys.argv[1:]
across = math.ceil(math.sqrt(len(paths)))
page = Image.new("RGB", (across * 256, math.ceil(len(paths) / across) * 256), "white")
for i, path in enumerate(paths):
    page.paste(Image.open(path).resize((256, 256)), (i % across * 256, i // across * 256))
page.save(sheet)
PYTHON
