use super::*;

#[test]
fn the_masks_that_are_left_follow_the_closed_form() {
    for masked in 0..=64usize {
        for passes in 1..=8usize {
            for pass in 1..=passes {
                let expected = ((passes - pass) as f64 * masked as f64 / passes as f64).ceil();
                let found = masks_left(masked, pass, passes);
                assert_eq!(found as f64, expected, "m = {masked}, n = {passes}, j = {pass}");
                assert!(found <= masks_left(masked, pass - 1, passes));
            }
            assert_eq!(masks_left(masked, 0, passes), masked);
            assert_eq!(masks_left(masked, passes, passes), 0);
        }
    }
    assert_eq!(masks_left(5, 1, 2), 3);
    assert_eq!(masks_left(1, 1, 2), 1, "a single mask stays until the last pass");
}

#[test]
fn every_masked_place_is_rewritten_and_the_least_certain_are_masked_again() {
    const MASK: u32 = 4;
    let mut canvas = [1, MASK, 11, MASK, 77, MASK, 2];
    // The pass before wrote 77, which still belongs to the masked set.
    refresh(&mut canvas, &[1, 3, 4, 5], &[(20, -0.5), (21, -2.0), (22, -0.1), (23, -2.0)], 1, MASK);
    assert_eq!(canvas, [1, 20, 11, MASK, 22, 23, 2]);
    refresh(&mut canvas, &[1, 3, 4, 5], &[(30, -3.0), (31, -1.0), (32, -2.0), (33, -2.5)], 3, MASK);
    assert_eq!(canvas, [1, MASK, 11, 31, MASK, MASK, 2]);
}
