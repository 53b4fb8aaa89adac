use pulp::WithSimd;

use super::*;
use crate::nn::int8::norm::ExpFrom;

/// Folds a row in each way.
struct All<'a>(&'a [f32]);

impl WithSimd for All<'_> {
    type Output = [f32; 5];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self(row) = self;
        [
            fold(simd, Sum, row),
            fold(simd, SquaresFrom(0.3), row),
            fold(simd, Max, row),
            fold(simd, MaxMagnitude, row),
            fold(simd, ExpFrom(2.0), row),
        ]
    }
}

fn row(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + len * 11) % 101) as f32 / 25.0 - 2.04).collect()
}

#[test]
fn folds_have_the_same_bits_in_registers_of_any_width() {
    for len in 0..300 {
        let row = row(len);
        let single = All(&row).with_simd(Scalar::new());
        let mut others = vec![pulp::Arch::new().dispatch(All(&row))];
        #[cfg(target_arch = "x86_64")]
        others.extend(pulp::x86::V3::try_new().map(|simd| pulp::Arch::V3(simd).dispatch(All(&row))));
        for other in others {
            assert_eq!(other.map(f32::to_bits), single.map(f32::to_bits), "{len} values");
        }
    }
}

#[test]
fn folds_are_what_their_names_say() {
    let row = row(203);
    let [sum, squares, max, magnitude, exp] = pulp::Arch::new().dispatch(All(&row));
    let exact = |f: fn(f64) -> f64| row.iter().map(|&x| f(x.into())).sum::<f64>();
    assert!((f64::from(sum) - exact(|x| x)).abs() < 1e-4);
    assert!((f64::from(squares) - exact(|x| (x - 0.3).powi(2))).abs() < 1e-3);
    assert!((f64::from(exp) - exact(|x| (x - 2.0).exp())).abs() < 1e-4);
    assert_eq!(max, row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    assert_eq!(magnitude, row.iter().fold(0.0, |top: f32, x| top.max(x.abs())));
    let nothing = pulp::Arch::new().dispatch(All(&[]));
    assert_eq!(nothing, [0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0]);
}
