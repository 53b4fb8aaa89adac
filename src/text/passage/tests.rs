use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;
use crate::text::{Specials, Tokenizer};

const CORPUS: [&str; 6] = [
    "Where is the train station? It is over there, behind the old bridge.",
    "Hello, you have new messages from the other side of the world",
    "Please open the settings and save your work; then close the window.",
    "one, two, three, four, five, six, seven, eight",
    "Größe, Straße, schöne Grüße",
    "the The a A is Is open Open save Save file File files Files",
];

fn reader(reserved: usize, limit: usize) -> Reader {
    let tokenizer = Tokenizer::train_with_reserved(CORPUS.iter(), 416, reserved).unwrap();
    Reader::new(Arc::new(tokenizer), "en", "de", limit)
}

/// Without reserved tokens, like imported models.
static BARE: LazyLock<Reader> = LazyLock::new(|| reader(0, 64));
static RESERVED: LazyLock<Reader> = LazyLock::new(|| reader(32, 64));

/// Translates with a network that answers `translate(source, attempt)`. Returns the number of requests.
fn run(document: &mut Passage, mut translate: impl FnMut(&[u32], usize) -> Vec<u32>) -> usize {
    let mut requested = 0;
    loop {
        let requests = document.requests().unwrap();
        if requests.is_empty() {
            return requested;
        }
        assert!(requested < 100_000, "the translation must become complete");
        let answers = requests.iter().map(|request| {
            requested += 1;
            assert!(request.source.len() <= document.reader.limit, "{} tokens", request.source.len());
            let inner = &request.source[1..request.source.len() - 1];
            vec![Candidate { tokens: translate(inner, requested), score: -0.1 }]
        });
        let answers = answers.collect();
        document.answer(answers).unwrap();
    }
}

fn echo(reader: &Reader, text: &str) -> String {
    let mut document = reader.read(text);
    run(&mut document, |source, _| source.to_vec());
    document.text()
}

#[test]
fn a_network_that_copies_its_source_returns_the_text_unchanged() {
    for reader in [&*BARE, &*RESERVED] {
        for text in [
            "",
            " ",
            "\n\n",
            "…",
            " - ! \n ?",
            "Where is it?  It is here.\r\n\n---\n* yes\t",
            "  - Milk\n  - Two eggs\n\t1. Some flour",
            "## Before you begin\n> quoted text",
            "**Note:** save `it` now",
            "Hello {name}, you have %d new messages.",
            "Visit <a href=\"https://tutti.example\">our site</a> & say hi.",
            "Deleted {0} of {1} files in {folder}.",
            "Run `tutti check` first, then restart.",
            "Great job 👏 see you!",
            "{count, plural, one {# photo} other {# photos}}",
            "Name:\tvalue\tother",
            "| a cell | another |\n|---|---|",
            "```\nlet x = 1;\n```\nafter it",
            "[our guide](https://a.example/x) helps",
        ] {
            assert_eq!(echo(reader, text), text, "{text:?}");
        }
    }
}

#[test]
fn alternatives_differ_and_contain_every_span() {
    for reader in [&*BARE, &*RESERVED] {
        let mut document = reader.read("Hello {name}, open {file} now.");
        loop {
            let requests = document.requests().unwrap();
            if requests.is_empty() {
                break;
            }
            let word = reader.tokenizer.encode("the").unwrap()[1];
            let candidates = |request: &Request| -> Vec<Candidate> {
                let inner = request.source[1..request.source.len() - 1].to_vec();
                let without_spans = inner.iter().copied().filter(|&id| !is_reserved(reader, id)).collect();
                let longer = [&[word], inner.as_slice()].concat();
                let all = [inner.clone(), without_spans, inner, longer];
                all.map(|tokens| Candidate { tokens, score: -0.1 }).into()
            };
            document.answer(requests.iter().map(candidates).collect()).unwrap();
        }
        assert_eq!(document.text(), "Hello {name}, open {file} now.");
        let alternatives = document.alternatives(5);
        let [other] = alternatives.as_slice() else { panic!("{alternatives:?}") };
        assert!(other.contains("the"), "{other}");
        assert!(other.matches("{name}").count() == 1 && other.matches("{file}").count() == 1, "{other}");
    }
}

