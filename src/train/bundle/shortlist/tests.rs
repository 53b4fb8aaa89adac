use super::*;
use crate::model::{Backend, Config, Shape, Spec};
use crate::text::Tokenizer;

fn pair(source: &[u32], target: &[u32]) -> Pair {
    let framed = |inner: &[u32]| [&[1], inner, &[2]].concat();
    Pair { source: framed(source), target: framed(target) }
}

/// "das Haus", "das Buch", "ein Buch": the example of Koehn's textbook.
#[test]
fn words_are_aligned_by_the_pairs_in_which_they_occur() {
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

/// A bundle whose tokenizer reserves tokens for spans, with a shortlist of these pairs.
#[test]
fn a_model_with_reserved_tokens_may_write_those_of_its_source_and_no_others() {
    let pairs = [
        ("It starts at 7:45 today.", "Es beginnt heute um 7:45 Uhr."),
        ("It ends at 9:15 today.", "Es endet heute um 9:15 Uhr."),
        ("Open {name} now.", "Öffnen Sie jetzt {name}."),
    ];
    let lines = pairs.iter().flat_map(|&(source, target)| [source, target]);
    let tokenizer = Tokenizer::train_with_reserved(lines, 368, 32).unwrap();
    let vocab = tokenizer.vocab_size();
    let shape: Shape = format!("enc=1,dec=1,d=16,ffn=32,heads=2,vocab={vocab},positions=96").parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("en-de");
    let tensors = Spec::initial(&shape, 1, Backend::cpu().device()).unwrap();
    Bundle::save(&place, &Config::new(shape, "en", "de"), &tokenizer, &tensors, "Random weights.\n").unwrap();
    let file = |name: &str, side: fn(&(&str, &str)) -> String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pairs.iter().map(side).collect::<String>()).unwrap();
        path
    };
    let (source, target) =
        (file("en", |pair| format!("{}\n", pair.0)), file("de", |pair| format!("{}\n", pair.1)));
    let options = Options { per_token: 6, common: 1, iterations: 8 };
    let made = shortlist(&Bundle::open(&place).unwrap(), &source, &target, options).unwrap();
    assert_eq!(made.pairs, 3);

    let bundle = Bundle::open(&place).unwrap();
    let candidates_of = |text: &str| {
        let requests = bundle.reader().read(text).requests().unwrap();
        bundle.shortlist.as_ref().unwrap().candidates(&requests[0].source)
    };
    let reserved = |candidates: &[u32]| -> Vec<usize> {
        candidates.iter().filter_map(|&token| tokenizer.reserved_index(token)).collect()
    };
    assert!(reserved(&candidates_of("Open the door now.")).is_empty());
    assert_eq!(reserved(&candidates_of("Open {a}, {b} and {c} now.")), [0, 1, 2]);
    let time = candidates_of("It starts at 10:20 today.");
    assert_eq!(reserved(&time), [0]);
    let unit = tokenizer.encode("Uhr").unwrap();
    assert!(unit[1..unit.len() - 1].iter().all(|token| time.contains(token)), "\"Uhr\" translates a time");
}
