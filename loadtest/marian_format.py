"""Writes a random model in the files that the engines of browsers read.

- `model.bin`: Marian's binary container. Version, number of items, for each item the lengths of its name (with a
  final zero), shape and data and its type; then all names, shapes and data, the data in blocks of 256 bytes.
  A matrix in eight bits (`intgemm8`) has shape [inputs, outputs], is stored transposed and ends with its factor
  as a float32; NAME_QuantMultA is the factor of its input. `Wemb`, [entries, width], is the table of source,
  target and output at once; the factor of the output's input is `none_QuantMultA`.
- `vocab.spm`: a SentencePiece unigram model, a protocol buffer. Each piece is a word of its own, so the number of
  tokens of a text is its number of words.
- `lex.bin`: Marian's binary shortlist. Magic number, checksum, the number of first entries that are always
  candidates, the number of candidates of each source entry, and the candidates. `whole.bin` is one that leaves the
  whole vocabulary.

A random model does not stop by itself, so this one counts. The embeddings and what the layers add are small, so
the decoder's state is mostly the position code. One channel of the first recurrent unit forgets almost nothing and
adds a constant at each step; the last norm compares it with a threshold and drives the end token with it. Such a
model writes exactly `length` tokens and then the end token, and computes as much as any other of its shape.
"""

import math
import os
import struct

import numpy as np

INT8, FLOAT32, INTGEMM8 = 0x0101, 0x0404, 0x4101
END, UNKNOWN = 0, 1
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS_FROM = 3 + len(LETTERS)
# The first entries of a shortlist and the candidates of an entry, as in Firefox's files (`lex.50.50`).
# Of what `write` writes; another number writes everything again.
FORMAT = 1
FIRST = BEST = 50

# Factor of each layer's input: values up to four, at most 127.
INPUT = 127 / 4
# Largest weight of a matrix whose output shall be small.
SMALL = 1e-3
FORGET, STEP = 6.0, 0.1


