"""Makes the Marian model that src/train/marian/tests.rs and tests/it/teacher.rs read, and what it says.

    pip install torch transformers sentencepiece          (recorded with 2.15.0, 5.23.0 and 0.2.3)
    python3 tests/data/marian/make.py

The folder has the layout of OPUS-MT models on Hugging Face: config.json, model.safetensors, source.spm, target.spm and
vocab.json. The model has learnt seven pairs of sentences, so that its translations end.
"""

import json
import os
import tempfile

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import MarianConfig, MarianMTModel

HERE = os.path.dirname(os.path.abspath(__file__))
ENGLISH = """where is the train station ?
the train is late .
she has a small red house near the station .
i do not know who is there .
it is late , and the house is far .
who has the key ?
“ where ” , she asked , “ is my key ? ”""".split("\n")
GERMAN = """wo ist der bahnhof ?
der zug hat verspätung .
sie hat ein kleines rotes haus am bahnhof .
ich weiß nicht , wer dort ist .
es ist spät , und das haus ist weit .
wer hat den schlüssel ?
„ wo “ , fragte sie , „ ist mein schlüssel ? “""".split("\n")
SENTENCES = [
    "where is the station ?",
    "the  house is   late .",
    "„ who ” ｉs there ?",  # quotation marks and a full-width letter, which the normaliser knows
    "who has 7 keys ?",  # a character that no piece has
    "the key",
]
RULES = {"201C": "22", "201D": "22", "201E": "22", "FF49": "69"}


def pieces(name, lines, folder):
    text, rules = os.path.join(folder, name), os.path.join(folder, "rules.tsv")
    with open(text, "w") as file:
        file.write("\n".join(lines))
    with open(rules, "w") as file:
        file.writelines(f"{a}\t{b}\n" for a, b in RULES.items())
    sentencepiece.SentencePieceTrainer.train(
        input=text, model_prefix=os.path.join(HERE, name), model_type="unigram", vocab_size=64,
        hard_vocab_limit=False, normalization_rule_tsv=rules, minloglevel=2,
    )
    os.replace(os.path.join(HERE, name + ".model"), os.path.join(HERE, name + ".spm"))
    os.remove(os.path.join(HERE, name + ".vocab"))
    return sentencepiece.SentencePieceProcessor(model_file=os.path.join(HERE, name + ".spm"))


def learn(model, text, vocab):
    """Seven pairs, again and again."""
    (source, target), (english, german) = text
    ids = lambda processor, line: [vocab.get(p, 1) for p in processor.encode(line, out_type=str)] + [0]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(60):
        for a, b in zip(english, german):
            labels = torch.tensor([ids(target, b)])
            loss = model(input_ids=torch.tensor([ids(source, a)]), labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        model.final_logits_bias.normal_(0, 0.2)
    print("loss", loss.item())


def main():
    with tempfile.TemporaryDirectory() as folder:
        source, target = pieces("source", ENGLISH, folder), pieces("target", GERMAN, folder)
    known = [p.id_to_piece(i) for p in (source, target) for i in range(p.get_piece_size())]
    tokens = ["</s>", "<unk>"] + sorted(set(known) - {"<s>", "</s>", "<unk>"}) + ["<pad>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    pad = vocab["<pad>"]
    config = MarianConfig(
        vocab_size=len(vocab), decoder_vocab_size=len(vocab), d_model=16, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=20,
        activation_function="swish", max_position_embeddings=40, scale_embedding=True, pad_token_id=pad,
        eos_token_id=0, forced_eos_token_id=0, decoder_start_token_id=pad, share_encoder_decoder_embeddings=True,
        dropout=0.0,
    )
    torch.manual_seed(3)
    model = MarianMTModel(config).eval()
    learn(model, [(source, target), (ENGLISH, GERMAN)], vocab)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    shared = ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head", "embed_positions")
    state = {k: v for k, v in state.items() if not any(s in k for s in shared)}
    save_file(state, os.path.join(HERE, "model.safetensors"))
    torch.save(state, os.path.join(HERE, "pytorch_model.bin"))
    settings = {"model_type": "marian", **{k: getattr(config, k) for k in (
        "vocab_size", "decoder_vocab_size", "max_position_embeddings", "encoder_layers", "encoder_ffn_dim",
        "encoder_attention_heads", "decoder_layers", "decoder_ffn_dim", "decoder_attention_heads", "use_cache",
        "is_encoder_decoder", "activation_function", "d_model", "decoder_start_token_id", "scale_embedding",
        "pad_token_id", "eos_token_id", "forced_eos_token_id", "share_encoder_decoder_embeddings")}}
    with open(os.path.join(HERE, "config.json"), "w") as file:
        json.dump(settings, file, indent=1)
    with open(os.path.join(HERE, "vocab.json"), "w") as file:
        json.dump(vocab, file, ensure_ascii=False, indent=0)

    recorded = []
    for text in SENTENCES:
        ids = [vocab.get(p, 1) for p in source.encode(text, out_type=str)] + [0]
        prefix = [pad, 5, 9, 23]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
            room = 2 * (len(ids) - 1) + 10
            found = {}
            for beam in (1, 4):
                out = model.generate(
                    torch.tensor([ids]), num_beams=beam, do_sample=False, max_length=room + 1, length_penalty=1.0,
                    early_stopping=True, bad_words_ids=[[pad], [vocab["<unk>"]]], forced_eos_token_id=None,
                )[0].tolist()[1:]
                found[beam] = {"tokens": [t for t in out if t not in (0, pad)], "finished": 0 in out}
        recorded.append({
            "text": text, "ids": ids, "prefix": prefix, "logits": logits.tolist(), "greedy": found[1],
            "beam": found[4],
        })
        print(text, ids, *(" ".join(tokens[t] for t in f["tokens"]) for f in found.values()), sep="\n   ")
    german = [vocab[p] for p in target.encode(GERMAN[2], out_type=str)]
    recorded.append({"ids": german, "text": target.decode([tokens[t] for t in german])})
    with open(os.path.join(HERE, "recorded.json"), "w") as file:
        json.dump(recorded, file, ensure_ascii=False)


main()
