#!/usr/bin/env python3
"""Compares tutti with the engines that browsers use, slimt and fxtranslate, on this machine with random weights.

Prints a Markdown table for each shape.

    cargo build --release
    python3 loadtest/browser_engines.py                                   # under four minutes
    python3 loadtest/browser_engines.py --model models/en-de --limit 300  # and a bundle of ours with its shortlist
    python3 loadtest/browser_engines.py --ct2 --limit 400                 # and CTranslate2 at 3+3

`--limit` is in seconds: no round begins that would end later, and fewer than `--rounds` are measured.

It installs both engines from PyPI in the virtual environment of `compare_ct2.py`. `marian_format.py` writes the
random models in Marian's binary format, `browser_bench.py` times one engine with one of them, `tutti bench` times
tutti. All compute in eight bits, greedily; the end comes after exactly 12 or 25 tokens, as the source has. Each
round measures every setting once, tutti after each pair of engines. A model that writes another number is left out.

The shapes: 3+3 layers of width 256 (feed-forward 1024, 4 heads, 8,000 entries), whole vocabulary on all sides; and
Firefox's tiny shape, 6+2 (256/1536, 8 heads, 32,000 entries), with a random shortlist of 50 first entries and 50
candidates for each source token, and with the whole vocabulary.

What is not equal:

- Both engines know one kind of decoder, the recurrent SSRU, in place of self-attention. tutti has attention. At the
  same numbers of layers the engines have less to compute for each token.
- The engines take and give text; splitting it into the words of the vocabulary is in their times. `tutti bench`
  takes tokens.
- The kernels of the wheels: gemmology, in slimt up to AVX-512BW, in fxtranslate AVX2, neither with VNNI. fxtranslate
  has no such kernel for the output with a shortlist; it multiplies there in plain Rust.
- The engines take one more step, for the end token. tutti reads and writes both its end tokens.
- `tutti bench --shape` has no shortlist. tutti at Firefox's shape therefore projects to 32,000 entries. `--model` shows
  a bundle with a shortlist.
- Source words and the shortlist's candidates are drawn by Zipf's law. The run prints how many candidates a sentence
  and a batch have; those of real text may be fewer.
- fxtranslate (Python, 0.5.0) translates one sentence at a time in one thread; the batches of its Rust crate are not in
  the Python package. Its rate is that of sentences one by one, and with n threads of n processes.
- slimt (0.1.0) fills its own batches with at most 1,024 tokens, 78 sentences of 12 tokens or 39 of 25; it gets
  256 sentences at a time. Its first batch can be smaller, because its thread does not wait. It has one thread for
  each batch. It needs a shortlist, so its whole vocabulary is a shortlist of every entry, and it copies the table at
  each step.
- slimt's decoder gives every step the position code of place 0, so its models count with another threshold.
"""

import argparse
import collections
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time

import compare_ct2
from compare_ct2 import HERE, ROOT, cores, environment, note, processor, program, splits, spread

ENGINES = {"slimt": "0.1.0", "fxtranslate": "0.5.0"}
SAME = {"enc": 3, "dec": 3, "d": 256, "ffn": 1024, "heads": 4, "vocab": 8000}
TINY = {"enc": 6, "dec": 2, "d": 256, "ffn": 1536, "heads": 8, "vocab": 32000}
# Title, shape, whether the engines have a shortlist.
CASES = [
    ("3+3, 256/1024, 8,000 entries, whole vocabulary", SAME, False),
    ("6+2, 256/1536, 32,000 entries, shortlist", TINY, True),
    ("6+2, 256/1536, 32,000 entries, whole vocabulary", TINY, False),
]
LENGTHS = [12, 25]
STEPS = [1, 4]
BATCH = 64
# Sentences that an engine gets at a time. slimt fills its own batches from them.
HANDED = {"slimt": 256, "fxtranslate": 8}

