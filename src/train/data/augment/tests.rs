use std::sync::LazyLock;

use super::*;
use crate::text::{Candidate, Reader};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let lines = ["The cat sleeps. The dog eats.", "Die Katze schläft. Der Hund isst."];
    Tokenizer::train_with_reserved(lines.iter(), 320, 32).unwrap()
});

const TEXTS: [(&str, &str); 3] =
    [("The cat sleeps.", "Die Katze schläft."), ("The dog eats.", "Der Hund isst."), ("Open", "Öffnen")];

/// The augmented texts, and how many were used.
fn varied(rates: Augment, texts: &[(&str, &str)], tokens: usize, seed: u64) -> ([String; 2], usize) {
    let (pair, used) = pair(rates, texts, tokens, seed);
    ([pair.source, pair.target].map(|ids| TOKENIZER.decode(&ids).unwrap()), used)
}

fn pair(rates: Augment, texts: &[(&str, &str)], tokens: usize, seed: u64) -> (Pair, usize) {
    let languages = Languages::new("en", "de");
    let limit = LengthLimit::tokens(tokens);
    let augmenter = Augmenter { rates, tokenizer: &TOKENIZER, languages: &languages, limit };
    augmenter.pair(texts, &mut Rng::from_seed(seed)).unwrap()
}

fn one(rates: Augment) -> [String; 2] {
    varied(rates, &TEXTS, 100, 1).0
}

#[test]
fn each_change_affects_the_right_sides() {
    const NONE: Augment = Augment::NONE;
    assert_eq!(one(NONE), ["The cat sleeps.", "Die Katze schläft."]);
    assert_eq!(one(Augment { upper_case: 1.0, ..NONE }), ["THE CAT SLEEPS.", "DIE KATZE SCHLÄFT."]);
    assert_eq!(one(Augment { title_case: 1.0, ..NONE }), ["The Cat Sleeps.", "Die Katze Schläft."]);
    assert_eq!(one(Augment { no_final_mark: 1.0, ..NONE }), ["The cat sleeps", "Die Katze schläft"]);
    let mut differ = false;
    for seed in 0..20 {
        let ([source, target], _) = varied(Augment { typos: 1.0, ..NONE }, &TEXTS, 100, seed);
        differ |= source != "The cat sleeps.";
        assert_eq!(target, "Die Katze schläft.");
    }
    assert!(differ);
}

#[test]
fn an_emoji_has_the_same_relative_position_on_both_sides() {
    for seed in 0..20 {
        let ([source, target], _) = varied(Augment { emoji: 1.0, ..Augment::NONE }, &TEXTS, 100, seed);
        let at =
            |text: &str| text.split(' ').position(|word| !word.is_ascii() && !word.contains('ä')).unwrap();
        assert_eq!(at(&source), at(&target), "{source} {target}");
        assert_eq!(source.split(' ').nth(at(&source)), target.split(' ').nth(at(&target)));
    }
}

#[test]
fn sentences_are_joined_as_far_as_they_fit() {
    let joining = Augment { join: 1.0, ..Augment::NONE };
    for seed in 0..20 {
        let ([source, target], used) = varied(joining, &TEXTS, 100, seed);
        assert!((2..=3).contains(&used));
        assert!(source.starts_with("The cat sleeps. The dog eats."), "{source}");
        assert!(target.starts_with("Die Katze schläft. Der Hund isst."), "{target}");
        // A label has no final mark, so nothing is joined to it.
        let (label, used) = varied(joining, &[TEXTS[2], TEXTS[0]], 100, seed);
        assert_eq!((label, used), (["Open".into(), "Öffnen".into()], 1));
    }
    let length = TOKENIZER.encode(TEXTS[0].1).unwrap().len();
    assert_eq!(varied(joining, &TEXTS, length + 1, 1).1, 1);
}

#[test]
fn a_sentence_that_would_become_too_long_stays_unchanged() {
    let upper = Augment { upper_case: 1.0, ..Augment::NONE };
    let plain = [TEXTS[0].0, TEXTS[0].1].map(|text| TOKENIZER.encode(text).unwrap().len());
    let limit = plain[0].max(plain[1]);
    assert!(TOKENIZER.encode(&TEXTS[0].1.to_uppercase()).unwrap().len() > limit);
    assert_eq!(varied(upper, &TEXTS, limit, 1).0, [TEXTS[0].0, TEXTS[0].1]);
}

#[test]
fn rates_are_kept_and_the_same_seed_gives_the_same_text() {
    let rates = Augment { upper_case: 0.05, ..Augment::NONE };
    let hits = (0..4000).filter(|&seed| varied(rates, &TEXTS[2..], 100, seed).0[0] == "OPEN").count();
    assert!((150..250).contains(&hits), "{hits}");
    for seed in 0..50 {
        let twice = [0, 1].map(|_| varied(Augment::default(), &TEXTS, 100, seed));
        assert_eq!(twice[0], twice[1]);
    }
}

