//! Dropout, and the sum that adds a sublayer's result to the residual stream.
//!
//! Whether a value is dropped is a pure function of seed and index. So nothing is stored for the backward pass, and
//! equal seeds drop the same values on any number of threads.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::cpu::{for_rows, values, with_values};
use super::kernel_path::{KernelPath, select_path};
use super::types::Mask;

const WIDTH: usize = 4096;

/// `x` with a share `p` of its values zeroed and the others divided by `1 - p`.
pub fn dropout(x: &Tensor, p: f32, seed: u64) -> Result<Tensor> {
    let mask = Mask::new(p, seed);
    match select_path(x) {
        KernelPath::Cpu => x.contiguous()?.apply_op1(DropoutOp { mask }),
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::dropout(x, mask),
        KernelPath::Stock => x * mask.tensor(x)?,
    }
}

/// `x + branch`
pub fn residual(x: &Tensor, branch: &Tensor) -> Result<Tensor> {
    residual_dropout(x, branch, 0.0, 0)
}

/// `x + dropout(branch)`
pub fn residual_dropout(x: &Tensor, branch: &Tensor, p: f32, seed: u64) -> Result<Tensor> {
    let mask = Mask::new(p, seed);
    match select_path(x) {
        KernelPath::Cpu => x.contiguous()?.apply_op2(&branch.contiguous()?, ResidualOp { mask }),
        #[cfg(any(feature = "cuda", test))]
        KernelPath::Kernels => super::kernels::residual(x, branch, mask),
        KernelPath::Stock if p == 0.0 => x + branch,
        KernelPath::Stock => x + (branch * mask.tensor(branch)?)?,
    }
}

impl Mask {
    fn tensor(self, like: &Tensor) -> Result<Tensor> {
        let mask: Vec<f32> = (0..like.elem_count()).map(|i| self.at(i)).collect();
        Tensor::from_vec(mask, like.shape(), like.device())
    }

    /// `out = grad · mask`
    fn apply(self, grad: &[f32]) -> Vec<f32> {
        let mut out = grad.to_vec();
        for_chunks(&mut out, |start, out| {
            for (i, o) in out.iter_mut().enumerate() {
                *o *= self.at(start + i);
            }
        });
        out
    }
}

/// Calls `f(index of the first value, values)` for chunks of `out`, in parallel.
fn for_chunks(out: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    let whole = out.len() / WIDTH * WIDTH;
    let (body, tail) = out.split_at_mut(whole);
    for_rows(body, WIDTH, |i, row| f(i * WIDTH, row));
    f(whole, tail);
}

struct DropoutOp {
    mask: Mask,
}

impl CustomOp1 for DropoutOp {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.mask.apply(values(x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_values(grad, |g| self.mask.apply(g))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

struct ResidualOp {
    mask: Mask,
}

impl CustomOp2 for ResidualOp {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        branch: &CpuStorage,
        branch_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if x_layout.shape() != branch_layout.shape() {
            candle_core::bail!("residual: {:?} and {:?} differ", x_layout.shape(), branch_layout.shape());
        }
        let branch = values(branch, branch_layout)?;
        let mut y = values(x, x_layout)?.to_vec();
        let mask = self.mask;
        for_chunks(&mut y, |start, y| {
            let branch = &branch[start..][..y.len()];
            if mask.threshold == 0 {
                for (y, &b) in y.iter_mut().zip(branch) {
                    *y += b;
                }
            } else {
                for (i, (y, &b)) in y.iter_mut().zip(branch).enumerate() {
                    *y += b * mask.at(start + i);
                }
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        branch: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if self.mask.threshold == 0 {
            return Ok((Some(grad.clone()), Some(grad.clone())));
        }
        let dbranch = with_values(grad, |g| self.mask.apply(g))?;
        Ok((Some(grad.clone()), Some(Tensor::from_vec(dbranch, branch.shape(), branch.device())?)))
    }
}
