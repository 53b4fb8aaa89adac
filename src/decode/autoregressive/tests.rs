use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Backend, Shape};

const EOS: u32 = 2;

fn network(seed: u64) -> Network {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=24,positions=14".parse().unwrap();
    Network::random(&shape, seed, &Backend::cpu()).unwrap()
}

fn source(inner: &[u32]) -> Vec<u32> {
    [&[1], inner, &[2]].concat()
}

/// log p(next token | source, prefix) over the allowed tokens, computed from the whole prefix at once.
fn next(network: &Network, source: &[u32], prefix: &[u32]) -> BTreeMap<u32, f32> {
    let mode = Mode::inference();
    let padded = |ids: &[u32]| Padded::new([ids].into_iter(), 0, network.device()).unwrap();
    let source = padded(source);
    let states = network.encode(&source, &mode).unwrap();
    let memory = network.memory(&states, &source.lengths, &mode).unwrap();
    let target: Vec<u32> = [&[1], prefix].concat();
    let states = network.decode_causal(&padded(&target), &memory, &mode).unwrap();
    let last = states.get(0).unwrap().narrow(0, target.len() - 1, 1).unwrap();
    let logits = network.logits(&last, &mode).unwrap();
    ops::top_tokens(&logits, EOS, 5, usize::MAX >> 1).unwrap()[0].iter().copied().collect()
}

#[test]
fn greedy_search_takes_the_best_token_of_each_step_until_eos() {
    for seed in 0..6 {
        let network = network(seed);
        let source = source(&[7, 9, 20]);
        let mut prefix = Vec::new();
        let finished = loop {
            let next = next(&network, &source, &prefix);
            let best = next.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(&token, _)| token).unwrap();
            if best == EOS {
                break true;
            }
            if prefix.len() == 12 {
                break false; // of 14 positions bos and eos take two
            }
            prefix.push(best);
        };
        let found = search(&network, &[source], &SearchOptions::new(1)).unwrap().remove(0);
        assert_eq!((found.hypothesis.tokens, found.finished), (prefix, finished));
    }
}

#[test]
fn a_wide_beam_without_length_penalty_never_finds_less_than_a_narrow_one() {
    let mut better = 0;
    for seed in 0..12 {
        let network = network(seed);
        let of = |beam| {
            let options = SearchOptions { length_penalty: 0.0, ..SearchOptions::new(beam) };
            search(&network, &[source(&[7, 9])], &options).unwrap().remove(0)
        };
        let (one, many) = (of(1), of(19));
        if one.finished {
            assert!(many.finished && many.hypothesis.score >= one.hypothesis.score - 1e-4);
        }
        better += usize::from(many.hypothesis.tokens != one.hypothesis.tokens);
    }
    assert!(better > 0, "a beam of the whole vocabulary sometimes finds another translation");
}

#[test]
fn the_score_is_the_mean_log_probability_of_the_tokens_and_eos() {
    for seed in 0..6 {
        let network = network(seed);
        let source = source(&[7, 9, 20]);
        let found =
            search(&network, std::slice::from_ref(&source), &SearchOptions::new(4)).unwrap().remove(0);
        if !found.finished {
            continue;
        }
        let tokens = &found.hypothesis.tokens;
        let mut sum = 0.0;
        for (i, token) in tokens.iter().chain([&EOS]).enumerate() {
            sum += next(&network, &source, &tokens[..i])[token];
        }
        assert!((found.hypothesis.score - sum / (tokens.len() + 1) as f32).abs() < 1e-4);
    }
}

#[test]
fn eos_counts_only_among_the_best_and_a_beam_is_always_full() {
    let mut sentence = SentenceSearch::new(0, 10, 2);
    let first = vec![vec![(8, -0.1), (EOS, -0.5), (9, -0.6)]; 2];
    assert_eq!(sentence.advance(&first, EOS, 1.0), [0, 0]);
    assert_eq!(sentence.finished.len(), 1);
    assert_eq!(sentence.finished[0].score, -0.5, "an empty translation consists of eos");
    let next = vec![vec![(8, -0.1), (9, -0.2), (EOS, -3.0)]; 2];
    assert_eq!(sentence.advance(&next, EOS, 1.0), [0, 0]);
    assert_eq!(sentence.finished.len(), 1, "two continuations rank above eos");
    assert_eq!(sentence.active[1].tokens, [8, 9]);
    sentence.advance(&[vec![(EOS, -0.1)], vec![(EOS, -0.1)]], EOS, 1.0);
    assert!(sentence.done() && sentence.active.len() == 2);
    let best = sentence.best(1.0);
    assert_eq!((best.hypothesis.tokens, best.finished), (vec![8, 8], true));
}

#[test]
fn a_nan_ends_a_sentence_unfinished() {
    let mut sentence = SentenceSearch::new(0, 10, 2);
    sentence.advance(&[vec![(8, f32::NAN)], vec![]], EOS, 1.0);
    assert!(sentence.done());
    assert_eq!(sentence.best(1.0), SearchResult::default());
}

#[test]
fn bad_input_is_an_error_before_any_work() {
    let network = network(1);
    let long = search(&network, &[source(&[7; 20])], &SearchOptions::new(2));
    assert!(matches!(long, Err(Error::TooLarge { size: 22, limit: 14, .. })));
    let foreign = search(&network, &[source(&[999])], &SearchOptions::new(2)).unwrap_err().to_string();
    assert!(foreign.contains("999"), "{foreign}");
    let empty = search(&network, &[source(&[])], &SearchOptions::new(2)).unwrap();
    assert!(empty[0].finished && empty[0].hypothesis.tokens.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn other_sentences_of_a_batch_change_nothing(
        inners in prop::collection::vec(prop::collection::vec(5u32..24, 0..10), 1..8),
        beam in 1usize..5,
        max_batch_tokens in 20usize..300,
        seed in 0u64..4,
    ) {
        let network = network(seed);
        let sources: Vec<Vec<u32>> = inners.iter().map(|inner| source(inner)).collect();
        for precision in [Precision::F32, Precision::Bf16] {
            let options = SearchOptions { max_batch_tokens, precision, ..SearchOptions::new(beam) };
            let together = search(&network, &sources, &options).unwrap();
            for (source, found) in sources.iter().zip(&together) {
                let alone = search(&network, std::slice::from_ref(source), &options).unwrap();
                prop_assert_eq!(&alone[0], found);
            }
        }
    }
}
