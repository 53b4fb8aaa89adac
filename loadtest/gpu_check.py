#!/usr/bin/env python3
"""Everything about tutti on a GPU that must be known, in one run of three minutes: a Markdown report.

    loadtest/gpu_check.py --pack DIR             # on the machine with the GPU; DIR is gpu_pack.sh's
    loadtest/gpu_check.py --dry-run --text FILE  # anywhere: the CPU half

* `tests` of the pack, the library's unit tests built with `--features cuda`: each kernel and the whole network, run on
  the GPU by the same tests that hold the emulated kernels against the CPU's operations.
* `gpu_check` of the pack, `loadtest/gpu_check` (an example of this crate): the GPU's answers against the CPU's, each sentence
  alone against a full batch, latencies, throughput, launches, updates.
* `gpu_peer.py` beside this file: the same network in PyTorch and an autoregressive decoder with a KV cache;
  what the card can do at best. It needs a Python with PyTorch: the one that runs this.

What fails is said in the report and on standard error, and the exit status is 1. A part that is not done --limit
seconds after the start fails; the report has the other parts. `--check`, `--tests` and `--text` name the parts where
they are not in a pack. A dry run takes a small shape.
"""

import argparse
import datetime
import glob
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BASE = "enc=6,dec=6,d=512,ffn=2048,heads=8,vocab=8000"
SMALL = "enc=1,dec=1,d=64,ffn=128,heads=2,vocab=512"
# The tests that run on a GPU: of each kernel, and of the whole network.
TESTS = ["nn::device::tests", "on_a_gpu", "--include-ignored", "--test-threads=1"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", help="a folder that gpu_pack.sh made, or files.tar.xz is in")
    p.add_argument("--check", default="target/release/examples/gpu_check")
    p.add_argument("--tests", help="the library's test binary, built with the feature cuda")
    p.add_argument("--text", help="sentences in the model's source language, one a line")
    p.add_argument("--model", default=os.path.join(HERE, "..", "models", "en-de"))
    p.add_argument("--sentences", type=int, default=500)
    p.add_argument("--shape", default=None)
    p.add_argument("--seconds", type=float, default=None, help="for each measurement")
    p.add_argument("--limit", type=float, default=None, help="seconds for everything: 180, an hour for a dry run")
    p.add_argument("--report", default="gpu_check.md")
    p.add_argument("--dry-run", action="store_true", help="the CPU half")
    args = p.parse_args()
    if args.pack:
        args.check, args.tests, args.text = unpacked(args.pack)
    if not args.text:
        p.error("--text or --pack is needed")
    args.shape = args.shape or (SMALL if args.dry_run else BASE)
    args.seconds = args.seconds or (0.05 if args.dry_run else 0.5)
    args.limit = args.limit or (3600.0 if args.dry_run else 180.0)
    return args


def unpacked(pack):
    """The parts of a pack. It may lie where nothing can be written."""
    folder = tempfile.mkdtemp(prefix="gpu_check")
    subprocess.run(["tar", "-xJf", os.path.join(pack, "files.tar.xz"), "-C", folder], check=True)
    return tuple(os.path.join(folder, name) for name in ("gpu_check", "tests", "text"))


def with_libraries():
    """An environment in which programs find the CUDA libraries that PyTorch brought."""
    folders = [folder for path in sys.path for folder in glob.glob(os.path.join(path, "nvidia", "*", "lib"))]
    known = os.environ.get("LD_LIBRARY_PATH")
    return dict(os.environ, LD_LIBRARY_PATH=":".join(folders + [known] if known else folders))


class Failures(list):
    def __init__(self, limit):
        super().__init__()
        self.ends = time.monotonic() + limit

    def note(self, text):
        self.append(text)
        print(f"FAILED: {text}", file=sys.stderr)


def run(command, failures, what, **options):
    """Standard output, and whether all went well."""
    print("+", " ".join(command), file=sys.stderr)
    left = max(1.0, failures.ends - time.monotonic())
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=left, **options)
    except subprocess.TimeoutExpired as stopped:
        failures.note(f"{what} was stopped after {left:.0f} s: --limit")
        return (stopped.stdout or b"").decode()
    if done.returncode:
        failures.note(f"{what} ended with {done.returncode}")
    return done.stdout


def parsed(text, failures, what):
    try:
        return json.loads(text)
    except ValueError:
        failures.note(f"{what} printed no JSON: {text[-300:]!r}")
        return None


