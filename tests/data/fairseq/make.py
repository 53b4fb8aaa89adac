"""Makes the checkpoints that tests/it/fairseq.rs reads, and what the networks in them say.

    python3 tests/data/fairseq/make.py      (PyTorch, any version from 1.6; recorded with 2.15)

The checkpoints have fairseq's layout: its names of arguments and tensors. The networks are written here
once more, from the papers, in plain PyTorch and one sentence at a time, so that there is nothing to pad.
Weights are numbers that f16 holds, because a bundle keeps f16.
"""

import argparse
import json
import math
import os
from collections import OrderedDict

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
D, FFN, HEADS, LAYERS, POSITIONS = 16, 24, 2, 2, 20
BOS, PAD, EOS, UNK = 0, 1, 2, 3

DICT = (
    "the . der die a@@ b@@ c d@@ e er@@ er l@@ ow low low@@ n@@ s w@@ e@@ t h@@ hund "
    "katze haus k@@ a ö@@ ß , &apos;s st@@ st @-@"
).split()
CODES = [
    ("t", "h"), ("th", "e</w>"), ("e", "r</w>"), ("e", "r"), ("l", "o"), ("lo", "w</w>"), ("lo", "w"),
    ("d", "er</w>"), ("d", "i"), ("di", "e</w>"), ("s", "t</w>"), ("s", "t"), ("h", "u"), ("n", "d</w>"),
    ("hu", "nd</w>"), ("k", "a"), ("ka", "t"), ("z", "e</w>"), ("kat", "ze</w>"), ("h", "a"), ("ha", "u"),
    ("hau", "s</w>"),
]
TEXTS = ["the lower hund .", "der low katze , das haus", "ö@ß lowest", "a"]


def pieces(word):
    """subword-nmt 0.2: the pair with the lowest rank first, all its places at once."""
    ranks = {pair: i for i, pair in enumerate(CODES)}
    word = list(word[:-1]) + [word[-1] + "</w>"]
    while len(word) > 1:
        best = min(zip(word, word[1:]), key=lambda pair: ranks.get(pair, math.inf))
        if best not in ranks:
            break
        merged, i = [], 0
        while i < len(word):
            if i + 1 < len(word) and (word[i], word[i + 1]) == best:
                merged.append(word[i] + word[i + 1])
                i += 2
            else:
                merged.append(word[i])
                i += 1
        word = merged
    return [p[:-4] if p.endswith("</w>") else p + "@@" for p in word]


def encode(text):
    ids = {token: i + 4 for i, token in enumerate(DICT)}
    tokens = [ids.get(piece, UNK) for word in text.split() for piece in pieces(word)]
    return [BOS] + tokens + [EOS]


