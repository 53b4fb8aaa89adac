#!/usr/bin/env python3
"""Speed baseline for an autoregressive CTranslate2 Transformer of a chosen shape.

The weights are random: only the time is of interest, never the text.  The
output length is forced (the end token is blocked until --tgt-lens tokens have
come out), so runs of different models do the same amount of work.

    pip install ctranslate2 numpy          # tried with ctranslate2 4.8.5
    python ct2_bench.py --layers-enc 6 --layers-dec 2 --dim 256 --ffn 1024 \
        --heads 4 --vocab 8000 --src-len 14 --tgt-lens 1,14 --beam 1,4 \
        --compute-type float32,int8 --threads 1,2

Every combination of the comma lists is timed.  One JSON object per line on
stdout; a readable table on stderr.  Two target lengths (say 1 and 14) let the
script split the cost into a fixed part (encoder + first step) and a cost for
every further decoder step, which is the number a one-step model competes with.
"""

import argparse
import collections
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerSpec, common_spec

SPECIALS = ["<unk>", "<s>", "</s>", "<blank>"]


def ints(text):
    return [int(part) for part in text.split(",") if part]


def words(text):
    return [part for part in text.split(",") if part]


class Filler:
    """Puts random numbers of sensible size into the leaves of a spec."""

    def __init__(self, dim, ffn, seed):
        self.dim = dim
        self.ffn = ffn
        self.rng = np.random.default_rng(seed)

    def matrix(self, rows, cols):
        return self.rng.normal(0.0, cols**-0.5, (rows, cols)).astype(np.float32)

    def linear(self, spec, rows, cols, bias=True):
        spec.weight = self.matrix(rows, cols)
        if bias:
            spec.bias = np.zeros(rows, dtype=np.float32)

    def norm(self, spec):
        spec.gamma = np.ones(self.dim, dtype=np.float32)
        spec.beta = np.zeros(self.dim, dtype=np.float32)

    def self_attention(self, spec):
        # leaf 0 holds query, key and value stacked; leaf 1 the output matrix
        self.norm(spec.layer_norm)
        self.linear(spec.linear[0], 3 * self.dim, self.dim)
        self.linear(spec.linear[1], self.dim, self.dim)

    def cross_attention(self, spec):
        # leaf 0 query; leaf 1 key and value stacked; leaf 2 the output matrix
        self.norm(spec.layer_norm)
        self.linear(spec.linear[0], self.dim, self.dim)
        self.linear(spec.linear[1], 2 * self.dim, self.dim)
        self.linear(spec.linear[2], self.dim, self.dim)

    def feed_forward(self, spec):
        self.norm(spec.layer_norm)
        self.linear(spec.linear_0, self.ffn, self.dim)
        self.linear(spec.linear_1, self.dim, self.ffn)


def sinusoids(count, dim):
    half = dim // 2
    rate = np.exp(-np.log(10000.0) * np.arange(half) / max(half - 1, 1))
    angle = np.arange(count)[:, None] * rate[None, :]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def vocabulary(args):
    return SPECIALS + ["w%d" % i for i in range(args.vocab - len(SPECIALS))]


def build(args, folder):
    spec = TransformerSpec.from_config(
        (args.layers_enc, args.layers_dec),
        args.heads,
        pre_norm=not args.post_norm,
        activation=common_spec.Activation.RELU,
    )
    fill = Filler(args.dim, args.ffn, args.seed)
    table = fill.matrix(args.vocab, args.dim)  # one table, used three times
    places = sinusoids(args.max_positions, args.dim)

    for layer in spec.encoder.layer:
        fill.self_attention(layer.self_attention)
        fill.feed_forward(layer.ffn)
    for layer in spec.decoder.layer:
        fill.self_attention(layer.self_attention)
        fill.cross_attention(layer.attention)
        fill.feed_forward(layer.ffn)
    for stack in (spec.encoder, spec.decoder):
        stack.position_encodings.encodings = places
        if not args.post_norm:
            fill.norm(stack.layer_norm)
    spec.encoder.embeddings[0].weight = table
    spec.decoder.embeddings.weight = table
    spec.decoder.projection.weight = table
    spec.decoder.projection.bias = np.zeros(args.vocab, dtype=np.float32)

    tokens = vocabulary(args)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.add_source_eos = True
    spec.validate()
    spec.optimize(quantization=args.store or None)
    spec.save(folder)


