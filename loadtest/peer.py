#!/usr/bin/env python3
"""A bundle of ours against its autoregressive teacher in CTranslate2, on the same real sentences: a Markdown
table, and a chart of BLEU over latency and over sentences per second.

    cargo build --release
    python3 loadtest/peer.py --teacher runs/en-de/ar/bundle --model models/en-de \\
        --source test.en --reference test.de --output target/peer

Makes a virtual environment with CTranslate2, tokenizers and sacrebleu (PyPI). Both sides get plain text and answer
plain text, so tokenizing counts on both, and both compute in eight bits:

- the peer runs inside this program, `export_ct2.py` converts it. Every split of the cores into threads and workers
  is measured, and the best one counts for each number. Throughput: every worker has a batch at work and one waiting.
- tutti is the release server with its defaults, asked over HTTP on loopback, which its numbers include. Throughput:
  as many connections as keep two batches under way, each sends a batch as an array.

Runs alternate: each setting of the peer is followed by a run of tutti. Numbers are medians over the rounds, with the
least and the greatest. Lines that do not fit the teacher's positions are left out on both sides and counted.
"""

import argparse
import concurrent.futures
import datetime
import http.client
import json
import math
import multiprocessing
import os
import platform
import shlex
import socket
import statistics
import subprocess
import sys
import time

from compare_ct2 import CT2, ROOT, cores, environment, note, processor, program, splits, spread

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ["tokenizers", "sacrebleu"]
# Rows that a peer is compared with.
GREEDY = "CTranslate2, greedy"


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--teacher", required=True, help="bundle that `train ar` wrote")
    p.add_argument("--model", default=os.path.join(ROOT, "models", "en-de"), help="bundle that tutti serves [default: models/en-de]")
    p.add_argument("--source", required=True, help="sentences, one a line")
    p.add_argument("--reference", required=True, help="their translations, line by line")
    p.add_argument("--sentences", type=int, default=500, help="from the head of the files [default: 500]")
    p.add_argument("--steps", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4])
    p.add_argument("--beams", type=lambda text: [int(part) for part in text.split(",")], default=[1, 4])
    p.add_argument("--batch", type=int, default=64, help="sentences of a batch, for the throughput [default: 64]")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=5.0, help="for each number of each round [default: 5]")
    p.add_argument("--tutti", default=os.path.join(ROOT, "target", "release", "tutti"))
    p.add_argument("--venv", default=os.path.join(ROOT, "target", "ct2-venv"))
    p.add_argument("--output", default=os.path.join(ROOT, "target", "peer"), help="folder that gets peer.md, peer.svg and peer.json")
    return p.parse_args()


def read_pairs(args, peer):
    """The sentences and references that fit the teacher, and how many do not."""
    def lines(path):
        with open(path, encoding="utf-8") as file:
            return file.read().split("\n")[: args.sentences]

    sources, references = lines(args.source), lines(args.reference)
    if len(sources) != len(references):
        sys.exit("%s has %d lines and %s has %d" % (args.source, len(sources), args.reference, len(references)))
    fits = [text.strip() != "" and len(tokens) + 2 <= peer.positions
            for text, tokens in zip(sources, peer.encode(sources))]
    kept = [(s, r) for s, r, fit in zip(sources, references, fits) if fit]
    if not kept:
        sys.exit("%s: no sentence fits the teacher's %d positions" % (args.source, peer.positions))
    return [s for s, _ in kept], [r for _, r in kept], len(sources) - len(kept)


def latencies(ask, texts, seconds):
    """Seconds of one text after the other; a tenth of the time does not count."""
    found, turn, begun = [], 0, time.perf_counter()
    while (now := time.perf_counter()) - begun < 1.1 * seconds or len(found) < 10:
        ask(texts[turn % len(texts)])
        turn += 1
        if now - begun > 0.1 * seconds:
            found.append(time.perf_counter() - now)
    return found


