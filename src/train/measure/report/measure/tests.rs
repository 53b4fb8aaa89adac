use super::*;

#[test]
fn a_spread_is_even_and_never_more_than_there_is() {
    assert_eq!(spread(10, 5).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
    assert_eq!(spread(3, 9).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(spread(0, 9).count(), 0);
}

#[test]
fn a_percentile_is_a_value_that_was_measured() {
    let values: Vec<f64> = (1..=10).map(f64::from).collect();
    assert_eq!((percentile(&values, 50), percentile(&values, 90), percentile(&[], 50)), (5.0, 9.0, 0.0));
    assert_eq!(percentile(&[7.0], 50), 7.0);
}

#[test]
fn every_length_is_in_one_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let lines: String = (1..=12).map(|n| "w ".repeat(n) + "\n").collect();
    std::fs::write(file("a"), &lines).unwrap();
    let plan = ReportPlan {
        source: file("a"),
        reference: file("a"),
        sentences: None,
        steps: vec![1],
        length_beams: vec![1],
        beams: vec![1],
        buckets: vec![4, 9],
        resamples: 1,
        seed: 1,
        timed_sentences: 1,
        timing_rounds: 1,
        batch_tokens: 512,
        dtype: crate::model::Dtype::F32,
        shortlist: true,
        lm: true,
    };
    let texts = BucketedTexts::read(&plan).unwrap();
    let bucket = |from, to, sentences| Bucket { from, to, sentences };
    assert_eq!(texts.buckets, [bucket(0, Some(4), 4), bucket(5, Some(9), 5), bucket(10, None, 3)]);
    let indices: Vec<usize> = texts.buckets.iter().flat_map(|b| texts.indices(b)).collect();
    assert_eq!(indices, (0..12).collect::<Vec<_>>());
}
