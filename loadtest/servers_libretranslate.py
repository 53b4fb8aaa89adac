"""The peer of servers.py: LibreTranslate's own server with a model of ours. Takes the arguments of `libretranslate`.

    ARGOS_PACKAGES_DIR=FOLDER python loadtest/servers_libretranslate.py --host 127.0.0.1 --port 5000

Its HTTP server (waitress), its request handling (Flask) and the call of CTranslate2 (Argos Translate) are the published
code. Four things are replaced before it starts:

- The tokenizer of a package. Argos Translate knows SentencePiece and subword-nmt, our models have a `tokenizer.json`;
  here the package `tokenizers` reads it, as everywhere in loadtest/.
- The splitter of sentences (MiniSBD). Its model is downloaded when first used and is not on PyPI. Every line of a
  text is one sentence here, which saves LibreTranslate the time of a small network for each request.
- The longest translation. Argos Translate allows 256 tokens, more than our teachers have positions, which is an error. Here
  it is the bound of `export_ct2.py`, as for the other peer.
- The download of models at the start.
"""

import json
import os
import sys
import types

import ctranslate2
import tokenizers
from argostranslate import package, tokenizer, translate
from libretranslate import init, main


class Json(tokenizer.Tokenizer):
    def __init__(self, path):
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.tokenizer.encode_special_tokens = True

    def encode(self, sentence):
        return self.tokenizer.encode(sentence, add_special_tokens=False).tokens

    def decode(self, tokens):
        return self.tokenizer.decode([self.tokenizer.token_to_id(token) for token in tokens])


class Lines:
    """Argos Translate has split the text into lines before it asks for sentences."""

    def __init__(self, _):
        pass

    def split_sentences(self, line):
        return [line]


class Translator:
    def __init__(self, model_path, **more):
        self.translator = ctranslate2.Translator(model_path, **more)
        with open(os.path.join(model_path, "bundle.json"), encoding="utf-8") as file:
            self.positions = json.load(file)["shape"]["max_positions"]

    def translate_batch(self, sources, **more):
        bound = max(min(2 * len(tokens) + 10, self.positions - 2) for tokens in sources)
        return self.translator.translate_batch(sources, max_decoding_length=bound, **more)


class Package(package.Package):
    def __init__(self, path):
        super().__init__(path)
        self.tokenizer = Json(self.package_path / "model" / "tokenizer.json")


package.Package = Package
translate.MiniSBDSentencizer = Lines
translate.ctranslate2 = types.SimpleNamespace(Translator=Translator)
init.boot = lambda *_: None

if __name__ == "__main__":
    sys.exit(main())
