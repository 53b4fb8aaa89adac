//! Rows of a matrix by their index, where candle's own gradient of that would be slow.
//!
//! candle adds up the gradient of `index_select` by `index_add`, whose CUDA kernel walks through all indices
//! one after the other in each thread: thousands of dependent additions for a batch.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

use super::kernel_path::{KernelPath, select_path};

/// Rows of an embedding `table [count, width]`: `ids [n]` → `[n, width]`. An id may stand any number of times.
pub fn embed(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    match select_path(table) {
        KernelPath::Cpu => table.index_select(ids, 0),
        _ => table.apply_op2(&ids.contiguous()?, Rows),
    }
}

/// Rows `places` of `x [n, width]`, each of which stands at most once.
pub fn select(x: &Tensor, places: Vec<u32>) -> Result<Tensor> {
    let index = Tensor::from_slice(&places, places.len(), x.device())?;
    let once = |places: &[u32]| {
        let mut seen = vec![false; x.dim(0)?];
        let new = |&p: &u32| seen.get_mut(p as usize).is_some_and(|seen| !std::mem::replace(seen, true));
        Ok::<_, candle_core::Error>(places.iter().all(new))
    };
    if select_path(x) == KernelPath::Cpu || !once(&places)? {
        return x.index_select(&index, 0);
    }
    let inverse = Tensor::from_vec(inverse(&places, x.dim(0)?), x.dim(0)?, x.device())?;
    x.contiguous()?.apply_op2(&index, Selected { inverse })
}

struct Rows;

/// What candle's own `index_select` does.
fn chosen<S: BackendStorage>(
    table: &S,
    table_layout: &Layout,
    ids: &S,
    ids_layout: &Layout,
) -> Result<(S, Shape)> {
    let (count, (_, width)) = (ids_layout.shape().dims1()?, table_layout.shape().dims2()?);
    Ok((table.index_select(ids, table_layout, ids_layout, 0)?, Shape::from((count, width))))
}

impl CustomOp2 for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        chosen(s1, l1, s2, l2)
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        chosen(s1, l1, s2, l2)
    }

    fn bwd(
        &self,
        table: &Tensor,
        ids: &Tensor,
        _rows: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(one_hot_product(table, ids, grad)?), None))
    }
}

/// Tokens whose one-hot rows stand in memory at once: 4,096 of a vocabulary of 8,000 are 131 MB.
const AT_ONCE: usize = 4096;

/// Σ over tokens of grad, id by id, as the product `onehotᵀ [count, n] · grad [n, width]`. For 16,384 tokens,
/// 8,000 ids and a width of 512 that is 134 GFLOP, well under a millisecond in tensor cores, and as much to
/// write and read the ones; sums come in a fixed order, and what is summed is rounded as in any product (TF32).
/// (Atomic additions would be as fast and come in any order; sorting the ids, into segments as long as the
/// commonest word is common, would be a kernel as uneven as language is.)
fn one_hot_product(table: &Tensor, ids: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (count, _) = table.dims2()?;
    let n = ids.dim(0)?;
    let classes = Tensor::arange(0, count as u32, table.device())?.unsqueeze(1)?;
    let mut sum: Option<Tensor> = None;
    for start in (0..n).step_by(AT_ONCE) {
        let here = AT_ONCE.min(n - start);
        let ones = classes.broadcast_eq(&ids.narrow(0, start, here)?.unsqueeze(0)?)?.to_dtype(DType::F32)?;
        let part = ones.matmul(&grad.narrow(0, start, here)?.contiguous()?)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    sum.map_or_else(|| table.zeros_like(), Ok)
}

struct Selected {
    /// Of each row of the matrix: which of the places it is, or their number.
    inverse: Tensor,
}

fn inverse(places: &[u32], rows: usize) -> Vec<u32> {
    let mut inverse = vec![places.len() as u32; rows];
    for (i, &place) in places.iter().enumerate() {
        inverse[place as usize] = i as u32;
    }
    inverse
}

impl CustomOp2 for Selected {
    fn name(&self) -> &'static str {
        "select"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        chosen(s1, l1, s2, l2)
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        chosen(s1, l1, s2, l2)
    }

    /// A row that was not chosen reads the row of zeros behind the gradients.
    fn bwd(
        &self,
        x: &Tensor,
        _index: &Tensor,
        _rows: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let zeros = Tensor::zeros((1, x.dim(1)?), DType::F32, x.device())?;
        Ok((Some(Tensor::cat(&[grad, &zeros], 0)?.index_select(&self.inverse, 0)?), None))
    }
}