def sentences(tokens, count, length, seed):
    rng = np.random.default_rng(seed)
    body = max(length - 1, 1)  # the end token is added by the model itself
    picks = rng.integers(len(SPECIALS), len(tokens), (count, body))
    return [[tokens[i] for i in row] for row in picks]


def decode(translator, batch, beam, tgt_len, **more):
    return translator.translate_batch(
        batch,
        beam_size=beam,
        batch_type="examples",
        min_decoding_length=tgt_len,
        max_decoding_length=tgt_len,
        max_input_length=0,
        return_scores=False,
        **more,
    )


def quantile(values, q):
    ordered = sorted(values)
    spot = q * (len(ordered) - 1)
    low = int(spot)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (spot - low)


def time_single(translator, pool, beam, tgt_len, args):
    for item in pool[: args.warmup]:
        decode(translator, [item], beam, tgt_len)
    times, lengths = [], set()
    stop_at = time.perf_counter() + args.seconds
    for turn in range(args.repeats):
        item = pool[turn % len(pool)]
        begin = time.perf_counter()
        result = decode(translator, [item], beam, tgt_len)
        times.append(time.perf_counter() - begin)
        lengths.add(len(result[0].hypotheses[0]))
        if time.perf_counter() > stop_at and turn >= 9:
            break
    return times, lengths


