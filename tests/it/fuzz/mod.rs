//! Fuzz targets: what a client, a file or a model can contain must not panic, and must not pass for something else.
//!
//! Each is a target of bolero on edits of valid inputs: random ones for a second in `cargo test`, guided by coverage in
//! `cargo bolero test fuzz::spans`, the same ones each time from the number TEST_FUZZ_IN_ORDER on. .github/CONTRIBUTING.md says how
//! to run them for longer and how to repeat a failure.

mod edits;
mod mutants;

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use bolero::{BorrowedInput, ByteSliceGenerator, DefaultEngine, TestTarget, check};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tutti::decode::{DecodeOptions, Steps, Translator, translate_passages};
use tutti::formats::Format;
use tutti::model::{Bundle, Stored};
use tutti::text::Reader;
use tutti::text::spans::{self, Kind};
use tutti::train::bundle::calibrate::{Calibration, calibrate};

use self::edits::{Input, Inputs, edited, edited_text};
use crate::bundle::sealed::{SEALED, sealed};
use crate::support::{Server, Setup, TOKENIZER, en_de, fake, in_time, raw};

/// Made by `check!()` at the start of each test, which ends the test there while `cargo bolero` looks for its target.
type Target = TestTarget<ByteSliceGenerator, DefaultEngine, BorrowedInput>;

/// Runs a target on edits of so many valid inputs until its time is over.
fn fuzz<F: FnMut(&Input)>(target: Target, seeds: usize, test: F) {
    // bolero's random engine has other seeds in each run; its exhaustive engine counts from zero.
    let in_order_from: Option<u32> =
        std::env::var("TEST_FUZZ_IN_ORDER").ok().map(|first| first.parse().expect("a whole number"));
    let target = target
        .with_generator(Inputs { seeds, in_order_from })
        .with_test_time(Duration::from_secs(1))
        // Inputs are at most three edits, and shrinking would run servers and read files many times more.
        .with_shrink_time(Duration::ZERO);
    let target = if in_order_from.is_some() { target.exhaustive() } else { target };
    // The first panic ends the test.
    let mut test = AssertUnwindSafe(test);
    target.for_each(move |input: &Input| {
        let test: &mut F = &mut test;
        test(input);
    });
}

const TEXTS: [&str; 8] = [
    "Dear {name}, your order #%1$s of 1,299.99 € has %d items: see https://example.org/a?b=c&d=%20.\n\n- one\n- two\n",
    "IMPORTANT: `cargo build` writes to /usr/local/bin/tutti; mail ops@example.org (v1.2.3, 2026-11-29, 14:05).",
    "E = mc² — \u{1f600}\u{fe0f}\u{200d}\u{1f680} «Größe» ﬁ ①\u{301}\t\u{a0}\r\nlast line",
    "<p>Hello <b>world</b>, <a href=\"x\">a link</a><br/>&amp; more</p><!-- no --><script>var a = '<b>';</script>",
    "# Title\n\n* a **bold** item with `code` and [a link](http://example.org)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "msgid \"\"\nmsgstr \"\"\n\"Language: de\\n\"\n\nmsgid \"Open %s\"\nmsgstr \"\"\n\nmsgid \"file\"\nmsgid_plural \"files\"\nmsgstr[0] \"\"\n",
    "1\n00:00:01,000 --> 00:00:02,500\nHello <i>there</i>.\n\n2\n00:00:03,000 --> 00:00:04,000\nBye.\n",
    "{\"title\": \"A title\", \"n\": [1, \"two\", {\"x\": \"y\\u0041\"}], \"empty\": \"\"}",
];

