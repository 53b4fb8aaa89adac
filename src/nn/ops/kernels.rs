//! The ops of a GPU: candle's products, and kernels of `nn::device` between them, forward and backward. Each computes
//! the same as the op of that name on the CPU. Tests compare the two, with the kernels in emulation.

use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::launch::{Launch, Parameter};
use super::product::product;
use super::types::{Activation, AttentionMask, Mask};
use crate::nn::device::{Element, Grid, Kernel, Training};
use crate::nn::gemm::Precision;
use Parameter::{Count, Input, Null, Output, Real};

/// Implements the forward pass with `self.launch`.
macro_rules! forward {
    ($name:literal, $($s:ident: $l:ident),+) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn cpu_fwd(&self, $($s: &CpuStorage, $l: &Layout),+) -> Result<(CpuStorage, Shape)> {
            self.launch.on_cpu(&[$(($s, $l)),+])
        }

        fn cuda_fwd(&self, $($s: &CudaStorage, $l: &Layout),+) -> Result<(CudaStorage, Shape)> {
            self.launch.on_cuda(&[$(($s, $l)),+])
        }
    };
}

/// Threads of a block for one row of `width` values.
fn row_threads(width: usize) -> u32 {
    if width <= 1024 { 128 } else { 256 }
}

/// `activation(x · Wᵀ + b)`
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
    precision: Precision,
) -> Result<Tensor> {
    let y = product(x, weight, precision)?;
    let width = bias.elem_count();
    let least = if activation == Activation::Relu { 0.0 } else { f32::NEG_INFINITY };
    let grid = Grid::rows(y.elem_count() / width.max(1), row_threads(width));
    let parameters = [Input(0), Input(1), Output, Count(width), Real(least)];
    let launch = Launch::new(Training::Bias, grid, &parameters, y.shape());
    y.apply_op2(bias, Bias { launch, activation })
}

struct Bias {
    launch: Launch,
    activation: Activation,
}

impl CustomOp2 for Bias {
    forward!("bias", s1: l1, s2: l2);

    fn bwd(
        &self,
        _x: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut grad = grad.contiguous()?;
        if self.activation == Activation::Relu {
            let (count, shape) = (grad.elem_count(), grad.shape());
            let parameters = [Input(0), Input(1), Output, Count(count)];
            let launch = Launch::new(Training::ReluGradient, Grid::values(count), &parameters, shape);
            grad = grad.apply_op2_no_bwd(y, &launch)?;
        }
        let dbias = if bias.track_op() { Some(column_sums(&grad)?) } else { None };
        Ok((Some(grad), dbias))
    }
}

/// Sums over all dimensions but the last. Sums blocks of rows, then the sums of the blocks in the same way.
pub fn column_sums(x: &Tensor) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(1);
    let mut sums = x.contiguous()?.reshape(((), width))?;
    loop {
        let rows = sums.dim(0)?;
        let blocks = rows.div_ceil(Training::SUMMED_ROWS);
        let parameters = [Input(0), Output, Count(rows), Count(width)];
        let grid = Grid::column_sums(rows, width);
        sums =
            sums.apply_op1_no_bwd(&Launch::new(Training::ColumnSums, grid, &parameters, (blocks, width)))?;
        if blocks <= 1 {
            return sums.reshape(width);
        }
    }
}

/// Partial sums of Σ x².
pub fn squares(x: &Tensor) -> Result<Tensor> {
    let (x, count) = (x.contiguous()?, x.elem_count());
    let grid = Grid::squares(count);
    let launch = Launch::new(Training::Squares, grid, &[Input(0), Output, Count(count)], grid.width as usize);
    x.apply_op1_no_bwd(&launch)
}

pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let (x, width) = (x.contiguous()?, gain.elem_count());
    let grid = Grid::rows(x.elem_count() / width.max(1), row_threads(width));
    let parameters = [Input(0), Null, Input(1), Input(2), Output, Null, Count(width), Real(eps)];
    let launch = Launch::new(Kernel::Norm(Element::F32), grid, &parameters, x.shape());
    x.apply_op3(gain, bias, LayerNorm { launch, eps })
}

struct LayerNorm {
    launch: Launch,
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    forward!("layer-norm", s1: l1, s2: l2, s3: l3);

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let gradient = |[dx, product]: [Parameter; 2]| {
            let parameters =
                [Input(0), Input(1), Input(2), dx, product, Count(gain.elem_count()), Real(self.eps)];
            let launch = Launch::new(Training::NormGradient, self.launch.grid, &parameters, x.shape());
            x.apply_op3_no_bwd(gain, &grad, &launch)
        };
        let dgain = column_sums(&gradient([Null, Output])?)?;
        Ok((Some(gradient([Output, Null])?), Some(dgain), Some(column_sums(&grad)?)))
    }
}

