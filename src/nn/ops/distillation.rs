//! The losses by which one network learns from another (DiMS, Norouzi et al. 2023, arXiv 2206.02999):
//! divergence from the teacher's distribution, and distance to its hidden states. What comes from the
//! teacher is data: no gradient flows into it. Both softmaxes are recomputed in the backward pass.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, for_rows, max, sum_by, sum_by_pairs, values, with_values};
use super::way::{Way, way};

/// Mean over rows of KL( softmax(teacher / τ) ‖ softmax(student) ) in nats, a scalar.
///
/// `student` and `teacher` are logits `[rows, classes]` (log-probabilities serve as well); the classes
/// below `forbidden` take no part, on either side.
pub fn divergence(student: &Tensor, teacher: &Tensor, temperature: f32, forbidden: usize) -> Result<Tensor> {
    let (rows, classes) = student.dims2()?;
    if teacher.dims() != student.dims() || rows == 0 || forbidden >= classes {
        let (s, t) = (student.dims(), teacher.dims());
        bail!("divergence: student logits {s:?}, teacher logits {t:?}, {forbidden} classes forbidden");
    }
    if temperature <= 0.0 || !temperature.is_finite() {
        bail!("divergence: the temperature is {temperature}; it must be more than 0");
    }
    match way(student) {
        Way::Cpu => {
            let teacher = teacher.detach().contiguous()?;
            student.contiguous()?.apply_op1(Divergence { teacher, sharpness: temperature.recip(), forbidden })
        }
        #[cfg(any(feature = "cuda", test))]
        Way::Kernels => super::kernels::divergence(student, teacher, temperature, forbidden),
        Way::Stock => plain(student, teacher, temperature, forbidden),
    }
}

/// The same in stock ops.
pub(super) fn plain(
    student: &Tensor,
    teacher: &Tensor,
    temperature: f32,
    forbidden: usize,
) -> Result<Tensor> {
    let (rows, classes) = student.dims2()?;
    let log_probs = |logits: &Tensor| {
        candle_nn::ops::log_softmax(&logits.narrow(1, forbidden, classes - forbidden)?, D::Minus1)
    };
    let teacher = log_probs(&(teacher.detach() / f64::from(temperature))?)?;
    let difference = (&teacher - log_probs(student)?)?;
    (teacher.exp()? * difference)?.sum_all()? / rows as f64
}

struct Divergence {
    /// `[rows, classes]`, contiguous.
    teacher: Tensor,
    /// 1 / τ
    sharpness: f32,
    forbidden: usize,
}

/// One row of either side over the allowed classes: `softmax_i = e^(scale · (x_i - top)) / sum`.
#[derive(Clone, Copy)]
struct Softmax {
    top: f32,
    scale: f32,
    sum: f32,
}

impl Softmax {
    #[inline(always)]
    fn new(row: &[f32], scale: f32) -> Self {
        let top = max(row);
        Self { top, scale, sum: sum_by(row, |v| exp((v - top) * scale)) }
    }

    /// `scale · (x - top)`: the log-probability up to `ln(sum)`.
    #[inline(always)]
    fn exponent(self, x: f32) -> f32 {
        (x - self.top) * self.scale
    }
}

