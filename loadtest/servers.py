#!/usr/bin/env python3
"""tutti beside other servers: the same sentences, open loop, at the same times. A Markdown table and a chart of p50, p99
and goodput over the offered load.

    cargo build --release
    python3 loadtest/servers.py --teacher runs/en-de/ar/bundle --model models/en-de --source test.en --output target/servers

Five minutes with the defaults, on a machine that does nothing else. The first run also makes a virtual environment with
the peers (PyPI, 660 MB, no PyTorch). The servers:

- tutti with its defaults and the model of --model.
- FastAPI: CTranslate2 behind FastAPI and uvicorn with dynamic batching, `servers_fastapi.py`.
- LibreTranslate: its own server (waitress with its default of four threads) and Argos Translate.
  `servers_libretranslate.py` says what had to be replaced.

Both peers serve --teacher, an autoregressive model that `export_ct2.py` converts, in eight bits with greedy search
(--beam; LibreTranslate's own default is 4). For both, the split into threads and workers of CTranslate2 with the most
answers per second from 32 clients is found first. All servers get the same bodies, one sentence each, no two alike within
--sentences requests. `deadline_ms` is part of the body: tutti refuses with 429 what it cannot do in time, FastAPI with 503,
LibreTranslate ignores it.

The server has one core and the client another (--no-pin: every process has all). Arrivals are a Poisson process, the same
for all servers. A latency counts from the time when the request was due (`servers_client.py`). A client gives up at twice
the deadline. A request that is refused, fails or is given up counts as infinitely slow in p50 and p99, "∞" in the table.
Goodput is the number of answers within the deadline per second. A server's ladder of rates ends when less than half of
what is offered is answered in time. Every server is restarted in each round, the order changes from round to round.
Numbers are medians over the rounds, with the least and the greatest.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import math
import os
import platform
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

from compare_ct2 import CT2, ROOT, cores, environment, note, processor, program, splits
from servers_client import GIVEN_UP, OK, closed_loop, post, run_load
from servers_report import COLOURS, FASTAPI, TUTTI, Rows, chart, ms, table

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ["tokenizers", "fastapi", "uvicorn", "uvloop", "httptools", "libretranslate==1.9.6"]
CLIENTS = 32  # of the closed loop


def arguments():
    numbers = lambda text: [float(part) for part in text.split(",")]
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--teacher", required=True, help="bundle that `train ar` wrote; the peers serve it")
    p.add_argument("--model", default=os.path.join(ROOT, "models", "en-de"), help="bundle that tutti serves [default: models/en-de]")
    p.add_argument("--source", required=True, help="sentences, one a line")
    p.add_argument("--sentences", type=int, default=1000, help="from the head of the file [default: 1000]")
    p.add_argument("--rates", type=numbers, default=[25, 50, 100, 200, 400, 800],
                   help="requests per second [default: 25,50,100,200,400,800]")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=4.0, help="for each rate of each round [default: 4]")
    p.add_argument("--deadline", type=float, default=1.0, help="seconds [default: 1]")
    p.add_argument("--servers", type=lambda text: text.split(","), default=list(COLOURS), help="some of %s" % ",".join(COLOURS))
    p.add_argument("--beam", type=int, default=1, help="of both peers [default: 1]")
    p.add_argument("--batch", type=int, default=64, help="texts of a batch of the FastAPI server, at most [default: 64]")
    p.add_argument("--threads", type=int, default=4, help="threads of LibreTranslate's HTTP server [default: 4, its own default]")
    p.add_argument("--no-pin", action="store_true", help="let all processes use all cores")
    p.add_argument("--tutti", default=os.path.join(ROOT, "target", "release", "tutti"))
    p.add_argument("--venv", default=os.path.join(ROOT, "target", "servers-venv"))
    p.add_argument("--output", default=os.path.join(ROOT, "target", "servers"),
                   help="folder that gets servers.md, servers.svg and servers.json")
    args = p.parse_args()
    if unknown := set(args.servers) - set(COLOURS):
        p.error("--servers: %s; there are %s" % (", ".join(unknown), ", ".join(COLOURS)))
    args.output, args.model, args.tutti = map(os.path.abspath, (args.output, args.model, args.tutti))
    return args


# The servers.


class Setup:
    """What every server is started with."""

    def __init__(self, args):
        self.args, self.splits = args, {}
        self.patient = []  # requests whose deadline does not matter
        self.folder = os.path.join(args.output, "argos", "packages", "translate-en_de")
        self.teacher = os.path.join(self.folder, "model")
        available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.pin = not args.no_pin and len(available) > 1 and shutil.which("taskset") is not None
        self.cores = 1 if self.pin else cores()
        self.prefix = ["taskset", "-c", str(available[0])] if self.pin else []
        self.client = {available[-1]} if self.pin else None

    def convert(self):
        """The teacher as a package of Argos Translate, whose folder `model` the FastAPI server reads, too."""
        from export_ct2 import convert, resolve

        convert(resolve(self.args.teacher), self.teacher)
        with open(os.path.join(self.teacher, "bundle.json"), encoding="utf-8") as file:
            bundle = json.load(file)
        about = {"package_version": "1.0", "argos_version": "1.9", "from_code": bundle["source"], "from_name": bundle["source"],
                 "to_code": bundle["target"], "to_name": bundle["target"]}
        with open(os.path.join(self.folder, "metadata.json"), "w", encoding="utf-8") as file:
            json.dump(about, file)
        return bundle["source"], bundle["target"]

    def candidates(self):
        """Threads and workers of CTranslate2 to try. A second worker may be of use even on one core."""
        return splits(self.cores) if self.cores > 1 else [(1, 1), (1, 2)]

    def command(self, name, port, split):
        args, (threads, workers) = self.args, map(str, split)
        python = [sys.executable]
        if name == TUTTI:
            return [args.tutti, "serve", "--listen", "127.0.0.1:%d" % port, "--model", args.model], {}
        if name == FASTAPI:
            return [*python, os.path.join(HERE, "servers_fastapi.py"), "--model", self.teacher, "--port", str(port), "--threads", threads,
                    "--workers", workers, "--batch", str(args.batch), "--beam", str(args.beam)], {}
        argos = os.path.dirname(os.path.dirname(self.folder))
        return [*python, os.path.join(HERE, "servers_libretranslate.py"), "--host", "127.0.0.1", "--port", str(port), "--threads",
                str(args.threads)], {
            "XDG_DATA_HOME": argos, "XDG_CONFIG_HOME": argos, "XDG_CACHE_HOME": argos, "ARGOS_PACKAGES_DIR": os.path.dirname(self.folder),
            "ARGOS_COMPUTE_TYPE": "int8", "ARGOS_BEAM_SIZE": str(args.beam), "ARGOS_INTRA_THREADS": threads, "ARGOS_INTER_THREADS": workers}

    @contextlib.contextmanager
    def server(self, name, split=None):
        """Its port, once it is ready; it ends with the block."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command, more = self.command(name, port, split or self.splits.get(name, (1, 1)))
        path = os.path.join(self.args.output, "%s.log" % name.split()[0].lower())
        with open(path, "w") as log:
            process = subprocess.Popen(self.prefix + command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.args.output,
                                       env={**os.environ, **more})
        try:
            ready = "/readyz" if name == TUTTI else "/health"
            until = time.monotonic() + 300
            while not answers(port, ready):
                if time.monotonic() > until or process.poll() is not None:
                    sys.exit("%s did not become ready; see %s" % (name, path))
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(port, path):
    try:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        client.request("GET", path)
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