def words(entries):
    """The pieces behind the letters, by falling frequency."""
    count = len(LETTERS)
    digits = [[(i // count**place) % count for place in range(4)] for i in range(entries - WORDS_FROM)]
    return ["".join(LETTERS[digit] for digit in word) for word in digits]


def frequencies(entries):
    """A share for each word, Zipf's law: what sources and shortlists draw from."""
    share = 1 / (10 + np.arange(entries - WORDS_FROM))
    return share / share.sum()


def sentences(entries, length, count, seed=1):
    """Texts of `length` words each."""
    names, rng = np.array(words(entries)), np.random.default_rng(seed)
    picks = rng.choice(len(names), (count, length), p=frequencies(entries))
    return [" ".join(names[row]) for row in picks]


def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, data):
    """A field of a protocol buffer: an integer, a float or bytes."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    if isinstance(data, float):
        return varint(number << 3 | 5) + struct.pack("<f", data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def vocabulary(path, entries):
    normal, unknown, control = 1, 2, 3
    pieces = [("</s>", 0.0, control), ("<unk>", 0.0, unknown), ("▁", -20.0, normal)]
    pieces += [(letter, -20.0, normal) for letter in LETTERS]
    pieces += [("▁" + word, -8.0 - 1e-4 * rank, normal) for rank, word in enumerate(words(entries))]
    with open(path, "wb") as file:
        for name, score, kind in pieces:
            file.write(field(1, field(1, name.encode()) + field(2, score) + field(3, kind)))
        unigram = 1
        file.write(field(2, field(3, unigram) + field(4, entries)))
        # The text as it is, with a space before its first word.
        file.write(field(3, field(1, b"identity") + b"".join(field(number, 1) for number in (3, 4, 5))))


def checksum(data):
    """The checksum that the shortlist's header keeps of what follows it, eight bytes at a time."""
    state, mask = 0, 2**64 - 1
    for value in np.frombuffer(data[: len(data) // 8 * 8], "<u8").tolist():
        state ^= (value + 0x9E3779B9 + (state << 6) + (state >> 2)) & mask
    return state


def shortlist(path, entries, first, best, seed=1):
    """`first` entries are candidates of every text, and `best` are drawn for each source entry."""
    rng = np.random.default_rng(seed)
    drawn = WORDS_FROM + rng.choice(entries - WORDS_FROM, (entries, best), p=frequencies(entries))
    drawn.sort(axis=1)
    offsets = best * np.arange(entries + 1, dtype="<u8")
    body = struct.pack("<4Q", first, best, len(offsets), drawn.size) + offsets.tobytes() + drawn.astype("<u4").tobytes()
    with open(path, "wb") as file:
        file.write(struct.pack("<2Q", 0xF11A48D5013417F5, checksum(body)) + body)


def container(path, items):
    """`items` are (name, type, shape, bytes)."""
    padded = [data + bytes(-len(data) % 256) for *_, data in items]
    names = [name.encode() + b"\0" for name, *_ in items]
    head = struct.pack("<2Q", 1, len(items))
    for (_, kind, shape, _), name, data in zip(items, names, padded):
        head += struct.pack("<4Q", len(name), kind, len(shape), len(data))
    head += b"".join(names) + b"".join(struct.pack("<%di" % len(shape), *shape) for _, _, shape, _ in items)
    gap = -(len(head) + 8) % 256
    with open(path, "wb") as file:
        file.write(head + struct.pack("<Q", gap) + bytes(gap) + b"".join(padded))


class Items:
    def __init__(self, seed):
        self.rng, self.list = np.random.default_rng(seed), []

    def floats(self, name, values):
        values = np.atleast_2d(np.asarray(values, "<f4"))
        self.list.append((name, FLOAT32, values.shape, values.tobytes()))

    def table(self, name, shape, values, factor):
        self.list.append((name, INTGEMM8, shape, values.astype(np.int8).tobytes() + struct.pack("<f", factor)))

    def matrix(self, name, inputs, outputs, values=None, factor=127 / SMALL):
        """`values`, [outputs, inputs], are random unless given."""
        if values is None:
            values = self.rng.integers(-127, 128, (outputs, inputs))
        self.table(name, (inputs, outputs), values, factor)
        self.floats(name + "_QuantMultA", [INPUT])

    def affine(self, prefix, weight, bias, inputs, outputs):
        self.matrix(prefix + weight, inputs, outputs)
        self.floats(prefix + bias, np.zeros(outputs))

    def norm(self, prefix, scale, bias):
        self.floats(prefix + "_ln_scale", scale)
        self.floats(prefix + "_ln_bias", bias)

    def attention(self, prefix, dim):
        for part in "qkvo":
            self.affine(prefix, "W" + part, "b" + part, dim, dim)
        self.norm(prefix + "Wo", np.ones(dim), np.zeros(dim))

    def feed_forward(self, prefix, dim, inner):
        self.affine(prefix, "W1", "b1", dim, inner)
        self.affine(prefix, "W2", "b2", inner, dim)


def threshold(dim, length, counted):
    """The value between those that the counting channel has, after the norms, at the last token and at the end
    token. `counted`: the engine gives each step of the decoder the position code of its place; otherwise each has
    that of place 0."""
    half = dim // 2
    rate = np.exp(np.arange(half) * -math.log(10000) / (half - 1))
    forget, seen, values = 1 / (1 + math.exp(-FORGET)), 0.0, []
    for step in range(length + 1):
        angle = rate * (step if counted else 0)
        state = np.concatenate([np.sin(angle), np.cos(angle)])
        seen = forget * seen + STEP * round(state[dim - 1] * INPUT) / INPUT
        state[half - 1] += seen
        values.append((state[half - 1] - state.mean()) / state.std())
    if not values[-1] > max(values[:-1]):
        raise ValueError("the counter of a model of width %d does not reach %d tokens" % (dim, length))
    return (values[-1] + max(values[:-1])) / 2


def model(path, shape, length, counted, seed=1):
    """A model of `shape` (keys enc, dec, d, ffn, heads, vocab) that writes `length` tokens."""
    dim, inner, entries = shape["d"], shape["ffn"], shape["vocab"]
    # The position code is 0 in the counting channel and 1 in the last one, at any place.
    counter, one = dim // 2 - 1, dim - 1
    items = Items(seed)

    # Rows of random bytes: 64 is an embedding of 0.02 after the engine has multiplied it by √width.
    table = np.clip(np.rint(items.rng.normal(0, 28, (entries, dim))), -127, 127)
    table[:, [counter, one]] = 0
    table[END] = 0
    table[END, counter] = 127
    items.table("Wemb", (entries, dim), table, 64 / (0.02 / math.sqrt(dim)))
    items.floats("none_QuantMultA", [127 / 8])
    weight = 127 * 0.02 / math.sqrt(dim) / 64
    bias = np.zeros(entries)
    # Never a letter; the end token in the middle between its two values.
    bias[UNKNOWN:WORDS_FROM] = -1
    bias[END] = weight
    items.floats("decoder_ff_logit_out_b", bias)

    for layer in range(1, shape["enc"] + 1):
        name = "encoder_l%d_" % layer
        items.attention(name + "self_", dim)
        items.feed_forward(name + "ffn_", dim, inner)
        items.norm(name + "ffn_ffn", np.ones(dim), np.zeros(dim))
    for layer in range(1, shape["dec"] + 1):
        name = "decoder_l%d_" % layer
        forget, values, factor = np.zeros(dim), None, 127 / SMALL
        if layer == 1:
            forget[counter] = FORGET
            values = np.zeros((dim, dim))
            values[counter, one] = 127
            # What one step adds is STEP.
            factor = 127 * (1 - 1 / (1 + math.exp(-FORGET))) / STEP
        items.matrix(name + "rnn_W", dim, dim, values, factor)
        items.matrix(name + "rnn_Wf", dim, dim)
        items.floats(name + "rnn_bf", forget)
        items.norm(name + "rnn_ffn", np.ones(dim), np.zeros(dim))
        items.attention(name + "context_", dim)
        items.feed_forward(name + "ffn_", dim, inner)
        scale, shift = np.ones(dim), np.zeros(dim)
        if layer == shape["dec"]:
            scale[:] = 0.1
            scale[counter] = 1000
            shift[counter] = -1000 * threshold(dim, length, counted)
        items.norm(name + "ffn_ffn", scale, shift)

    description = "".join("%s: %s\n" % pair for pair in [
        ("dim-emb", dim), ("dim-vocabs", "[%d, %d]" % (entries, entries)), ("enc-depth", shape["enc"]),
        ("dec-depth", shape["dec"]), ("transformer-heads", shape["heads"]), ("transformer-dim-ffn", inner),
        ("transformer-ffn-depth", 2), ("transformer-decoder-autoreg", "rnn"), ("dec-cell", "ssru"),
        ("tied-embeddings-all", "true"), ("transformer-postprocess", "dan"), ("type", "transformer")])
    data = description.encode() + b"\0"
    items.list.append(("special:model.yml", INT8, (len(data),), data))
    container(path, items.list)


def candidates(path, texts, entries):
    """How many output entries `lex.bin` leaves for each text, before the engine rounds the number up."""
    lists = np.fromfile(path, "<u4", offset=48 + 8 * (entries + 1)).reshape(entries, BEST)
    ids = {word: WORDS_FROM + rank for rank, word in enumerate(words(entries))}
    used = [[END] + [ids[word] for word in text.split()] for text in texts]
    return [len(set(range(FIRST)) | set(lists[row].ravel().tolist())) for row in used]


def write(folder, shape, length, counted):
    """All files of one model, unless the folder has them."""
    done = os.path.join(folder, "done-%d" % FORMAT)
    if os.path.exists(done):
        return
    os.makedirs(folder, exist_ok=True)
    vocabulary(os.path.join(folder, "vocab.spm"), shape["vocab"])
    shortlist(os.path.join(folder, "lex.bin"), shape["vocab"], FIRST, BEST)
    shortlist(os.path.join(folder, "whole.bin"), shape["vocab"], shape["vocab"], 2)
    model(os.path.join(folder, "model.bin"), shape, length, counted)
    open(done, "w").close()
