//! Memory that is kept from one update to the next, so that no page of it is mapped twice.

use std::cell::RefCell;

use crate::nn::gemm::lines::{Line, ZERO};

/// Buffers that a thread keeps; those beyond are freed.
const MOST: usize = 256;

thread_local! { static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) } }

/// Values of some kind, aligned to a cache line. Dropped, its memory goes back to the thread's store.
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// Of so many lines; what is in them is from former uses.
    pub fn lines(count: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let fits = |buffer: &Vec<Line>| buffer.len() >= count && buffer.len() <= 2 * count + 1024;
            let best = (0..kept.len()).filter(|&i| fits(&kept[i])).min_by_key(|&i| kept[i].len())?;
            Some(kept.swap_remove(best))
        });
        // Batches differ a little in size: somewhat more than asked for fits more of them.
        let roomy = count.next_multiple_of((count / 8).next_power_of_two());
        Self(kept.unwrap_or_else(|| vec![ZERO; roomy]))
    }

    /// Room for so many bf16 values, and for tiles that reach beyond them by up to 32 rows of `width`.
    pub fn bf16(rows: usize, width: usize) -> Self {
        Self::lines(((rows + 32) * width).div_ceil(32))
    }

    pub fn f32(count: usize) -> Self {
        Self::lines(count.div_ceil(16))
    }

    pub fn as_lines(&self) -> &[Line] {
        &self.0
    }

    pub fn as_lines_mut(&mut self) -> &mut [Line] {
        &mut self.0
    }

    pub fn as_bf16(&self) -> &[u16] {
        // SAFETY: a line is 32 such values without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 32 * self.0.len()) }
    }

    pub fn as_bf16_mut(&mut self) -> &mut [u16] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 32 * self.0.len()) }
    }

    pub fn as_f32(&self) -> &[f32] {
        // SAFETY: a line is 16 such values without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 16 * self.0.len()) }
    }

    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 16 * self.0.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.0);
        // A thread that ends has no store any more.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MOST
            {
                kept.push(lines);
            }
        });
    }
}
