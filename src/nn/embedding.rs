//! Token embeddings and learned position embeddings.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::{Mode, ops};

/// A table `[count, width]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    table: Tensor,
}

impl Embedding {
    /// Initial values: N(0, 1 / width).
    pub fn load(count: usize, width: usize, vb: VarBuilder) -> Result<Self> {
        let stdev = (width as f64).powf(-0.5);
        let table = vb.get_with_hints((count, width), "weight", Init::Randn { mean: 0.0, stdev })?;
        Ok(Self { table })
    }

    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// `ids [rows, len] -> [rows, len, width]`
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (rows, len) = ids.dims2()?;
        ops::embed(&self.table, &ids.flatten_all()?)?.reshape((rows, len, ()))
    }

    /// `dropout((self[ids] + positions) · scale)` in one op ([`embedded`](ops::fused::embedded)), or `None` if it
    /// cannot be fused.
    pub fn with_positions(
        &self,
        ids: &Tensor,
        positions: &Self,
        scale: f64,
        mode: &Mode,
    ) -> Result<Option<Tensor>> {
        #[cfg(target_arch = "x86_64")]
        if ops::fused::embeds(&positions.table, mode.precision()) {
            let dropout = mode.next_dropout();
            return ops::fused::embedded(&positions.table, &self.table, ids, scale as f32, dropout).map(Some);
        }
        let _ = (ids, positions, scale, mode);
        Ok(None)
    }

    /// `len` rows of the table from row `start`: `[1, len, width]`.
    pub fn range(&self, start: usize, len: usize) -> Result<Tensor> {
        self.table.narrow(0, start, len)?.unsqueeze(0)
    }
}