fn is_reserved(reader: &Reader, id: u32) -> bool {
    (0..reader.tokenizer.reserved()).any(|index| reader.tokenizer.reserved_id(index) == Some(id))
}

#[test]
fn numbers_take_the_form_of_the_target_language_and_other_spans_stay() {
    for (text, expected) in [
        ("https://tutti.example/start", "https://tutti.example/start"),
        ("2.71", "2,71"),
        ("12,500", "12.500"),
        ("€12.50", "12,50 €"),
        ("08:15", "08:15"),
        ("y", "y"),
        ("OK", "OK"),
        ("ECONNREFUSED", "ECONNREFUSED"),
        ("7 / 12", "7 / 12"),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ("...", "..."),
        ("(c) 2027", "(c) 2027"),
        ("it is 3.5 GB", "it is 3,5 GB"),
        ("\u{feff}Where\u{200b} is it?", "Where is it?"),
        ("“Save” it", "„Save“ it"),
    ] {
        for reader in [&*BARE, &*RESERVED] {
            assert_eq!(echo(reader, text), expected, "{text:?}");
        }
    }
}

#[test]
fn capitals_are_restored_and_no_mark_is_added() {
    let mut document = BARE.read("OPEN THE FILES");
    let mut seen = Vec::new();
    run(&mut document, |source, _| {
        seen = source.to_vec();
        [source, &BARE.tokenizer.encode(".").unwrap()[1..2]].concat()
    });
    assert_eq!(BARE.tokenizer.decode(&seen).unwrap(), "Open the files");
    assert_eq!(document.text(), "OPEN THE FILES");
}

#[test]
fn a_sentence_with_a_lost_or_doubled_span_is_retried_and_then_split() {
    let text = "Hello {name}, open {file} now.";
    let x = |index: usize| RESERVED.tokenizer.reserved_id(index).unwrap();
    for bad_output in [vec![], vec![x(0)], vec![x(0), x(1), x(1)], vec![x(0), x(1), x(2)]] {
        let mut document = RESERVED.read(text);
        let requested = run(&mut document, |source, attempt| match attempt {
            1 | 2 => bad_output.clone(),
            _ => source.to_vec(),
        });
        assert_eq!((document.text().as_str(), requested), (text, 5), "{bad_output:?}");
        assert_eq!(document.warnings(), [Warning::Split]);
        let mut document = RESERVED.read(text);
        run(&mut document, |source, attempt| if attempt == 1 { bad_output.clone() } else { source.to_vec() });
        assert_eq!((document.text().as_str(), document.retried()), (text, 1));
        assert!(document.warnings().is_empty());
    }
}

#[test]
fn a_sentence_with_a_changed_number_is_split() {
    let mut document = BARE.read("you have 12 files");
    let other = BARE.tokenizer.encode("you have 2 files").unwrap();
    run(&mut document, |source, attempt| if attempt == 1 { other.clone() } else { source.to_vec() });
    assert_eq!(document.text(), "you have 12 files");
}

#[test]
fn a_short_translation_is_retried() {
    let text = "Please open the settings and save your work; then close the window.";
    let mut document = BARE.read(text);
    let requested = run(
        &mut document,
        |source, attempt| if attempt < 3 { source[..1].to_vec() } else { source.to_vec() },
    );
    assert_eq!((document.text().as_str(), requested), (text, 4), "twice whole, then each clause");
}

#[test]
fn incomplete_characters_are_never_returned() {
    let mut document = BARE.read("Where is Größe?");
    run(&mut document, |source, _| {
        let bytes = BARE.tokenizer.encode("\u{153}").unwrap();
        [source, &bytes[1..2]].concat()
    });
    assert!(!document.text().contains(char::REPLACEMENT_CHARACTER), "{}", document.text());
    assert!(document.text().contains("Größe"));
}

#[test]
fn a_text_of_any_length_is_cut_without_loss() {
    for text in [
        "one, two, three, four, five, six. ".repeat(40),
        "word ".repeat(2000),
        "x".repeat(20_000),
        "字".repeat(20_000),
        "{a} ".repeat(500),
        "<b>".repeat(2000),
        format!("save https://a.example/{} now", "x".repeat(5000)),
        "7".repeat(5000),
    ] {
        for reader in [&*BARE, &*RESERVED] {
            assert_eq!(echo(reader, &text), text);
        }
    }
}