def machine(args):
    lines = [f"* {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"]
    if not args.dry_run:
        query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
        smi = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True)
        lines.append(f"* {smi.stdout.strip() or 'nvidia-smi said nothing'}")
    return lines


def unit_tests(args, failures):
    if args.dry_run:
        return ["Unit tests on the GPU: not in a dry run."]
    if not args.tests:
        failures.note("no --tests binary: kernels were not tested one by one")
        return ["Unit tests on the GPU: **not run**."]
    out = run([args.tests, *TESTS], failures, "the unit tests",
              env=dict(with_libraries(), TUTTI_TEST_GPU="1", RUST_BACKTRACE="1"))  # fmt: skip
    ended = [line for line in out.splitlines() if line.startswith("test ")]
    if not any(line.endswith("ok") for line in ended):
        failures.note("no unit test ran on the GPU")
    return ["Unit tests on the GPU:", "", "```", *ended, "```"]


def check_table(report, failures):
    lines = ["| check | type | measured | at most | |", "|---|---|---:|---:|---|"]
    for check in report["checks"]:
        value = "nan" if check["value"] is None else f"{check['value']:.3g}"
        passed = "passed" if check["passed"] else "**FAILED**"
        lines.append(f"| {check['name']} | {check['dtype']} | {value} | {check['limit']:.3g} | {passed} |")
        if not check["passed"]:
            failures.note(f"{check['dtype']}: {check['name']} is {value}, at most {check['limit']}")
    return lines


