#!/usr/bin/env python3
"""Converts an autoregressive bundle of `train ar` to a CTranslate2 model folder.

    pip install ctranslate2 numpy                  # tried with ctranslate2 4.8.5
    python3 loadtest/export_ct2.py --bundle runs/en-de/ar/bundle --output target/ct2-teacher

The tokenizer is copied beside the model: CTranslate2 reads tokens, `tokenizer.json` makes them.
`--check` translates a source file with the written model and compares it with what the crate makes of it:

    pip install tokenizers
    train distill --config FILE --set distill.beam=1          # writes distilled/train.en and train.de
    python3 loadtest/export_ct2.py --bundle … --output … --check distilled/train.en distilled/train.de

How the two networks match: both are pre-norm with a norm after the last layer, ReLU, learned positions and one
table for source, target and output. The crate computes √d · (E + P) and CTranslate2 √d · E + P, so positions
are written times √d. Special tokens that no translation may contain get a bias of -1e9.
"""

import argparse
import json
import os
import shutil
import sys

import numpy as np

# The order of the ids in every bundle.
SPECIALS = ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>"]
PAD, BOS, EOS, UNK, MASK = range(5)
NEVER = -1e9


def read_safetensors(path):
    """Tensors by name, as float32."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        raw = data[start:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in ("F16", "F32"):
            values = np.frombuffer(raw, "<f2" if entry["dtype"] == "F16" else "<f4").astype(np.float32)
        elif entry["dtype"] == "I8":
            values = np.frombuffer(raw, np.int8).astype(np.float32)
        else:
            sys.exit("%s: tensor %s is of type %s; expected F16, BF16, F32 or I8" % (path, name, entry["dtype"]))
        tensors[name] = values.reshape(entry["shape"])
    # A matrix in 8 bits has a factor for each row.
    for name in [name for name in tensors if name.endswith(".scale")]:
        tensors[name.removesuffix(".scale")] *= tensors.pop(name)[:, None]
    return tensors


def resolve(folder):
    """The folder itself, or its `bundle` where a stage's output folder is named."""
    inner = os.path.join(folder, "bundle")
    return inner if not os.path.exists(os.path.join(folder, "config.json")) and os.path.isdir(inner) else folder


