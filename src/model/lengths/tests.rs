use super::*;

#[test]
fn the_middle_class_is_a_translation_as_long_as_its_source() {
    let classes: Vec<f32> = (0..8).map(|c| -(c as f32)).collect();
    let scores = Lengths::Offset.inner_scores(&classes, 6, 12); // 4 words
    assert_eq!(scores[4], -4.0);
    assert_eq!(scores[0], 0.0);
    assert_eq!(scores[7], -7.0);
    assert_eq!(scores[8], f32::NEG_INFINITY);
    assert_eq!(scores.len(), 13);
}

#[test]
fn an_absolute_class_is_the_length_of_the_target() {
    let classes: Vec<f32> = (0..8).map(|c| -(c as f32)).collect();
    let scores = Lengths::Absolute.inner_scores(&classes, 100, 12);
    assert_eq!(scores[..6], [-2.0, -3.0, -4.0, -5.0, -6.0, -7.0]);
    assert_eq!(scores[6], f32::NEG_INFINITY);
}

#[test]
fn a_length_has_the_class_that_scores_it() {
    for lengths in [Lengths::Offset, Lengths::Absolute] {
        for (source, target) in [(6, 8), (9, 3), (5, 12)] {
            let class = lengths.class(source, target, 16) as usize;
            let mut classes = vec![-1.0; 16];
            classes[class] = 0.0;
            assert_eq!(lengths.inner_scores(&classes, source, 12)[target - 2], 0.0);
        }
        assert_eq!(lengths.class(5, 99, 16), 15);
    }
    assert_eq!(Lengths::Offset.class(99, 5, 16), 0);
}