def translations(name, port, datas):
    """The answers to a few requests; each must be one."""
    found = closed_loop(port, datas, 4)[1]
    bad = [(outcome, body) for outcome, body in found.values() if outcome != OK or not json.loads(body)["translatedText"]]
    if bad:
        sys.exit("%s answered %s: %s" % (name, *bad[0]))
    return [json.loads(found[data][1])["translatedText"] for data in datas]


def choose(setup, name):
    """Finds the best split of a peer and answers what it makes of the first sentences."""
    rates = {}
    for split in setup.candidates():
        with setup.server(name, split) as port:
            lines = translations(name, port, setup.patient[:50])
            rates[split] = closed_loop(port, setup.patient, CLIENTS, 2)[0]
            note("%s, %d threads x %d workers: %.0f answers per second" % (name, *split, rates[split]))
    setup.splits[name] = max(rates, key=rates.get)
    return rates, lines


def settle(port, data, seconds=20):
    """Waits until the server has done what nobody waits for any more."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and closed_loop(port, [data], 1)[0] < 5:
        pass


def ladder(setup, name, number, datas):
    """The cells of one server in one round."""
    args = setup.args
    with setup.server(name) as port:
        translations(name, port, setup.patient[:50])
        closed_loop(port, setup.patient[50:], 8, 0.5)
        for rate in args.rates:
            cell = run_load(port, datas, rate, args.seconds, number, args.deadline, 2 * args.deadline)
            note("  %s at %g/s: p50 %s ms, p99 %s ms, goodput %.0f/s" % (name, rate, ms(cell["p50_ms"]), ms(cell["p99_ms"]), cell["goodput"]))
            yield {"round": number, "server": name, **cell}
            if cell["goodput"] < rate / 2:
                break
            if cell[GIVEN_UP]:
                settle(port, setup.patient[0])


# The report.


def head(setup, found, rounds):
    from importlib.metadata import version

    args, alone = setup.args, found["client"]
    chosen = "; ".join("%s %d × %d of %s" % (name, *setup.splits[name], ", ".join("%s (%.0f/s)" % pair for pair in rates.items()))
                       for name, rates in found["splits"].items())
    lines = [
        "Machine: %s, %d of %d cores, %s. Load averages at the start: %s. %s"
        % (processor(), cores(), os.cpu_count(), platform.platform(terse=True), found["load"],
           "One core for the server, one for the client." if setup.pin else "No process is pinned to a core."),
        "",
        "%d sentences of %s (%d left out), deadline %g s, %g s for each rate, %d round%s, medians (least–greatest). %s, %s."
        % (found["sentences"], os.path.basename(args.source), found["left_out"], args.deadline, args.seconds, rounds,
           "s" * (rounds != 1), program(args.tutti),
           datetime.date.today().isoformat()),
        "",
        "Peers: CTranslate2 %s, int8, beam %d, %s. Threads × workers: %s."
        % (CT2, args.beam, ", ".join("%s %s" % (name, version(name)) for name in ("fastapi", "uvicorn", "libretranslate", "argos-translate-lt", "waitress")),
           chosen or "–"),
        "",
        "The client alone, 1,000 requests a second to `/livez` of tutti: p50 %s ms, p99 %s ms. In the runs below it sent 99 %% of the "
        "requests at most %s ms late." % (ms(alone["p50_ms"]), ms(alone["p99_ms"]), ms(max(cell["late_p99_ms"] for cell in found["cells"]))),
        "",
    ]
    if found["equal"] is not None:
        lines += ["Of the first 50 translations of both peers %d are equal (LibreTranslate changes case and punctuation)." % found["equal"], ""]
    return [*lines, "    " + shlex.join(["python3", "loadtest/servers.py", *sys.argv[1:]]), ""]


def finite(value):
    """For JSON: null in place of infinity."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def report(setup, found, rounds):
    """Writes the files, after each round, and answers the Markdown."""
    rows, args = Rows(found["cells"]), setup.args
    text = "\n".join(head(setup, found, rounds) + table(rows, rounds))
    title = "Servers under open load, %s" % ("one core" if setup.cores == 1 else "%d cores" % setup.cores)
    for name, content in [("servers.md", text), ("servers.svg", chart(rows, title, args.deadline)),
                          ("servers.json", json.dumps(finite(found), ensure_ascii=False, indent=1))]:
        with open(os.path.join(args.output, name), "w", encoding="utf-8") as file:
            file.write(content)
    return text