#[test]
fn spans() {
    let target = check!();
    let fake = fake();
    let reader = Reader::new(TOKENIZER.clone(), "en", "de", fake.limits().source_tokens);
    fuzz(target, TEXTS.len(), |input| {
        // No answer contains U+FFFD, which an edit may have put into a placeholder.
        let text = edited_text(TEXTS[input.seed], &input.edits).replace(char::REPLACEMENT_CHARACTER, "");
        let found = spans::find(&text);
        let mut end = 0;
        for span in &found {
            assert!(span.range.start >= end && span.range.end > span.range.start, "{text:?}: {span:?}");
            end = span.range.end;
            assert!(text.get(span.range.clone()).is_some(), "{text:?}: {span:?} cuts a character");
        }
        let mut passages = [reader.read(&text)];
        translate_passages(&fake, &mut passages, &DecodeOptions::new(Steps::ONE))
            .expect("a fake never fails");
        let answer = passages[0].text();
        for span in found.iter().filter(|span| span.kind == Kind::Placeholder) {
            let placeholder = &text[span.range.clone()];
            assert!(
                answer.matches(placeholder).count() >= text.matches(placeholder).count().min(1),
                "{text:?} lost {placeholder:?}: {answer:?}"
            );
        }
    });
}

#[test]
fn documents() {
    let target = check!();
    let names = ["a.txt", "a.html", "a.xhtml", "a.md", "a.po", "a.srt", "a.json", "a.xlf"];
    let formats: Vec<Format> = names.iter().filter_map(|name| Format::of_file(name)).collect();
    assert_eq!(formats.len(), names.len());
    // Each text in each format.
    fuzz(target, TEXTS.len() * formats.len(), |input| {
        let source = edited_text(TEXTS[input.seed % TEXTS.len()], &input.edits);
        let format = &formats[input.seed / TEXTS.len()];
        let Ok(document) = format.read(&source) else { return };
        for text in document.texts() {
            assert!(text.tags.iter().all(|tag| text.text.get(tag.clone()).is_some()), "{source:?}: {text:?}");
        }
        let same: Vec<String> = document.texts().iter().map(|text| text.text.clone()).collect();
        let rebuilt = document.rebuild(&same);
        if *format == Format::Text {
            assert_eq!(rebuilt, source);
        }
        // What was written can be read again.
        format
            .read(&rebuilt)
            .unwrap_or_else(|error| panic!("{format:?}: {source:?} to {rebuilt:?}: {error}"));
    });
}

