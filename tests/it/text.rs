//! Text that must be copied, or converted to the target's form: a table of texts (`data/text.tsv`), with a fake
//! network and with the model of the repository.

use std::path::PathBuf;
use std::sync::LazyLock;

use tutti::decode::{DecodeOptions, InferenceModel, Steps, Translator, translate_passages};
use tutti::model::{Backend, Bundle, Dtype};
use tutti::text::spans::{self, Kind};
use tutti::text::{Passage, Reader};

use crate::support::{TOKENIZER, fake};

/// The copy strings of the specification come first in the table.
const COPIES: usize = 37;

struct Case {
    /// The text may depend on whether the model knows a name.
    of_the_model: bool,
    text: String,
    must: Must,
}

enum Must {
    Be(String),
    Contain(Vec<String>),
}

impl Case {
    fn is_met(&self, answer: &str) -> bool {
        match &self.must {
            Must::Be(expected) => answer == expected,
            Must::Contain(parts) => {
                let times = |part: &String| parts.iter().filter(|other| *other == part).count();
                parts.iter().all(|part| answer.matches(part.as_str()).count() >= times(part))
            }
        }
    }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let table = include_str!("data/text.tsv");
    let lines = table.lines().filter(|line| !line.starts_with("# "));
    let case = |line: &str| {
        let mut columns = line.split('\t');
        let kind = columns.next().unwrap();
        let text = unescaped(columns.next().unwrap());
        let must = columns.next().map_or_else(|| text.clone(), unescaped);
        let must = match kind {
            "=" | "?" => Must::Be(must),
            "~" => Must::Contain(must.split(" | ").map(str::to_owned).collect()),
            _ => panic!("{line}: no such kind"),
        };
        Case { of_the_model: kind == "?", text, must }
    };
    lines.map(case).collect()
});

fn unescaped(text: &str) -> String {
    let text = text.replace("\\\\", "\u{1}").replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r");
    let text = text.replace("\\u{a0}", "\u{a0}").replace("\\u{feff}", "\u{feff}");
    text.replace('\u{1}', "\\")
}

fn translated<T: Translator>(translator: &T, reader: &Reader, texts: &[&str], steps: u8) -> Vec<Passage> {
    let mut passages: Vec<Passage> = texts.iter().map(|text| reader.read(text)).collect();
    let options = DecodeOptions { length_beam: 2, ..DecodeOptions::new(Steps::new(steps).unwrap()) };
    translate_passages(translator, &mut passages, &options).unwrap();
    passages
}

fn default_model() -> (InferenceModel, Reader) {
    let bundle = Bundle::open(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/en-de")).unwrap();
    let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::default())).unwrap();
    (network, bundle.reader())
}

#[test]
fn what_must_come_back_comes_back_whatever_the_network_says() {
    assert!(CASES.len() >= 150);
    let fake = fake();
    let reader = Reader::new(TOKENIZER.clone(), "en", "de", fake.limits().source_tokens);
    let texts: Vec<&str> = CASES.iter().map(|case| case.text.as_str()).collect();
    let mut wrong = Vec::new();
    for (case, passage) in CASES.iter().zip(translated(&fake, &reader, &texts, 2)) {
        if !case.of_the_model && !case.is_met(&passage.text()) {
            wrong.push(format!("{:?} became {:?}", case.text, passage.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_must_come_back_comes_back_from_the_default_model() {
    let (network, reader) = default_model();
    let texts: Vec<&str> = CASES.iter().map(|case| case.text.as_str()).collect();
    let (mut copies, mut wrong) = (0, Vec::new());
    for (i, (case, passage)) in CASES.iter().zip(translated(&network, &reader, &texts, 4)).enumerate() {
        let met = case.is_met(&passage.text());
        copies += usize::from(met && i < COPIES);
        if !met && !case.of_the_model {
            wrong.push(format!("{:?} became {:?}", case.text, passage.text()));
        }
    }
    println!("{copies} of {COPIES} copy strings");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(copies >= 33, "{copies} of {COPIES}");
}

/// 200 strings in the style of programs (`data/ui.txt`), and those of real programs if they are available; the latter
/// are not part of the repository.
#[test]
fn the_default_model_keeps_the_placeholders_of_user_interfaces() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ui-en-de/test.en");
    let path = std::env::var_os("TEST_UI_STRINGS").map_or(path, PathBuf::from);
    let real = std::fs::read_to_string(path).unwrap_or_default();
    let own = include_str!("data/ui.txt");
    assert_eq!(own.lines().count(), 200);
    let placeholders = |text: &str| -> Vec<String> {
        let filled = |kind: Kind| matches!(kind, Kind::Placeholder | Kind::Markup);
        let spans = spans::find(text).into_iter().filter(|span| filled(span.kind));
        spans.map(|span| text[span.range].to_owned()).collect()
    };
    assert!(own.lines().all(|line| !placeholders(line).is_empty()));
    let with_one = real.lines().filter(|line| !placeholders(line).is_empty()).take(200);
    let lines: Vec<&str> = own.lines().chain(with_one).collect();
    let (network, reader) = default_model();
    let mut wrong = Vec::new();
    for (line, passage) in lines.iter().zip(translated(&network, &reader, &lines, 2)) {
        let answer = passage.text();
        let times = |text: &str, placeholder: &String| text.matches(placeholder.as_str()).count();
        if placeholders(line)
            .iter()
            .any(|placeholder| times(&answer, placeholder) != times(line, placeholder))
        {
            wrong.push(format!("{line} became {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} strings with placeholders", lines.len());
}

#[test]
fn a_text_of_any_length_is_translated() {
    let fake = fake();
    let reader = Reader::new(TOKENIZER.clone(), "en", "de", fake.limits().source_tokens);
    let url = format!("https://tutti.example/{}", "a".repeat(20_000));
    let texts = ["字".repeat(30_000), url.clone(), "word ".repeat(5000), "x".repeat(30_000)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let passages = translated(&fake, &reader, &texts, 1);
    assert_eq!(passages[1].text(), url);
    assert!(passages.iter().all(|passage| !passage.text().is_empty()));
}
