#!/usr/bin/env bash
# The README's evening, its pictures in FOLDER: bash examples/evening.sh FOLDER [OPTIONS OF BIGSLEEP...]
set -euo pipefail
mkdir -p "$1/seeds" && cd "$1"
shift
bigsleep "a dog and a ball" --model emoji --image-size 256 --variations 6 --steps 10 --seed 1 --output-dir seeds "$@"
bigsleep sheet seeds/*.png -o sheet.png --columns 6 --size 160 --overwrite
bigsleep continue seeds/a_dog_and_a_ball-4.png --steps 60 -o dog.png --overwrite
bigsleep continue dog.png --prompt "a lion and a ball" --class-lr 1 --steps 80 -o lion.png --overwrite
bigsleep morph dog.png lion.png seeds/a_dog_and_a_ball-3.png -o morph.webp --loop --seconds 4 --fps 10