impl CustomOp1 for Divergence {
    fn name(&self) -> &'static str {
        "divergence"
    }

    fn cpu_fwd(&self, student: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, classes) = layout.shape().dims2()?;
        let student = values(student, layout)?;
        let mut losses = vec![0f64; rows];
        with_values(&self.teacher, |teacher| {
            let rows = student.par_chunks(classes).zip(teacher.par_chunks(classes));
            losses.par_iter_mut().zip(rows).for_each(|(loss, (student, teacher))| {
                pulp::Arch::new().dispatch(|| {
                    let (student, teacher) = (&student[self.forbidden..], &teacher[self.forbidden..]);
                    let p = Softmax::new(student, 1.0);
                    let q = Softmax::new(teacher, self.sharpness);
                    // Σ q (ln q - ln p), the two normalisers taken out of the sum
                    let weighted = sum_by_pairs(teacher, student, |t, s| {
                        let exponent = q.exponent(t);
                        exp(exponent) * (exponent - p.exponent(s))
                    });
                    *loss = f64::from(weighted / q.sum + p.sum.ln() - q.sum.ln());
                });
            });
        })?;
        let mean = losses.iter().sum::<f64>() / rows as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    /// `dlogit = (softmax(student) - softmax(teacher / τ)) · grad / rows`
    fn bwd(&self, student: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, classes) = student.dims2()?;
        let scale = grad.to_scalar::<f32>()? / rows as f32;
        let mut out = vec![0f32; rows * classes];
        with_values(student, |student| {
            with_values(&self.teacher, |teacher| {
                for_rows(&mut out, classes, |i, out| {
                    let allowed = i * classes + self.forbidden..(i + 1) * classes;
                    let (student, teacher) = (&student[allowed.clone()], &teacher[allowed]);
                    let p = Softmax::new(student, 1.0);
                    let q = Softmax::new(teacher, self.sharpness);
                    let (p_scale, q_scale) = (scale / p.sum, scale / q.sum);
                    for ((o, &s), &t) in out[self.forbidden..].iter_mut().zip(student).zip(teacher) {
                        *o = exp(p.exponent(s)) * p_scale - exp(q.exponent(t)) * q_scale;
                    }
                });
            })
        })??;
        Ok(Some(Tensor::from_vec(out, (rows, classes), student.device())?))
    }
}

/// Inside the root of [`distance`]; small against any real distance of hidden states.
const EPSILON: f32 = 1e-8;