def rate(submit, batches, under_way, seconds):
    """Sentences per second with `under_way` batches at once; the clock starts when the first one is through."""
    running, turn, done, begun = [], 0, 0, None
    while True:
        while len(running) < under_way:
            batch = batches[turn % len(batches)]
            running.append((submit(batch), len(batch)))
            turn += 1
        wait, count = running.pop(0)
        wait()
        if begun is None:
            begun = time.perf_counter()
            continue
        done += count
        if time.perf_counter() - begun >= seconds:
            break
    took = time.perf_counter() - begun
    for wait, _ in running:
        wait()
    return done / took


def in_batches(texts, size):
    """Batches as an open queue gives them: in the order of the file."""
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def p50_ms(seconds):
    return 1e3 * statistics.median(seconds)


# The peer. A process of its own for each run, so that no thread of it is left while tutti is measured.


def measure_peer(folder, split, beams, texts, batch, seconds):
    from export_ct2 import Peer

    threads, workers = split
    peer = Peer(folder, "int8", threads, workers)

    def submit(batch, beam):
        futures = peer.submit(batch, beam)
        return lambda: [peer.text(future) for future in futures]

    cells = []
    for beam in beams:
        who = GREEDY if beam == 1 else "CTranslate2, beam %d" % beam
        found = latencies(lambda text: submit([text], beam)(), texts, seconds)
        cells.append((who, "p50_ms", p50_ms(found)))
        per_second = rate(lambda batch: submit(batch, beam), in_batches(texts, batch), 2 * workers, seconds)
        cells.append((who, "per_second", per_second))
    return cells


def translate_peer(folder, beams, texts):
    from export_ct2 import Peer

    peer = Peer(folder, "int8", cores())
    return {GREEDY if beam == 1 else "CTranslate2, beam %d" % beam: peer.translate(texts, beam) for beam in beams}


