#!/usr/bin/env bash
# Counts the instructions of `tutti bench` and `train bench` and compares them with counts.tsv:
# tests/instructions/run.sh [--update] [TUTTI TRAIN]
# Without programs, builds them as profile.toml says. --update writes what was counted to counts.tsv.
#
# Valgrind counts, so neither the speed nor the load of the machine matters. Its CPU has AVX2 and nothing newer, so the same
# kernels run on every machine. What is left is the compiler, which a failure names, and the C library.
# A count is the difference between two runs, divided by the difference between their repeats, so the start cancels out.
# Needs a Rust toolchain; installs valgrind with apt-get if there is none.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
expected="$here/counts.tsv"
# Folder of what valgrind writes; cg_annotate shows the instructions of each function.
out="$root/target/instructions"
# Largest difference from counts.tsv, in percent.
tolerance=3

# NAME FEW MANY: a case and the numbers of repeats of its two runs. More repeats where they are cheap. The longest first,
# for the least time on two cores.
cases="
serve-1-step-batch-16 1 2
train-imputer 1 2
train-cmlm 1 2
serve-4-steps 1 3
serve-1-step 2 7
"

update=false
if [[ ${1:-} == --update ]]; then
    update=true
    shift
fi
if (($# != 0 && $# != 2)); then
    echo "usage: tests/instructions/run.sh [--update] [TUTTI TRAIN]" >&2
    exit 2
fi

if ! { grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; }; then
    if "$update"; then
        echo "instructions: this CPU has no AVX2 with FMA, so other kernels would be counted; use another machine" >&2
        exit 1
    fi
    echo "instructions: skipped: this CPU has no AVX2 with FMA, so other kernels would be counted"
    exit
fi

if ! command -v valgrind >/dev/null; then
    sudo=""
    ((EUID == 0)) || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind >/dev/null
fi

if (($# == 0)); then
    # With a test, so that the libraries have the features that they have for the tests, and are not built again.
    (cd "$root" && cargo build --locked --bins --test allocations --config "$here/profile.toml")
fi
export TUTTI="${1:-$root/target/debug/tutti}" TRAIN="${2:-$root/target/debug/train}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# The default model without checksums: to compare them takes two fifths of the instructions of a start.
export MODEL="$work/model" OUT="$out"
mkdir "$MODEL"
cp "$root"/models/en-de/*.safetensors "$root/models/en-de/tokenizer.json" "$MODEL/"
sed '/^  "files": {$/,/^  }/d' "$root/models/en-de/config.json" >"$MODEL/config.json"
rm -rf "$out"
mkdir -p "$out"

# Threads that wait for each other spin, so their instructions vary.
export RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1

# count NAME-REPEATS: one run under valgrind.
count() {
    local name="${1%-*}" repeats="${1##*-}" command
    # Repeats are sentences, then batches, of 12 tokens.
    local serve=("$TUTTI" bench --model "$MODEL" --device cpu --dtype q8 --threads 1 --source-tokens 12 --repeats "$repeats")
    # All sentences have 9 tokens, the limit of the shape, so that all batches are of one size: two sentences. Valgrind is
    # slow at f32 products. None sums more than the 512 terms that the crate `gemm` never splits; where it splits longer
    # ones depends on the caches of the machine.
    local train=("$TRAIN" bench --device cpu --products f32 --no-product --batch-tokens 18 --sentence-tokens 18
        --shape enc=1,dec=1,d=256,ffn=512,heads=4,vocab=512,positions=9 --updates "$repeats")
    case "$name" in
        serve-1-step) command=("${serve[@]}" --steps 1 --batch 1) ;;
        serve-4-steps) command=("${serve[@]}" --steps 4 --batch 1) ;;
        serve-1-step-batch-16) command=("${serve[@]}" --steps 1 --batch 16) ;;
        train-imputer) command=("${train[@]}" --stages imputer) ;;
        train-cmlm) command=("${train[@]}" --stages cmlm) ;;
    esac
    local status=0
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file="$OUT/$1.out" "${command[@]}" &>"$OUT/$1.log" || status=$?
    if ((status != 0)) || ! grep -q '^summary: ' "$OUT/$1.out"; then
        { echo "instructions: $1 failed with status $status: ${command[*]}"; cat "$OUT/$1.log"; } >&2
        return 255 # ends xargs
    fi
}
export -f count

while read -r name few many; do
    if [[ -n $name ]]; then printf '%s\n' "$name-$many" "$name-$few"; fi
done <<<"$cases" | xargs -P "$(nproc)" -I '{}' bash -c 'set -euo pipefail; count "$1"' _ '{}'

summary() {
    sed -n 's/^summary: *//p' "$out/$1.out"
}

while read -r name few many; do
    if [[ -z $name ]]; then continue; fi
    printf '%s\t%d\n' "$name" $((($(summary "$name-$many") - $(summary "$name-$few")) / (many - few)))
done <<<"$cases" >"$work/counts"

compiler="$(rustc --version | cut -d' ' -f 1-2)"
if "$update"; then
    {
        echo "# Instructions of a repeat, which is a sentence and a batch, or of an update."
        echo "# Written by tests/instructions/run.sh --update with $compiler"
        cat "$work/counts"
    } >"$expected"
    cat "$expected"
    exit
fi
if [[ ! -f $expected ]]; then
    cat "$work/counts"
    echo "instructions: $expected is missing; tests/instructions/run.sh --update writes it" >&2
    exit 1
fi

failed=0
awk -F'\t' -v tolerance="$tolerance" '
    FNR == 1 { file += 1 }
    file == 1 && !/^#/ { expected[$1] = $2 }
    file == 2 {
        if (!($1 in expected)) {
            printf "%-24s %15.0f   not in counts.tsv\n", $1, $2
            failed = 1
            next
        }
        difference = 100 * ($2 / expected[$1] - 1)
        verdict = difference > tolerance ? "   MORE" : difference < -tolerance ? "   FEWER" : ""
        printf "%-24s %15.0f %+7.2f %%%s\n", $1, $2, difference, verdict
        if (verdict != "") failed = 1
    }
    END { exit failed }
' "$expected" "$work/counts" || failed=$?
written="$(sed -n 's/.* with \(rustc .*\)/\1/p' "$expected")"
if ((failed != 0)) && [[ $compiler != "$written" ]]; then
    echo "instructions: not judged, because counts.tsv has the counts of ${written:-another compiler}, and this is $compiler"
    exit
fi
if ((failed != 0)); then
    {
        echo "instructions: counts differ by more than $tolerance % from tests/instructions/counts.tsv"
        echo "  More: 'cg_annotate target/instructions/CASE-REPEATS.out' lists the functions. Run this script on main, too, to compare."
        echo "  If the cost is intended, or counts are fewer: tests/instructions/run.sh --update, and commit counts.tsv with the reason."
    } >&2
    exit 1
fi
