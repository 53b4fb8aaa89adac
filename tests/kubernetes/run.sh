#!/usr/bin/env bash
# Builds the overlays of config/kubernetes, validates them against the schemas of Kubernetes, KEDA and the Prometheus
# operator, and runs the alerts' unit tests. Needs kubectl, python3 with venv, node with npm, and their registries; takes
# promtool out of Debian's package prometheus where there is none.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
config="$here/../../config"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

command -v kubectl >/dev/null || { echo "kubectl is missing: its 'kustomize' builds the overlays" >&2; exit 1; }
mkdir "$work/built"
for overlay in "$config"/kubernetes/overlays/*; do
    kubectl kustomize "$overlay" >"$work/built/$(basename "$overlay").yaml"
done

promtool="$(command -v promtool || true)"
if [[ -z $promtool ]]; then
    # Unpacked, not installed: the package would start a server.
    (cd "$work" && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; })
    dpkg-deb --extract "$work"/prometheus_*.deb "$work/prometheus"
    promtool="$work/prometheus/usr/bin/promtool"
fi
"$promtool" check rules "$config/prometheus/rules.yaml"
"$promtool" test rules "$config/prometheus/rules_test.yaml"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cp "$here/package.json" "$here/custom.mjs" "$work/"
(cd "$work" && npm install --silent --no-fund --no-audit)
"$work/venv/bin/python" "$here/built_in.py" "$work"/built/*.yaml
(cd "$work" && node custom.mjs built/*.yaml)
