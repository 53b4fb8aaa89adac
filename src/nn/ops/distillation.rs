//! Distillation losses (DiMS, Norouzi et al. 2023, arXiv 2206.02999): divergence from the teacher's distribution, and
//! distance to its hidden states. The teacher gets no gradient. The backward pass recomputes both softmaxes.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, for_rows, max, sum_by, sum_by_pairs, values, with_values};
use super::kernel_path::{KernelPath, select_path};

/// Mean over rows of KL( softmax(teacher / τ) ‖ softmax(student) ) in nats, a scalar.
///
/// `student` and `teacher` are logits or log-probabilities `[rows, classes]`. Classes below `forbidden` are ignored in
/// both.
pub fn divergence(student: &Tensor, teacher: &Tensor, temperature: f32, forbidden: usize) -> Result<Tensor> {
    let (rows, classes) = student.dims2()?;
    if teacher.dims() != student.dims() || rows == 0 || forbidden >= classes {
        let (s, t) = (student.dims(), teacher.dims());
        bail!("divergence: student logits {s:?}, teacher logits {t:?}, {forbidden} classes forbidden");
    }
    if temperature <= 0.0 || !temperature.is_finite() {
        bail!("divergence: the temperature is {temperature}; it must be more than 0");
    }
    match select_path(student) {
        KernelPath::Cpu => {
            let teacher = teacher.detach().contiguous()?;
            student.contiguous()?.apply_op1(Divergence { teacher, sharpness: temperature.recip(), forbidden })
        }
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::divergence(student, teacher, temperature, forbidden),
        KernelPath::Stock => stock(student, teacher, temperature, forbidden),
    }
}

/// [`divergence`] in stock ops.
pub(super) fn stock(
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

/// The softmax of one row over the allowed classes: `softmax_i = e^(scale · (x_i - top)) / sum`.
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
                    // Σ q (ln q - ln p), with the two normalizers outside the sum
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

/// Added under the root of [`distance`]; small compared with distances of hidden states.
const EPSILON: f32 = 1e-8;

/// Mean over rows of ‖student − teacher‖₂, `[rows, width]` both, as `√(‖·‖² + ε) − √ε`. Where the two
/// are equal, value and gradient are exactly 0, as at the start of a student that is a copy of its teacher.
pub fn distance(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let squares = (student - teacher.detach())?.sqr()?.sum(D::Minus1)?;
    let roots = squares.affine(1.0, f64::from(EPSILON))?.sqrt()?;
    roots.affine(1.0, -f64::from(EPSILON.sqrt()))?.mean_all()
}

#[cfg(test)]
mod tests;
