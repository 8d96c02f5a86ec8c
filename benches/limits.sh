#!/usr/bin/env bash
# Builds the release program, runs what the speed limits are stated for, and prints a table of wall time and peak memory.
# Nonzero exit on a violation only with `--strict`, as a machine that does other work measures too much.
set -euo pipefail
cd "$(dirname "$0")/.."

strict=0
case "${1:-}" in
    --strict) strict=1 ;;
    "") ;;
    *) echo "usage: benches/limits.sh [--strict]" >&2; exit 1 ;;
esac

cargo build --release --quiet
systole="${CARGO_TARGET_DIR:-target}/release/systole"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
violations=0

# Prints `milliseconds kibibytes` of one run. GNU time where there is one, else the shell's clock and the peak that the
# kernel keeps for the process, read until it is gone.
measure() {
    if [ -x /usr/bin/time ]; then
        /usr/bin/time -o "$work/time" -f '%e %M' "$systole" "$@" >"$work/out" 2>"$work/err" || return 1
        awk '{ printf "%d %d\n", $1 * 1000, $2 }' "$work/time"
        return
    fi
    local start end peak=0 now process
    start=$(date +%s%N)
    "$systole" "$@" >"$work/out" 2>"$work/err" &
    process=$!
    while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$process/status" 2>/dev/null) && [ -n "$now" ]; do
        peak=$now
        sleep 0.002
    done
    wait "$process" || return 1
    end=$(date +%s%N)
    echo "$(((end - start) / 1000000)) $peak"
}

row() { printf '%-44s %10s %10s %10s %10s  %s\n' "$@"; }

# limit NAME RUNS WALL_MS|- MEMORY_MB ARGUMENTS...: the median time and the largest memory of the runs.
limit() {
    local name=$1 runs=$2 wall=$3 memory=$4 verdict=ok
    shift 4
    : >"$work/all"
    for _ in $(seq "$runs"); do
        if ! measure "$@" >>"$work/all"; then
            sed 's/^/    /' "$work/err" >&2
            row "$name" - "$wall" - "$memory" "did not run"
            violations=$((violations + 1))
            return
        fi
    done
    local ms mb
    ms=$(cut -d' ' -f1 "$work/all" | sort -n | sed -n "$(((runs + 1) / 2))p")
    mb=$(cut -d' ' -f2 "$work/all" | sort -n | tail -n1 | awk '{ printf "%d", $1 * 1024 / 1000000 }')
    if [ "$wall" != - ] && [ "$ms" -gt "$wall" ]; then verdict="too slow"; fi
    if [ "$mb" -gt "$memory" ]; then verdict="too much memory"; fi
    if [ "$verdict" != ok ]; then violations=$((violations + 1)); fi
    row "$name" "$ms" "$wall" "$mb" "$memory" "$verdict"
}

row run "wall (ms)" limit "peak (MB)" limit verdict
limit "ResNet-50, timing alone" 5 200 1000 run edge_32x32 models/resnet50.ron --no-execute
limit "ResNet-50, bit-exact" 3 2000 1000 run edge_32x32 models/resnet50.ron
limit "VGG-16 on 4x4, timing alone" 1 - 500 run edge_32x32 models/vgg16.ron --no-execute \
    --set array.rows=4 --set array.cols=4
for model in alexnet googlenet mobilenet_v2 vgg16; do
    limit "$model, bit-exact" 1 - 1000 run edge_32x32 "models/$model.ron"
done
limit "MNIST, 1000 images, bit-exact" 1 - 1000 run edge_16x16 models/mnist_cnn.onnx \
    --calibrate models/mnist_calibrate.npz --data models/mnist_test.npz

# Samples of any number take the memory of a few blocks of them: bytes of noise, so many that holding them all would show.
noise() {
    python3 - "$1" "$work/noise.npz" <<'PYTHON'
import random, struct, sys, zipfile

count = int(sys.argv[1])
header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 3, 224, 224)}}"
header += " " * (-(len(header) + 11) % 64) + "\n"
generator = random.Random(0)
with zipfile.ZipFile(sys.argv[2], "w") as archive, archive.open("input.npy", "w", force_zip64=True) as array:
    array.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    for _ in range(count):
        array.write(generator.randbytes(3 * 224 * 224))
PYTHON
}
if [ "$strict" -eq 1 ]; then images=2000; else images=100; fi
if noise "$images" 2>"$work/err"; then
    limit "MobileNetV2, $images images, bit-exact" 1 - 1000 run edge_32x32 models/mobilenet_v2.ron --data "$work/noise.npz"
else
    echo "SKIPPED: images through MobileNetV2: python3 is not there to write them" >&2
fi

if [ "$violations" -gt 0 ]; then
    echo "$violations of the limits violated" >&2
    [ "$strict" -eq 0 ] || exit 1
fi
