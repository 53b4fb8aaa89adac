//! The reference product, for CPUs without their own path. Compilers can vectorize it.

use super::{LINES, Line, PANEL, STEP, Sink, Sums, Work};

pub(super) fn product(work: &Work, sink: &mut impl Sink) {
    for panel in work.panels.clone() {
        let (lines, offsets) = work.panel(panel);
        for tile in work.tiles() {
            for row in 0..tile.height {
                let mut sums = Sums(*offsets);
                for (i, sums) in sums.0.chunks_exact_mut(PANEL / LINES).enumerate() {
                    let x = tile.values.chunks_exact(tile.height * STEP).map(|step| &step[row * STEP..]);
                    let parts = channels(x, lines.iter().skip(i).step_by(LINES));
                    for (sum, parts) in sums.iter_mut().zip(parts.as_chunks::<STEP>().0) {
                        *sum += parts.iter().sum::<i32>();
                    }
                }
                sink.take(tile.first + row, panel, &[sums]);
            }
        }
    }
}

/// Does what [`super::interleave`] does, from step `first` on.
pub(super) fn interleave(channels: &[&[[i8; STEP]]], first: usize, lines: &mut [Line]) {
    for (place, channel) in channels.iter().enumerate() {
        for (step, weights) in channel.iter().enumerate().skip(first) {
            lines[step * LINES].0.as_chunks_mut::<STEP>().0[place] = *weights;
        }
    }
}

/// For the sixteen channels of a line, the sums over every fourth input.
#[inline]
fn channels<'a>(x: impl Iterator<Item = &'a [u8]>, lines: impl Iterator<Item = &'a Line>) -> [i32; 64] {
    let mut parts = [0i32; 64];
    for (x, line) in x.zip(lines) {
        let Some(x) = x.first_chunk::<STEP>() else { continue };
        for i in 0..64 {
            parts[i] += i32::from(x[i % STEP]) * i32::from(line.0[i]);
        }
    }
    parts
}
