#!/usr/bin/env bash
# Builds the image of the Dockerfile and runs it as Kubernetes would: as its own user, on a read-only file system.
#
#     tests/image/run.sh             builds it for real: a quarter of an hour on two cores
#     tests/image/run.sh BINARY      takes this program in place of the one that the build stage makes: a minute
#
# Works where no container engine does: buildah with chroot isolation, on images of Debian's packages (debootstrap) and
# this machine's Rust. Needs root, Debian's apt-get, and rustc.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
binary="${1:-}"
suite=bookworm
# Kept between runs: the bases do not change.
base=localhost/tutti-test-base
rust=localhost/tutti-test-rust
image=localhost/tutti-test
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs

work="$(mktemp -d)"
container=""
finish() {
    if [[ -n "$container" ]]; then buildah rm "$container" >/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

say() { printf '== %s (%d s)\n' "$*" "$SECONDS"; }

missing=()
for pair in buildah:buildah debootstrap:debootstrap curl:curl; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]} > 0)); then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# image NAME FOLDER: an image of a root file system.
image_of() {
    local made
    made="$(buildah from scratch)"
    buildah add -q "$made" "$2" / >/dev/null
    buildah commit -q "$made" "$1" >/dev/null
    buildah rm "$made" >/dev/null
}

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
    say "a base of Debian $suite"
    debootstrap --variant=minbase "$suite" "$work/base" >"$work/debootstrap.log" ||
        { tail "$work/debootstrap.log"; exit 1; }
    rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
    image_of "$base" "$work/base"
fi

context="$root"
dockerfile="$root/Dockerfile"
if [[ -n "$binary" ]]; then
    # The stages that compile are replaced by the program; what follows them is the Dockerfile's.
    context="$work/context"
    mkdir -p "$context/config"
    cp "$binary" "$context/tutti"
    cp "$root/LICENSE" "$context/"
    cp "$root/config/server.toml" "$context/config/"
    dockerfile="$work/Dockerfile"
    awk 'BEGIN { print "ARG RUNTIME_IMAGE\nFROM ${RUNTIME_IMAGE} AS build-serve\nCOPY tutti /out/tutti" }
         /^FROM .* AS runtime$/ { stages = 1 }
         /^FROM .* AS train$/ { stages = 0 }
         /^FROM .* AS serve$/ { stages = 1 }
         stages' "$root/Dockerfile" >"$dockerfile"
elif ! buildah inspect --type image "$rust" >/dev/null 2>&1; then
    say "an image with this machine's Rust"
    toolchain="$(rustc --print sysroot)"
    made="$(buildah from "$base")"
    buildah run "$made" -- sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null'
    mkdir -p "$work/rust/rustup" "$work/rust/cargo/bin"
    buildah add -q "$made" "$work/rust/rustup" /usr/local/rustup >/dev/null
    # A toolchain is relocatable: its programs need no rustup.
    buildah add -q "$made" "$toolchain/bin" /usr/local/cargo/bin >/dev/null
    buildah add -q "$made" "$toolchain/lib" /usr/local/cargo/lib >/dev/null
    # Whom this machine trusts, cargo trusts there.
    buildah add -q "$made" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt >/dev/null
    buildah config --env CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt "$made"
    buildah commit -q "$made" "$rust" >/dev/null
    buildah rm "$made" >/dev/null
fi

say "the image"
buildah build --quiet --layers=false --file "$dockerfile" --tag "$image" --target serve \
    --build-arg RUST_IMAGE="$rust" --build-arg RUNTIME_IMAGE="$base" "$context" >/dev/null
bytes() { buildah inspect --type image "$1" >/dev/null && buildah images --format '{{.Size}}' "$1"; }
say "base $(bytes "$base"), image $(bytes "$image")"

setting() { buildah inspect --type image --format "{{.OCIv1.Config.$1}}" "$image"; }
[[ "$(setting User)" == 10001:10001 ]] || { echo "the image runs as $(setting User)" >&2; exit 1; }
[[ "$(setting Entrypoint) $(setting Cmd)" == "[tutti] [serve]" ]] || { echo "another command" >&2; exit 1; }
container="$(buildah from "$image")"
mounted="$(buildah mount "$container")"

say "started, asked, stopped: user 10001, no capabilities, read-only"
# Mounts of its own, which end with it.
unshare --mount --fork bash -euo pipefail -s "$mounted" "$work" <<'INSIDE'
mounted="$1" work="$2"
mkdir "$work/root"
mount --bind "$mounted" "$work/root"
mount -t proc proc "$work/root/proc"
mount -o remount,bind,ro "$work/root"
# As its user and without any capability, which setpriv drops in the container.
port=$((20000 + RANDOM % 20000))
# No function: a program in the background must have the id that is said of it.
inside=(chroot "$work/root" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin TUTTI_CONFIG=/etc/tutti/server.toml
    TUTTI_LISTEN="127.0.0.1:$port" TUTTI_LOG_FORMAT=json
    /usr/bin/setpriv --reuid=10001 --regid=10001 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs --)
if "${inside[@]}" touch /written 2>/dev/null || "${inside[@]}" touch /tmp/written 2>/dev/null; then
    echo "the file system can be written to" >&2
    exit 1
fi
"${inside[@]}" tutti serve 2>"$work/log" &
job=$!
trap 'kill "$job" 2>/dev/null || true' EXIT
begun=$SECONDS
until "${inside[@]}" tutti health 2>/dev/null; do
    kill -0 "$job" || { cat "$work/log" >&2; exit 1; }
    ((SECONDS - begun < 60)) || { echo "not ready after a minute" >&2; exit 1; }
    sleep 0.2
done
uid="$(awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$job/status")"
capabilities="$(awk '/^Cap(Prm|Eff|Bnd):/ { printf "%s ", $2 }' "/proc/$job/status")"
[[ "$uid" == "10001 10001 10001" ]] || { echo "it runs as $uid" >&2; exit 1; }
[[ "$capabilities" == "0000000000000000 0000000000000000 0000000000000000 " ]] || { echo "it has $capabilities" >&2; exit 1; }
answer="$(curl --silent --fail --max-time 30 --header 'content-type: application/json' \
    --data '{"q": "Thank you.", "source": "en", "target": "de"}' "http://127.0.0.1:$port/translate")"
echo "answer: $answer"
[[ "$answer" == *translatedText* ]]
kill -TERM "$job"
wait "$job"
INSIDE
say "done"
