//! Memory that is reused from one update to the next, because mapping new pages is slow.

use std::cell::RefCell;

use crate::nn::gemm::lines::{Line, ZERO};

/// Largest number of buffers that a thread keeps; more are freed.
const MAX_KEPT: usize = 256;

thread_local! { static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) } }

/// Values aligned to a cache line. When dropped, the memory goes back to the buffers of the thread.
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// A buffer of at least `count` lines, which hold values of earlier uses.
    pub fn lines(count: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let fits = |buffer: &Vec<Line>| buffer.len() >= count && buffer.len() <= 2 * count + 1024;
            let best = (0..kept.len()).filter(|&i| fits(&kept[i])).min_by_key(|&i| kept[i].len())?;
            Some(kept.swap_remove(best))
        });
        // Sizes of batches differ slightly, so a somewhat larger buffer can be reused more often.
        let roomy = count.next_multiple_of((count / 8).next_power_of_two());
        Self(kept.unwrap_or_else(|| vec![ZERO; roomy]))
    }

    /// A buffer of bf16 values `[rows, width]`, with 32 more rows for tiles that reach beyond the last one.
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
        // SAFETY: a line consists of 32 such values without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 32 * self.0.len()) }
    }

    pub fn as_bf16_mut(&mut self) -> &mut [u16] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 32 * self.0.len()) }
    }

    pub fn as_f32(&self) -> &[f32] {
        // SAFETY: a line consists of 16 such values without padding.
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
        // A thread that ends may have dropped its buffers already.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MAX_KEPT
            {
                kept.push(lines);
            }
        });
    }
}