def time_bulk(translator, pool, beam, tgt_len, batch, args):
    """Sentences and tokens for each second of a full house: every worker has a batch at work and one
    waiting, until the time is over.  The clock starts when the first batch is through."""
    batches = [[pool[(start + i) % len(pool)] for i in range(batch)] for start in range(0, len(pool), batch)]
    running = collections.deque()

    def submit():
        submit.turn += 1
        chunk = batches[submit.turn % len(batches)]
        running.append(decode(translator, chunk, beam, tgt_len, max_batch_size=batch, asynchronous=True))

    submit.turn = 0
    for _ in range(2 * args.workers):
        submit()
    begin, sentences_done, tokens = None, 0, 0
    while True:
        done = [len(one.result().hypotheses[0]) for one in running.popleft()]
        if begin is None:
            begin = time.perf_counter()
        else:
            sentences_done += len(done)
            tokens += sum(done)
        took = time.perf_counter() - begin
        if took >= args.bulk_seconds and sentences_done >= 2 * args.workers * batch:
            break
        submit()
    for rest in running:
        for one in rest:
            one.result()
    return sentences_done / took, tokens / took


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--layers-enc", type=int, default=6)
    p.add_argument("--layers-dec", type=int, default=6)
    p.add_argument("--dim", type=int, default=512)
    p.add_argument("--ffn", type=int, default=2048)
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--vocab", type=int, default=8000)
    p.add_argument("--max-positions", type=int, default=512)
    p.add_argument("--post-norm", action="store_true")
    p.add_argument("--src-len", type=ints, default=[14], help="tokens, end token included")
    p.add_argument("--tgt-lens", type=ints, default=[1, 14])
    p.add_argument("--beam", type=ints, default=[1])
    p.add_argument("--compute-type", type=words, default=["float32", "int8"])
    p.add_argument("--threads", type=ints, default=[1], help="intra_threads")
    p.add_argument("--workers", type=int, default=1, help="inter_threads")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--batch", type=ints, default=[32])
    p.add_argument("--bulk", type=int, default=128, help="different sentences in the throughput run; 0 skips it")
    p.add_argument("--bulk-seconds", type=float, default=2.0, help="least time of a throughput cell")
    p.add_argument("--repeats", type=int, default=200)
    p.add_argument("--seconds", type=float, default=20.0, help="cap for one latency cell")
    p.add_argument("--warmup", type=int, default=5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--store", default="", help="weight type on disk, e.g. int8 (default float32)")
    p.add_argument("--keep", default="", help="keep the model in this folder; one that is there is used")
    args = p.parse_args()
    if args.dim % args.heads or args.dim % 2:
        p.error("--dim must be even and a multiple of --heads")
    if args.vocab <= len(SPECIALS):
        p.error("--vocab is too small")

    folder = args.keep or tempfile.mkdtemp(prefix="ct2bench-")
    os.makedirs(folder, exist_ok=True)
    try:
        if not os.path.exists(os.path.join(folder, "model.bin")):
            build(args, folder)
        tokens = vocabulary(args)
        size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
        head = {
            "kind": "setup",
            "ctranslate2": ctranslate2.__version__,
            "machine": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "supported": sorted(ctranslate2.get_supported_compute_types(args.device)),
            "model": {k: getattr(args, k) for k in
                      ("layers_enc", "layers_dec", "dim", "ffn", "heads", "vocab", "post_norm")},
            "bytes_on_disk": size,
        }
        print(json.dumps(head), flush=True)
        line = "%-9s %3s %4s %4s %4s | %8s %8s | %5s %9s %9s"
        print(line % ("type", "thr", "src", "tgt", "beam", "p50 ms", "p90 ms", "batch", "sent/s", "tok/s"),
              file=sys.stderr)
        for kind in args.compute_type:
            for threads in args.threads:
                translator = ctranslate2.Translator(
                    folder,
                    device=args.device,
                    compute_type=kind,
                    intra_threads=threads,
                    inter_threads=args.workers,
                )
                for src_len in args.src_len:
                    pool = sentences(tokens, max(args.bulk, 64), src_len, args.seed + 1)
                    for beam in args.beam:
                        medians = {}
                        for tgt_len in args.tgt_lens:
                            times, lengths = time_single(translator, pool, beam, tgt_len, args)
                            medians[tgt_len] = statistics.median(times)
                            row = {
                                "kind": "cell", "compute_type": kind,
                                "used_type": translator.compute_type,
                                "threads": threads, "workers": args.workers,
                                "src_len": src_len, "tgt_len": tgt_len, "beam": beam,
                                "runs": len(times), "out_lengths": sorted(lengths),
                                "p50_ms": 1e3 * quantile(times, 0.5),
                                "p90_ms": 1e3 * quantile(times, 0.9),
                                "p99_ms": 1e3 * quantile(times, 0.99),
                            }
                            for batch in args.batch if args.bulk else [0]:
                                if batch:
                                    rates = time_bulk(translator, pool[: args.bulk], beam, tgt_len, batch, args)
                                    row.update(batch=batch, sent_per_s=rates[0], tok_per_s=rates[1])
                                print(json.dumps(row), flush=True)
                                print(line % (kind, threads, src_len, tgt_len, beam,
                                              "%.2f" % row["p50_ms"], "%.2f" % row["p90_ms"], batch,
                                              "%.1f" % row.get("sent_per_s", float("nan")),
                                              "%.0f" % row.get("tok_per_s", float("nan"))),
                                      file=sys.stderr)
                        if len(medians) > 1:
                            short, long = min(medians), max(medians)
                            step = (medians[long] - medians[short]) / (long - short)
                            print(json.dumps({
                                "kind": "split", "compute_type": kind, "threads": threads,
                                "src_len": src_len, "beam": beam,
                                "fixed_ms": 1e3 * (medians[short] - (short - 1) * step),
                                "per_extra_step_ms": 1e3 * step,
                            }), flush=True)
                del translator
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
