#!/usr/bin/env python3
"""Trains config/train/en-de-gpu.toml in two calls of some four minutes on a borrowed GPU. Run it in the repository's root.

    gpu_train.py pack --train PROGRAM --to DIR      # here: the program and a sample of the text, DIR/train.tar.xz
    gpu_train.py call first --pack DIR --out OUT    # where the GPU is: the first stage, then its model as files in OUT
    gpu_train.py call second --pack DIR --out OUT   # the rest of the first stage if there is one, then the second
    gpu_train.py join OUT --to runs/en-de-gpu       # here, or on another GPU machine: puts the files together again
    gpu_train.py split runs/en-de-gpu --to DIR      # the whole state of an unfinished stage, in files of the same size
    gpu_train.py dry-run --train PROGRAM            # anywhere: the whole plan on a CPU with tiny updates

PROGRAM is `train`, built with the feature cuda (loadtest/gpu_pack.sh), or without it for a dry run. A stage that `call` did not
finish has status 75, as `train run --minutes` has: the same call continues it exactly, on the same machine.
"""

import argparse
import glob
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib

# This folder is a repository's.
sys.dont_write_bytecode = True
from gpu_check import with_libraries  # noqa: E402

CONFIG = "config/train/en-de-gpu.toml"
RUN = "runs/en-de-gpu"
# What `pack` made, unpacked. Git ignores it, so it stays between two calls on one machine.
UNPACKED = "target/gpu-train-unpacked"
STAGES = {
    "first": [],
    # Full masks bring one step up to several (models/en-de/TRAINING.md, second run).
    "second": [f"train.init={RUN}/first/bundle", "imputer.mask=full"],
}
MIB = 1 << 20
# A file that comes back may have 16 MiB.
PART = 15 * MIB
CONTINUE = 75
# Seconds of a call without updates: start, reading of the text, three validations, export. Estimated.
AROUND = 45
# Target tokens a second that four threads prepare, the most that `train` starts. Measured: config/train/notes/gpu.md.
FEED = 4 * 120_000


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = p.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack")
    dry = commands.add_parser("dry-run")
    for one in (pack, dry):
        one.add_argument("--train", required=True, help="the program `train`")
        one.add_argument("--data", default="../shared/data", help="folder of the corpora")
    pack.add_argument("--to", required=True)
    pack.add_argument("--mib", type=float, default=28.0, help="largest size of the packed file")
    pack.add_argument("--lines", type=int, help="only this many lines of each file, for a dry run")
    call = commands.add_parser("call")
    call.add_argument("stage", choices=list(STAGES))
    call.add_argument("--pack", required=True, help="folder of train.tar.xz")
    call.add_argument("--out", required=True, help="folder for what comes back")
    call.add_argument("--minutes", type=float, default=4.0, help="of this whole call")
    call.add_argument("--updates", type=int, help="of a stage, instead of what the measured speed allows")
    call.add_argument("--set", action="append", default=[], help="passed to `train run`")
    for name in ("split", "join"):
        one = commands.add_parser(name)
        one.add_argument("folder")
        one.add_argument("--to", required=True)
    return p.parse_args()


def corpora():
    """Pairs of files of the training text by corpus, and the files of the validation text."""
    with open(CONFIG, "rb") as file:
        data = tomllib.load(file)["data"]
    listed = lambda paths: [paths] if isinstance(paths, str) else paths
    training = {c["name"]: list(zip(listed(c["source"]), listed(c["target"]))) for c in data["corpora"]}
    return training, [path for v in data["validation"] for path in (v["source"], v["target"])]


def lines_of(path, lines):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        return list(itertools.islice(file, lines))


