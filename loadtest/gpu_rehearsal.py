"""The dry run of gpu_train.py: both calls on a CPU, with the real network, a few lines of each file and tiny updates.

Folders stand for machines. The first stage runs once without a stop, and once with a stop after which its whole state travels in
parts to another machine: both must give the same weights. The second stage runs on the machine of the first, and on another one that
has only what came back from the first: both must give the same weights. The last model translates.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from gpu_train import CONFIG, CONTINUE, PART, RUN

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
UPDATES = 12
TINY = ["train.device=cpu", "train.batch_tokens=128", "train.valid_sentences=1", "train.log_every=1", "train.tensorboard=false"]


class Machine:
    """A copy of the repository, as far as the plan needs it."""

    def __init__(self, folder, pack):
        self.folder, self.pack = folder, pack
        os.makedirs(folder)
        for name in ("config", "models", "loadtest"):
            os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))

    def run(self, *arguments, expected=0):
        command = [sys.executable, "loadtest/gpu_train.py", *arguments]
        status = subprocess.run(command, cwd=self.folder).returncode
        if expected is not None and status != expected:
            raise SystemExit(f"{' '.join(arguments)}: status {status}, expected {expected}")
        return status

    def call(self, stage, out, minutes=60.0, expected=0):
        sets = [word for one in TINY for word in ("--set", one)]
        return self.run("call", stage, "--pack", self.pack, "--out", self.path(out), "--minutes", f"{minutes:.3f}",
                        "--updates", str(UPDATES), *sets, expected=expected)  # fmt: skip

    def path(self, name):
        return os.path.join(self.folder, name)

    def weights(self, stage):
        with open(self.path(f"{RUN}/{stage}/bundle/model.safetensors"), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def log(self, stage):
        path = self.path(f"{RUN}/{stage}/log.jsonl")
        return [json.loads(line) for line in open(path)] if os.path.exists(path) else []

    def updates(self, stage):
        return max((event["update"] for event in self.log(stage) if "update" in event), default=0)


def interrupted(folder, pack, minutes):
    """A machine on which the first stage stopped between two updates. How long that takes is a guess."""
    for attempt in range(5):
        machine = Machine(os.path.join(folder, f"stopped-{attempt}"), pack)
        status = machine.call("first", "out", minutes, expected=None)
        done = machine.updates("first")
        if status == CONTINUE and 0 < done < UPDATES:
            print(f"stopped after update {done} of {UPDATES}", flush=True)
            return machine
        if status not in (0, CONTINUE):
            raise SystemExit(f"the first stage: status {status}")
        shutil.rmtree(machine.folder)
        minutes *= 0.8 if done else 1.3
    raise SystemExit("the first stage never stopped between two updates; is this machine very busy?")


def same(what, one, other):
    if one != other:
        raise SystemExit(f"{what}: the weights differ")
    print(f"PASSED: {what}: the same weights", flush=True)


def sizes(folder):
    found = [os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]
    if max(found) > PART:
        raise SystemExit(f"{folder}: a file of {max(found)} bytes")
    return sum(found)


def rehearse(train, data):
    with tempfile.TemporaryDirectory(prefix="gpu_train") as folder:
        pack = os.path.join(folder, "pack")
        begun = time.time()
        home = Machine(os.path.join(folder, "home"), pack)
        home.run("pack", "--train", train, "--data", data, "--to", pack, "--lines", "40")

        whole = Machine(os.path.join(folder, "whole"), pack)
        before = time.time()
        whole.call("first", "out")
        middle = next(e["time_seconds"] for e in whole.log("first") if e["event"] == "train" and e["update"] == UPDATES // 2)

        stopped = interrupted(folder, pack, (middle - before) / 60)
        stopped.run("split", RUN, "--to", stopped.path("state"))
        print(f"the whole state: {sizes(stopped.path('state')) / (1 << 20):.0f} MiB", flush=True)
        other = Machine(os.path.join(folder, "other"), pack)
        other.run("join", stopped.path("state"), "--to", RUN)
        shutil.rmtree(stopped.folder)
        other.call("first", "out")
        same("the first stage, stopped, moved to another machine and continued", whole.weights("first"), other.weights("first"))

        third = Machine(os.path.join(folder, "third"), pack)
        back = sizes(other.path("out"))
        if back > 64 << 20 or len(os.listdir(other.path("out"))) > 8:
            raise SystemExit(f"{back} bytes in {len(os.listdir(other.path('out')))} files are more than may come back")
        print(f"back from the first call: {back / (1 << 20):.0f} MiB", flush=True)
        third.run("join", other.path("out"), "--to", RUN)
        shutil.rmtree(other.folder)
        third.call("second", "out")
        whole.call("second", "out2")
        same("the second stage, from the model alone and from the machine of the first", third.weights("second"), whole.weights("second"))

        home.run("join", third.path("out"), "--to", RUN)
        for side in ("en", "de"):
            with open(os.path.join(data, f"tatoeba-en-de/valid.{side}")) as text, open(home.path(side), "w") as few:
                few.writelines(next(text) for _ in range(4))
        texts = ["--source", home.path("en"), "--reference", home.path("de")]
        command = [train, "evaluate", "--model", home.path(f"{RUN}/second/bundle"), "--steps", "1,4", *texts]
        subprocess.run(command, check=True)
        print(f"PASSED: {CONFIG} in two calls, {time.time() - begun:.0f} s", flush=True)