def main():
    args = arguments()
    if not os.access(args.tutti, os.X_OK):
        sys.exit("%s is not there: cargo build --release, or --tutti PATH" % args.tutti)
    python = environment(args.venv, PACKAGES)
    if os.path.realpath(sys.prefix) != os.path.realpath(args.venv):
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])
    from export_ct2 import Peer

    load = ", ".join("%.1f" % value for value in os.getloadavg())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the servers, too
    os.makedirs(args.output, exist_ok=True)
    setup = Setup(args)
    source, target = setup.convert()
    with open(args.source, encoding="utf-8") as file:
        lines = list(dict.fromkeys(file.read().splitlines()[: args.sentences]))
    peer = Peer(setup.teacher, "int8")
    texts = [text for text, tokens in zip(lines, peer.encode(lines)) if text.strip() and len(tokens) + 2 <= peer.positions]
    del peer
    random.Random(1).shuffle(texts)

    def requests(deadline):
        same = {"source": source, "target": target, "format": "text", "deadline_ms": round(1e3 * deadline)}
        return [post("/translate", {"q": text, **same}) for text in texts]

    datas, setup.patient = requests(args.deadline), requests(30)
    if len(datas) < 100:
        sys.exit("%s: %d sentences are too few" % (args.source, len(datas)))
    # tutti translates equal texts that are under way only once, which the peers do not.
    if max(args.rates) * args.deadline > 0.9 * len(datas):
        sys.exit("%s: %d sentences are too few for %g a second; name a larger file" % (args.source, len(datas), max(args.rates)))
    if setup.client:
        os.sched_setaffinity(0, setup.client)

    found = {"sentences": len(texts), "left_out": len(lines) - len(texts), "splits": {}, "cells": [], "equal": None, "load": load}
    made = {}
    for name in args.servers:
        if name != TUTTI:
            rates, made[name] = choose(setup, name)
            found["splits"][name] = {"%d × %d" % split: rate for split, rate in rates.items()}
    if len(made) == 2:
        found["equal"] = sum(a == b for a, b in zip(*made.values()))
    with setup.server(TUTTI) as port:
        found["client"] = run_load(port, [b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"], 1000, 2, 0, args.deadline, args.deadline)
    for number in range(1, args.rounds + 1):
        shift = (number - 1) % len(args.servers)
        note("round %d" % number)
        for name in args.servers[shift:] + args.servers[:shift]:
            found["cells"] += ladder(setup, name, number, datas)
        text = report(setup, found, number)
    print(text, end="")


if __name__ == "__main__":
    main()
