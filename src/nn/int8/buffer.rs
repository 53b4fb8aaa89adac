//! Memory for activations that is kept from use to use.

/// Values of a cache line, and of a register of AVX-512.
const LANES: usize = 16;

/// Starts on a cache line, so that no register of a row whose width is a multiple of sixteen lies across
/// two: such a store costs twice.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Room for f32 values; it only grows.
#[derive(Debug, Default)]
pub struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// The first `len` values. What stands there is left from earlier uses.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LANES);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; LANES]));
        }
        // SAFETY: a line is sixteen f32 without padding, and there are enough of them.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    /// As [`take`](Self::take), to read.
    ///
    /// # Panics
    /// Where fewer were taken before.
    pub fn values(&self, len: usize) -> &[f32] {
        assert!(len <= self.lines.len() * LANES, "not taken before");
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), len) }
    }
}
