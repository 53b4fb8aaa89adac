#!/usr/bin/env bash
# Builds what gpu_check.py runs on a machine with a GPU, where there need be none, and packs it; and the program `train` that
# gpu_train.py packs. DIR/files.tar.xz goes along with the first, DIR/train does not travel by itself.
#
#   loadtest/gpu_pack.sh DIR TEXT [SENTENCES]
#
# TEXT holds sentences in the source language of models/en-de, one a line; the first 500 go along. Needs the CUDA
# toolkit, as any build with the feature does (src/nn/device/README.md). CARGO_BUILD_TARGET is heeded. FEATURES=nccl tests the sums
# of several GPUs too, on one; libnccl.so must then be there for the linker, and on the machine with the GPU.
set -euo pipefail
dir=${1:?usage: gpu_pack.sh DIR TEXT [SENTENCES]} text=${2:?usage: gpu_pack.sh DIR TEXT [SENTENCES]}
text=$(realpath "$text")
mkdir -p "$dir"
dir=$(realpath "$dir")
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# The program of the last line of cargo's messages that names one.
built() {
    cargo "$@" --features "${FEATURES:-cuda}" --locked --message-format=json-render-diagnostics |
        python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])'
}
for part in gpu_check tests; do
    case $part in
        gpu_check) program=$(built build --release --example gpu_check) ;;
        tests) program=$(built test --release --lib --no-run) ;;
    esac
    strip -o "$out/$part" "$program"
done
strip -o "$dir/train" "$(built build --release --bin train)"
head -n "${3:-500}" "$text" >"$out/text"
tar -cJf "$dir/files.tar.xz" -C "$out" gpu_check tests text
ls -l "$dir/files.tar.xz"