const WITH_SPANS: [(&str, &str); 1] =
    [("Visit https://tutti.example, {name}, or pay $50.", "{name}, besuchen Sie https://tutti.example!")];

#[test]
fn spans_of_both_sides_become_the_same_reserved_tokens_in_the_order_of_the_source() {
    let rates = Augment { spans: 1.0, ..Augment::NONE };
    let mut firsts = Vec::new();
    for seed in 0..1000 {
        let (pair, _) = pair(rates, &WITH_SPANS, 200, seed);
        let reserved =
            |ids: &[u32]| ids.iter().filter_map(|&id| TOKENIZER.reserved_index(id)).collect::<Vec<_>>();
        let (source, target) = (reserved(&pair.source), reserved(&pair.target));
        let [first, second] = source[..] else { panic!("{source:?}") };
        assert_eq!(second, first + 1);
        assert_eq!(
            target,
            [second, first],
            "{{name}} is the source's second span and stands first in the target"
        );
        let text = |ids: &[u32]| TOKENIZER.decode(ids).unwrap();
        assert_eq!(text(&pair.source), "Visit , , or pay $50.", "a span of one side stays");
        assert_eq!(text(&pair.target), ", besuchen Sie !");
        firsts.push(first);
    }
    let zero = firsts.iter().filter(|&&first| first == 0).count();
    assert!((450..590).contains(&zero), "{zero}");
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts, (0..=30).collect::<Vec<_>>(), "every token is learnt");
}

#[test]
fn other_changes_leave_spans_as_they_are() {
    let upper = Augment { upper_case: 1.0, ..Augment::NONE };
    let [source, target] = varied(upper, &WITH_SPANS, 200, 1).0;
    assert_eq!(source, "VISIT https://tutti.example, {name}, OR PAY $50.");
    assert_eq!(target, "{name}, BESUCHEN SIE https://tutti.example!");
    let typos = Augment { typos: 1.0, ..Augment::NONE };
    for seed in 0..50 {
        let [source, _] = varied(typos, &WITH_SPANS, 200, seed).0;
        assert!(source.contains("https://tutti.example") && source.contains("{name}"), "{source}");
    }
}

/// Sentences all of whose spans are shared, in the order of the source or another one.
const AS_SERVED: [(&str, &str); 10] = [
    ("Hello {name}, you have %d new messages.", "Hallo {name}, du hast %d neue Nachrichten."),
    ("{name} has left.", "{name} ist gegangen."),
    ("Deleted {0} of {1} files in {folder}.", "In {folder} {0} von {1} Dateien gelöscht."),
    ("It starts at 6:30 pm and costs $14.50.", "Es kostet 14,50 $ und beginnt um 18:30."),
    ("The price is €1,299.99 now.", "Der Preis ist jetzt 1.299,99 €."),
    ("Press <b>Save</b> and then <i>Close</i>.", "Erst <b>Sichern</b>, dann <i>Zu</i> drücken."),
    ("Run `tutti check` first, then restart.", "Erst `tutti check`, dann neu starten."),
    ("Order #48213 ships on 2027-02-03.", "Die Bestellung #48213 kommt am 2027-02-03."),
    (
        "Mail team@tutti.example or see https://tutti.example/a, please.",
        "Bitte team@tutti.example oder https://tutti.example/a.",
    ),
    ("Great job 👏 see you at 10!", "Gut gemacht 👏 bis um 10!"),
];

/// Spans must become the same tokens in training and in serving.
#[test]
fn a_sentence_is_read_equally_in_training_and_serving() {
    let rates = Augment { spans: 1.0, ..Augment::NONE };
    let reader = Reader::new(std::sync::Arc::new(TOKENIZER.clone()), "en", "de", 400);
    for (source, target) in AS_SERVED {
        let from_zero = (0..200).map(|seed| pair(rates, &[(source, target)], 400, seed).0);
        let first = |pair: &Pair| pair.source.iter().find_map(|&id| TOKENIZER.reserved_index(id));
        let learnt = from_zero.into_iter().find(|pair| first(pair) == Some(0)).expect("half start with <x0>");
        let mut passage = reader.read(source);
        let requests = passage.requests().unwrap();
        assert_eq!(requests.len(), 1, "{source}");
        assert_eq!(requests[0].source, learnt.source, "{source}");
        let tokens = learnt.target[1..learnt.target.len() - 1].to_vec();
        passage.answer(vec![vec![Candidate { tokens, score: -0.1 }]]).unwrap();
        assert!(passage.requests().unwrap().is_empty(), "{source}");
        assert_eq!((passage.text().as_str(), passage.warnings()), (target, Vec::new()));
    }
}
