//! Selects channels of a packed matrix: the rows of the vocabulary matrix that a sentence's shortlist needs.

use super::PackedLinear;
use super::kernel::{LINES, Line, PANEL, STEP, interleave};

/// Channels of a line, which are interleaved.
const TOGETHER: usize = PANEL / LINES;

/// The weights of a [`PackedLinear`], channel after channel. The packed order interleaves neighbouring channels,
/// which makes selecting single ones slow.
#[derive(Debug)]
pub struct Channelwise {
    /// `[outputs, steps]`
    weights: Vec<[i8; STEP]>,
}

impl PackedLinear {
    pub fn channelwise(&self) -> Channelwise {
        let steps = self.steps();
        let weights = (0..self.outputs()).flat_map(|channel| {
            let (panel, within) = (channel / PANEL, channel % PANEL);
            (0..steps).map(move |step| (line(panel, steps, step, within), within % TOGETHER))
        });
        let weights = weights.map(|(line, place)| self.lines()[line].0.as_chunks().0[place]);
        Channelwise { weights: weights.collect() }
    }

    /// The map to `channels` only, in this order. Each channel gives the same bits as in the full map.
    ///
    /// # Panics
    /// If a channel does not exist, or `weights` belong to another matrix.
    pub fn select(&self, weights: &Channelwise, channels: &[u32]) -> Self {
        let steps = self.steps();
        assert_eq!(weights.weights.len(), self.outputs() * steps, "weights of another matrix");
        let mut selected = self.empty(channels.len());
        for (group, channels) in channels.chunks(TOGETHER).enumerate() {
            let (panel, within) = (group / LINES, group % LINES * TOGETHER);
            let rows = channels.iter().map(|&c| &weights.weights[c as usize * steps..][..steps]);
            let first = line(panel, steps, 0, within);
            interleave(self.path(), &rows.collect::<Vec<_>>(), &mut selected.lines_mut()[first..]);
        }
        for (to, &from) in channels.iter().enumerate() {
            selected.copy_factors(to, self, from as usize);
        }
        selected
    }
}

fn line(panel: usize, steps: usize, step: usize, within: usize) -> usize {
    (panel * steps + step) * LINES + within / TOGETHER
}

const _: () = assert!(TOGETHER * STEP == size_of::<Line>());
