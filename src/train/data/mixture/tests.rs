use std::collections::HashMap;
use std::path::PathBuf;

use super::*;
use crate::train::data::batches::Position;
use crate::train::data::feed::{Feed, Stream};

struct Files {
    dir: tempfile::TempDir,
}

const LARGE: usize = 90;
const SMALL: usize = 10;

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        for (name, count) in [("large", LARGE), ("small", SMALL)] {
            let lines: Vec<String> = (0..count).map(|i| format!("{name} sentence {i}.")).collect();
            std::fs::write(files.path(name), lines.join("\n")).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn corpus(&self, name: &str, weight: f64, cap: Option<f64>) -> CorpusConfig {
        let file = vec![self.path(name)];
        let (source, target) = (file.clone(), file);
        CorpusConfig { name: name.into(), source, target, weight, cap, max_pairs: None, max_repeats: None }
    }

    fn mixture(&self, corpora: &[CorpusConfig], augment: Option<Augment>) -> Result<Mixture> {
        let toml = "valid_source = 'v'\nvalid_target = 'v'\nsource_lang = 'en'\ntarget_lang = 'de'";
        let data = Data { augment, ..toml::from_str(toml).unwrap() };
        Mixture::read(corpora, &data, LengthLimit::tokens(64), Arc::new(tokenizer()))
    }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::train(["large sentence", "small sentence"].iter(), 288).unwrap()
}

