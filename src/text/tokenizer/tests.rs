use std::sync::LazyLock;

use proptest::prelude::*;

use super::learn::{MAX_WORD_BYTES, words};
use super::*;

const CORPUS: [&str; 6] = [
    "Where is the train station?",
    "Wo ist der Bahnhof?",
    "The weather is nice today, isn't it?",
    "Das Wetter ist heute schön, nicht wahr?",
    "She has never been there before.",
    "Sie ist noch nie dort gewesen.",
];

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::train(CORPUS.iter(), 320).expect("the corpus is big enough"));

fn nfc(text: &str) -> String {
    use tokenizers::{NormalizedString, Normalizer};
    let mut text = NormalizedString::from(text);
    tokenizers::normalizers::NFC.normalize(&mut text).expect("NFC does not fail");
    text.get().to_owned()
}

/// Loads the file of a trained tokenizer, changed by `edit`.
fn reload(edit: impl FnOnce(String) -> String) -> Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    TOKENIZER.save(&path).unwrap();
    std::fs::write(&path, edit(std::fs::read_to_string(&path).unwrap())).unwrap();
    Tokenizer::load(&path)
}

#[test]
fn a_sentence_is_encoded_between_bos_and_eos_and_decoded_unchanged() {
    let ids = TOKENIZER.encode("Where is the Bahnhof?").unwrap();
    assert_eq!((ids[0], *ids.last().unwrap()), (1, 2));
    assert!(ids[1..ids.len() - 1].iter().all(|&id| id > 4));
    assert_eq!(TOKENIZER.decode(&ids).unwrap(), "Where is the Bahnhof?");
    assert_eq!(TOKENIZER.encode("").unwrap(), [1, 2]);
}

#[test]
fn special_tokens_in_a_users_text_are_text() {
    let text = "<mask> a<eos> <pad><bos> <unk>";
    let ids = TOKENIZER.encode(text).unwrap();
    assert!(ids[1..ids.len() - 1].iter().all(|&id| id > 4), "{ids:?}");
    assert_eq!(TOKENIZER.decode(&ids).unwrap(), text);
    let loaded = reload(|json| json).unwrap();
    assert_eq!(loaded.encode(text).unwrap(), ids);
}

#[test]
fn reserved_tokens_follow_the_special_ones_and_no_text_spells_them() {
    let tokenizer = Tokenizer::train_with_reserved(CORPUS.iter(), 352, 32).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    for tokenizer in [&tokenizer, &Tokenizer::load(&path).unwrap()] {
        assert_eq!((tokenizer.reserved(), tokenizer.vocab_size()), (32, 352));
        assert_eq!((tokenizer.reserved_id(0), tokenizer.reserved_id(31)), (Some(5), Some(36)));
        assert_eq!((tokenizer.reserved_id(32), tokenizer.reserved_index(37)), (None, None));
        assert_eq!((tokenizer.reserved_index(4), tokenizer.reserved_index(36)), (None, Some(31)));
        assert_eq!(tokenizer.token(7).unwrap(), "<x2>");
        let ids = tokenizer.encode("a <x0> b").unwrap();
        assert!(ids[1..ids.len() - 1].iter().all(|&id| id > 36), "{ids:?}");
        assert_eq!(tokenizer.decode(&[ids.as_slice(), &[5, 36]].concat()).unwrap(), "a <x0> b");
    }
    assert_eq!((TOKENIZER.reserved(), TOKENIZER.reserved_id(0)), (0, None));
    assert!(matches!(Tokenizer::train_with_reserved(CORPUS.iter(), 400, 33), Err(Error::Tokenizer(_))));
}

#[test]
fn decoded_parts_are_those_that_were_encoded() {
    let tokenizer = Tokenizer::train_with_reserved(CORPUS.iter(), 352, 32).unwrap();
    let parts = [Part::Text("a "), Part::Token(5), Part::Text(", bü"), Part::Token(6), Part::Token(9)];
    let ids = tokenizer.encode_parts(&parts).unwrap();
    let text = |text: &str| DecodedPart::Text(text.into());
    let reserved = DecodedPart::Reserved;
    let expected = vec![text("a "), reserved(0), text(", bü"), reserved(1), reserved(4)];
    assert_eq!(tokenizer.decode_parts(&ids[1..ids.len() - 1]).unwrap(), (expected, true));
}

