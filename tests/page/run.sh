#!/usr/bin/env bash
# Tests the page at `/` in headless Chromium: tests/page/run.sh [FOLDER]
# Screenshots go to FOLDER (default: a temporary one). Needs node with npm, and a built server: TUTTI names it
# (default: target/debug/tutti). Installs Chromium with apt-get if there is none.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
tutti="${TUTTI:-$root/target/debug/tutti}"
work="$(mktemp -d)"
shots="${1:-$work}"
mkdir -p "$shots"
shots="$(cd "$shots" && pwd)"
server=""
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

CHROMIUM="${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}"
if [[ -z $CHROMIUM ]]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
    CHROMIUM="$(command -v chromium)"
fi
export CHROMIUM

npm install --prefix "$work" --no-save --no-audit --no-fund --silent playwright-core@1.65.1
# Node looks for packages from the folder of the script on.
cp "$here/check.mjs" "$work/"

"$tutti" serve --model "$root/models/en-de" --listen 127.0.0.1:0 --log-format json --threads 1 2>"$work/log" &
server=$!
for _ in $(seq 300); do
    address="$(sed -n 's/.*"address":"\([0-9.:]*\)".*/\1/p' "$work/log" | head -1)"
    [[ -n $address ]] && break
    kill -0 "$server" || { cat "$work/log"; exit 1; }
    sleep 0.1
done
[[ -n ${address:-} ]] || { echo "the server does not start"; cat "$work/log"; exit 1; }
for _ in $(seq 300); do
    "$tutti" health --listen "$address" 2>/dev/null && break
    sleep 0.1
done

node "$work/check.mjs" "http://$address/" "$shots"
