use super::*;

fn pair(source: &[u32], target: &[u32]) -> Pair {
    let framed = |inner: &[u32]| [&[1], inner, &[2]].concat();
    Pair { source: framed(source), target: framed(target) }
}

/// "das Haus", "das Buch", "ein Buch": the example of Koehn's textbook.
#[test]
fn words_are_told_apart_by_the_pairs_that_they_share() {
    let (the, house, book, a) = (10, 11, 12, 13);
    let (das, haus, buch, ein) = (20, 21, 22, 23);
    let pairs =
        [pair(&[the, house], &[das, haus]), pair(&[the, book], &[das, buch]), pair(&[a, book], &[ein, buch])];
    let lexicon = Lexicon::learn(&pairs, 30, 20);
    let best = lexicon.best(1);
    for (source, target) in [(the, das), (house, haus), (book, buch), (a, ein)] {
        assert_eq!(best[source as usize], [target]);
    }
    assert_eq!(lexicon.best(9)[the as usize].len(), 3);
    assert!(best[1].is_empty() && best[9].is_empty(), "frames and unseen tokens have none");
}

#[test]
fn probabilities_of_a_source_token_sum_to_one() {
    let pairs = [pair(&[5, 6, 5], &[7, 8]), pair(&[6], &[8, 8, 9]), pair(&[5], &[7])];
    let lexicon = Lexicon::learn(&pairs, 12, 3);
    for source in [5, 6, 12] {
        let own = lexicon.links.iter().zip(&lexicon.probabilities).filter(|((s, _), _)| *s == source);
        assert!((own.map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12, "{source}");
    }
}

#[test]
fn the_common_tokens_are_the_most_frequent_of_the_target_side() {
    let pairs = [pair(&[5, 5, 5], &[9, 7, 8]), pair(&[5], &[8, 7]), pair(&[5], &[8])];
    assert_eq!(most_frequent(&pairs, 12, 2), [8, 7]);
    assert_eq!(most_frequent(&pairs, 12, 9), [8, 7, 9], "no token that does not occur");
}
