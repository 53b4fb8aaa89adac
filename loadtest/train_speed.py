#!/usr/bin/env python3
"""Training speed of `train bench` against an equal loop in PyTorch, alternately, in one run.

    cargo build --release --bin train
    python3 loadtest/train_speed.py            # makes a virtual environment with PyTorch for the CPU

Both train the same shape (3 + 3 layers, width 256, feed-forward 1024, 4 heads, vocabulary 8,000; pre-norm,
tied embedding) on random text of the same lengths: an AR update (every target token) and a CMLM update
(random masks; only masked rows reach the vocabulary product), label smoothing .1, AdamW, clipping. PyTorch
runs in f32 and under bf16 autocast; tutti with f32 and with bf16 products. Both use all cores that the
process may use (`--threads` changes it for both). Prints a Markdown table of medians over the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TORCH = "torch==2.15.0"
SHAPE = dict(layers=3, width=256, inner=1024, heads=4, vocabulary=8000, positions=256)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="target/release/train", help="the program to measure")
    parser.add_argument("--venv", default=os.path.join(tempfile.gettempdir(), "tutti-torch"), help="where PyTorch is, or is to be")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=5, help="measured updates of each kind in a round")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--sentence-tokens", type=int, default=14)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the PyTorch side, run inside the virtual environment -------------------------------------------


def worker(args):
    import random
    import time

    import torch
    from torch import nn

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    shape = SHAPE
    width = shape["width"]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(shape["vocabulary"], width, padding_idx=0)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
            self.source_positions = nn.Embedding(shape["positions"], width)
            self.target_positions = nn.Embedding(shape["positions"], width)
            self.transformer = nn.Transformer(
                width, shape["heads"], shape["layers"], shape["layers"], shape["inner"],
                dropout=0.1, activation="relu", norm_first=True, batch_first=True,
            )  # fmt: skip
            self.bias = nn.Parameter(torch.zeros(shape["vocabulary"]))
            self.length = nn.Linear(width, 128)

        def embed(self, ids, positions):
            return (self.embedding(ids) + positions.weight[: ids.shape[1]]) * width**0.5

        def forward(self, source, target, causal, places):
            pad = source == 0
            states = self.transformer.encoder(self.embed(source, self.source_positions), src_key_padding_mask=pad)
            real = (~pad).unsqueeze(-1)
            lengths = self.length((states * real).sum(1) / real.sum(1))
            mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1]).isinf() if causal else None
            decoded = self.transformer.decoder(
                self.embed(target, self.target_positions), states, tgt_mask=mask,
                tgt_key_padding_mask=target == 0, memory_key_padding_mask=pad,
            )  # fmt: skip
            return decoded[places] @ self.embedding.weight.T + self.bias, lengths

    def batches(count):
        draw = random.Random(1)
        size = args.sentence_tokens
        sentence = lambda: [1] + [draw.randrange(5, shape["vocabulary"]) for _ in range(max(1, size // 2 + draw.randrange(size + 1) - 2))] + [2]
        pairs = sorted(((sentence(), sentence()) for _ in range(20000)), key=lambda p: max(map(len, p)))
        made, start = [], 0
        while start < len(pairs):
            end = start
            while end < len(pairs) and (end - start + 1) * max(map(len, pairs[end])) <= args.batch_tokens:
                end += 1
            made.append(pairs[start:end])
            start = end
        draw.shuffle(made)
        padded = lambda rows: nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True)
        for pairs in made[:count]:
            yield padded([s for s, _ in pairs]), padded([t for _, t in pairs]), sum(len(t) for _, t in pairs)

    def lane(kind):
        model = Model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
        smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
        lengths_loss = nn.CrossEntropyLoss()

        def update(source, target, bf16):
            if kind == "ar":
                canvas, gold = target[:, :-1], target[:, 1:]
                places = gold != 0
                gold = gold[places]
            else:
                inner = target > 2
                share = torch.rand(target.shape[0], 1)
                places = inner & (torch.rand(target.shape) < share)
                places[:, 1] = True
                gold = target[places]
                canvas = target.masked_fill(places, 4)
            begin = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits, lengths = model(source, canvas, kind == "ar", places)
                classes = (target != 0).sum(1) - (source != 0).sum(1) + 64
                loss = smoothed(logits.float(), gold) + 0.1 * lengths_loss(lengths.float(), classes.clamp(0, 127))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return time.perf_counter() - begin

        return update

    lanes = {kind: lane(kind) for kind in ("ar", "cmlm")}
    rates = {}
    for i, (source, target, tokens) in enumerate(batches(args.updates + 1)):
        for kind, update in lanes.items():
            for name, bf16 in (("f32", False), ("bf16", True)):
                seconds = update(source, target, bf16)
                if i > 0:
                    rates.setdefault(f"{kind} {name}", []).append(tokens / seconds)
    print(json.dumps({"torch": torch.__version__, "rates": {k: statistics.median(v) for k, v in rates.items()}}))


# --- the comparison --------------------------------------------------------------------------------


def environment(folder):
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    found = subprocess.run([python, "-c", "import torch"], capture_output=True)
    if found.returncode != 0:
        print(f"installing {TORCH} into {folder}", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH, "numpy"], check=True)
    return python


def run_json(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1] if "--worker" in command else done.stdout)


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    args = parse_arguments()
    if args.worker:
        return worker(args)
    if not Path(args.train).exists():
        sys.exit(f"{args.train} is not there; build it: cargo build --release --bin train")
    python = environment(args.venv)
    threads = {"RAYON_NUM_THREADS": str(args.threads), "CANDLE_NUM_THREADS": "1", "OMP_NUM_THREADS": str(args.threads)}
    common = ["--batch-tokens", str(args.batch_tokens), "--sentence-tokens", str(args.sentence_tokens), "--updates", str(args.updates)]
    rates = {}
    version = "?"
    for _ in range(args.rounds):
        for products in ("f32", "bf16"):
            for row in run_json([args.train, "bench", "--json", "--products", products, *common], threads):
                rates.setdefault(("tutti", f"{row['stage']} {products}"), []).append(row["tokens_per_second"])
        answer = run_json([python, __file__, "--worker", "--threads", str(args.threads), *common], threads)
        version = answer["torch"]
        for name, rate in answer["rates"].items():
            rates.setdefault(("torch", name), []).append(rate)
    print(f"{cpu()}, {args.threads} threads; PyTorch {version}; batches of {args.batch_tokens} padded tokens, sentences of")
    print(f"{args.sentence_tokens} on average; target tokens/s, medians of {args.rounds} rounds of {args.updates} updates (range)\n")
    print("| update | tutti | PyTorch | ratio |\n|---|---|---|---|")
    for (program, name), own in rates.items():
        if program != "tutti":
            continue
        show = lambda values: f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"
        peer = rates.get(("torch", name))
        ratio = f"{statistics.median(own) / statistics.median(peer):.2f}" if peer else "–"
        print(f"| {name} | {show(own)} | {show(peer) if peer else '–'} | {ratio} |")


if __name__ == "__main__":
    main()
