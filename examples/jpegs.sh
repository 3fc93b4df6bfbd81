#!/usr/bin/env bash
# Paths into another tool, each as its picture is finished: bash examples/jpegs.sh LIST FOLDER [OPTIONS OF BIGSLEEP...]
set -euo pipefail
list=$1 folder=$2
shift 2
bigsleep batch "$list" --output-dir "$folder" -0 "$@" |
    xargs -0 -n 1 -P 2 python3 -c '
import sys
from pathlib import Path
from PIL import Image

path = Path(sys.argv[1])
Image.open(path).save(path.with_suffix(".jpg"), quality=90)'
