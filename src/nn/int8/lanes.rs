//! Folds of rows in registers. A row is folded in sixteen lanes, four sets of them for its whole chunks of 64, and the
//! lanes are then joined by halves. So the bits of the result do not depend on the width of the registers.

use pulp::{Scalar, Simd};

/// f32 values of the widest register.
pub(super) const LANES: usize = 16;

/// Sets of lanes, which shorten chains of dependent operations.
const SETS: usize = 4;

/// How the values of a row are folded: what is taken of each, and how that is joined.
pub(super) trait Fold<S: Simd>: Copy {
    type Join: Join<S>;

    fn value(self, simd: S, x: S::f32s) -> S::f32s;
}

/// A sum or a maximum.
pub(super) trait Join<S: Simd> {
    const START: f32;

    /// Joins `more` to what there is `so_far`.
    fn join(simd: S, so_far: S::f32s, more: S::f32s) -> S::f32s;

    /// Joins the lanes of a register by halves.
    fn reduce(simd: S, lanes: S::f32s) -> f32;
}

/// Folds a row.
#[inline(always)]
pub(super) fn fold<S: Simd, F: Fold<S> + Fold<Scalar>>(simd: S, how: F, row: &[f32]) -> f32 {
    match LANES / S::F32_LANES {
        1 => fold_in::<1, S, F>(simd, how, row),
        2 => fold_in::<2, S, F>(simd, how, row),
        4 => fold_in::<4, S, F>(simd, how, row),
        _ => fold_in::<LANES, Scalar, F>(Scalar::new(), how, row),
    }
}

/// Folds with `N` registers for each set of lanes.
#[inline(always)]
fn fold_in<const N: usize, S: Simd, F: Fold<S> + Fold<Scalar>>(simd: S, how: F, row: &[f32]) -> f32 {
    let mut sets = [[simd.splat_f32s(<F as Fold<S>>::Join::START); N]; SETS];
    let (chunks, rest) = row.as_chunks::<{ SETS * LANES }>();
    for chunk in chunks {
        let values = S::as_simd_f32s(chunk).0;
        for set in 0..SETS {
            for i in 0..N {
                sets[set][i] = take(simd, how, sets[set][i], values[set * N + i]);
            }
        }
    }
    let join = |a, b| <F as Fold<S>>::Join::join(simd, a, b);
    let [mut lanes, b, c, d] = sets;
    for i in 0..N {
        lanes[i] = join(join(lanes[i], b[i]), join(c[i], d[i]));
    }
    let (whole, rest) = S::as_simd_f32s(rest);
    for (i, &values) in whole.iter().enumerate() {
        lanes[i % N] = take(simd, how, lanes[i % N], values);
    }
    if !rest.is_empty() {
        let mut single = [0f32; LANES];
        let single = &mut single[..S::F32_LANES];
        let place = &mut lanes[whole.len() % N];
        S::as_mut_simd_f32s(single).0[0] = *place;
        for (lane, &value) in single.iter_mut().zip(rest) {
            *lane = take(Scalar::new(), how, *lane, value);
        }
        *place = S::as_simd_f32s(single).0[0];
    }
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    <F as Fold<S>>::Join::reduce(simd, lanes[0])
}

/// Takes a value into each lane.
#[inline(always)]
fn take<S: Simd, F: Fold<S>>(simd: S, how: F, so_far: S::f32s, x: S::f32s) -> S::f32s {
    F::Join::join(simd, so_far, how.value(simd, x))
}

pub(super) struct Adding;

impl<S: Simd> Join<S> for Adding {
    const START: f32 = 0.0;

    #[inline(always)]
    fn join(simd: S, so_far: S::f32s, more: S::f32s) -> S::f32s {
        simd.add_f32s(so_far, more)
    }

    #[inline(always)]
    fn reduce(simd: S, lanes: S::f32s) -> f32 {
        simd.reduce_sum_f32s(lanes)
    }
}

/// Ignores NaN on x86, where a maximum with NaN is the second operand.
pub(super) struct Largest;

impl<S: Simd> Join<S> for Largest {
    const START: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn join(simd: S, so_far: S::f32s, more: S::f32s) -> S::f32s {
        simd.max_f32s(more, so_far)
    }

    #[inline(always)]
    fn reduce(simd: S, lanes: S::f32s) -> f32 {
        simd.reduce_max_f32s(lanes)
    }
}

/// Σ x
#[derive(Clone, Copy)]
pub(super) struct Sum;

impl<S: Simd> Fold<S> for Sum {
    type Join = Adding;

    #[inline(always)]
    fn value(self, _: S, x: S::f32s) -> S::f32s {
        x
    }
}

/// Σ (x − m)²
#[derive(Clone, Copy)]
pub(super) struct SquaresFrom(pub(super) f32);

impl<S: Simd> Fold<S> for SquaresFrom {
    type Join = Adding;

    #[inline(always)]
    fn value(self, simd: S, x: S::f32s) -> S::f32s {
        let from = simd.sub_f32s(x, simd.splat_f32s(self.0));
        simd.mul_f32s(from, from)
    }
}

/// The largest value; minus infinity for an empty row.
#[derive(Clone, Copy)]
pub(super) struct Max;

impl<S: Simd> Fold<S> for Max {
    type Join = Largest;

    #[inline(always)]
    fn value(self, _: S, x: S::f32s) -> S::f32s {
        x
    }
}

/// The largest magnitude; minus infinity for an empty row.
#[derive(Clone, Copy)]
pub(super) struct MaxMagnitude;

impl<S: Simd> Fold<S> for MaxMagnitude {
    type Join = Largest;

    #[inline(always)]
    fn value(self, simd: S, x: S::f32s) -> S::f32s {
        simd.abs_f32s(x)
    }
}

#[cfg(test)]
mod tests;
