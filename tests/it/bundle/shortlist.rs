//! Shortlists in bundles.

use super::*;

/// The output of `train shortlist` for four pairs that share two words.
pub fn with_shortlist() -> TempDir {
    let root = saved();
    let text = |name: &str, lines: &str| {
        let path = root.path().join(name);
        fs::write(&path, lines).expect("write");
        path
    };
    let source = text("text.en", "train station\ntrain\nthe train\nstation\n");
    let target = text("text.de", "Zug Bahnhof\nZug\nder Zug\nBahnhof\n");
    let options = Options { per_token: 12, common: 3, iterations: 5 };
    let made = shortlist(&open(&root).expect("a bundle"), &source, &target, options).expect("a shortlist");
    assert_eq!((made.pairs, made.skipped), (4, 0));
    root
}

#[test]
fn a_shortlist_is_used_in_eight_bits_unless_it_is_not_wanted() {
    let (with, without) = (with_shortlist(), saved());
    let (bundle, plain) = (open(&with).expect("a bundle"), open(&without).expect("a bundle"));
    assert!(bundle.shortlist.is_some() && plain.shortlist.is_none());
    let narrow =
        |bundle: &Bundle, backend: Backend| InferenceModel::open(bundle, &backend).unwrap().has_shortlist();
    let q8 = || Backend::cpu().with_dtype(Dtype::Q8);
    assert!(narrow(&bundle, q8()));
    assert!(!narrow(&bundle, q8().with_shortlist(false)) && !narrow(&bundle, Backend::cpu()));
    assert!(!narrow(&plain, q8()));
    let source = bundle.tokenizer.encode("train station").expect("tokens");
    let candidates = bundle.shortlist.as_ref().unwrap().candidates(&source);
    assert!(candidates.len() < TOKENIZER.vocab_size() / 2, "{}", candidates.len());
    for token in bundle.tokenizer.encode("Zug").expect("tokens") {
        let special = token < 5;
        assert_eq!(candidates.contains(&token), !special, "{token}");
    }
}

#[test]
fn a_shortlist_that_does_not_fit_is_refused_by_name() {
    let root = with_shortlist();
    let whole = fs::read(file(&root, Bundle::SHORTLIST)).expect("a file");
    fs::write(file(&root, Bundle::SHORTLIST), &whole[..whole.len() / 2]).expect("write");
    assert_refused(&root, Bundle::SHORTLIST, &["not a complete safetensors file", "train shortlist"]);
    let other = Shortlist::new(&[9], &vec![Vec::new(); 7]).unwrap_err().to_string();
    assert!(other.contains("token 9"), "{other}");
    let of_ten = Shortlist::new(&[9], &vec![Vec::new(); 10])
        .unwrap()
        .to_bytes(&std::collections::BTreeMap::new())
        .unwrap();
    fs::write(file(&root, Bundle::SHORTLIST), of_ten).expect("write");
    assert_refused(&root, Bundle::SHORTLIST, &["is for 10 tokens"]);
}

#[test]
fn a_shortlist_of_no_text_is_not_written() {
    let root = saved();
    let (bundle, empty) = (open(&root).expect("a bundle"), root.path().join("empty"));
    fs::write(&empty, "\n\n").expect("write");
    let learn = |per_token| {
        let options = Options { per_token, common: 3, iterations: 5 };
        shortlist(&bundle, &empty, &empty, options).expect_err("no text").to_string()
    };
    assert!(learn(2).contains("no usable pair of lines (2 skipped)"), "{}", learn(2));
    assert!(learn(0).contains("--per-token must be at least 1, not 0"), "{}", learn(0));
    assert!(!file(&root, Bundle::SHORTLIST).exists());
}