/// Mean over rows of ‖student − teacher‖₂, `[rows, width]` both, as `√(‖·‖² + ε) − √ε`: exactly 0 with
/// gradient 0 where the two are equal, as they are when a student begins as a copy of its teacher.
pub fn distance(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let squares = (student - teacher.detach())?.sqr()?.sum(D::Minus1)?;
    let roots = squares.affine(1.0, f64::from(EPSILON))?.sqrt()?;
    roots.affine(1.0, -f64::from(EPSILON.sqrt()))?.mean_all()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use proptest::prelude::{ProptestConfig, proptest};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const FORBIDDEN: usize = 5;

    fn matrix(rows: usize, width: usize, seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..rows * width).map(|_| rng.random_range(-3.0..3.0)).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    fn gradient(at: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> (f32, Vec<f32>) {
        let var = Var::from_tensor(at).unwrap();
        let loss = f(var.as_tensor());
        let gradients = (&loss * 3.0).unwrap().backward().unwrap();
        let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        (loss.to_scalar().unwrap(), gradient)
    }

    /// Central differences of `3 · f` in every value of `at`.
    fn slopes(at: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Vec<f32> {
        const STEP: f32 = 2e-2;
        let values: Vec<f32> = at.flatten_all().unwrap().to_vec1().unwrap();
        let moved = |i: usize, by: f32| {
            let mut values = values.clone();
            values[i] += by;
            let tensor = Tensor::from_vec(values, at.shape(), &Device::Cpu).unwrap();
            3.0 * f(&tensor).to_scalar::<f32>().unwrap()
        };
        (0..values.len()).map(|i| (moved(i, STEP) - moved(i, -STEP)) / (2.0 * STEP)).collect()
    }

    fn assert_close(got: &[f32], want: &[f32], tolerance: f32) {
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() < tolerance, "at {i}: {got}, not {want}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_kernel_gives_what_the_stock_ops_give(
            rows in 1usize..5, classes in 6usize..70, seed: u64, temperature in 0.3f32..3.0,
        ) {
            let (student, teacher) = (matrix(rows, classes, seed), matrix(rows, classes, seed ^ 1));
            let (loss, fused) =
                gradient(&student, |s| divergence(s, &teacher, temperature, FORBIDDEN).unwrap());
            let (plain_loss, stock) =
                gradient(&student, |s| plain(s, &teacher, temperature, FORBIDDEN).unwrap());
            assert_close(&[loss], &[plain_loss], 2e-5 * plain_loss.abs().max(1.0));
            assert_close(&fused, &stock, 2e-5);
        }
    }

    #[test]
    fn the_gradient_of_the_divergence_is_its_slope() {
        let (student, teacher) = (matrix(3, 17, 1), matrix(3, 17, 2));
        for temperature in [0.5, 1.0] {
            let f = |s: &Tensor| divergence(s, &teacher, temperature, FORBIDDEN).unwrap();
            let (_, gradient) = gradient(&student, f);
            assert_close(&gradient, &slopes(&student, f), 2e-3);
            for row in gradient.chunks(17) {
                assert!(row[..FORBIDDEN].iter().all(|&g| g == 0.0), "{row:?}");
            }
        }
    }

    #[test]
    fn two_coins_diverge_as_the_definition_says() {
        let logits = |p: f32| Tensor::new(&[[99.0, p.ln(), (1.0 - p).ln()]], &Device::Cpu).unwrap();
        // Squaring (temperature 1/2) makes 2:1 into 4:1.
        let loss = divergence(&logits(0.5), &logits(2.0 / 3.0), 0.5, 1).unwrap().to_scalar::<f32>().unwrap();
        let want = 0.8f32 * (0.8f32 / 0.5).ln() + 0.2 * (0.2f32 / 0.5).ln();
        assert!((loss - want).abs() < 1e-6, "{loss}, not {want}");
    }

    #[test]
    fn a_student_that_agrees_has_no_divergence() {
        let logits = matrix(4, 50, 3);
        let (loss, gradient) = gradient(&logits, |s| divergence(s, &logits, 1.0, FORBIDDEN).unwrap());
        assert!(loss.abs() < 1e-6, "{loss}");
        assert_close(&gradient, &[0.0; 200], 1e-7);
    }

    #[test]
    fn the_teacher_gets_no_gradient() {
        let (student, teacher) =
            (Var::from_tensor(&matrix(2, 9, 1)).unwrap(), Var::from_tensor(&matrix(2, 9, 2)).unwrap());
        let kl = divergence(&student, &teacher, 0.5, FORBIDDEN).unwrap();
        let l2 = distance(&student, &teacher).unwrap();
        let stock = plain(&student, &teacher, 0.5, FORBIDDEN).unwrap();
        for loss in [kl, l2, stock] {
            let gradients = loss.backward().unwrap();
            assert!(gradients.get(&student).is_some() && gradients.get(&teacher).is_none());
        }
    }

    #[test]
    fn the_gradient_of_the_distance_is_its_slope() {
        let (student, teacher) = (matrix(3, 7, 5), matrix(3, 7, 6));
        let f = |s: &Tensor| distance(s, &teacher).unwrap();
        let (loss, gradient) = gradient(&student, f);
        assert_close(&gradient, &slopes(&student, f), 2e-3);
        let norm = (&student - &teacher).unwrap().sqr().unwrap().sum(1).unwrap().sqrt().unwrap();
        let want: f32 = norm.mean_all().unwrap().to_scalar().unwrap();
        assert!((loss - want).abs() < 2e-4, "{loss}, not {want}");
    }

    #[test]
    fn equal_states_have_distance_zero_and_a_gradient_of_zero() {
        let states = matrix(3, 7, 5);
        let (loss, gradient) = gradient(&states, |s| distance(s, &states).unwrap());
        assert_eq!((loss, gradient), (0.0, vec![0.0; 21]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (a, b) = (matrix(2, 9, 1), matrix(3, 9, 2));
        assert!(divergence(&a, &b, 0.5, FORBIDDEN).is_err());
        assert!(divergence(&a, &a, 0.0, FORBIDDEN).is_err());
        assert!(divergence(&a, &a, 0.5, 9).is_err());
    }
}