def alone(work, *values):
    """The result of `work(*values)` in a new process."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *values).result()


# tutti, as a server.


class Server:
    """The server on a free port of this machine, and its clients."""

    def __init__(self, program, model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = open(os.path.join(os.environ.get("TMPDIR", "/tmp"), "peer-tutti-%d.log" % os.getpid()), "w+")
        command = [program, "serve", "--listen", "127.0.0.1:%d" % self.port, "--model", model]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.wait_until_ready()

    def wait_until_ready(self):
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                client.request("GET", "/readyz")
                if client.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.log.seek(0)
        sys.exit("tutti did not become ready:\n" + self.log.read())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        os.unlink(self.log.name)

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)


def translate(client, pair, texts, steps):
    """Texts to translations, in one request."""
    body = json.dumps({"q": texts, "source": pair[0], "target": pair[1], "steps": steps}).encode()
    client.request("POST", "/translate", body, {"content-type": "application/json"})
    response = client.getresponse()
    answer = response.read()
    if response.status != 200:
        sys.exit("tutti answered %d: %s" % (response.status, answer.decode(errors="replace")))
    return json.loads(answer)["translatedText"]


def measure_tutti(args, pair, texts):
    cells = []
    with Server(args.tutti, args.model) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        single, clients = server.client(), [server.client() for _ in range(2)]
        for steps in args.steps:
            who = named(steps)
            found = latencies(lambda text: translate(single, pair, text, steps), texts, args.seconds)
            cells.append((who, "p50_ms", p50_ms(found)))
            turn = 0

            def submit(batch):
                nonlocal turn
                turn += 1
                return pool.submit(translate, clients[turn % 2], pair, batch, steps).result

            cells.append((who, "per_second", rate(submit, in_batches(texts, args.batch), 2, args.seconds)))
    return cells


def translate_tutti(args, pair, texts):
    with Server(args.tutti, args.model) as server:
        client = server.client()
        return {named(steps): [line for batch in in_batches(texts, args.batch)
                               for line in translate(client, pair, batch, steps)] for steps in args.steps}


def named(steps):
    return "tutti, %d step%s" % (steps, "s" * (steps > 1))


# Tables and the chart.


class Rows:
    """Cells `(round, who, setting, what, value)`, by row."""

    def __init__(self, cells, scores):
        self.scores = scores
        self.values = {}
        for number, who, setting, what, value in cells:
            by_round = self.values.setdefault((who, what), {}).setdefault(setting, {})
            by_round.setdefault(number, []).append(value)

    def best(self, who, what):
        """The setting with the best median, and its number of each round."""
        good = min if what == "p50_ms" else max
        settings = {
            # Ours has several runs a round: their median is its number.
            setting: {number: statistics.median(values) for number, values in by_round.items()}
            for setting, by_round in self.values[who, what].items()
        }
        setting = good(settings, key=lambda name: statistics.median(settings[name].values()))
        return setting, settings[setting]

    def middle(self, who, what):
        return statistics.median(self.best(who, what)[1].values())

    def ratio(self, who, what):
        """How many times better than greedy search, in each round."""
        own, other = self.best(who, what)[1], self.best(GREEDY, what)[1]
        return [other[n] / own[n] if what == "p50_ms" else own[n] / other[n] for n in own if n in other]


def table(rows):
    lines = ["| | BLEU | chrF | p50, ms | × as fast | sentences/s | × as many | peer's threads × workers |",
             "|---|---|---|---|---|---|---|---|"]
    for who, (bleu, chrf) in rows.scores.items():
        cells = [who, "%.2f" % bleu, "%.2f" % chrf]
        settings = []
        for what, digits in [("p50_ms", 2), ("per_second", 0)]:
            setting, values = rows.best(who, what)
            settings.append(setting)
            cells += [spread(values.values(), digits), spread(rows.ratio(who, what), 1)]
        cells.append("" if who.startswith("tutti") else ", ".join(dict.fromkeys(settings)))
        lines.append("| %s |" % " | ".join(cells))
    return lines


def ticks(low, high):
    """Round numbers between two bounds of a logarithmic axis."""
    return [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 3, 5) if low <= step * 10.0**power <= high]


def chart(rows, title):
    """An SVG with two panels that share the axis of BLEU."""
    width, height, left, top, inner, tall = 760, 370, 60, 56, 300, 250
    colours = {"tutti": "#0b6e4f", "CTranslate2": "#b3541e"}
    scores = [bleu for bleu, _ in rows.scores.values()]
    margin = max(0.5, 0.15 * (max(scores) - min(scores)))
    low, high = min(scores) - margin, max(scores) + margin

    def y(bleu):
        return top + tall * (high - bleu) / (high - low)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">'
           % (width, height),
           '<rect width="%d" height="%d" fill="#ffffff"/>' % (width, height),
           '<text x="%d" y="24" font-size="15" fill="#222222">%s</text>' % (left, escape(title))]

    def text(x, y, words, anchor="middle", colour="#444444"):
        out.append('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>' % (x, y, anchor, colour, escape(words)))

    panels = [("p50_ms", "ms for one sentence alone, p50 (log; less is better)"),
              ("per_second", "sentences per second, batches (log; more is better)")]
    for number, (what, label) in enumerate(panels):
        start = left + number * (inner + 60)
        values = [rows.middle(who, what) for who in rows.scores]
        least, most = min(values) / 1.3, max(values) * 1.3

        def x(value):
            return start + inner * math.log(value / least) / math.log(most / least)

        out.append('<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999999"/>' % (start, top, inner, tall))
        for value in ticks(least, most):
            out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#dddddd"/>' % (x(value), x(value), top, top + tall))
            text(x(value), top + tall + 16, "%g" % value)
        step = next(step for step in (0.5, 1, 2, 5, 10, 20) if (high - low) / step <= 6)
        bleu = math.ceil(low / step) * step
        while bleu <= high:
            out.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>' % (start, start + inner, y(bleu), y(bleu)))
            text(start - 6, y(bleu) + 4, "%g" % bleu, "end")
            bleu += step
        text(start + inner / 2, top + tall + 36, label)
        text(start, top - 8, "BLEU", "start")
        for side, colour in colours.items():
            points = [(x(rows.middle(who, what)), y(score), who) for who, (score, _) in rows.scores.items() if who.startswith(side)]
            path = " ".join("%.1f,%.1f" % (px, py) for px, py, _ in points)
            out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>' % (path, colour))
            for px, py, who in points:
                out.append('<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>' % (px, py, colour))
                # Where the lines leave room: they come from below to a beam, and from above to everything else.
                inside = min(max(px, start + 24), start + inner - 24)
                text(inside, py + (-9 if "beam" in who else 19), who.split(", ")[1], colour=colour)
    for i, (side, colour) in enumerate(colours.items()):
        out.append('<circle cx="%d" cy="20" r="4" fill="%s"/>' % (width - 190 + 64 * i, colour))
        text(width - 180 + 64 * i, 24, side, "start", colour)
    return "\n".join([*out, "</svg>", ""])


def escape(words):
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def head(args, count, left_out, tokens):
    load = ", ".join("%.1f" % value for value in os.getloadavg())
    return [
        "Machine: %s, %d of %d cores, %s. Load averages at the end: %s."
        % (processor(), cores(), os.cpu_count(), platform.platform(terse=True), load),
        "",
        "%d sentences of %s (%d left out; %.1f tokens on average), int8 on both sides, batches of %d, %d round%s, "
        "medians (least–greatest). CTranslate2 %s, best threads × workers; %s, %s."
        % (count, os.path.basename(args.source), left_out, tokens, args.batch, args.rounds, "s" * (args.rounds != 1), CT2,
           program(args.tutti),
           datetime.date.today().isoformat()),
        "",
        "    " + shlex.join(["python3", "loadtest/peer.py", *sys.argv[1:]]),
        "",
    ]


def main():
    args = arguments()
    if not os.access(args.tutti, os.X_OK):
        sys.exit("%s is not there: cargo build --release, or --tutti PATH" % args.tutti)
    python = environment(args.venv, PACKAGES)
    if os.path.realpath(sys.prefix) != os.path.realpath(args.venv):
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])
    from export_ct2 import Peer, convert, resolve
    from sacrebleu.metrics import BLEU, CHRF

    os.makedirs(args.output, exist_ok=True)
    folder = os.path.join(args.output, "ct2-teacher")
    convert(resolve(args.teacher), folder)
    with open(os.path.join(folder, "bundle.json"), encoding="utf-8") as file:
        bundle = json.load(file)
    pair = bundle["source"], bundle["target"]
    peer = Peer(folder, "int8")
    texts, references, left_out = read_pairs(args, peer)
    tokens = statistics.mean(map(len, peer.encode(texts)))
    del peer

    note("translating %d sentences for the scores" % len(texts))
    translated = {**alone(translate_peer, folder, args.beams, texts), **translate_tutti(args, pair, texts)}
    scores = {who: (BLEU().corpus_score(lines, [references]).score, CHRF().corpus_score(lines, [references]).score)
              for who, lines in translated.items()}
    cells = []
    for number in range(1, args.rounds + 1):
        for split in splits(cores()):
            note("round %d: CTranslate2 with %d threads x %d workers, then tutti" % (number, *split))
            found = alone(measure_peer, folder, split, args.beams, texts, args.batch, args.seconds)
            cells += [(number, who, "%d × %d" % split, what, value) for who, what, value in found]
            found = measure_tutti(args, pair, texts)
            cells += [(number, who, "", what, value) for who, what, value in found]
    rows = Rows(cells, scores)
    text = "\n".join(head(args, len(texts), left_out, tokens) + table(rows)) + "\n"
    title = "%s and an autoregressive model, int8, %d cores" % (os.path.basename(os.path.abspath(args.model)), cores())
    for name, content in [("peer.md", text), ("peer.svg", chart(rows, title)),
                          ("peer.json", json.dumps({"cells": cells, "scores": scores}, ensure_ascii=False, indent=1))]:
        with open(os.path.join(args.output, name), "w", encoding="utf-8") as file:
            file.write(content)
    print(text, end="")


if __name__ == "__main__":
    main()
