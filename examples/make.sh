#!/usr/bin/env bash
# The README's 24 pictures, by the built-in pair, about two minutes: bash examples/make.sh [FOLDER [OPTIONS OF BIGSLEEP...]]
set -euo pipefail
cd "${1:-$(dirname "$0")/pictures}"
bigsleep --model emoji --seed 1 --overwrite "${@:2}" \
  "a beautiful house" "a bowl of cherries" "an intricate drawing of eternity" "a red heart" \
  "a guitar" "a rocket among the stars" "an owl at night" "a slice of pizza" \
  "a sailing ship" "a happy robot" "the end of summer" "a ghost in the forest" \
  "a cat wearing a crown" "a house under a rainbow" "a robot holding a flower" "a fish and a boat" \
  "a red car next to a tree" "a dog in front of a castle" "a snowman with a hat" "a bee on a sunflower" \
  "a frog with an umbrella" "a yellow elephant on the beach" "three apples" "a blue bird above a mountain"
