#!/usr/bin/env python3
"""Compares tutti with CTranslate2 on this machine at the same shapes.

Prints a Markdown table of medians, spreads and ratios.

    cargo build --release
    python3 loadtest/compare_ct2.py            # some ten minutes; --quick for one

It installs CTranslate2 (the version below, from PyPI) in a virtual environment, unless the one of --venv has
it, and needs nothing else but Python's own library. Both sides have random weights of the same width and
vocabulary and a forced output length, so the work does not depend on the weights. `ct2_bench.py` beside this
file measures the peer, `tutti bench` measures tutti. The peer computes in eight bits with each split of the
cores into threads and workers; each of its numbers is that of the best split. tutti has its default settings.

"12 -> 12" is twelve words in and out. The peer also reads its end token, and writes twelve tokens in twelve
steps. tutti reads and writes both its end tokens too, fourteen rows, so it does not do less work. An imputer
writes two slots for each of these, twenty-eight rows.

The bundle of `--model` is measured with its defaults, that is, with its shortlist and language model, against
a peer of its own shape and vocabulary. `--no-model` leaves it out.

Runs alternate: in each round, a run of tutti follows every setting of the peer. A ratio compares two runs of
one round; the table has the median over the rounds. `--results FILE --append` adds rounds to earlier ones,
for machines that are quiet only for short times. `--rounds 0` only prints the table.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import venv

CT2 = "4.8.5"
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)

WIDTH = {"dim": 256, "ffn": 1024, "heads": 4}
VOCAB = 8000
OURS = (3, 3)
# What limits both sides to the instructions of an older CPU: settings of the peer and of its libraries (oneDNN, MKL).
INSTRUCTIONS = {
    "avx512-vnni": {"CT2_FORCE_CPU_ISA": "AVX512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "MKL_ENABLE_INSTRUCTIONS": "AVX512_E1"},
    "avx2": {"CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
# Shapes of the peer: width, layers and vocabulary.
SHAPES = [dict(WIDTH, layers=layers, vocab=VOCAB) for layers in [OURS, (6, 2), (12, 1)]]
BEAMS = [1, 4]
STEPS = [1, 2, 4]
LENGTHS = [12, 25]
BATCHES = [1, 8, 64]


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tutti", default=os.path.join(ROOT, "target", "release", "tutti"))
    p.add_argument("--venv", default=os.path.join(ROOT, "target", "ct2-venv"))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0, help="for each cell of the table, each round")
    p.add_argument("--quick", action="store_true", help="one short round, the peer at 3+3 only")
    p.add_argument("--instructions", choices=INSTRUCTIONS, help="use no better instructions on either side [default: the best of this CPU]")
    p.add_argument("--model", default=os.path.join(ROOT, "models", "en-de"), help="bundle to measure [default: models/en-de]")
    p.add_argument("--no-model", dest="model", action="store_const", const=None, help="measure no bundle")
    p.add_argument("--results", default=os.path.join(ROOT, "target", "compare_ct2.jsonl"))
    p.add_argument("--append", action="store_true", help="add to --results instead of replacing the file")
    args = p.parse_args()
    if args.quick:
        args.rounds, args.seconds = min(args.rounds, 1), min(args.seconds, 0.3)
    args.shapes = SHAPES[:1] if args.quick else SHAPES
    args.own_shape = shape_of(args.model) if args.model else None
    if args.own_shape and args.own_shape not in args.shapes:
        args.shapes = [*args.shapes, args.own_shape]
    return args


def shape_of(bundle):
    """The shape of a bundle's model."""
    try:
        with open(os.path.join(bundle, "config.json")) as file:
            shape = json.load(file)["shape"]
        return {"dim": shape["d_model"], "ffn": shape["ffn"], "heads": shape["heads"], "vocab": shape["vocab"],
                "layers": (shape["encoder_layers"], shape["decoder_layers"])}
    except (OSError, ValueError, KeyError) as error:
        sys.exit("%s: its config.json cannot be read (%s: %s); --model takes the folder of a bundle" % (bundle, type(error).__name__, error))


def peer_name(shape):
    """What the tables call a peer: its layers, and what differs from the other shapes."""
    usual = dict(WIDTH, vocab=VOCAB)
    other = ["%s=%d" % (key, shape[key]) for key in usual if shape[key] != usual[key]]
    return " ".join(["CT2 %d+%d" % shape["layers"], *other])


