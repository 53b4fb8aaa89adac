//! candle's product of rows with a weight. The stock ops and those of a GPU use it.

use candle_core::{DType, Result, Tensor};

use crate::nn::gemm::Precision;

/// `x [.., in] · weight [out, in]ᵀ`. Gradients are rounded like the operands.
pub(super) fn product(x: &Tensor, weight: &Tensor, precision: Precision) -> Result<Tensor> {
    let (out, input) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let (x, weight) = (x.reshape(((), input))?, weight.t()?);
    let y = match precision {
        Precision::F32 => x.matmul(&weight)?,
        // candle has no bf16 products on the CPU; f32 products of rounded operands give the same.
        Precision::Bf16 if x.device().is_cpu() => {
            let rounded = |t: &Tensor| t.to_dtype(DType::BF16)?.to_dtype(DType::F32);
            rounded(&x)?.matmul(&rounded(&weight)?)?
        }
        // Sums are f32 and rounded once at the end.
        Precision::Bf16 => {
            x.to_dtype(DType::BF16)?.matmul(&weight.to_dtype(DType::BF16)?)?.to_dtype(DType::F32)?
        }
    };
    y.reshape(shape)
}
