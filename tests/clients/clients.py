"""What clients from PyPI get from a server: `clients.py URL`. Prints a line for each call."""

import asyncio
import io
import sys

import deepl
import requests
from deep_translator import LibreTranslator
from libretranslate_aio import AsyncLibreTranslate, LibreTranslate
from libretranslate_aio.exceptions import BadRequestError
from libretranslatepy import LibreTranslateAPI
from translate import Translator

URL = sys.argv[1]
TEXT = "Where is the train station?"
BEST = requests.post(f"{URL}/translate", json={"q": TEXT, "source": "en", "target": "de"}, timeout=30).json()[
    "translatedText"
]
FAILED = []


def check(client, call, got, expected):
    good = expected(got) if callable(expected) else got == expected
    print(f"{'ok' if good else 'FAILED':6} {client:20} {call:32} {str(got)[:90]!r}", flush=True)
    if not good:
        FAILED.append((client, call))


def libretranslatepy():
    api = LibreTranslateAPI(f"{URL}/")
    check("libretranslatepy", "translate", api.translate(TEXT, "en", "de"), BEST)
    check("libretranslatepy", "detect", api.detect(TEXT)[0]["language"], "en")
    check("libretranslatepy", "languages", [one["code"] for one in api.languages()], ["en", "de"])


def libretranslate_aio():
    with LibreTranslate(base_url=URL) as api:
        check("libretranslate-aio", "translate", api.translate(TEXT, "en", "de").translated_text, BEST)
        answer = api.translate(TEXT, "auto", "de", alternatives=2)
        check("libretranslate-aio", "translate auto", answer.detected_language.language, "en")
        html = api.translate(f"<p>{TEXT}</p>", "en", "de", format="html").translated_text
        check("libretranslate-aio", "translate html", html, f"<p>{BEST}</p>")
        check("libretranslate-aio", "detect", api.detect(TEXT)[0].language, "en")
        check("libretranslate-aio", "languages", api.languages()[0].code, "en")
        check("libretranslate-aio", "frontend_settings", api.frontend_settings().char_limit, lambda n: n > 0)
        try:
            api.translate(TEXT, "en", "zz")
            check("libretranslate-aio", "unknown language", "answered", "refused")
        except BadRequestError as error:
            check("libretranslate-aio", "unknown language", str(error), lambda text: "zz is not supported" in text)

    async def asynchronous():
        async with AsyncLibreTranslate(base_url=URL) as api:
            return (await api.translate(TEXT, "en", "de")).translated_text

    check("libretranslate-aio", "async translate", asyncio.run(asynchronous()), BEST)


def deep_translator():
    api = LibreTranslator(source="en", target="de", api_key="key", custom_url=f"{URL}/")
    check("deep-translator", "translate", api.translate(TEXT), BEST)
    check("deep-translator", "translate_batch", api.translate_batch([TEXT, TEXT]), [BEST, BEST])


def translate():
    api = Translator(provider="libre", from_lang="en", to_lang="de", base_url=f"{URL}/")
    check("translate (PyPI)", "translate", api.translate(TEXT), BEST)
    api = Translator(provider="libre", from_lang="autodetect", to_lang="de", base_url=f"{URL}/")
    check("translate (PyPI)", "translate autodetect", api.translate(TEXT), BEST)


def deepl_client():
    client = deepl.DeepLClient("key:fx", server_url=URL)
    name = "deepl (PyPI)"
    one = client.translate_text(TEXT, target_lang="DE")
    check(name, "translate_text", (one.text, one.detected_source_lang), (BEST, "EN"))
    many = client.translate_text([TEXT, ""], source_lang="EN", target_lang="DE", formality="prefer_more")
    check(name, "translate_text list", [result.text for result in many], [BEST, ""])
    html = client.translate_text(f"<p>{TEXT}</p>", source_lang="EN", target_lang="DE", tag_handling="html")
    check(name, "translate_text html", html.text, f"<p>{BEST}</p>")
    xml = client.translate_text(
        f"<a><x>{TEXT}</x>{TEXT}</a>", source_lang="EN", target_lang="DE", tag_handling="xml", ignore_tags=["x"]
    )
    check(name, "translate_text xml", xml.text, f"<a><x>{TEXT}</x>{BEST}</a>")
    fast = client.translate_text(
        TEXT,
        source_lang="EN",
        target_lang="DE",
        model_type="latency_optimized",
        split_sentences="nonewlines",
        preserve_formatting=True,
        context="A traveller asks.",
        extra_body_parameters={"steps": 1},
    )
    check(name, "translate_text options", fast.model_type_used, "latency_optimized")
    check(name, "get_source_languages", [one.code for one in client.get_source_languages()], ["EN"])
    check(name, "get_target_languages", [one.code for one in client.get_target_languages()], ["DE"])
    check(name, "get_usage", client.get_usage().character.count, lambda count: count > 0)
    pairs = client.get_glossary_languages()
    check(name, "get_glossary_languages", [(one.source_lang, one.target_lang) for one in pairs], [("en", "de")])
    glossary = client.create_glossary("rail", "EN", "DE", {"train station": "Hbf"})
    check(name, "create_glossary", glossary.entry_count, 1)
    check(name, "list_glossaries", [one.name for one in client.list_glossaries()], ["rail"])
    check(name, "get_glossary", client.get_glossary(glossary.glossary_id).name, "rail")
    check(name, "get_glossary_entries", client.get_glossary_entries(glossary), {"train station": "Hbf"})
    used = client.translate_text(TEXT, source_lang="EN", target_lang="DE", glossary=glossary)
    check(name, "translate_text glossary", used.text, lambda text: "Hbf" in text)
    client.delete_glossary(glossary)
    try:
        client.get_glossary(glossary.glossary_id)
        check(name, "get_glossary deleted", "found", "refused")
    except deepl.exceptions.GlossaryNotFoundException:
        check(name, "get_glossary deleted", "refused", "refused")
    # The client names the upload after the stream.
    document, out = io.BytesIO(TEXT.encode()), io.BytesIO()
    document.name = "a.txt"
    status = client.translate_document(document, out, source_lang="EN", target_lang="DE")
    check(name, "translate_document", (status.done, out.getvalue().decode()), (True, BEST))
    try:
        client.translate_text(TEXT, target_lang="ZZ")
        check(name, "unknown language", "answered", "refused")
    except deepl.DeepLException as error:
        check(name, "unknown language", str(error), lambda text: "zz is not supported" in text)


for client in (libretranslatepy, libretranslate_aio, deep_translator, translate, deepl_client):
    client()
if FAILED:
    sys.exit(f"{len(FAILED)} calls failed: {FAILED}")