def environment(folder, more=()):
    """The interpreter of a virtual environment that has the peer and the packages `more` (NAME or NAME==VERSION) in it."""
    python = os.path.join(folder, "bin", "python")
    packages = ["ctranslate2==" + CT2, "numpy", *more]
    wanted = ("import ctranslate2; from importlib.metadata import version\n"
              "for name, _, wanted in (package.partition('==') for package in %r): assert version(name) == wanted or not wanted" % packages)
    if os.path.exists(python) and subprocess.run([python, "-c", wanted], stderr=subprocess.DEVNULL).returncode == 0:
        return python
    note("making %s with ctranslate2 %s" % (folder, CT2))
    venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def note(text):
    print(text, file=sys.stderr, flush=True)


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def splits(count):
    """Threads and workers that use every core: each power of two, and one worker with all of them."""
    threads = {1 << i for i in range(count.bit_length()) if 1 << i <= count} | {count}
    return [(t, count // t) for t in sorted(threads)]


def run(command, environment=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        sys.exit("%s\nfailed:\n%s" % (shlex.join(command), done.stderr))
    return done.stdout


# A cell is one number of one round: {"round", "who", "setting", "length", "what", "value"}, where `who` is
# a row of the table and `what` is "p50_ms" or "sentences/s at" a batch size.


def peer(args, python, shape, split, length):
    threads, workers = split
    layers = shape["layers"]
    kept = os.path.join(os.path.dirname(args.results), "ct2-model-%d-%d-%d-%d" % (*layers, shape["dim"], shape["vocab"]))
    command = [
        python, os.path.join(HERE, "ct2_bench.py"),
        "--layers-enc", str(layers[0]), "--layers-dec", str(layers[1]), "--keep", kept,
        "--compute-type", "int8", "--threads", str(threads), "--workers", str(workers),
        "--src-len", str(length + 1), "--tgt-lens", str(length),
        "--beam", ",".join(map(str, BEAMS)), "--batch", ",".join(map(str, BATCHES)),
        "--seconds", str(args.seconds), "--bulk-seconds", str(args.seconds), "--repeats", "1000000",
    ]
    for key in ("dim", "ffn", "heads", "vocab"):
        command += ["--" + key, str(shape[key])]
    limits = INSTRUCTIONS.get(args.instructions, {})
    rows = [json.loads(line) for line in run(command, dict(os.environ, **limits)).splitlines()]
    for row in (row for row in rows if row["kind"] == "cell"):
        decoding = "greedy" if row["beam"] == 1 else "beam %d" % row["beam"]
        who = "%s %s" % (peer_name(shape), decoding)
        setting = "%d x %d" % split
        if row["batch"] == BATCHES[0]:
            yield who, setting, length, "p50_ms", row["p50_ms"]
        yield who, setting, length, "sentences/s at %d" % row["batch"], row["sent_per_s"]


def ours(args, batch, length):
    shape = "enc=%d,dec=%d,d={dim},ffn={ffn},heads={heads},vocab={vocab}".format(**WIDTH, vocab=VOCAB) % OURS
    name = "tutti %d+%d" % OURS
    models = [(name, ["--shape", shape]), (name + " imputer", ["--shape", shape + ",imputer=1"])]
    if args.model:
        models.append(("tutti " + bundle_name(args.model), ["--model", args.model]))
    for name, model in models:
        report = json.loads(run([
            args.tutti, "bench", "--json", *model, "--source-tokens", str(length),
            "--steps", ",".join(map(str, STEPS)), "--batch", str(batch), "--seconds", str(args.seconds),
            *(["--instructions", args.instructions] if args.instructions else []),
        ]))
        for row in report["measurements"]:
            who = "%s, %d step%s" % (name, row["steps"], "s" * (row["steps"] > 1))
            yield who, "as it comes", length, "p50_ms", row["latency_p50_ms"]
            yield who, "as it comes", length, "sentences/s at %d" % batch, row["sentences_per_second"]


def bundle_name(bundle):
    return os.path.basename(os.path.normpath(bundle))


def measure(args, python, number, out):
    """One round: runs of the peer, and after each one of ours."""
    turn = 0
    for length in LENGTHS:
        for shape in args.shapes:
            for split in splits(cores()):
                batch = BATCHES[turn % len(BATCHES)]
                turn += 1
                note("round %d: %s %s, then tutti, %d tokens, batch %d" % (number, peer_name(shape), split, length, batch))
                write(out, number, peer(args, python, shape, split, length))
                write(out, number, ours(args, batch, length))
        # Fewer settings of the peer than batch sizes: the rest still has to be measured.
        done = len(args.shapes) * len(splits(cores()))
        for batch in BATCHES[done:]:
            write(out, number, ours(args, batch, length))
            turn += 1


def write(out, number, cells):
    for who, setting, length, what, value in cells:
        cell = {"round": number, "who": who, "setting": setting, "length": length, "what": what, "value": value}
        out.write(json.dumps(cell) + "\n")
    out.flush()


class Results:
    def __init__(self, cells):
        self.rounds = sorted({cell["round"] for cell in cells})
        self.order = list(dict.fromkeys(cell["who"] for cell in cells))
        self.values = {}
        for cell in cells:
            key = (cell["who"], cell["length"], cell["what"])
            by_round = self.values.setdefault(key, {}).setdefault(cell["setting"], {})
            by_round.setdefault(cell["round"], []).append(cell["value"])

    def best(self, who, length, what):
        """The setting with the best median, and its number in each round."""
        settings = self.values.get((who, length, what), {})
        good = min if what == "p50_ms" else max
        medians = {
            setting: {number: statistics.median(values) for number, values in by_round.items()}
            for setting, by_round in settings.items()
        }
        if not medians:
            return None, {}
        setting = good(medians, key=lambda name: statistics.median(medians[name].values()))
        return setting, medians[setting]

    def ratio(self, who, than, length, what):
        """How many times better `who` is than `than`, in each round that has both."""
        own, other = self.best(who, length, what)[1], self.best(than, length, what)[1]
        better = (lambda a, b: b / a) if what == "p50_ms" else (lambda a, b: a / b)
        return [better(own[number], other[number]) for number in own if number in other]


def spread(values, digits):
    values = sorted(values)
    if not values:
        return "–"
    middle = "%.*f" % (digits, statistics.median(values))
    return middle if len(values) == 1 else "%s (%.*f–%.*f)" % (middle, digits, values[0], digits, values[-1])


def table(results, what, title, digits, own):
    """A table of one number. The rows whose names begin with one of the first part of `own` are compared with the row
    of its second part, all others with the peer's greedy search at the usual shape."""
    head = ["", *("%d → %d | × greedy" % (length, length) for length in LENGTHS)]
    lines = ["**%s**" % title, "", "| %s | peer's threads × workers |" % " | ".join(head)]
    lines.append("|---" * (2 * len(LENGTHS) + 2) + "|")
    for who in results.order:
        than = own[1] if who.startswith(own[0]) else "CT2 %d+%d greedy" % OURS
        row, settings = [who], []
        for length in LENGTHS:
            setting, values = results.best(who, length, what)
            row.append(spread(values.values(), digits))
            row.append(spread(results.ratio(who, than, length, what), 2))
            settings.append((setting or "–").replace(" x ", " × "))
        row.append("" if who.startswith("tutti") else ", ".join(dict.fromkeys(settings)))
        lines.append("| %s |" % " | ".join(row))
    return lines + [""]


def targets(results, bundle, own):
    """What the project promises, and what this run says to it. `own` is that of `table`."""
    greedy = [who for shape in SHAPES if (who := peer_name(shape) + " greedy") in results.order]
    rows = []

    def claim(text, who, against, length, what, least):
        pairs = [(statistics.median(found), other, found)
                 for other in against if (found := results.ratio(who, other, length, what))]
        if pairs:
            # Against whichever peer does best.
            middle, other, found = min(pairs)
            rows.append("| %s | %.1f | %s × %s | %s |"
                        % (text, least, spread(found, 2), other, "yes" if middle >= least else "**no**"))

    one, four = ("tutti %d+%d, %s" % (*OURS, steps) for steps in ("1 step", "4 steps"))
    same, beam = ["CT2 %d+%d greedy" % OURS], ["CT2 %d+%d beam 4" % OURS]
    for length in LENGTHS:
        claim("one step, p50 at batch 1, %d tokens, same shape" % length, one, same, length, "p50_ms", 5)
        claim("the same, the peer's best shape", one, greedy, length, "p50_ms", 5)
    rate = "sentences/s at %d" % BATCHES[-1]
    claim("one step, sentences/s at batch 64, 12 tokens, same shape", one, same, 12, rate, 1.5)
    claim("the same, the peer's best shape", one, greedy, 12, rate, 1.5)
    for length in LENGTHS:
        claim("four steps against beam 4, p50, %d tokens" % length, four, beam, length, "p50_ms", 1)
        claim("four steps against beam 4, sentences/s, %d tokens" % length, four, beam, length, rate, 1)
    if bundle:
        one, four = ("tutti %s, %s" % (bundle, steps) for steps in ("1 step", "4 steps"))
        for length in LENGTHS:
            claim("%s, one step, p50 at batch 1, %d tokens, same shape" % (bundle, length), one, [own[1]], length, "p50_ms", 8)
            claim("%s, one step, sentences/s at batch 64, %d tokens" % (bundle, length), one, [own[1]], length, rate, 2)
            claim("%s, four steps, sentences/s at batch 64, %d tokens" % (bundle, length), four, [own[1]], length, rate, 1)
    return ["| target | at least × | measured | met |", "|---|---|---|---|", *rows, ""]


def output(command, fallback="unknown"):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return fallback


def processor():
    try:
        with open("/proc/cpuinfo") as info:
            fields = dict(line.split(":", 1) for line in info.read().split("\n\n")[0].splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        # In a cloud the name may not tell the generation.
        return "%s (family %s, model %s)" % (named["model name"], named["cpu family"], named["model"])
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def program(path):
    """A program's version and checksum, because it need not be of this checkout."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return "%s (SHA-256 %s…)" % (output([path, "--version"]), digest[:12])


def head(args, results):
    load = ", ".join("%.1f" % value for value in os.getloadavg())
    return [
        "Machine: %s, %d of %d cores, %s. Load averages at the end: %s."
        % (processor(), cores(), os.cpu_count(), platform.platform(terse=True), load),
        "",
        "CTranslate2 %s (int8, best of threads × workers), %s, Python %s, %s; %d round%s, medians "
        "(least–greatest)."
        % (CT2, program(args.tutti),
           platform.python_version(), datetime.date.today().isoformat(),
           len(results.rounds), "s" * (len(results.rounds) != 1)),
        "",
        "    cargo build --release",
        "    " + shlex.join(["python3", "loadtest/compare_ct2.py", *sys.argv[1:]]),
        "",
    ]


def main():
    args = arguments()
    os.makedirs(os.path.dirname(os.path.abspath(args.results)), exist_ok=True)
    args.results = os.path.abspath(args.results)
    if not os.access(args.tutti, os.X_OK):
        sys.exit("%s is not there: cargo build --release, or --tutti PATH" % args.tutti)
    earlier = []
    if (args.append or not args.rounds) and os.path.exists(args.results):
        with open(args.results) as file:
            earlier = [json.loads(line) for line in file]
    if args.rounds:
        python = environment(args.venv)
        first = 1 + max((cell["round"] for cell in earlier), default=0)
        with open(args.results, "a" if args.append else "w") as out:
            for number in range(first, first + args.rounds):
                measure(args, python, number, out)
    with open(args.results) as file:
        results = Results([json.loads(line) for line in file])
    lines = head(args, results)
    bundle = bundle_name(args.model) if args.model else None
    peer = peer_name(args.own_shape or SHAPES[0])
    own = (("tutti %s," % bundle, peer + " "), peer + " greedy")
    lines += ["Ratios are those to the peer's greedy search at 3+3, for %s and the peer of its shape to that one's." % bundle, ""] if bundle else []
    lines += table(results, "p50_ms", "Latency of one sentence alone, p50, ms (ratio: how many times faster)", 2, own)
    for batch in BATCHES:
        lines += table(results, "sentences/s at %d" % batch, "Sentences per second, batch %d" % batch, 0, own)
    lines += targets(results, bundle, own)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