def packed(path, train, files, preset=9):
    """Writes the archive of the program and of `files`, texts by name. Returns its size. `train` reads plain text in files
    that are named as gzip, too, and xz packs plain text in two thirds of gzip's space."""
    with tarfile.open(path, "w:xz", preset=preset) as archive:
        archive.add(train, "train")
        for name, text in files.items():
            member = tarfile.TarInfo(f"text/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return os.path.getsize(path)


def pack(train, data, to, mib, lines=None):
    """All validation text, all corpora but the documentation, and as many of its pairs as there is space for, evenly spread."""
    training, validation = corpora()
    os.makedirs(to, exist_ok=True)
    path = os.path.join(to, "train.tar.xz")
    read = lambda names: {name: lines_of(os.path.join(data, name), lines) for name in names}
    whole = read(validation + [name for pairs in training.values() for pair in pairs for name in pair if "docs-en-de" not in name])
    docs = read(name for pair in training["docs"] for name in pair)
    joined = lambda texts, share: {name: b"".join(every(text, share)) for name, text in texts.items()}
    share = 1.0
    if not lines:
        # A small sample compresses a little worse than all of it, so the estimate is on the safe side.
        sample = len(lzma.compress(b"".join(joined(docs, 0.02).values()), preset=9))
        rest = packed(path, train, joined(whole, 1.0))
        share = min(1.0, (mib * MIB - rest) / (50 * sample))
    size = packed(path, train, {**joined(whole, 1.0), **joined(docs, share)}, preset=0 if lines else 9)
    pairs = sum(len(every(docs[s], share)) for s, _ in training["docs"])
    print(f"{path}: {size / MIB:.1f} MiB, {pairs} pairs of documentation ({100 * share:.0f} %)")
    if size > mib * MIB:
        raise SystemExit(f"{path} is larger than {mib} MiB; give a smaller --mib")


def every(lines, share):
    """This share of the lines, evenly spread: the same lines of both sides."""
    return [line for i, line in enumerate(lines) if int((i + 1) * share) > int(i * share)]


def unpack(folder):
    path = os.path.join(folder, "train.tar.xz")
    digest = os.path.join(UNPACKED, "of.txt")
    if not os.path.exists(path) and os.path.exists(digest):
        return
    wanted = sha256(path)
    if os.path.exists(digest) and open(digest).read() == wanted:
        return
    shutil.rmtree(UNPACKED, ignore_errors=True)
    with tarfile.open(path) as archive:
        archive.extractall(UNPACKED, filter="data")
    with open(digest, "w") as file:
        file.write(wanted)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def train(*arguments, **options):
    command = [os.path.join(UNPACKED, "train"), *arguments]
    print("+", " ".join(command), file=sys.stderr, flush=True)
    return subprocess.run(command, env=with_libraries(), **options)


def settings(stage, plan, sets):
    updates = plan[stage]["updates"]
    # Three validations, each with a checkpoint.
    often = max(1, -(-updates // 3))
    own = [f"output={RUN}/{stage}", f"data.root={UNPACKED}/text", *STAGES[stage]]
    own += [f"train.updates={updates}", f"train.warmup={max(1, updates // 10)}", f"train.cooldown={2 * updates // 5}"]
    own += [f"train.validate_every={often}", f"train.checkpoint_every={often}", *sets]
    return [word for one in own for word in ("--set", one)]


def seconds_per_update():
    """Of the first stage as its log has it, or of a measurement with random text."""
    with open(CONFIG, "rb") as file:
        config = tomllib.load(file)
    log = os.path.join(RUN, "first", "log.jsonl")
    if os.path.exists(log):
        events = [json.loads(line) for line in open(log)]
        rates = sorted(e["tokens_per_second"] for e in events if e["event"] == "train")
        if rates:
            return config["train"]["batch_tokens"] / rates[len(rates) // 2], "the log of the first stage"
    model, tokens = config["model"], config["train"]["batch_tokens"]
    shape = f"enc={model['encoder_layers']},dec={model['decoder_layers']},d={model['d_model']},ffn={model['ffn']}"
    shape += f",heads={model['heads']},vocab={config['tokenizer']['vocab_size']}"
    options = ["--stages", "imputer", "--device", config["train"]["device"], "--products", "bf16", "--json", "--updates", "20"]
    done = train("bench", "--shape", shape, "--batch-tokens", str(tokens), *options, stdout=subprocess.PIPE, check=True)
    measured = json.loads(done.stdout)[0]["seconds_per_update"]
    # A tenth more for the moving average and the log.
    return max(1.1 * measured, tokens / FEED), f"train bench, {measured:.3f} s"


def planned(stage, minutes, updates):
    """The plan, with the number of updates of `stage`: chosen once, because a run cannot continue with another."""
    path = os.path.join(RUN, "plan.json")
    plan = json.load(open(path)) if os.path.exists(path) else {}
    if stage not in plan:
        why = "given"
        if not updates:
            begun = time.monotonic()
            seconds, why = seconds_per_update()
            left = 60 * minutes - AROUND - (time.monotonic() - begun)
            updates = min(8000, max(100, int(0.9 * left / seconds)))
            why = f"{seconds:.3f} s an update, from {why}"
        plan[stage] = {"updates": updates, "why": why}
        os.makedirs(RUN, exist_ok=True)
        with open(path, "w") as file:
            json.dump(plan, file, indent=1)
        print(f"{stage}: {updates} updates ({why})", flush=True)
    return plan


def complete(stage):
    return os.path.exists(os.path.join(RUN, stage, "bundle", "model.safetensors"))


def call(args):
    ends = time.monotonic() + 60 * args.minutes
    unpack(args.pack)
    status = 0
    for stage in list(STAGES)[: list(STAGES).index(args.stage) + 1]:
        left = (ends - time.monotonic()) / 60
        if complete(stage):
            continue
        if stage != args.stage and not os.path.exists(os.path.join(RUN, "plan.json")):
            raise SystemExit(f"the {stage} stage has neither a model nor a state in {RUN}: call {stage}, or join what came back")
        plan = planned(stage, left, args.updates)
        left = max(0.0, (ends - time.monotonic()) / 60)
        status = train("run", "--config", CONFIG, "--minutes", str(left), *settings(stage, plan, args.set)).returncode
        if status:
            break
    export(args, status)
    return status


def export(args, status):
    """What comes back: plan, logs, and the model of the last stage that has one. An unfinished stage gives the average of its
    weights: a model to begin with, but not the exact state."""
    names = ["plan.json"] + [f"{stage}/log.jsonl" for stage in STAGES]
    begun = [stage for stage in STAGES if os.path.exists(os.path.join(RUN, stage))]
    if not begun:
        return
    last = begun[-1]
    states = sorted(glob.glob(os.path.join(RUN, last, "checkpoints", "update-*", "ema.safetensors")))
    if not complete(last) and status == CONTINUE and states:
        plan = json.load(open(os.path.join(RUN, "plan.json")))
        output = os.path.join(RUN, last, "unfinished")
        shutil.rmtree(output, ignore_errors=True)
        train("average", "--config", CONFIG, *settings(last, plan, args.set), "--checkpoints", states[-1], "--output", output)
        names.append(f"{last}/unfinished")
    names.append(f"{last}/bundle")
    split(RUN, args.out, [name for name in names if os.path.exists(os.path.join(RUN, name))])


class Parts(io.RawIOBase):
    """Writes files of at most PART bytes, and remembers their checksums."""

    def __init__(self, folder):
        self.folder, self.sums, self.file, self.room = folder, {}, None, 0

    def write(self, data):
        data = memoryview(data)
        written = len(data)
        while len(data):
            if not self.room:
                self.finish()
                self.name = f"part.{len(self.sums):03}"
                self.file, self.hash, self.room = open(os.path.join(self.folder, self.name), "wb"), hashlib.sha256(), PART
            piece, data = data[: self.room], data[self.room :]
            self.file.write(piece)
            self.hash.update(piece)
            self.room -= len(piece)
        return written

    def finish(self):
        if self.file:
            self.file.close()
            self.sums[self.name] = self.hash.hexdigest()
            self.file = None


def split(folder, to, names=None):
    """Writes everything in `folder`, or `names` of it, into parts."""
    # Without `names` the exact state goes along, which needs no model of the average.
    without = lambda member: None if member.name.endswith("/unfinished") else member
    os.makedirs(to, exist_ok=True)
    parts = Parts(to)
    with tarfile.open(fileobj=parts, mode="w|") as archive:
        for name in sorted(os.listdir(folder)) if names is None else names:
            archive.add(os.path.join(folder, name), name, filter=without if names is None else None)
    parts.finish()
    with open(os.path.join(to, "parts.json"), "w") as file:
        json.dump(parts.sums, file, indent=1)
    print(f"{to}: {len(parts.sums)} files of at most {PART / MIB:.0f} MiB", flush=True)


class Joined(io.RawIOBase):
    """Reads files one after the other."""

    def __init__(self, paths):
        self.paths, self.file = list(paths), None

    def read(self, size=-1):
        while True:
            data = self.file.read(size) if self.file else b""
            if data or not self.paths:
                return data
            self.file = open(self.paths.pop(0), "rb")


def join(folder, to):
    """Checks every part before it writes anything."""
    with open(os.path.join(folder, "parts.json")) as file:
        sums = json.load(file)
    paths = {name: os.path.join(folder, name) for name in sums}
    wrong = [name for name, path in paths.items() if not os.path.exists(path) or sha256(path) != sums[name]]
    if wrong:
        raise SystemExit(f"{folder}: missing or damaged: {', '.join(wrong)}")
    os.makedirs(to, exist_ok=True)
    with tarfile.open(fileobj=Joined(paths.values()), mode="r|") as archive:
        archive.extractall(to, filter="data")
    print(f"{to}: from {len(paths)} files", flush=True)


def main():
    args = arguments()
    if args.command == "pack":
        pack(args.train, args.data, args.to, args.mib, args.lines)
    elif args.command == "call":
        return call(args)
    elif args.command == "split":
        split(args.folder, args.to)
    elif args.command == "join":
        join(args.folder, args.to)
    else:
        # It runs this program, so it is not needed before.
        from gpu_rehearsal import rehearse

        rehearse(os.path.realpath(args.train), os.path.realpath(args.data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