/// Any text is read in linear time.
#[test]
fn a_large_unusual_text_is_read_quickly() {
    for part in
        ["字", "x", "X", "a<b>", "1 ", "1|", "a, ", "A.A.", "- ", "> ", "é\u{301}", "{a}", "`", "a\t", "a. "]
    {
        let text = part.repeat((1 << 17) / part.len());
        let begun = std::time::Instant::now();
        let requests = RESERVED.read(&text).requests().unwrap();
        assert!(requests.iter().all(|request| request.source.len() <= 64));
        let taken = begun.elapsed();
        assert!(taken.as_secs() < 10, "{part:?}: {taken:?}");
    }
}

#[test]
fn the_callers_spans_stay_in_their_place() {
    let text = "Hello \u{e000}old\u{e001} world, save 1.5";
    let at = |c: char| text.find(c).unwrap();
    let span = |c: char| Span { range: at(c)..at(c) + c.len_utf8(), kind: spans::Kind::Markup };
    let number = Span { range: text.len() - 3..text.len(), kind: spans::Kind::Identifier };
    let given = |span: Span| GivenSpan { replacement: &text[span.range.clone()], span };
    let given = [span('\u{e000}'), span('\u{e001}'), number].map(given);
    for reader in [&*BARE, &*RESERVED] {
        let mut document = reader.read_with(text, &given, ReadOptions::default());
        run(&mut document, |source, _| source.to_vec());
        assert_eq!(document.text(), text);
    }
}

#[test]
fn a_term_is_replaced_for_any_output_of_the_network() {
    let text = "open the train station now";
    let span = Span { range: 9..22, kind: spans::Kind::Identifier };
    for reader in [&*BARE, &*RESERVED] {
        let given = [GivenSpan { span: span.clone(), replacement: "Bahnhof" }];
        let mut passage = reader.read_with(text, &given, ReadOptions::default());
        run(&mut passage, |source, _| source.to_vec());
        assert_eq!(passage.text(), "open the Bahnhof now");
    }
}

