#!/usr/bin/env bash
# The official clients, from PyPI and npm, against the server with the default model; then schemathesis
# over its OpenAPI description. `run.sh [BINARY]`; needs python3 with venv, node, npm and their registries.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$here/../.."
binary="${1:-$root/target/debug/tutti}"
work="$(mktemp -d)"
server=""
finish() {
    if [[ -n "$server" ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cp "$here/package.json" "$here/clients.mjs" "$work/"
(cd "$work" && npm install --silent --no-fund --no-audit)

port="$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
"$binary" serve --listen "127.0.0.1:$port" --model "$root/models/en-de" --set log=warn &
server=$!
url="http://127.0.0.1:$port"
for _ in $(seq 300); do
    if curl --silent --fail --output /dev/null "$url/readyz"; then break; fi
    kill -0 "$server"
    sleep 0.2
done

"$work/venv/bin/python" "$here/clients.py" "$url"
(cd "$work" && node clients.mjs "$url")
# What the description promises must hold: statuses, content types and shapes, and no fault of the server.
# Without /translate/stream: OpenAPI 3.1 can only call its events one string, so there is no shape to check; tests/it/clients has them.
cd "$work" # where it leaves its own files
"$work/venv/bin/schemathesis" run "$url/openapi.json" --max-examples 15 --seed 1 --phases examples,coverage,fuzzing \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --request-timeout 10 --exclude-path /translate/stream --no-color