def latency_table(report, peers):
    of_peer = {row["tokens"]: row for row in (peers or {}).get("latency", [])}
    floors = {row["tokens"]: row for row in report["floor"]}
    best = (peers or {}).get("ceilings")
    lines = [
        "| tokens | steps | p50 ms | p90 ms | floor ms | PyTorch ms | compiled | graph | AR ms | AR, graph | AR graph : tutti |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    show = lambda value: "–" if value is None else f"{value:.2f}"
    for row in report["latency"]:
        tokens, p50 = row["target_tokens"], row["latency_p50_ms"]
        peer = of_peer.get(tokens, {}) if row["steps"] == 1 else {}
        floor = None
        if best and row["steps"] == 1:
            one = floors[tokens]
            times = (one["operations"] / best["operations_per_second"], one["weight_bytes"] / best["bytes_per_second"])
            floor = 1000 * max(times)
        ar = of_peer.get(tokens, {})
        fastest = ar.get("autoregressive_graph_ms", ar.get("autoregressive_ms"))
        cells = [show(value) for value in (
            p50, row["latency_p90_ms"], floor, peer.get("plain_ms"), peer.get("compiled_ms"), peer.get("graph_ms"),
            peer.get("autoregressive_ms"), peer.get("autoregressive_graph_ms"), fastest and fastest / p50,
        )]  # fmt: skip
        lines.append(f"| {tokens} | {row['steps']} | " + " | ".join(cells) + " |")
    return lines


def throughput_table(report, peers):
    of_peer = {(row["tokens"], row["batch"]): row for row in (peers or {}).get("throughput", [])}
    floors = {row["tokens"]: row for row in report["floor"]}
    best = (peers or {}).get("ceilings")
    lines = ["| tokens | batch | sentences/s | of the card's rate | PyTorch | compiled |", "|---:|---:|---:|---:|---:|---:|"]
    show = lambda value: "–" if value is None else f"{value:,.0f}"
    for row in report["throughput"]:
        tokens, batch, rate = row["target_tokens"], row["batch"], row["sentences_per_second"]
        peer = of_peer.get((tokens, batch), {})
        share = f"{100 * rate * floors[tokens]['operations'] / best['operations_per_second']:.1f} %" if best else "–"
        lines.append(f"| {tokens} | {batch} | {rate:,.0f} | {share} | {show(peer.get('plain'))} | {show(peer.get('compiled'))} |")
    return lines


def launches(report):
    if not report["launches"]:
        return ["Launches: none on a CPU."]
    lines = ["One sentence of 25 tokens, encoder and one decoder pass:", ""]
    for row in report["launches"]:
        way = "as graphs" if row["graphs"] else "one by one"
        lines.append(f"* {way}: {row['launches']} launches, {row['replays']} replays ({row['inside_replays']} launches inside)")
    return lines


def training_table(report):
    lines = ["| stage | products | target tokens/s | ms per update | of the rate of a large product |", "|---|---|---:|---:|---:|"]
    for row in report["training"]:
        name = "f32 (TF32)" if row["products"] == "f32" and report["device"] != "cpu" else row["products"]
        share = f"{100 * row['matrix_share']:.1f} %"
        cells = [row["stage"], name, f"{row['tokens_per_second']:,.0f}", f"{1000 * row['seconds_per_update']:.1f}", share]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def targets(report, peers, failures):
    """What issue and design ask of an H100; only said where the shape is the one they speak of."""
    lines = ["| target | measured | |", "|---|---:|---|"]

    def judge(name, value, good):
        lines.append(f"| {name} | {value} | {'reached' if good else '**missed**'} |")
        if not good:
            failures.note(f"target missed: {name}: {value}")

    one = next(r for r in report["latency"] if r["target_tokens"] == 25 and r["steps"] == 1)
    p50 = one["latency_p50_ms"]
    judge("25 tokens, one step: p50 at most 1.5 ms", f"{p50:.2f} ms", p50 <= 1.5)
    if peers:
        peer = next(r for r in peers["latency"] if r["tokens"] == 25)
        ratio = min(peer["autoregressive_ms"], peer["autoregressive_graph_ms"]) / p50
        judge("at least 10 times below autoregressive PyTorch", f"{ratio:.1f}", ratio >= 10)
        judge("below compiled PyTorch", f"{peer['compiled_ms']:.2f} ms", p50 < peer["compiled_ms"])
        operations = {row["tokens"]: row["operations"] for row in report["floor"]}
        rate = peers["ceilings"]["operations_per_second"]
        share = max(r["sentences_per_second"] * operations[r["target_tokens"]] / rate for r in report["throughput"])
        judge("saturated: at least 25 % of the measured bf16 rate", f"{100 * share:.1f} %", share >= 0.25)
        compiled = max(r.get("compiled", 0) for r in peers["throughput"] if r["tokens"] == 25)
        ours = max(r["sentences_per_second"] for r in report["throughput"] if r["target_tokens"] == 25)
        judge("throughput above compiled PyTorch, 25 tokens", f"{ours:,.0f} to {compiled:,.0f}", ours > compiled)
    return lines


def main():
    args = arguments()
    failures = Failures(args.limit)
    batches = "1,4" if args.dry_run else "1,64,1024,4096"
    device = ["--device", "cpu" if args.dry_run else "cuda:0"]
    shape = ["--shape", args.shape, "--seconds", str(args.seconds), "--batches", batches]
    tests = unit_tests(args, failures)
    shape += ["--training-tokens", "256", "--training-updates", "2"] if args.dry_run else ["--training-updates", "10"]
    check = [args.check, *device, *shape, "--model", args.model, "--text", args.text, "--sentences", str(args.sentences)]
    report = parsed(run(check, failures, "gpu_check", env=with_libraries()), failures, "gpu_check")
    peer = [sys.executable, os.path.join(HERE, "gpu_peer.py"), "--shape", args.shape, "--seconds", str(args.seconds)]
    peer += ["--device", "cpu", "--batches", "1,4"] if args.dry_run else ["--device", "cuda", "--batches", "1,64,1024"]
    peers = parsed(run(peer, failures, "gpu_peer.py"), failures, "gpu_peer.py")

    lines = ["# gpu_check" + (" (dry run on a CPU: no figure here says anything of a GPU)" if args.dry_run else ""), ""]
    lines += [*machine(args), f"* shape {args.shape}", ""]
    lines += ["## Right", "", *tests, ""]
    if report:
        lines += [f"{report['sentences']} sentences of `{os.path.basename(args.text)}`.", "", *check_table(report, failures), ""]
        lines += ["## Fast", "", f"{report['dtype']} on {report['device']}, random weights.", ""]
        lines += [*latency_table(report, peers), "", *throughput_table(report, peers), "", *launches(report), ""]
        lines += ["## Training", "", "Random text and weights; forward, backward and update.", "", *training_table(report), ""]
        if peers:
            best = peers["ceilings"]
            lines += [
                f"PyTorch {peers['torch']} on {peers['device']}, {peers['dtype']}. Its large product runs at "
                f"{best['operations_per_second'] / 1e12:.1f} TFLOP/s, its large copy at {best['bytes_per_second'] / 1e12:.2f} TB/s.",
                "",
            ]
        if not args.dry_run and args.shape == BASE:
            lines += ["## Targets", "", *targets(report, peers, failures), ""]
    lines += [f"**{len(failures)} failures**" if failures else "Everything passed.", *(f"* {text}" for text in failures), ""]
    with open(args.report, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    print("\n".join(lines))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
