use super::*;

#[test]
fn every_position_predicts_the_next_token() {
    let pair = Pair { source: vec![1, 9, 2], target: vec![1, 10, 11, 12, 2] };
    let asked = next_tokens(&pair);
    assert_eq!(asked.canvas, [1, 10, 11, 12]);
    assert_eq!(asked.positions, [0, 1, 2, 3]);
    assert_eq!(asked.gold, [10, 11, 12, 2]);
}
