use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// The factor and the rounded values of a row.
fn rounded(row: &[f32]) -> (f32, Vec<i8>) {
    let scale = RowScale::of(row);
    (scale.factor(), row.iter().map(|&weight| scale.round(weight)).collect())
}

/// Rounds, restores and rounds again. Returns the first factor and values.
#[track_caller]
fn assert_stays(row: &[f32]) -> (f32, Vec<i8>) {
    let (factor, values) = rounded(row);
    let restored: Vec<f32> = values.iter().map(|&value| RowScale::restore(value, factor)).collect();
    let (again, same) = rounded(&restored);
    assert_eq!(factor.to_bits(), again.to_bits(), "{row:?}");
    assert_eq!(values, same, "{row:?}");
    assert!(!values.contains(&i8::MIN), "{row:?}");
    (factor, values)
}

#[test]
fn a_restored_row_is_rounded_to_the_same_bits_whatever_f16_is_its_largest() {
    for bits in 1..f16::INFINITY.to_bits() {
        let top = f16::from_bits(bits).to_f32();
        let (_, values) = assert_stays(&[top / 3.0, -top, 0.0, top * 0.51]);
        assert_eq!(values, [42, -127, 0, 65]);
    }
}

#[test]
fn a_restored_row_is_rounded_to_the_same_bits_for_random_weights_of_any_size() {
    let mut random = ChaCha8Rng::seed_from_u64(21);
    for _ in 0..20_000 {
        // Above 2^126 a restored weight could overflow.
        let top = f32::from_bits(random.random_range(1..0x7e80_0000_u32));
        let mut row: Vec<f32> = (0..16).map(|_| random.random_range(-1.0..1.0)).collect();
        row.iter_mut().for_each(|weight| *weight *= top);
        assert_stays(&row);
        assert_stays(&[&row[..], &[top]].concat());
    }
}

#[test]
fn odd_rows_are_rounded_as_expected() {
    let smallest = f32::from_bits(1);
    for (row, expected) in [
        (vec![], vec![]),
        (vec![0.0; 3], vec![0; 3]),
        (vec![-0.0, 0.0], vec![0, 0]),
        (vec![-2.5], vec![-127]),
        (vec![-1.0, 0.5], vec![-127, 64]), // 63.5 is a tie
        (vec![1.0, 1.0, -1.0], vec![127, 127, -127]),
        (vec![-smallest, smallest], vec![0, 0]),
        (vec![-1e-37, 1e-38], vec![0, 0]),
        (vec![-65504.0, 1e-7], vec![-127, 0]),
    ] {
        assert_eq!(assert_stays(&row).1, expected, "{row:?}");
    }
    // The smallest row that is not zero.
    let (factor, values) = assert_stays(&[-127.0 * f32::MIN_POSITIVE, 64.0 * f32::MIN_POSITIVE]);
    assert_eq!((factor, values), (f32::MIN_POSITIVE, vec![-127, 64]));
}
