#!/usr/bin/env python3
"""Times one engine of browsers with one random model; browser_engines.py calls it.

One JSON object on stdout: the version, the target tokens of each sentence, the p50 of a sentence alone in
milliseconds and sentences a second.
"""

import argparse
import glob
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import statistics
import time

import marian_format


class Fxtranslate:
    def __init__(self, args):
        import fxtranslate

        with open(os.path.join(args.folder, "model.bin"), "rb") as model, \
                open(os.path.join(args.folder, "vocab.spm"), "rb") as vocabulary:
            parts = [model.read(), *[vocabulary.read()] * 2]
        if args.shortlist:
            with open(os.path.join(args.folder, "lex.bin"), "rb") as lexicon:
                parts.append(lexicon.read())
        self.translator = fxtranslate.Translator(*parts)
        self.backend = self.translator.backend()

    def one(self, text):
        return self.translator.translate(text)

    def many(self, texts):
        return [self.translator.translate(text) for text in texts]


class Slimt:
    def __init__(self, args):
        # The package's own `__init__` downloads a catalogue of models; only its extension is needed.
        folder = importlib.util.find_spec("slimt").submodule_search_locations[0]
        path = glob.glob(os.path.join(folder, "_slimt.*"))[0]
        spec = importlib.util.spec_from_file_location("_slimt", path)
        slimt = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(slimt)
        config = slimt.Config()
        config.encoder_layers, config.decoder_layers = args.enc, args.dec
        config.feed_forward_depth, config.num_heads, config.split_mode = 2, args.heads, "sentence"
        # This version ends without a shortlist, so the whole vocabulary is a shortlist too.
        names = ["model.bin", "vocab.spm", "lex.bin" if args.shortlist else "whole.bin"]
        self.model = slimt.Model(config, slimt.Package(*[os.path.join(args.folder, name) for name in names]))
        self.service = slimt.Service(workers=args.threads, cache_size=0)
        self.backend = "gemmology"

    def one(self, text):
        return self.service.translate(self.model, [text])[0].target.text

    def many(self, texts):
        return [response.target.text for response in self.service.translate(self.model, texts)]


def load(args):
    return {"slimt": Slimt, "fxtranslate": Fxtranslate}[args.engine](args)


def tokens(texts):
    """Every piece is a word."""
    return [len(text.split()) for text in texts]


def alone(engine, texts, seconds):
    times = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        begin = time.perf_counter()
        engine.one(texts[len(times) % len(texts)])
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def rate(engine, texts, seconds, size):
    """Sentences a second, `size` handed over at a time."""
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        at = done % len(texts)
        done += len(engine.many((texts + texts)[at : at + size]))
    return done / (time.perf_counter() - begin)


def process(args, texts, ready, results):
    engine = load(args)
    engine.many(texts[:5])
    ready.wait()
    results.put(rate(engine, texts, args.seconds, args.size))


def processes(args, texts):
    """The rate of an engine that has no threads: as many processes, which begin together."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(args.threads, timeout=300), context.Queue()
    arguments = (args, texts, ready, results)
    running = [context.Process(target=process, args=arguments, daemon=True) for _ in range(args.threads)]
    for one in running:
        one.start()
    rates = [results.get(timeout=300) for _ in running]
    for one in running:
        one.join()
    return sum(rates)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--engine", required=True, choices=["slimt", "fxtranslate"])
    p.add_argument("--folder", required=True)
    for name in ["enc", "dec", "d", "ffn", "heads", "vocab", "length", "threads", "size"]:
        p.add_argument("--" + name, type=int, required=True)
    p.add_argument("--seconds", type=float, required=True)
    p.add_argument("--shortlist", action="store_true")
    args = p.parse_args()
    shape = {key: getattr(args, key) for key in ["enc", "dec", "d", "ffn", "heads", "vocab"]}
    # slimt gives each step of the decoder the position code of place 0.
    marian_format.write(args.folder, shape, args.length, counted=args.engine == "fxtranslate")
    texts = marian_format.sentences(args.vocab, args.length, 512)
    engine = load(args)
    report = {"version": importlib.metadata.version(args.engine), "backend": engine.backend}
    written = tokens(engine.many(texts[:16])) + tokens(map(engine.one, texts[:4]))
    report["tokens"] = sorted(set(written))
    if args.shortlist:
        groups = [*texts[:16], " ".join(texts[:64])]
        *each, batch = marian_format.candidates(os.path.join(args.folder, "lex.bin"), groups, args.vocab)
        report["candidates"], report["candidates of 64"] = statistics.median(each), batch
    if args.threads == 1:
        report["p50_ms"] = alone(engine, texts, args.seconds)
    if args.engine == "fxtranslate" and args.threads > 1:
        report["sentences/s"] = processes(args, texts)
    else:
        report["sentences/s"] = rate(engine, texts, args.seconds, args.size)
    print(json.dumps(report), flush=True)
    # slimt's threads need not end in order.
    os._exit(0)


if __name__ == "__main__":
    main()