def read_config(folder):
    path = os.path.join(folder, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as error:
        sys.exit("%s: %s; --bundle takes a folder that `train ar` wrote" % (path, error.strerror))
    if config["architecture"] != "ar":
        sys.exit("%s: the architecture is %r; only \"ar\" (`train ar`) has a CTranslate2 form"
                 % (path, config["architecture"]))
    shape = config["shape"]
    for key, plain in [("norm", "pre"), ("positions", "scaled"), ("decoder_attention", "whole")]:
        if shape.get(key, plain) != plain:
            sys.exit("%s: shape.%s is %r; this converter knows %r" % (path, key, shape[key], plain))
    return config


def vocabulary(folder, size):
    """Names of the tokens, in the order of their ids."""
    path = os.path.join(folder, "tokenizer.json")
    with open(path, encoding="utf-8") as file:
        by_name = json.load(file)["model"]["vocab"]
    tokens = sorted(by_name, key=by_name.get)
    if len(tokens) != size or tokens[: len(SPECIALS)] != SPECIALS:
        sys.exit("%s: expected %d tokens that begin with %s" % (path, size, " ".join(SPECIALS)))
    return tokens


class Source:
    """Hands out a bundle's tensors and knows which are left."""

    def __init__(self, tensors):
        self.left = dict(tensors)

    def take(self, name):
        try:
            return self.left.pop(name)
        except KeyError:
            sys.exit("model.safetensors has no tensor %s" % name)

    def linear(self, spec, name):
        spec.weight, spec.bias = self.take(name + ".weight"), self.take(name + ".bias")

    def norm(self, spec, name):
        spec.gamma, spec.beta = self.take(name + ".weight"), self.take(name + ".bias")

    def self_attention(self, spec, layer):
        self.norm(spec.layer_norm, layer + ".attention_norm")
        self.linear(spec.linear[0], layer + ".attention.qkv")
        self.linear(spec.linear[1], layer + ".attention.output")

    def cross_attention(self, spec, layer):
        self.norm(spec.layer_norm, layer + ".cross_norm")
        for i, part in enumerate(["query", "key_value", "output"]):
            self.linear(spec.linear[i], "%s.cross.%s" % (layer, part))

    def feed_forward(self, spec, layer):
        self.norm(spec.layer_norm, layer + ".feed_forward_norm")
        self.linear(spec.linear_0, layer + ".feed_forward.inner")
        self.linear(spec.linear_1, layer + ".feed_forward.outer")


def convert(bundle, output):
    """Writes `output` from the bundle and answers the number of weights."""
    from ctranslate2.specs import TransformerSpec, common_spec

    config = read_config(bundle)
    shape = config["shape"]
    tensors = read_safetensors(os.path.join(bundle, "model.safetensors"))
    tokens = vocabulary(bundle, shape["vocab"])
    source = Source(tensors)
    spec = TransformerSpec.from_config(
        (shape["encoder_layers"], shape["decoder_layers"]),
        shape["heads"],
        pre_norm=True,
        activation=common_spec.Activation.RELU,
    )
    for i, layer in enumerate(spec.encoder.layer):
        name = "encoder.layers.%d" % i
        source.self_attention(layer.self_attention, name)
        source.feed_forward(layer.ffn, name)
    for i, layer in enumerate(spec.decoder.layer):
        name = "decoder.layers.%d" % i
        source.self_attention(layer.self_attention, name)
        source.cross_attention(layer.attention, name)
        source.feed_forward(layer.ffn, name)
    scale = np.float32(shape["d_model"] ** 0.5)
    for stack, name in [(spec.encoder, "encoder"), (spec.decoder, "decoder")]:
        source.norm(stack.layer_norm, name + ".norm")
        stack.position_encodings.encodings = source.take(name + ".positions.weight") * scale
        stack.scale_embeddings = True
    table = source.take("embedding.weight")
    spec.encoder.embeddings[0].weight = table
    spec.decoder.embeddings.weight = table
    spec.decoder.projection.weight = table
    bias = source.take("output.bias").copy()
    bias[[PAD, BOS, UNK, MASK]] = NEVER
    spec.decoder.projection.bias = bias

    # The length head belongs to the parallel models that begin with these weights.
    left = sorted(name for name in source.left if not name.startswith("length."))
    if left:
        sys.exit("model.safetensors has %d tensors that an autoregressive model does not have, among them %s"
                 % (len(left), left[0]))
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.unk_token = SPECIALS[UNK]
    spec.config.bos_token = spec.config.decoder_start_token = SPECIALS[BOS]
    spec.config.eos_token = SPECIALS[EOS]
    spec.config.add_source_bos = spec.config.add_source_eos = True
    spec.validate()
    spec.optimize()
    os.makedirs(output, exist_ok=True)
    spec.save(output)
    shutil.copyfile(os.path.join(bundle, "tokenizer.json"), os.path.join(output, "tokenizer.json"))
    # What peer.py must know about the model.
    with open(os.path.join(output, "bundle.json"), "w", encoding="utf-8") as file:
        json.dump({"shape": shape, "source": config["source"], "target": config["target"]}, file, indent=1)
    return sum(values.size for name, values in tensors.items() if not name.startswith("length."))


class Peer:
    """A converted model with its tokenizer: text in, text out."""

    def __init__(self, folder, compute_type, threads=1, workers=1):
        import ctranslate2
        import tokenizers

        self.tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # text that spells a special token is text
        with open(os.path.join(folder, "bundle.json"), encoding="utf-8") as file:
            self.positions = json.load(file)["shape"]["max_positions"]
        self.translator = ctranslate2.Translator(
            folder, device="cpu", compute_type=compute_type, intra_threads=threads, inter_threads=workers)

    def encode(self, texts):
        """Tokens of each text, without those of its ends."""
        return [encoded.tokens for encoded in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def room(self, tokens):
        """Tokens that a translation may have, as the crate's own search bounds them."""
        return min(2 * len(tokens) + 10, self.positions - 2)

    def submit(self, texts, beam):
        """Begins to translate `texts` as one batch; answers futures for `text`."""
        sources = self.encode(texts)
        return self.translator.translate_batch(
            sources, beam_size=beam, max_batch_size=len(texts), batch_type="examples", asynchronous=True,
            max_input_length=0, max_decoding_length=max(map(self.room, sources)), return_scores=False)

    def text(self, future):
        ids = [self.tokenizer.token_to_id(token) for token in future.result().hypotheses[0]]
        return self.tokenizer.decode(ids).removeprefix(" ")

    def translate(self, texts, beam=1, batch=64):
        """The translation of each text."""
        starts = range(0, len(texts), batch)
        return [self.text(future) for start in starts for future in self.submit(texts[start : start + batch], beam)]


def check(output, source, target, count):
    """Compares greedy translations in float32 with the crate's, one sentence at a time."""
    with open(source, encoding="utf-8") as file:
        sources = file.read().splitlines()[:count]
    with open(target, encoding="utf-8") as file:
        expected = file.read().splitlines()[:count]
    for compute_type in ["float32", "int8"]:
        peer = Peer(output, compute_type)
        got = [" ".join(text.split()) for text in peer.translate(sources, batch=1)]
        unequal = [(s, e, g) for s, e, g in zip(sources, expected, got) if e != g]
        print("%s: %d of %d translations equal the crate's" % (compute_type, len(sources) - len(unequal), len(sources)))
        for text, theirs, ours in unequal[:3]:
            print("  %s\n    crate:       %s\n    ctranslate2: %s" % (text, theirs, ours))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bundle", required=True, help="folder that `train ar` wrote")
    p.add_argument("--output", required=True, help="folder of the CTranslate2 model")
    p.add_argument("--check", nargs=2, metavar=("SOURCE", "TARGET"),
                   help="compare with the crate's greedy translations of SOURCE")
    p.add_argument("--count", type=int, default=50, help="sentences of --check [default: 50]")
    args = p.parse_args()
    weights = convert(resolve(args.bundle), args.output)
    print("%s: %.1f million weights" % (args.output, weights / 1e6))
    if args.check:
        check(args.output, *args.check, args.count)


if __name__ == "__main__":
    main()
