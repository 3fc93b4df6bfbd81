#!/usr/bin/env bash
# The films in examples/films: bash examples/films.sh FOLDER [OPTIONS OF BIGSLEEP...]
# The story needs pip install 'bigsleep[video]'.
set -euo pipefail
story=$(realpath "$(dirname "$0")/films/story.txt")
mkdir -p "$1" && cd "$1"
shift
dream=(--model emoji --image-size 256 --seed 3 "$@")
bigsleep "a castle at night" "${dream[@]}" --video growth.webp --seconds 4 --fps 10
bigsleep "a cat" "a lion" "a sun" "${dream[@]}"
bigsleep morph a_cat.png a_lion.png a_sun.png --loop --seconds 4 --fps 10 -o morph.webp
bigsleep story "$story" "${dream[@]}" --seconds 5 --fps 15 -o story.mp4
