use super::*;
use crate::eval::{BleuStats, ChrfStats};

/// Reference, baseline, system.
const SENTENCES: [[&str; 3]; 6] = [
    ["Der Hund schläft auf dem Sofa.", "Der Hund schläft auf das Sofa.", "Der Hund schläft auf dem Sofa."],
    [
        "Die Katze sieht das Meer heute nicht.",
        "Die Katze sieht heute das Meer nicht.",
        "Die Katze sieht das Meer nicht.",
    ],
    ["Ein Mann geht langsam nach Hause.", "Ein Mann geht nach Hause.", "Ein Mann geht langsam Hause."],
    [
        "Das Kind liest ein gutes Buch im Garten.",
        "Das Kind liest ein Buch im Garten.",
        "Das Kind liest ein gutes Buch in Garten.",
    ],
    [
        "Mein Freund isst jeden Morgen frisches Brot.",
        "Mein Freund isst Brot.",
        "Mein Freund isst jeden Morgen Brot.",
    ],
    [
        "Wir haben gestern lange auf den Bus gewartet.",
        "Wir haben gestern auf den Bus gewartet.",
        "Wir haben lange auf Bus gewartet.",
    ],
];

struct Scored {
    comparison: Comparison,
    interval: Interval,
}

fn score<S: Copy + Sum>(of: fn(&str, &str) -> S, score: fn(S) -> f64, resamples: &Resamples) -> Scored {
    let statistics = |column: usize| SENTENCES.map(|s| of(s[column], s[0]));
    let [(baseline, baseline_sets), (system, system_sets)] = [1, 2].map(|column| {
        let statistics = statistics(column);
        (score(statistics.into_iter().sum()), resamples.scores(&statistics, score))
    });
    Scored {
        comparison: compare(baseline, system, &baseline_sets, &system_sets),
        interval: Interval::of(&system_sets).unwrap(),
    }
}

fn bleu(resamples: &Resamples) -> Scored {
    score(BleuStats::of, |s| s.score().score, resamples)
}

fn chrf(resamples: &Resamples) -> Scored {
    score(ChrfStats::of, |s| s.score(), resamples)
}

/// sacreBLEU 2.6.0, `_paired_bs_test` with 7 samples and seed 12345, and the indices that numpy drew.
#[test]
fn the_numbers_equal_sacrebleu_on_the_same_samples() {
    let resamples = Resamples(vec![
        vec![4, 1, 4, 1, 1, 4],
        vec![3, 4, 5, 2, 5, 1],
        vec![3, 3, 1, 1, 1, 4],
        vec![3, 5, 4, 1, 5, 5],
        vec![4, 4, 0, 0, 1, 2],
        vec![0, 5, 2, 4, 1, 1],
        vec![0, 4, 4, 1, 4, 0],
    ]);
    let near = |ours: f64, theirs: f64| assert!((ours - theirs).abs() < 1e-4, "{ours} is not {theirs}");
    let Scored { comparison, interval } = bleu(&resamples);
    near(comparison.difference, 61.01881161148332 - 44.776307300712396);
    near(comparison.p_value, 0.375);
    near(interval.mean, 60.56044735154252);
    near(interval.half_width, 14.823873312130125);
    let Scored { comparison, interval } = chrf(&resamples);
    near(comparison.difference, 78.27742811232868 - 69.66898714389504);
    near(comparison.p_value, 0.25);
    near(interval.mean, 76.57123);
    near(interval.half_width, 5.386242);
}

/// sacreBLEU with 20,000 samples gives .0941 and .0755; our samples differ.
#[test]
fn many_samples_agree_with_sacrebleu() {
    let resamples = Resamples::draw(SENTENCES.len(), 20_000, 1);
    for (ours, theirs) in [
        (bleu(&resamples).comparison.p_value, 0.0941),
        (chrf(&resamples).comparison.p_value, 0.0755),
        (bleu(&resamples).interval.half_width / 200.0, 18.7229 / 200.0),
    ] {
        // Three standard deviations of a share of 20,000.
        assert!((ours - theirs).abs() < 0.0066, "{ours} is not {theirs}");
    }
}

#[test]
fn different_seeds_draw_different_samples() {
    let draw = |seed| Resamples::draw(50, 4, seed);
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    assert!(draw(3).0.iter().flatten().all(|&i| i < 50));
}

#[test]
fn equal_systems_have_a_p_value_of_one() {
    let sets = [10.0, 12.0, 11.0];
    assert_eq!(compare(11.0, 11.0, &sets, &sets), Comparison { difference: 0.0, p_value: 1.0 });
    assert_eq!(Interval::of(&[]), None);
}
