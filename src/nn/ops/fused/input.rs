//! The input of the first layer: `dropout((table[id] + positions[position]) · scale)`. The gradient of the table is
//! added in place, because a batch uses few of its rows.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::super::cpu::{values, with_values};
use super::super::gradients::add_to;
use super::super::types::Mask;

/// See the module: `positions [max_positions, width]`, `table [count, width]`, `ids [rows, len]` →
/// `[rows, len, width]`. Rows start at position 0. `dropout` is probability and seed.
pub fn embedded(
    positions: &Tensor,
    table: &Tensor,
    ids: &Tensor,
    scale: f32,
    dropout: (f32, u64),
) -> Result<Tensor> {
    let ((rows, len), (count, width)) = (ids.dims2()?, table.dims2()?);
    let ids: Vec<u32> = ids.flatten_all()?.to_vec1()?;
    if ids.iter().any(|&id| id as usize >= count) {
        bail!("an id is outside the table of {count} rows");
    }
    if positions.dim(0)? < len || positions.dim(1)? != width {
        bail!("{len} tokens of width {width} do not fit positions {:?}", positions.shape());
    }
    let mask = Mask::new(dropout.0, dropout.1);
    positions.contiguous()?.apply_op1(Input { table: table.clone(), ids, rows, len, width, scale, mask })
}

struct Input {
    table: Tensor,
    ids: Vec<u32>,
    rows: usize,
    len: usize,
    width: usize,
    scale: f32,
    mask: Mask,
}

impl Input {
    /// The factor of dropout for the value at an index of the result. It holds a copy of the mask, so that the compiler
    /// can keep it in registers and compute several values at a time.
    fn dropout(&self) -> impl Fn(usize) -> f32 + Copy + use<> {
        let mask = self.mask;
        move |index| if mask.threshold == 0 { 1.0 } else { mask.at(index) }
    }
}

impl CustomOp1 for Input {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn cpu_fwd(&self, positions: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let positions = values(positions, layout)?;
        let (width, scale, dropout) = (self.width, self.scale, self.dropout());
        let out = with_values(&self.table, |table| {
            let mut out = Vec::with_capacity(self.ids.len() * width);
            pulp::Arch::new().dispatch(|| {
                for (index, &id) in self.ids.iter().enumerate() {
                    let (token, place) = (
                        &table[id as usize * width..][..width],
                        &positions[index % self.len * width..][..width],
                    );
                    let first = index * width;
                    let sums = token.iter().zip(place).enumerate();
                    out.extend(sums.map(|(i, (t, p))| (t + p) * scale * dropout(first + i)));
                }
            });
            out
        })?;
        Ok((CpuStorage::F32(out), Shape::from((self.rows, self.len, width))))
    }

    fn bwd(&self, positions: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (width, scale, dropout) = (self.width, self.scale, self.dropout());
        let mut dpositions = vec![0f32; positions.elem_count()];
        with_values(grad, |grad| {
            pulp::Arch::new().dispatch(|| {
                for (index, grad) in grad.chunks_exact(width).enumerate() {
                    let to = &mut dpositions[index % self.len * width..][..width];
                    for (i, (to, g)) in to.iter_mut().zip(grad).enumerate() {
                        *to += g * (scale * dropout(index * width + i));
                    }
                }
            });
            add_to(&self.table, |dtable| {
                pulp::Arch::new().dispatch(|| {
                    for (index, (grad, &id)) in grad.chunks_exact(width).zip(&self.ids).enumerate() {
                        let to = &mut dtable[id as usize * width..][..width];
                        for (i, (to, g)) in to.iter_mut().zip(grad).enumerate() {
                            *to += g * (scale * dropout(index * width + i));
                        }
                    }
                });
            })
        })??;
        Ok(Some(Tensor::from_vec(dpositions, positions.shape(), positions.device())?))
    }
}
