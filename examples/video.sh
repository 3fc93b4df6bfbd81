#!/usr/bin/env bash
# A list to a video, a second for each prompt: bash examples/video.sh LIST VIDEO.mp4 [OPTIONS OF BIGSLEEP...]
# Needs ffmpeg, or FFMPEG=/path/to/one.
set -euo pipefail
list=$1 video=$2
shift 2
bigsleep batch "$list" --output-dir "$video.d" --name "{index:04d}" --parallel 4 "$@"
"${FFMPEG:-ffmpeg}" -loglevel error -y -framerate 1 -pattern_type glob -i "$video.d/*.png" -r 25 -pix_fmt yuv420p "$video"
