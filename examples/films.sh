#!/usr/bin/env bash
# The films in examples/films: bash examples/films.sh FOLDER [OPTIONS OF BIGSLEEP...]
# Needs pip install 'bigsleep[video]'.
set -euo pipefail
story=$(realpath "$(dirname "$0")/films/story.txt")
mkdir -p "$1" && cd "$1"
shift
dream=(--model emoji --image-size 256 --seed 3 "$@")
bigsleep "a castle at night" "${dream[@]}" --video growth.mp4 --seconds 4 --fps 15
bigsleep "a cat" "a lion" "a sun" "${dream[@]}"
bigsleep morph a_cat.png a_lion.png a_sun.png --loop --seconds 4 --fps 15 -o morph.mp4
bigsleep story "$story" "${dream[@]}" --seconds 5 --fps 15 -o story.mp4
