//! Cross entropy against a few weighted classes in each row, and the log-probabilities that such weights are found
//! from. With the posteriors of an alignment as weights its gradient is that of CTC.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{exp, for_rows, max, sum_by, values, with_values};
use super::way::{Way, way};

/// For each row of logits some classes, in any order and perhaps more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classes {
    /// Where the classes of a row begin, and one past the last of all.
    starts: Vec<usize>,
    ids: Vec<u32>,
}

impl Classes {
    pub fn new<R: AsRef<[u32]>>(rows: impl IntoIterator<Item = R>) -> Self {
        let (mut starts, mut ids) = (vec![0], Vec::new());
        for row in rows {
            ids.extend_from_slice(row.as_ref());
            starts.push(ids.len());
        }
        Self { starts, ids }
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Of all rows together.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    /// Rows, and the most classes of one; at least one.
    fn dims(&self) -> (usize, usize) {
        let widest = self.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        (self.rows(), widest.max(1))
    }

    /// One value for each class, each row filled up to the widest.
    fn padded<T: Copy>(&self, values: &[T], fill: T) -> Vec<T> {
        let (rows, widest) = self.dims();
        let mut all = Vec::with_capacity(rows * widest);
        for row in 0..rows {
            all.extend_from_slice(&values[self.range(row)]);
            all.resize((row + 1) * widest, fill);
        }
        all
    }

    fn check(&self, logits: &Tensor, forbidden: usize) -> Result<()> {
        let (rows, classes) = logits.dims2()?;
        if self.rows() != rows || rows == 0 {
            bail!("{} rows of classes for {rows} rows of logits", self.rows());
        }
        if self.ids.iter().any(|&id| (id as usize) < forbidden || id as usize >= classes) {
            bail!("a class lies outside {forbidden}..{classes}");
        }
        Ok(())
    }
}

/// The log-probabilities of chosen classes, row after row, on the host; no gradient.
///
/// `logits [rows, classes]`; those below `forbidden` take no part.
pub fn log_probs_of(logits: &Tensor, classes: &Classes, forbidden: usize) -> Result<Vec<f32>> {
    classes.check(logits, forbidden)?;
    let width = logits.dim(1)?;
    if way(logits) != Way::Cpu {
        let chosen: Vec<Vec<f32>> = gathered(&logits.detach(), classes, forbidden)?.to_vec2()?;
        let own = chosen.iter().enumerate().map(|(row, all)| &all[..classes.range(row).len()]);
        return Ok(own.collect::<Vec<_>>().concat());
    }
    with_values(logits, |logits| {
        let of_row = |(row, logits): (usize, &[f32])| {
            let log_sum = pulp::Arch::new().dispatch(|| log_sum_exp(&logits[forbidden..]));
            classes.ids[classes.range(row)]
                .iter()
                .map(|&id| logits[id as usize] - log_sum)
                .collect::<Vec<_>>()
        };
        let rows: Vec<Vec<f32>> = logits.par_chunks(width).enumerate().map(of_row).collect();
        rows.concat()
    })
}

/// `- Σ weight · log softmax(logits)[class] / divisor` over all rows and their classes, a scalar.
///
/// `logits [rows, classes]`; one weight for each class of `classes`, in order. No gradient flows into weights.
pub fn soft_cross_entropy(
    logits: &Tensor,
    classes: &Arc<Classes>,
    weights: &Arc<[f32]>,
    divisor: f64,
    forbidden: usize,
) -> Result<Tensor> {
    classes.check(logits, forbidden)?;
    if weights.len() != classes.len() {
        bail!("{} weights for {} classes", weights.len(), classes.len());
    }
    if way(logits) == Way::Cpu {
        let (classes, weights) = (classes.clone(), weights.clone());
        return logits.contiguous()?.apply_op1(SoftCrossEntropy { classes, weights, divisor, forbidden });
    }
    let weights = Tensor::from_vec(classes.padded(weights, 0.0), classes.dims(), logits.device())?;
    (gathered(logits, classes, forbidden)? * weights)?.sum_all()? / -divisor
}

/// The log-probabilities of chosen classes in stock ops, `[rows, most classes of a row]`, with gradient; what a row
/// has less is that of some class.
///
/// By `gather`: the gradient of an `index_select` would be summed up by a single thread of a GPU.
fn gathered(logits: &Tensor, classes: &Classes, forbidden: usize) -> Result<Tensor> {
    let allowed = logits.narrow(1, forbidden, logits.dim(1)? - forbidden)?.contiguous()?;
    let log_probs = candle_nn::ops::log_softmax(&allowed, D::Minus1)?;
    let ids = classes.padded(&classes.ids, forbidden as u32).into_iter().map(|id| id - forbidden as u32);
    log_probs.gather(&Tensor::from_vec(ids.collect(), classes.dims(), logits.device())?, 1)
}

#[inline(always)]
fn log_sum_exp(values: &[f32]) -> f32 {
    let top = max(values);
    top + sum_by(values, |v| exp(v - top)).ln()
}

struct SoftCrossEntropy {
    classes: Arc<Classes>,
    weights: Arc<[f32]>,
    divisor: f64,
    forbidden: usize,
}

impl CustomOp1 for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft-cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let logits = values(logits, layout)?;
        let mut losses = vec![0f64; rows];
        losses.par_iter_mut().zip(logits.par_chunks(width)).enumerate().for_each(|(row, (loss, logits))| {
            let log_sum = pulp::Arch::new().dispatch(|| log_sum_exp(&logits[self.forbidden..]));
            let range = self.classes.range(row);
            let own = self.classes.ids[range.clone()].iter().zip(&self.weights[range]);
            *loss = own.map(|(&id, &w)| f64::from(w) * f64::from(log_sum - logits[id as usize])).sum();
        });
        let sum = losses.iter().sum::<f64>() / self.divisor;
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }

    /// `dlogit = (softmax · Σ weights - weight) · grad / divisor`
    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = logits.dims2()?;
        let scale = grad.to_scalar::<f32>()? / self.divisor as f32;
        let dlogits = with_values(logits, |logits| {
            let mut out = vec![0f32; rows * width];
            for_rows(&mut out, width, |row, out| {
                let (ids, weights) =
                    (&self.classes.ids[self.classes.range(row)], &self.weights[self.classes.range(row)]);
                let allowed = &logits[row * width + self.forbidden..(row + 1) * width];
                let (top, inner) = (max(allowed), &mut out[self.forbidden..]);
                for (o, &v) in inner.iter_mut().zip(allowed) {
                    *o = exp(v - top);
                }
                let factor = scale * weights.iter().sum::<f32>() / sum_by(inner, |v| v);
                inner.iter_mut().for_each(|o| *o *= factor);
                for (&id, &weight) in ids.iter().zip(weights) {
                    out[id as usize] -= weight * scale;
                }
            });
            out
        })?;
        Ok(Some(Tensor::from_vec(dlogits, (rows, width), logits.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::nn::ops::by;

    const FORBIDDEN: usize = 3;

    fn given() -> (Tensor, Arc<Classes>, Arc<[f32]>) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let logits: Vec<f32> = (0..4 * 21).map(|_| rng.random_range(-3.0..3.0)).collect();
        let classes = Classes::new([vec![3, 9, 20], vec![], vec![7], vec![5, 6, 5]]);
        let weights = [0.5, 0.25, 0.25, 1.0, 0.2, 0.3, 0.1].as_slice().into();
        (Tensor::from_vec(logits, (4, 21), &Device::Cpu).unwrap(), Arc::new(classes), weights)
    }

    fn loss(logits: &Tensor) -> Tensor {
        let (_, classes, weights) = given();
        soft_cross_entropy(logits, &classes, &weights, 3.0, FORBIDDEN).unwrap()
    }

    fn gradient(way: Way) -> (f32, Vec<f32>) {
        let var = Var::from_tensor(&given().0).unwrap();
        by(way, || {
            let loss = loss(var.as_tensor());
            let gradients = (&loss * 2.0).unwrap().backward().unwrap();
            let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            (loss.to_scalar().unwrap(), gradient)
        })
    }

    #[test]
    fn the_kernel_gives_what_the_stock_ops_give_and_its_gradient_is_the_slope() {
        let ((fused, fast), (plain, stock)) = (gradient(Way::Cpu), gradient(Way::Stock));
        assert!((fused - plain).abs() < 1e-6, "{fused}, not {plain}");
        let values: Vec<f32> = given().0.flatten_all().unwrap().to_vec1().unwrap();
        for (i, (&got, want)) in fast.iter().zip(stock).enumerate() {
            assert!((got - want).abs() < 1e-6, "at {i}: {got}, not {want}");
            let moved = |by: f32| {
                let mut values = values.clone();
                values[i] += by;
                let logits = Tensor::from_vec(values, (4, 21), &Device::Cpu).unwrap();
                2.0 * loss(&logits).to_scalar::<f32>().unwrap()
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((got - slope).abs() < 2e-3, "at {i}: {got}, slope {slope}");
        }
        for row in fast.chunks(21) {
            assert_eq!(row[..FORBIDDEN], [0.0; FORBIDDEN]);
        }
        assert_eq!(fast[21..42], [0.0; 21], "a row without classes");
    }

    #[test]
    fn chosen_log_probabilities_are_those_of_the_softmax_over_what_is_allowed() {
        let (logits, classes, _) = given();
        let chosen = |way| by(way, || log_probs_of(&logits, &classes, FORBIDDEN).unwrap());
        let (fused, plain) = (chosen(Way::Cpu), chosen(Way::Stock));
        assert_eq!(fused.len(), 7);
        assert!(fused.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-5), "{fused:?} {plain:?}");
        let all = Classes::new([(3..21).collect::<Vec<u32>>(), vec![], vec![], vec![]]);
        let sum: f32 = log_probs_of(&logits, &all, FORBIDDEN).unwrap().iter().map(|v| v.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (logits, classes, weights) = given();
        let refused = |classes: Classes, weights: &Arc<[f32]>| {
            soft_cross_entropy(&logits, &Arc::new(classes), weights, 1.0, FORBIDDEN).is_err()
        };
        assert!(refused(Classes::new([[3u32], [3], [3]]), &[0.0; 3].as_slice().into()));
        assert!(refused(Classes::new([[3u32], [3], [3], [2]]), &[0.0; 4].as_slice().into()));
        assert!(refused(Classes::new([[3u32], [3], [3], [21]]), &[0.0; 4].as_slice().into()));
        assert!(refused(classes.as_ref().clone(), &weights[1..].into()));
    }
}