Cell = collections.namedtuple("Cell", "case who threads length what value")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tutti", default=os.path.join(ROOT, "target", "release", "tutti"))
    p.add_argument("--venv", default=os.path.join(ROOT, "target", "ct2-venv"))
    p.add_argument("--models", default=os.path.join(ROOT, "target", "browser-engines"), help="folder of the models")
    p.add_argument("--model", help="a bundle of ours to measure too")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.4, help="for each number, each round")
    p.add_argument("--limit", type=float, default=225, help="seconds; no round begins that would end later")
    p.add_argument("--quick", action="store_true", help="one short round of the first two tables with 12 tokens")
    p.add_argument("--ct2", action="store_true", help="measure CTranslate2 at 3+3 too")
    args = p.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, min(args.seconds, 0.2)
    args.cases, args.lengths = (CASES[:2], LENGTHS[:1]) if args.quick else (CASES, LENGTHS)
    args.models = os.path.abspath(args.models)
    # Where `compare_ct2.peer` keeps its model, and what it limits.
    args.results, args.instructions = os.path.join(args.models, "cells"), None
    return args


def install(python):
    """The engines that the virtual environment has or that pip can install there."""
    found = []
    for name, version in ENGINES.items():
        check = "import importlib.metadata as m; assert m.version(%r) == %r" % (name, version)
        if subprocess.run([python, "-c", check], stderr=subprocess.DEVNULL).returncode:
            note("installing %s %s" % (name, version))
            pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            if subprocess.run([*pip, name + "==" + version]).returncode:
                note("no wheel of %s %s for Python %s; left out" % (name, version, platform.python_version()))
                continue
        found.append(name)
    return found


def engine(args, python, name, case, threads, length):
    """What `browser_bench.py` reports, or nothing when it fails."""
    title, shape, short = case
    folder = os.path.join(args.models, "%s-%dx%d-%d-%d" % (name, shape["enc"], shape["dec"], shape["vocab"], length))
    command = [python, os.path.join(HERE, "browser_bench.py"), "--engine", name, "--folder", folder,
               "--length", str(length), "--threads", str(threads), "--size", str(HANDED[name]),
               "--seconds", str(args.seconds)]
    for key, value in shape.items():
        command += ["--" + key, str(value)]
    # slimt's matrix products in float must not start threads of their own.
    alone = dict(os.environ, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    try:
        done = subprocess.run(command + ["--shortlist"] * short, capture_output=True, text=True, env=alone, timeout=600)
        return json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired) as error:
        note("%s failed (%s): %s" % (name, title, getattr(error, "msg", error)))
        if isinstance(error, ValueError):
            note(done.stderr[-1000:])
        return None


def peers(args, python, names, case, length, facts):
    for name in names:
        for threads in sorted({1, cores()}):
            note("  %s, threads: %d" % (name, threads))
            report = engine(args, python, name, case, threads, length)
            if report is None:
                continue
            if report["tokens"] != [length]:
                note("%s wrote %s tokens instead of %d; left out" % (name, report["tokens"], length))
                continue
            facts["%s %s (%s)" % (name, report["version"], report["backend"])] = True
            if "candidates" in report:
                facts["candidates of %d source tokens: %d, of 64 such sentences: %d"
                      % (length, report["candidates"], report["candidates of 64"])] = True
            for what in ["p50_ms", "sentences/s"]:
                if what in report:
                    yield Cell(case[0], name, threads, length, what, report[what])


def ours(args, case, length):
    """tutti at the case's shape, or with the bundle of `--model` where `case` is none."""
    source = ["--model", args.model]
    if case:
        source = ["--shape", ",".join("%s=%d" % pair for pair in case[1].items())]
    title, name = (case[0], "tutti") if case else ("a bundle", os.path.basename(os.path.normpath(args.model)))
    for threads in sorted({1, cores()}):
        report = json.loads(compare_ct2.run([
            args.tutti, "bench", "--json", *source, "--source-tokens", str(length), "--batch", str(BATCH),
            "--steps", ",".join(map(str, STEPS)), "--threads", str(threads), "--seconds", str(args.seconds)]))
        for row in report["measurements"]:
            who = "%s, %d step%s" % (name, row["steps"], "s" * (row["steps"] > 1))
            yield Cell(title, who, threads, length, "p50_ms", row["latency_p50_ms"])
            yield Cell(title, who, threads, length, "sentences/s", row["sentences_per_second"])