class Reference:
    """softmax(E · decoder(canvas, encoder(source))), with the tensors of a state dict."""

    def __init__(self, args, state, packed):
        self.args, self.state, self.packed = args, state, packed

    def linear(self, name, x):
        return F.linear(x, self.state[name + ".weight"], self.state[name + ".bias"])

    def norm(self, name, x):
        return F.layer_norm(x, (D,), self.state[name + ".weight"], self.state[name + ".bias"], 1e-5)

    def attention(self, name, x, y, causal=False):
        if self.packed:
            weights = self.state[name + ".in_proj_weight"].chunk(3)
            biases = self.state[name + ".in_proj_bias"].chunk(3)
            q, k, v = (F.linear(z, w, b) for z, w, b in zip((x, y, y), weights, biases))
        else:
            q, k, v = (self.linear(f"{name}.{p}_proj", z) for p, z in (("q", x), ("k", y), ("v", y)))
        q, k, v = (z.view(len(z), HEADS, D // HEADS).transpose(0, 1) for z in (q, k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(D // HEADS)
        if causal:
            scores = scores + torch.full((len(x), len(x)), -math.inf).triu(1)
        return self.linear(name + ".out_proj", (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), D))

    def sublayer(self, norm, x, f):
        if self.args["encoder_normalize_before"]:
            return x + f(self.norm(norm, x))
        return self.norm(norm, x + f(x))

    def embed(self, side, ids):
        scale = 1.0 if self.args["no_scale_embedding"] else math.sqrt(D)
        tokens = scale * self.state["encoder.embed_tokens.weight"][ids]
        places = torch.arange(len(ids)) + PAD + 1
        if self.args[side + "_learned_pos"]:
            positions = self.state[side + ".embed_positions.weight"][places]
        else:
            step = math.log(10000) / (D // 2 - 1)
            angles = places[:, None].double() * torch.exp(torch.arange(D // 2).double() * -step)
            positions = torch.cat([angles.sin(), angles.cos()], 1).float()
        if side + ".PEfc.weight" in self.state:
            return self.linear(side + ".PEfc", torch.cat([tokens, positions], 1))
        return tokens + positions

    def feed_forward(self, layer, x):
        inner = lambda x: self.linear(layer + ".fc2", F.relu(self.linear(layer + ".fc1", x)))
        return self.sublayer(layer + ".final_layer_norm", x, inner)

    def last(self, side, x):
        return self.norm(side + ".layer_norm", x) if self.args["encoder_normalize_before"] else x

    def encoder(self, ids):
        x = self.embed("encoder", torch.tensor(ids))
        for i in range(LAYERS):
            layer = f"encoder.layers.{i}"
            see = lambda x: self.attention(layer + ".self_attn", x, x)
            x = self.feed_forward(layer, self.sublayer(layer + ".self_attn_layer_norm", x, see))
        return self.last("encoder", x)

    def decoder(self, ids, memory):
        x = self.embed("decoder", torch.tensor(ids))
        for i in range(LAYERS):
            layer = f"decoder.layers.{i}"
            whole = layer + ".self_attn_unmasked"
            causal = whole + "_layer_norm.weight" in self.state
            if causal:
                x = self.sublayer(whole + "_layer_norm", x, lambda x: self.attention(whole, x, x))
            see = lambda x: self.attention(layer + ".self_attn", x, x, causal)
            x = self.sublayer(layer + ".self_attn_layer_norm", x, see)
            read = lambda x: self.attention(layer + ".encoder_attn", x, memory)
            x = self.sublayer(layer + ".encoder_attn_layer_norm", x, read)
            x = self.feed_forward(layer, x)
        return self.last("decoder", x) @ self.state["encoder.embed_tokens.weight"].T

    def lengths(self, memory):
        return (memory.mean(0) @ self.state["decoder.embed_length.weight"].T).log_softmax(0)


def state_dict(args, packed, causal, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: (torch.randn(*shape, generator=generator) * 0.25).half().float()
    state = OrderedDict()

    def linear(name, inputs, outputs):
        state[name + ".weight"], state[name + ".bias"] = draw(outputs, inputs), draw(outputs)

    def norm(name):
        state[name + ".weight"], state[name + ".bias"] = (1 + draw(D)).half().float(), draw(D)

    def attention(name):
        if packed:
            state[name + ".in_proj_weight"], state[name + ".in_proj_bias"] = draw(3 * D, D), draw(3 * D)
        else:
            for part in ("k_proj", "v_proj", "q_proj"):
                linear(f"{name}.{part}", D, D)
        linear(name + ".out_proj", D, D)

    for side in ("encoder", "decoder"):
        state[side + ".version"] = torch.tensor([3.0])
        state[side + ".embed_tokens.weight"] = draw(len(DICT) + 4, D) if side == "encoder" else state["encoder.embed_tokens.weight"]
        if args[side + "_learned_pos"]:
            state[side + ".embed_positions.weight"] = draw(POSITIONS + PAD + 1, D)
        else:
            state[side + ".embed_positions._float_tensor"] = torch.zeros(1)
        for i in range(LAYERS):
            layer = f"{side}.layers.{i}"
            names = ["self_attn"]
            if side == "decoder":
                names = (["self_attn_unmasked"] if causal else []) + ["self_attn", "encoder_attn"]
            for name in names:
                attention(f"{layer}.{name}")
                norm(f"{layer}.{name}_layer_norm")
            linear(layer + ".fc1", D, FFN)
            linear(layer + ".fc2", FFN, D)
            norm(layer + ".final_layer_norm")
        if causal:
            linear(side + ".PEfc", 2 * D, D)
        if args["encoder_normalize_before"]:
            norm(side + ".layer_norm")
    state["decoder.output_projection.weight"] = state["encoder.embed_tokens.weight"]
    state["decoder.embed_length.weight"] = draw(24, D)
    return state


def make(name, arch, seed, packed=False, causal=False, newer=False, **changes):
    args = dict(
        arch=arch, source_lang="en", target_lang="de", activation_fn="relu", share_all_embeddings=True,
        encoder_embed_dim=D, decoder_embed_dim=D, encoder_ffn_embed_dim=FFN, decoder_ffn_embed_dim=FFN,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_layers=LAYERS,
        decoder_layers=LAYERS, max_source_positions=POSITIONS, max_target_positions=POSITIONS,
        encoder_learned_pos=True, decoder_learned_pos=True, encoder_normalize_before=False,
        decoder_normalize_before=False, no_scale_embedding=False, pred_length_offset=False,
        dropout=0.1, adam_betas="(0.9, 0.98)",
    )
    args.update(changes)
    state = state_dict(args, packed, causal, seed)
    namespace = argparse.Namespace(**args)
    said = {"args": None, "cfg": {"model": namespace, "task": {"data": "x"}}} if newer else {"args": namespace}
    said.update(model=state, optimizer_history=[], extra_state={"epoch": 3, "val_loss": 2.5})
    torch.save(said, os.path.join(HERE, name + ".pt"))

    reference, cases = Reference(args, state, packed), []
    for text in TEXTS:
        source = encode(text)
        canvas = [BOS, UNK, DICT.index("hund") + 4, UNK, UNK, DICT.index(".") + 4, EOS]
        memory = reference.encoder(source)
        cases.append(dict(
            text=text, source=source, canvas=canvas,
            logits=[[round(v, 6) for v in row] for row in reference.decoder(canvas, memory).tolist()],
            lengths=[round(v, 6) for v in reference.lengths(memory).tolist()],
        ))
    return cases


if __name__ == "__main__":
    with open(os.path.join(HERE, "dict.txt"), "w") as f:
        f.writelines(f"{token} {100 - i}\n" for i, token in enumerate(DICT))
    with open(os.path.join(HERE, "codes"), "w") as f:
        f.write("#version: 0.2\n")
        f.writelines(f"{a} {b}\n" for a, b in CODES)
    recorded = {
        "cmlm": make("cmlm", "cmlm_transformer_wmt_en_de", 1, pred_length_offset=True),
        "cmlmc": make("cmlmc", "cmlmc_transformer_iwslt_en_de", 2, causal=True, newer=True, no_scale_embedding=True),
        "dims": make("dims", "cmlm_distill", 3, packed=True, encoder_normalize_before=True,
                     decoder_normalize_before=True, encoder_learned_pos=False, decoder_learned_pos=False),
    }
    with open(os.path.join(HERE, "recorded.json"), "w") as f:
        json.dump(recorded, f)
