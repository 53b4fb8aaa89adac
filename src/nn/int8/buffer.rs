//! Reusable memory for activations.

/// f32 values of a cache line, and of an AVX-512 register.
const LANES: usize = 16;

/// Aligned to cache lines: a store across two lines takes twice as long. Holds for all rows whose width is a multiple
/// of sixteen.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A buffer of f32 values that only grows.
#[derive(Debug, Default)]
pub struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// The first `len` values. They hold the values that were written last.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LANES);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; LANES]));
        }
        // SAFETY: a line consists of sixteen f32 without padding, and there are enough lines.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    /// The first `len` values, to read.
    ///
    /// # Panics
    /// If fewer values were taken before.
    pub fn values(&self, len: usize) -> &[f32] {
        assert!(len <= self.lines.len() * LANES, "not taken before");
        // SAFETY: as in `take`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), len) }
    }
}