def ct2(args, python, length):
    for split in splits(cores()):
        for who, _, _, what, value in compare_ct2.peer(args, python, compare_ct2.SHAPES[0], split, length):
            what = {"p50_ms": "p50_ms", "sentences/s at %d" % BATCH: "sentences/s"}.get(what)
            if what and "greedy" in who:
                yield Cell(CASES[0][0], "%s, %d × %d" % (who, *split), cores(), length, what, value)


def measure(args, python, names, facts):
    """One round."""
    measured = set()
    for case in args.cases:
        for length in args.lengths:
            note(" %s, %d tokens" % (case[0], length))
            yield from peers(args, python, names, case, length, facts)
            # Without a shortlist on our side, the two cases of one shape are the same.
            if (case[1]["vocab"], length) not in measured:
                measured.add((case[1]["vocab"], length))
                whole = next(other for other in CASES if other[1] is case[1] and not other[2])
                yield from ours(args, whole, length)
            if args.ct2 and case is CASES[0]:
                yield from ct2(args, python, length)
    if args.model:
        for length in args.lengths:
            yield from ours(args, None, length)


def table(cells, title):
    rows = collections.OrderedDict()
    for cell in cells:
        if cell.case == title:
            rows.setdefault((cell.who, cell.threads), {}).setdefault((cell.what, cell.length), []).append(cell.value)
    if not rows:
        return []
    head = ["", "threads", *("p50 alone, %d → %d, ms" % (n, n) for n in LENGTHS),
            *("ms/token at %d" % n for n in LENGTHS), *("sentences/s, %d → %d" % (n, n) for n in LENGTHS)]
    lines = ["**%s**" % title, "", "| %s |" % " | ".join(head), "|---" * len(head) + "|"]
    for (who, threads), values in rows.items():
        # The value of a sentence alone does not depend on the engines' threads; it is measured once.
        times = [values.get(("p50_ms", n), []) for n in LENGTHS]
        lines.append("| %s |" % " | ".join([
            who, str(threads), *(spread(found, 2) for found in times),
            *(spread([value / n for value in found], 3) for found, n in zip(times, LENGTHS)),
            *(spread(values.get(("sentences/s", n), []), 0) for n in LENGTHS)]))
    return lines + [""]


def head(args, rounds, facts):
    load = ", ".join("%.1f" % value for value in os.getloadavg())
    return [
        "Machine: %s, %d of %d cores, %s. Load averages at the end: %s."
        % (processor(), cores(), os.cpu_count(), platform.platform(terse=True), load),
        "",
        "%s, Python %s, %s; %d round%s, medians (least–greatest). %s."
        % (program(args.tutti),
           platform.python_version(), datetime.date.today().isoformat(), rounds, "s" * (rounds != 1),
           "; ".join(facts)),
        "",
        "    cargo build --release",
        "    " + shlex.join(["python3", "loadtest/browser_engines.py", *sys.argv[1:]]),
        "",
    ]


def main():
    args = arguments()
    if not os.access(args.tutti, os.X_OK):
        sys.exit("%s is not there: cargo build --release, or --tutti PATH" % args.tutti)
    os.makedirs(args.models, exist_ok=True)
    python = environment(args.venv)
    names = install(python)
    cells, facts = [], {}
    begin, done = time.monotonic(), 0
    # Another round takes about as long as the mean of those before.
    while done < args.rounds and (not done or (time.monotonic() - begin) * (done + 1) / done <= args.limit):
        done += 1
        note("round %d of %d" % (done, args.rounds))
        cells += measure(args, python, names, facts)
    lines = head(args, done, facts)
    for title in [*(case[0] for case in CASES), "a bundle"]:
        lines += table(cells, title)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