#[test]
fn an_incomplete_character_is_left_out_and_reported() {
    let ids = TOKENIZER.encode("aß").unwrap();
    let (parts, whole) = TOKENIZER.decode_parts(&ids[..ids.len() - 2]).unwrap();
    assert_eq!((parts, whole), (vec![DecodedPart::Text("a".into())], false));
    assert!(TOKENIZER.decode_parts(&[320]).is_err());
}

#[test]
fn a_very_long_word_is_cut_in_training() {
    let endless = "x".repeat(160_000);
    let lines = CORPUS.iter().copied().chain([endless.as_str()]);
    assert!(Tokenizer::train(lines, 320).is_ok());
    assert!(words(&endless).unwrap().iter().all(|word| word.len() <= MAX_WORD_BYTES));
}

#[test]
fn training_does_not_depend_on_order_or_chance() {
    let backwards = Tokenizer::train(CORPUS.iter().rev(), 320).unwrap();
    assert_eq!(backwards.inner.to_string(false).unwrap(), TOKENIZER.inner.to_string(false).unwrap());
}

#[test]
fn the_vocabulary_is_always_a_multiple_of_sixteen() {
    assert_eq!(TOKENIZER.vocab_size(), 320);
    assert_eq!(Tokenizer::train(CORPUS.iter(), 319).unwrap().vocab_size(), 304);
    let all = Tokenizer::train(CORPUS.iter(), 100_000).unwrap().vocab_size();
    assert!(all > 320 && all.is_multiple_of(16), "{all}");
}

#[test]
fn a_corpus_or_a_vocabulary_that_is_too_small_is_an_error() {
    assert!(matches!(Tokenizer::train(CORPUS.iter(), 100), Err(Error::Tokenizer(_))));
    assert!(matches!(Tokenizer::train(["ab"].iter(), 320), Err(Error::Tokenizer(_))));
    assert!(matches!(Tokenizer::train(std::iter::empty::<&str>(), 320), Err(Error::Tokenizer(_))));
}

#[test]
fn tokens_are_shown_readably() {
    assert_eq!(TOKENIZER.token(4).as_deref(), Some("<mask>"));
    let ids = TOKENIZER.encode("is the").unwrap();
    let shown: String = ids[1..ids.len() - 1].iter().filter_map(|&id| TOKENIZER.token(id)).collect();
    assert_eq!(shown, " is the");
    assert_eq!(TOKENIZER.token(320), None);
}

#[test]
fn an_id_outside_the_vocabulary_is_an_error() {
    assert!(TOKENIZER.decode(&[5, 319]).is_ok());
    assert!(matches!(TOKENIZER.decode(&[5, 320]), Err(Error::Tokenizer(_))));
}

#[test]
fn saving_and_loading_changes_nothing() {
    let loaded = reload(|json| json).unwrap();
    assert_eq!(loaded.vocab_size(), TOKENIZER.vocab_size());
    assert_eq!(loaded.encode(CORPUS[3]).unwrap(), TOKENIZER.encode(CORPUS[3]).unwrap());
}

#[test]
fn cut_or_foreign_files_are_refused_by_name() {
    let replaced = |from: &str, to: &str| {
        reload(|json| {
            assert!(json.contains(from), "{from} is not in the file");
            json.replace(from, to)
        })
    };
    for (what, loaded) in [
        ("cut", reload(|json| json[..json.len() / 2].to_owned())),
        ("empty", reload(|_| String::new())),
        ("not json", reload(|_| "\u{0}\u{1}".to_owned())),
        ("deep", reload(|_| "[".repeat(100_000))),
        ("no special", replaced("<mask>", "<musk>")),
        ("specials swapped", replaced("\"<bos>\":1,\"<eos>\":2", "\"<bos>\":2,\"<eos>\":1")),
        ("id twice", replaced("\":300,", "\":299,")),
        ("id far out", replaced("\":300,", "\":4000000000,")),
        ("prefix space", replaced("\"add_prefix_space\":true", "\"add_prefix_space\":false")),
        ("normalizer", replaced("\"NFC\"", "\"NFKC\"")),
        ("dropout", replaced("\"dropout\":null", "\"dropout\":0.5")),
    ] {
        let refused = loaded.err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|e| e.contains("tokenizer.json")), "{what}: {refused:?}");
    }
    assert!(matches!(Tokenizer::load("no/such/tokenizer.json"), Err(Error::Io { .. })));
}

