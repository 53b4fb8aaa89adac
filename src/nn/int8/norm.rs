//! Layer normalization of rows, and the reductions that row kernels share.

/// Gain and bias of a layer norm (Ba et al. 2016).
#[derive(Debug)]
pub struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    const EPS: f32 = 1e-5;

    /// # Panics
    /// If the vectors differ in length.
    pub fn new(gain: Vec<f32>, bias: Vec<f32>) -> Self {
        assert_eq!(gain.len(), bias.len(), "gain and bias have one width");
        Self { gain, bias }
    }

    pub fn width(&self) -> usize {
        self.gain.len()
    }

    /// Normalizes every row of `x [count, width]` in place.
    pub fn apply(&self, x: &mut [f32]) {
        pulp::Arch::new().dispatch(Apply { norm: self, x });
    }

    /// `out = (row - mean) / sqrt(var + eps) · gain + bias`
    #[inline(always)]
    pub(super) fn normalize(&self, row: &[f32], out: &mut [f32]) {
        let (mean, scale) = Self::moments(row);
        let affine = self.gain.iter().zip(&self.bias);
        for ((out, &v), (&g, &b)) in out.iter_mut().zip(row).zip(affine) {
            *out = (v - mean) * scale * g + b;
        }
    }

    /// The mean and the reciprocal of the standard deviation.
    #[inline(always)]
    fn moments(row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = sum_by(row, |v| v) / n;
        let variance = sum_by(row, |v| (v - mean) * (v - mean)) / n;
        (mean, 1.0 / (variance + Self::EPS).sqrt())
    }
}

/// A call of [`Norm::apply`].
struct Apply<'a> {
    norm: &'a Norm,
    x: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { norm, x } = self;
        for row in x.chunks_exact_mut(norm.width()) {
            let (mean, scale) = Norm::moments(row);
            for (v, (&g, &b)) in row.iter_mut().zip(norm.gain.iter().zip(&norm.bias)) {
                *v = (*v - mean) * scale * g + b;
            }
        }
    }
}

/// f32 values of the widest register.
pub(super) const LANES: usize = 16;

/// Folds values in sixteen lanes, then the lanes by halves, in an order that depends only on the length. With `ROW`,
/// uses four times as many lanes first, to shorten chains of dependent operations.
#[inline(always)]
fn fold<const ROW: bool>(
    values: &[f32],
    start: f32,
    f: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let mut rest = values;
    if ROW {
        let [mut b, mut c, mut d] = [[start; LANES]; 3];
        let (chunks, short) = values.as_chunks::<{ 4 * LANES }>();
        for chunk in chunks {
            let [of_a, of_b, of_c, of_d] = chunk.as_chunks().0 else { continue };
            by_lanes(&mut lanes, of_a, &f);
            by_lanes(&mut b, of_b, &f);
            by_lanes(&mut c, of_c, &f);
            by_lanes(&mut d, of_d, &f);
        }
        by_lanes(&mut lanes, &b, &join);
        by_lanes(&mut c, &d, &join);
        by_lanes(&mut lanes, &c, &join);
        rest = short;
    }
    let (chunks, rest) = rest.as_chunks();
    for chunk in chunks {
        by_lanes(&mut lanes, chunk, &f);
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, v);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

#[inline(always)]
fn by_lanes(lanes: &mut [f32; LANES], values: &[f32; LANES], f: &impl Fn(f32, f32) -> f32) {
    for i in 0..LANES {
        lanes[i] = f(lanes[i], values[i]);
    }
}

#[inline(always)]
fn sum_by(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    fold::<true>(values, 0.0, |sum, v| sum + f(v), |a, b| a + b)
}

#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Largest value, ignoring NaN.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    fold::<true>(values, f32::NEG_INFINITY, larger, larger)
}

#[inline(always)]
pub(super) fn max_abs(values: &[f32]) -> f32 {
    fold::<true>(values, 0.0, |top, v| larger(top, v.abs()), larger)
}

/// `values -= ln Σ e^values`
pub fn log_softmax(values: &mut [f32]) {
    pulp::Arch::new().dispatch(LogSoftmax(values));
}

/// A call of [`log_softmax`].
struct LogSoftmax<'a>(&'a mut [f32]);

impl pulp::NullaryFnOnce for LogSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let top = max(self.0);
        let log_sum = top + sum_of_exp(self.0, top).ln();
        self.0.iter_mut().for_each(|v| *v -= log_sum);
    }
}

/// Sum of `e^(value - top)`. No value may exceed `top`.
#[inline(always)]
pub(super) fn sum_of_exp(values: &[f32], top: f32) -> f32 {
    fold::<false>(values, 0.0, |sum, v| sum + exp_below(v - top), |a, b| a + b)
}

/// Softmax of each lane over `x`.
#[inline(always)]
pub(super) fn softmax(x: &mut [[f32; LANES]]) {
    let mut top = [f32::NEG_INFINITY; LANES];
    for x in x.iter() {
        by_lanes(&mut top, x, &larger);
    }
    let mut sum = [0f32; LANES];
    for x in x.iter_mut() {
        for i in 0..LANES {
            x[i] = exp_below(x[i] - top[i]);
        }
        by_lanes(&mut sum, x, &|a, b| a + b);
    }
    for sum in &mut sum {
        *sum = 1.0 / *sum;
    }
    for x in x.iter_mut() {
        by_lanes(x, &sum, &|a, b| a * b);
    }
}

/// `e^x` for `x <= 0`, with a relative error of at most 5e-7. Reduces by ln 2 in two parts, then evaluates a
/// polynomial of degree 5 (minimax of the relative error) in fused operations, half as many as
/// [`crate::nn::ops::exp`]. NaN stays NaN; values below −87 count as −87.
#[inline(always)]
#[allow(clippy::excessive_precision)]
fn exp_below(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_375, x));
    let mut p = 0.006_953_154_69_f32;
    p = p.mul_add(r, 0.041_875_690_2);
    p = p.mul_add(r, 0.166_877_002);
    p = p.mul_add(r, 0.499_993_742);
    p = p.mul_add(r, 0.999_993_682);
    p = p.mul_add(r, 1.0);
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}
