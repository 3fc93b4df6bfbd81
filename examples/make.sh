#!/usr/bin/env bash
# The README's twelve pictures, by the built-in pair: bash examples/make.sh, from a clone, about a minute.
set -euo pipefail
cd "$(dirname "$0")/pictures"
bigsleep "a beautiful house" --model emoji --seed 1 --overwrite
bigsleep "a bowl of cherries" --model emoji --seed 1 --overwrite
bigsleep "an intricate drawing of eternity" --model emoji --seed 1 --overwrite
bigsleep "a red heart" --model emoji --seed 1 --overwrite
bigsleep "a cat wearing a crown" --model emoji --seed 1 --overwrite
bigsleep "a rocket among the stars" --model emoji --seed 1 --overwrite
bigsleep "an owl at night" --model emoji --seed 1 --overwrite
bigsleep "a slice of pizza" --model emoji --seed 1 --overwrite
bigsleep "a guitar" --model emoji --seed 1 --overwrite
bigsleep "a sailing ship" --model emoji --seed 1 --overwrite
bigsleep "a happy robot" --model emoji --seed 1 --overwrite
bigsleep "the end of summer" --model emoji --seed 1 --overwrite
