use super::*;

#[test]
fn every_place_is_asked_for_the_token_behind_it() {
    let pair = Pair { source: vec![1, 9, 2], target: vec![1, 10, 11, 12, 2] };
    let asked = next_tokens(&pair);
    assert_eq!(asked.canvas, [1, 10, 11, 12]);
    assert_eq!(asked.positions, [0, 1, 2, 3]);
    assert_eq!(asked.gold, [10, 11, 12, 2]);
}