/// How often each text occurs in an epoch.
fn counts(mixture: &Mixture, epoch: u64) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for entry in mixture.order(&Rng::from_seed(1), epoch) {
        *counts.entry(mixture.text(entry).0.to_owned()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn an_epoch_uses_every_pair_with_the_shares_of_the_weights() {
    let files = Files::new();
    let corpora = [files.corpus("large", 0.75, None), files.corpus("small", 0.25, None)];
    let mixture = files.mixture(&corpora, None).unwrap();
    let share = |name: &str, pairs, sampled| Share { name: name.into(), pairs, sampled };
    assert_eq!(mixture.shares(), [share("large", 90, 90), share("small", 10, 30)]);
    let counts = counts(&mixture, 0);
    assert_eq!(counts.len(), 100);
    assert!(counts.iter().all(|(text, &count)| count == if text.starts_with('s') { 3 } else { 1 }));
}

#[test]
fn a_cap_bounds_the_uses_of_a_pair_and_the_rest_differs_from_epoch_to_epoch() {
    let files = Files::new();
    let corpora = [files.corpus("large", 1.0, None), files.corpus("small", 1.0, Some(1.5))];
    let mixture = files.mixture(&corpora, None).unwrap();
    assert_eq!(mixture.shares()[1].sampled, 15);
    let epochs = [0, 1, 2, 3].map(|epoch| counts(&mixture, epoch));
    for epoch in &epochs {
        let small: Vec<usize> =
            epoch.iter().filter(|(text, _)| text.starts_with('s')).map(|(_, &count)| count).collect();
        assert!(small.iter().all(|count| (1..=2).contains(count)));
        assert_eq!(small.iter().sum::<usize>(), 15);
    }
    assert!(epochs.iter().any(|epoch| *epoch != epochs[0]));
}

#[test]
fn repeats_of_a_template_and_surplus_pairs_are_left_out_and_counted() {
    let files = Files::new();
    let mut corpus = files.corpus("large", 1.0, None);
    corpus.max_repeats = Some(7);
    let mixture = files.mixture(std::slice::from_ref(&corpus), None).unwrap();
    assert_eq!((mixture.pairs(), mixture.skipped.surplus), (7, 83));
    (corpus.max_repeats, corpus.max_pairs) = (None, Some(20));
    let mixture = files.mixture(&[corpus], None).unwrap();
    assert_eq!((mixture.pairs(), mixture.skipped.surplus), (20, 70));
    assert_eq!(mixture.text(19).0, "large sentence 19.");
}

#[test]
fn lines_that_are_too_long_are_skipped_and_counted_or_named() {
    let files = Files::new();
    let long = "word ".repeat(64);
    std::fs::write(files.path("small"), format!("short.\n{long}\n")).unwrap();
    let corpus = files.corpus("small", 1.0, None);
    let error = files.mixture(std::slice::from_ref(&corpus), None).err().unwrap().to_string();
    assert!(error.contains("small:2:") && error.contains("max_tokens_per_sentence (64)"), "{error}");
    let mut skipped = Skipped::default();
    let read = Weighted::read(&corpus, OnBadLine::Skip, LengthLimit::tokens(64), &tokenizer(), &mut skipped)
        .unwrap();
    assert_eq!((read.source.len(), skipped.too_long), (1, 1));
}

/// The batches of a run from a position on.
fn batches(mixture: &Arc<Mixture>, position: Position, count: usize) -> Vec<(Vec<Pair>, Position)> {
    let rng = Rng::from_seed(5);
    batches_of(Feed::of_mixture(mixture.clone(), 256, &rng, position).unwrap(), count)
}

fn batches_of(mut feed: Feed<'_>, count: usize) -> Vec<(Vec<Pair>, Position)> {
    let mut next = || {
        let pairs = feed.next_batch().unwrap().into_iter().cloned().collect();
        (pairs, feed.position())
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_run_continues_exactly_from_any_position() {
    let files = Files::new();
    let corpora = [files.corpus("large", 0.75, None), files.corpus("small", 0.25, None)];
    let mixture = Arc::new(files.mixture(&corpora, Some(Augment::default())).unwrap().in_parts_of(50));
    assert_eq!(mixture.parts(), 3);
    let whole = batches(&mixture, Position::default(), 60);
    assert!(whole.last().unwrap().1.epoch > 3, "more than one epoch");
    for stopped in [1, 17, 40] {
        let rest = batches(&mixture, whole[stopped - 1].1, whole.len() - stopped);
        assert_eq!(rest, whole[stopped..]);
    }
}

#[test]
fn several_threads_prepare_the_same_batches_as_one() {
    let files = Files::new();
    let corpora = [files.corpus("large", 0.75, None), files.corpus("small", 0.25, None)];
    let mixture = Arc::new(files.mixture(&corpora, Some(Augment::default())).unwrap().in_parts_of(50));
    let rng = Rng::from_seed(5);
    let prepared = |threads| {
        let start = Position { epoch: 1, index: 2 };
        batches_of(Feed::Mixture(Stream::new(mixture.clone(), 256, &rng, start, threads).unwrap()), 60)
    };
    let one = prepared(1);
    assert!(one.last().unwrap().1.epoch > 3, "more than one epoch");
    for threads in [2, 3, 5] {
        assert_eq!(prepared(threads), one);
    }
}

#[test]
fn an_epoch_in_parts_loses_nothing() {
    let files = Files::new();
    let corpora = [files.corpus("large", 1.0, None)];
    let mixture = Arc::new(files.mixture(&corpora, None).unwrap().in_parts_of(40));
    let tokenizer = tokenizer();
    let rng = Rng::from_seed(5);
    let mut feed = Feed::of_mixture(mixture, 256, &rng, Position::default()).unwrap();
    let mut texts: Vec<String> = Vec::new();
    loop {
        let batch: Vec<Pair> = feed.next_batch().unwrap().into_iter().cloned().collect();
        if feed.epoch() > 0 {
            break;
        }
        texts.extend(batch.iter().map(|pair| tokenizer.decode(&pair.source).unwrap()));
    }
    texts.sort_unstable();
    let mut expected: Vec<String> = (0..LARGE).map(|i| format!("large sentence {i}.")).collect();
    expected.sort_unstable();
    assert_eq!(texts, expected);
}

#[test]
fn a_corpus_without_usable_pairs_and_a_position_that_is_not_there_are_refused() {
    let files = Files::new();
    std::fs::write(files.path("small"), "").unwrap();
    let error = files.mixture(&[files.corpus("small", 1.0, None)], None).err().unwrap().to_string();
    assert!(error.contains("corpus small has no usable pairs"), "{error}");
    let mixture = Arc::new(files.mixture(&[files.corpus("large", 1.0, None)], None).unwrap());
    let far = Position { epoch: 0, index: 1000 };
    let error = Feed::of_mixture(mixture, 256, &Rng::from_seed(5), far).err().unwrap().to_string();
    assert!(error.contains("have changed"), "{error}");
}