#[test]
fn long_runs_of_one_character_are_encoded() {
    for text in [" ".repeat(50_000), "a".repeat(50_000), "\n\t".repeat(20_000), "ö!".repeat(20_000)] {
        let ids = TOKENIZER.encode(&text).unwrap();
        assert_eq!(TOKENIZER.decode(&ids).unwrap().trim(), text.trim());
    }
}

proptest! {
    /// The fast splitting of ASCII gives the same ids as the library.
    #[test]
    fn ascii_has_the_ids_that_the_library_gives_it(
        text in prop_oneof![
            "[\\x00-\\x7f]{1,40}",
            "[ -~\\s]{1,60}",
            "(<mask>|<eos>| |  |\r\n|\t|'s|'ll|'LL|'|’|it|don|1984|3|,|\\.|!){1,20}",
            "(where|is|the|train|station|\\?|Bahnhof| ){1,20}",
        ],
    ) {
        let own = TOKENIZER.encode(&text).unwrap();
        let library = TOKENIZER.inner.encode_fast(text.as_str(), false).unwrap();
        prop_assert_eq!(&own[1..own.len() - 1], library.get_ids());
    }

    /// The fast decoding gives the same text as the library, for any ids.
    #[test]
    fn all_ids_are_decoded_as_by_the_library(ids in proptest::collection::vec(0u32..320, 0..30)) {
        let library = TOKENIZER.inner.decode(&ids, true).unwrap();
        prop_assert_eq!(TOKENIZER.decode(&ids).unwrap(), library.strip_prefix(' ').unwrap_or(&library));
        let each = ids.iter().filter(|&&id| id > 4);
        for &id in each {
            prop_assert_eq!(TOKENIZER.token(id), TOKENIZER.inner.decode(&[id], false).ok());
        }
    }

    #[test]
    fn decoding_gives_the_encoded_text(
        text in prop_oneof![
            any::<String>(),
            "[ -~äöüÄÖÜß€„“\\s]{0,40}",
            "(<mask>|<eos>|e\u{301}|日本|👩\u{200d}👩\u{200d}👧|\u{0}|\r\n| ){0,12}",
        ],
    ) {
        let ids = TOKENIZER.encode(&text).unwrap();
        prop_assert!(ids[1..ids.len() - 1].iter().all(|&id| id > 4));
        let decoded = TOKENIZER.decode(&ids).unwrap();
        let expected = nfc(&text);
        prop_assert_eq!(decoded.trim(), expected.trim());
    }
}

#[test]
fn a_token_may_replace_text_and_the_rest_is_encoded_unchanged() {
    let tokenizer = Tokenizer::train_with_reserved(CORPUS.iter(), 352, 32).unwrap();
    let parts = [Part::Text("a "), Part::Token(5), Part::Text(", b"), Part::Token(6), Part::Text("c")];
    let ids = tokenizer.encode_parts(&parts).unwrap();
    let texts: Vec<String> = ids
        .split(|&id| tokenizer.reserved_index(id).is_some())
        .map(|ids| tokenizer.decode(ids).unwrap())
        .collect();
    assert_eq!(texts, ["a ", ", b", "c"]);
    let text = "a b, c";
    assert_eq!(tokenizer.encode_parts(&[Part::Text(text)]).unwrap(), tokenizer.encode(text).unwrap());
    let first = tokenizer.encode_parts(&[Part::Text(""), Part::Token(5), Part::Text(" c")]).unwrap();
    assert_eq!(first[..2], [1, 5]);
    assert_eq!(tokenizer.decode(&first[2..]).unwrap(), "c");
}