/// Requests of every dialect, as bytes on a connection.
fn requests_seeds() -> Vec<Vec<u8>> {
    let form = "q=Hello.&source=en&target=de&alternatives=2&format=html";
    let form = format!(
        "POST /translate?steps=2 HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    let parts = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.srt\"\r\n\r\n1\n00:00:01,000 --> \
                 00:00:02,500\nHello.\n\r\n--x\r\ncontent-disposition: form-data; name=\"source\"\r\n\r\nen\r\n--x\r\n\
                 content-disposition: form-data; name=\"target\"\r\n\r\nde\r\n--x--\r\n";
    let multipart = format!(
        "POST /translate_file HTTP/1.1\r\nhost: test\r\ncontent-type: multipart/form-data; boundary=x\r\n\
         content-length: {}\r\n\r\n{parts}",
        parts.len()
    );
    let json = |path: &str, body: &str| raw("POST", path, body);
    vec![
        json(
            "/translate?deadline_ms=5000",
            r#"{"q":["Hello.","<b>x</b>"],"source":"auto","target":"de","format":"html","steps":3,"scores":true,"trace":1}"#,
        ),
        json("/translate", r#"{"q":"Hello {name}.","source":"en","target":"de","glossary":{"Hello":"Hallo"}}"#),
        json("/translate", r#"{"from":"en","to":"de","text":"Hello."}"#),
        json("/translate/stream", r#"{"q":"Hello.","source":"en","target":"de"}"#),
        json("/v2/translate", r#"{"text":["Hello."],"source_lang":"EN","target_lang":"DE","model_type":"latency_optimized"}"#),
        json("/v2/glossaries", r#"{"name":"a","source_lang":"en","target_lang":"de","entries":"a\tb","entries_format":"tsv"}"#),
        json("/imme", r#"{"source_lang":"en","target_lang":"de","text_list":["Hello."]}"#),
        json("/detect", r#"{"q":"Where is the train station?"}"#),
        form.into_bytes(),
        multipart.into_bytes(),
        b"GET /languages HTTP/1.1\r\nhost: test\r\naccept-encoding: gzip\r\n\r\n".to_vec(),
        b"POST /detect HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n\
          d\r\n{\"q\":\"Hello\"}\r\n0\r\n\r\n"
            .to_vec(),
    ]
}

/// The answer to bytes on a connection whose client then sends no more. It says so only after a moment: a server takes
/// the end of the client's side for a client that has left.
async fn answer(server: &Server, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    // A server that has read enough may have closed already.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(patience, stream.read_buf(&mut answer)).await;
    let _ = stream.shutdown().await;
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    answer
}

#[test]
fn requests() {
    let target = check!();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(Setup::default()));
    let expected = runtime.block_on(server.translate("/translate", en_de("Thank you.")));
    let seeds = requests_seeds();
    for seed in &seeds {
        let answer = runtime.block_on(answer(&server, seed, Duration::from_secs(60)));
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        assert!(line.starts_with("HTTP/1.1 2"), "{line}: {}", String::from_utf8_lossy(seed));
    }
    fuzz(target, seeds.len(), |input| {
        let bytes = edited(&seeds[input.seed], &input.edits);
        let answer = runtime.block_on(answer(&server, &bytes, Duration::from_millis(50)));
        let head = String::from_utf8_lossy(&answer);
        assert!(!head.starts_with("HTTP/1.1 500"), "{:?}: {head}", String::from_utf8_lossy(&bytes));
    });
    assert_eq!(runtime.block_on(server.translate("/translate", en_de("Thank you."))), expected);
}

/// A checkpoint whose pickle is taken apart.
static PICKLE: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(mutants::checkpoint_and_pickle);

#[test]
fn pickles() {
    let target = check!();
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, pickle) = &*PICKLE;
    fuzz(target, 1, |input| {
        // Success or an error; a checkpoint that reads differently is another network, not a wrong one.
        let _ = mutants::import_changed(checkpoint, &edited(pickle, &input.edits), folder.path());
    });
}

#[test]
fn weights() {
    let target = check!();
    let root = sealed();
    let (f16, q8) = (root.path().join("en-de"), root.path().join("q8"));
    calibrate(&Bundle::open(&f16).unwrap(), Calibration::NONE, Some(Stored::Q8), &q8).unwrap();
    let files = [f16, q8].map(|folder| {
        // Without checksums, so that damaged weights are read.
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(folder.join(Bundle::CONFIG)).unwrap()).unwrap();
        config.as_object_mut().unwrap().remove("files");
        std::fs::write(folder.join(Bundle::CONFIG), config.to_string()).unwrap();
        let path = folder.join(Bundle::WEIGHTS);
        let whole = std::fs::read(&path).unwrap();
        assert!(mutants::translations(&folder).is_ok());
        (folder, path, whole)
    });
    fuzz(target, files.len(), |input| {
        let (folder, path, whole) = &files[input.seed];
        std::fs::write(path, edited(whole, &input.edits)).unwrap();
        // Success or an error; other numbers are another network.
        let _ = mutants::translations(folder);
    });
}

#[test]
fn bundles() {
    let target = check!();
    let root = sealed();
    let folder = root.path().join("en-de");
    let originals = SEALED.map(|name| std::fs::read(folder.join(name)).unwrap());
    let expected = mutants::translations(&folder).expect("it is whole");
    fuzz(target, SEALED.len(), |input| {
        let original = &originals[input.seed];
        let path = folder.join(SEALED[input.seed]);
        std::fs::write(&path, edited(original, &input.edits)).unwrap();
        let answer = mutants::translations(&folder);
        std::fs::write(&path, original).unwrap();
        if let Ok(answer) = answer {
            assert_eq!(answer, expected, "{}: {:?}", SEALED[input.seed], input.edits);
        }
    });
}