#[test]
fn a_stopped_reader_stops_reading() {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = BARE.clone().until(stop.clone());
    let text = format!("{}\n{}", "字".repeat(5000), "open the file\n".repeat(200));
    let mut passage = reader.read(&text);
    let all = passage.requests().unwrap().len();
    assert!(all > 400, "{all}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(passage.requests().unwrap().is_empty());
    assert!(reader.read(&text).parts.is_empty());
    stop.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(passage.requests().unwrap().len(), all);
}

#[test]
fn wrapped_lines_are_joined_around_the_callers_spans() {
    let text =
        "Please open the settings and save your work to\r\nthe other window and the old bridge now\nthe end";
    let term = text.find("now\nthe").unwrap();
    let span = |range: std::ops::Range<usize>| Span { range, kind: spans::Kind::Identifier };
    let given = [(7..11, "offen"), (term..term + 7, "jetzt das")];
    let given = given.map(|(range, replacement)| GivenSpan { span: span(range), replacement });
    let mut passage = BARE.read_with(text, &given, ReadOptions { join_lines: true });
    run(&mut passage, |source, _| source.to_vec());
    let expected =
        "Please offen the settings and save your work to the other window and the old bridge jetzt das end";
    assert_eq!(passage.text().replace("  ", " "), expected);
}

#[test]
fn wrapped_lines_are_joined_only_on_request() {
    let text = "Please open the settings and save your work to\nthe other window.\n- one";
    let read = |join_lines| {
        let mut document = BARE.read_with(text, &[], ReadOptions { join_lines });
        run(&mut document, |source, _| source.to_vec());
        document.text()
    };
    assert_eq!(read(false), text);
    assert_eq!(read(true), text.replace("to\nthe", "to the"));
}

#[test]
fn a_bar_in_code_ends_no_cell_of_a_table() {
    for reader in [&*BARE, &*RESERVED] {
        for text in ["|`|AA\"a`", "| the file | `a | b` | open |", "| a | b"] {
            assert_eq!(echo(reader, text), text);
        }
        let mut passage = reader.read("| the file | see `a | b` | open |");
        assert_eq!(run(&mut passage, |source, _| source.to_vec()), 3);
    }
}

#[test]
fn a_final_mark_of_a_span_is_not_a_final_mark_of_the_line() {
    for reader in [&*BARE, &*RESERVED] {
        let mut passage = reader.read("0 aaA{aa=:a:");
        run(&mut passage, |source, _| source.iter().rev().copied().collect());
        assert!(passage.text().contains(":a:"), "{}", passage.text());
    }
}

fn texts() -> impl Strategy<Value = String> {
    let parts = "(Hello|open|the|file|SAVE|GrÖße|\\{name\\}|%1\\$s|<b>|</b>|https://a\\.example/x|me@a\\.example|👏|3\\.5 GB|12,500|\\$5|7:45 pm|README\\.md|, |; |\\. |\\? |\\*\\*|`x y`|\n|\t|- | |“|’|\u{ad}|\u{feff}|字|\u{301}){0,16}";
    prop_oneof![3 => parts, 1 => any::<String>(), 1 => "[ -~]{0,40}"]
}

/// Number of cases of each property; CI sets it so that there are 100,000 in all.
fn cases() -> u32 {
    std::env::var("TEST_TEXT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

fn span_texts(text: &str, local: bool) -> Vec<String> {
    let mut all = Vec::new();
    // A tab ends a cell, as a line break ends a line.
    for line in text.split(|c| is_line_break(c) || c == '\t') {
        for span in spans::find(line) {
            let text = &line[span.range];
            let text =
                if local { localise(text, span.kind, &BARE.languages).into_owned() } else { text.to_owned() };
            all.push(text);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// A network that loses, doubles and breaks its input at random.
    #[test]
    fn no_span_is_lost_no_line_and_no_character_is_broken(
        text in texts(),
        seed in any::<u64>(),
        reserved in any::<bool>(),
    ) {
        let reader = if reserved { &*RESERVED } else { &*BARE };
        let text = text.replace(char::REPLACEMENT_CHARACTER, "");
        let mut document = reader.read(&text);
        let mut state = seed;
        run(&mut document, |source, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut out = source.to_vec();
            let place = (state >> 33) as usize % out.len().max(1);
            match (state >> 60) % 6 {
                0 => out.truncate(place),
                1 if !out.is_empty() => { out.remove(place); }
                2 if !out.is_empty() => out.insert(place, out[place]),
                3 => out.reverse(),
                4 => out.insert(place.min(out.len()), Specials::NAMES.len() as u32 + 40 + (state >> 50) as u32 % 200),
                _ => {}
            }
            out
        });
        let answer = document.text();
        prop_assert!(!answer.contains(char::REPLACEMENT_CHARACTER));
        let lines = |text: &str| text.chars().filter(|&c| is_line_break(c)).count();
        prop_assert_eq!(lines(&answer), lines(&text), "{:?}", answer);
        // No span is doubled: two joined parts of a text never make one of these.
        let parts = ["{name}", "%1$s", "</b>", "<b>", "https://a.example/x", "me@a.example", "👏", "`x y`"];
        // Loose brackets may enclose a letter in the translation.
        let loose = parts.iter().fold(text.clone(), |text, part| text.replace(part, " "));
        for span in parts.iter().filter(|_| !loose.contains(['<', '>', '{', '}', '`', '%', '$'])) {
            prop_assert!(answer.matches(*span).count() <= text.matches(*span).count(), "{} in {:?}", span, answer);
        }
        for span in span_texts(&text, true) {
            let least = span_texts(&text, true).iter().filter(|other| **other == span).count();
            prop_assert!(answer.matches(&span).count() >= least, "{:?} is not {} times in {:?}", span, least, answer);
        }
    }

    #[test]
    fn copied_text_keeps_every_span_once(text in texts()) {
        let text = text.replace(char::REPLACEMENT_CHARACTER, "");
        for reader in [&*BARE, &*RESERVED] {
            let answer = echo(reader, &text);
            for span in span_texts(&text, true) {
                prop_assert!(answer.contains(&span), "{:?} is not in {:?}", span, answer);
            }
        }
    }
}