/// `q [rows, queries, width]`, `k` and `v [rows, keys, width]`; the results of padded queries are zero.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: &Arc<[usize]>,
    key_lengths: &Arc<[usize]>,
    heads: usize,
    mask: AttentionMask,
) -> Result<Tensor> {
    let (rows, queries, width) = q.dims3()?;
    let (keys, head) = (k.dim(1)?, width / heads);
    // [rows, len, width] -> [rows, heads, len, head]
    let split = |x: &Tensor, len| x.reshape((rows, len, heads, head))?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (split(q, queries)?, split(k, keys)?, split(v, keys)?);
    let scores = q.matmul(&k.t()?)?; // [rows, heads, queries, keys]
    let upload = |lengths: &[usize]| {
        let lengths: Vec<u32> = lengths.iter().map(|&l| l as u32).collect();
        Tensor::from_vec(lengths, rows, q.device())
    };
    let scale = (head as f32).powf(-0.5);
    let causal = usize::from(mask == AttentionMask::Causal);
    #[rustfmt::skip]
    let parameters = [
        Input(0), Input(1), Input(2), Output, Count(heads), Count(queries), Count(keys), Count(causal), Real(scale),
    ];
    let grid = Grid::rows(rows * heads * queries, 32);
    let launch = Launch::new(Training::AttentionWeights, grid, &parameters, scores.shape());
    let weights = scores.apply_op3(&upload(lengths)?, &upload(key_lengths)?, Weights { launch, scale })?;
    weights.matmul(&v)?.transpose(1, 2)?.reshape((rows, queries, width))
}

struct Weights {
    launch: Launch,
    scale: f32,
}

impl CustomOp3 for Weights {
    forward!("attention-weights", s1: l1, s2: l2, s3: l3);

    fn bwd(
        &self,
        _scores: &Tensor,
        _lengths: &Tensor,
        _key_lengths: &Tensor,
        weights: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let keys = weights.dims().last().copied().unwrap_or(1);
        let parameters = [Input(0), Input(1), Output, Count(keys), Real(self.scale)];
        let launch = Launch::new(Training::AttentionGradient, self.launch.grid, &parameters, weights.shape());
        Ok((Some(weights.apply_op2_no_bwd(&grad.contiguous()?, &launch)?), None, None))
    }
}

/// `x` with some values zeroed and the others scaled.
pub fn dropout(x: &Tensor, mask: Mask) -> Result<Tensor> {
    let x = x.contiguous()?;
    let launch = masked(Training::Dropout, &[Input(0)], mask, x.shape());
    x.apply_op1(Dropout { launch })
}

/// `x + dropout(branch)`
pub fn residual(x: &Tensor, branch: &Tensor, mask: Mask) -> Result<Tensor> {
    if x.shape() != branch.shape() {
        candle_core::bail!("residual: {:?} and {:?} differ", x.shape(), branch.shape());
    }
    let x = x.contiguous()?;
    let launch = masked(Training::Residual, &[Input(0), Input(1)], mask, x.shape());
    x.apply_op2(&branch.contiguous()?, Residual { launch, mask })
}

fn masked(kernel: Training, inputs: &[Parameter], mask: Mask, shape: &Shape) -> Launch {
    let count = shape.elem_count();
    let chance = [Count(mask.seed as usize), Count(mask.threshold as usize), Real(mask.scale)];
    let parameters = [inputs, &[Output, Count(count)], &chance].concat();
    Launch::new(kernel, Grid::values(count), &parameters, shape)
}

struct Dropout {
    launch: Launch,
}

impl CustomOp1 for Dropout {
    forward!("dropout", s1: l1);

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?.apply_op1_no_bwd(&self.launch).map(Some)
    }
}

struct Residual {
    launch: Launch,
    mask: Mask,
}

impl CustomOp2 for Residual {
    forward!("residual", s1: l1, s2: l2);

    fn bwd(
        &self,
        _x: &Tensor,
        _branch: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if self.mask.threshold == 0 {
            return Ok((Some(grad.clone()), Some(grad.clone())));
        }
        let launch = masked(Training::Dropout, &[Input(0)], self.mask, &self.launch.shape);
        Ok((Some(grad.clone()), Some(grad.contiguous()?.apply_op1_no_bwd(&launch)?)))
    }
}

/// The mean over rows of a loss that `kernel` computes from `x` and `target`; `gradient` is the kernel of its gradient.
fn row_loss(
    x: &Tensor,
    target: &Tensor,
    kernel: Training,
    gradient: Training,
    rest: [Parameter; 3],
) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let grid = Grid::rows(rows, 256);
    let parameters = [&[Input(0), Input(1), Output][..], &rest].concat();
    let launch = Launch::new(kernel, grid, &parameters, rows);
    let parameters = [&[Input(0), Input(1), Input(2), Output][..], &rest].concat();
    let gradient = Launch::new(gradient, grid, &parameters, x.shape());
    x.contiguous()?.apply_op2(target, RowLoss { launch, gradient })?.mean_all()
}

struct RowLoss {
    launch: Launch,
    gradient: Launch,
}

impl CustomOp2 for RowLoss {
    forward!("row-loss", s1: l1, s2: l2);

    fn bwd(
        &self,
        x: &Tensor,
        target: &Tensor,
        _losses: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(x.apply_op3_no_bwd(target, &grad.contiguous()?, &self.gradient)?), None))
    }
}

pub fn cross_entropy(logits: &Tensor, gold: &[u32], smoothing: f32, forbidden: usize) -> Result<Tensor> {
    let gold = Tensor::from_slice(gold, gold.len(), logits.device())?;
    let rest = [Count(forbidden), Count(logits.dim(1)?), Real(smoothing)];
    row_loss(logits, &gold, Training::CrossEntropy, Training::CrossEntropyGradient, rest)
}

pub fn divergence(student: &Tensor, teacher: &Tensor, temperature: f32, forbidden: usize) -> Result<Tensor> {
    let teacher = teacher.detach().contiguous()?;
    let rest = [Count(forbidden), Count(student.dim(1)?), Real(temperature.recip())];
    row_loss(student, &teacher, Training::Divergence, Training::DivergenceGradient, rest)
}
