"""The peers of gpu_check.py: the same network in PyTorch, plain, compiled and as a CUDA graph; an autoregressive
decoder with a KV cache; and what the machine can do at best. Prints JSON.

    python3 loadtest/gpu_peer.py --device cuda --shape enc=6,dec=6,d=512,ffn=2048,heads=8,vocab=8000

Weights are random and lengths forced, so that the work does not depend on what the weights say. One sentence of
n words is n + 2 tokens with both ends, in and out, as for tutti; the autoregressive decoder takes n + 1 steps.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LENGTHS = [12, 25]


class Layer(nn.Module):
    """Pre-norm; with `cross`, it also reads keys and values of a source."""

    def __init__(self, shape, cross):
        super().__init__()
        d = shape["d"]
        self.heads = shape["heads"]
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3 if cross else 2))
        self.qkv, self.output = nn.Linear(d, 3 * d), nn.Linear(d, d)
        if cross:
            self.query, self.key_value, self.mix = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.inner, self.outer = nn.Linear(d, shape["ffn"]), nn.Linear(shape["ffn"], d)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def forward(self, x, memory=None):
        q, k, v = (self.split(part) for part in self.qkv(self.norms[0](x)).chunk(3, -1))
        return self.rest(x + self.output(self.attend(q, k, v)), memory)

    def rest(self, x, memory):
        if memory is not None:
            x = x + self.mix(self.attend(self.split(self.query(self.norms[1](x))), *memory))
        return x + self.outer(F.relu(self.inner(self.norms[-1](x))))

    def memory(self, states):
        return tuple(self.split(part) for part in self.key_value(states).chunk(2, -1))


class Model(nn.Module):
    def __init__(self, shape, positions=256):
        super().__init__()
        d = shape["d"]
        self.d = d
        self.embedding = nn.Embedding(shape["vocab"], d)
        nn.init.normal_(self.embedding.weight, std=d**-0.5)
        self.source_positions, self.target_positions = nn.Embedding(positions, d), nn.Embedding(positions, d)
        self.encoder = nn.ModuleList(Layer(shape, False) for _ in range(shape["enc"]))
        self.decoder = nn.ModuleList(Layer(shape, True) for _ in range(shape["dec"]))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.bias = nn.Parameter(torch.zeros(shape["vocab"]))
        self.length = nn.Linear(d, 128)

    def embed(self, ids, positions, start=0):
        return (self.embedding(ids) + positions.weight[start : start + ids.shape[1]]) * self.d**0.5

    def encode(self, source):
        x = self.embed(source, self.source_positions)
        for layer in self.encoder:
            x = layer(x)
        x = self.encoder_norm(x)
        lengths = self.length(x.mean(1)).float().log_softmax(-1)
        return [layer.memory(x) for layer in self.decoder], lengths

    def best(self, x):
        scores = F.linear(self.decoder_norm(x), self.embedding.weight, self.bias).float()
        top = scores.max(-1)
        return top.indices, top.values - scores.logsumexp(-1)

    def one_step(self, source, canvas):
        """What one step of tutti computes."""
        memories, lengths = self.encode(source)
        x = self.embed(canvas, self.target_positions)
        for layer, memory in zip(self.decoder, memories):
            x = layer(x, memory)
        return (lengths, *self.best(x))

    def next_token(self, token, place, caches, mask, memories):
        """One autoregressive step. `caches` holds keys and values of every place; `place [1]` is this one's,
        `mask [1, 1, 1, places]` is true at those that may be seen."""
        x = (self.embedding(token) + self.target_positions(place)) * self.d**0.5
        mask.index_fill_(3, place, True)
        for layer, (keys, values), memory in zip(self.decoder, caches, memories):
            q, k, v = (layer.split(part) for part in layer.qkv(layer.norms[0](x)).chunk(3, -1))
            keys.index_copy_(2, place, k)
            values.index_copy_(2, place, v)
            x = x + layer.output(layer.attend(q, keys, values, mask))
            x = layer.rest(x, memory)
        return self.best(x)[0]


def timed(run, device, seconds):
    """Median and count of calls that take at least so long together, in ms."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    for _ in range(3):
        run()
    wait()
    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < 5:
        start = time.perf_counter()
        run()
        wait()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def graphed(run):
    """`run` as a CUDA graph; whatever it reads and writes must stay where it is."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


class Autoregressive:
    """Greedy with a KV cache: one encoder call, then words + 1 steps."""

    def __init__(self, model, shape, words, device, dtype):
        self.model, self.steps = model, words + 1
        self.source = torch.randint(5, shape["vocab"], (1, words + 2), device=device)
        size = (1, shape["heads"], words + 2, shape["d"] // shape["heads"])
        cache = lambda: torch.zeros(size, device=device, dtype=dtype)
        self.caches = [(cache(), cache()) for _ in range(shape["dec"])]
        self.mask = torch.zeros(1, 1, 1, words + 2, dtype=torch.bool, device=device)
        self.token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.memories = [tuple(part.clone() for part in memory) for memory in model.encode(self.source)[0]]

    def encode(self):
        for kept, memory in zip(self.memories, self.model.encode(self.source)[0]):
            for to, part in zip(kept, memory):
                to.copy_(part)

    def step(self):
        token = self.model.next_token(self.token, self.place, self.caches, self.mask, self.memories)
        self.token.copy_(token)
        self.place.add_(1)

    def run(self, encode, step):
        self.mask.zero_()
        self.token.fill_(1)
        self.place.zero_()
        encode()
        for _ in range(self.steps):
            step()
            # A real decoder must look whether the sentence has ended.
            self.token.item()


def ceilings(device, seconds, small):
    """Operations a second of a large product in bf16, bytes a second of a large copy (read and written)."""
    n = 512 if small else 8192
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * n**3 / timed(lambda: a @ b, device, seconds) * 1000
    source = torch.randn((1 << 20) if small else (1 << 29), device=device)
    to = torch.empty_like(source)
    copy = timed(lambda: to.copy_(source), device, seconds)
    return {"operations_per_second": rate, "bytes_per_second": 8 * source.numel() / copy * 1000}


def compiled(function, wish):
    if not wish:
        return None
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(function, mode="reduce-overhead", dynamic=False)


@torch.inference_mode()
def measure(args):
    shape = dict((key, int(value)) for key, value in (part.split("=") for part in args.shape.split(",")))
    device, on_gpu = args.device, args.device == "cuda"
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[args.dtype]
    torch.manual_seed(1)
    model = Model(shape).to(device, dtype).eval()
    report = {"torch": torch.__version__, "dtype": args.dtype, "latency": [], "throughput": []}
    report["device"] = torch.cuda.get_device_name() if on_gpu else "cpu"
    report["ceilings"] = ceilings(device, args.seconds, not on_gpu)
    ids = lambda rows, words: torch.randint(5, shape["vocab"], (rows, words + 2), device=device)
    fast = compiled(model.one_step, on_gpu)
    for words in LENGTHS:
        source, canvas = ids(1, words), ids(1, words)
        # What the host reads of the answer belongs to it, as in tutti.
        read = lambda answer: [part.cpu() for part in answer]
        row = {"tokens": words, "plain_ms": timed(lambda: read(model.one_step(source, canvas)), device, args.seconds)}
        ar = Autoregressive(model, shape, words, device, dtype)
        row["autoregressive_ms"] = timed(lambda: ar.run(ar.encode, ar.step), device, args.seconds)
        # Compiling takes half a minute for each shape: one length, alone and in the largest batch.
        compiles = on_gpu and words == max(LENGTHS)
        if compiles:
            row["compiled_ms"] = timed(lambda: read(fast(source, canvas)), device, args.seconds)
        if on_gpu:
            answer = []
            replay = graphed(lambda: answer.__setitem__(slice(None), model.one_step(source, canvas)))
            row["graph_ms"] = timed(lambda: (replay(), read(answer)), device, args.seconds)
            encode, step = graphed(ar.encode), graphed(ar.step)
            row["autoregressive_graph_ms"] = timed(lambda: ar.run(encode, step), device, args.seconds)
        report["latency"].append(row)
        for rows in args.batches:
            source, canvas = ids(rows, words), ids(rows, words)
            row = {"tokens": words, "batch": rows}
            plain = timed(lambda: read(model.one_step(source, canvas)), device, args.seconds)
            row["plain"] = rows / plain * 1000
            if compiles and rows == max(args.batches):
                row["compiled"] = rows / timed(lambda: read(fast(source, canvas)), device, args.seconds) * 1000
            report["throughput"].append(row)
    return report


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--dtype", default="bf16")
    p.add_argument("--shape", default="enc=6,dec=6,d=512,ffn=2048,heads=8,vocab=8000")
    p.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    p.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 64, 1024])
    json.dump(measure(p.parse_args()), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
