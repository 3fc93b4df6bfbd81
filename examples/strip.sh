#!/usr/bin/env bash
# What each part of a dream brings, for six of the README's prompts: the class with the nearest name; what the words alone
# say; what auditions choose; the whole dream. About a minute: bash examples/strip.sh [FOLDER [OPTIONS OF BIGSLEEP...]]
set -euo pipefail
cd "${1:-$(mktemp -d)}"
prompts=(
  "a cat wearing a crown" "a house under a rainbow" "a robot holding a flower"
  "a dog in front of a castle" "a yellow elephant on the beach" "three apples"
)
dream() {
  bigsleep "${prompts[@]}" --model emoji --seed 1 --image-size 256 --overwrite --quiet --name "$1-{slug}" "${@:2}" > /dev/null
}
dream lookup --layers 1 --steps 0 --auditions 1 "${@:2}"
dream plan --steps 0 --auditions 1 "${@:2}"
dream auditions --steps 0 "${@:2}"
dream dream "${@:2}"
pictures=()
for part in lookup plan auditions dream; do
  for prompt in "${prompts[@]}"; do pictures+=("$part-${prompt// /_}.png"); done
done
bigsleep sheet "${pictures[@]}" -o strip.png --columns 6 --size 160 --overwrite
