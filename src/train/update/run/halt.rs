//! The reasons for which a run ends.

use super::End;

/// Why the first rank ends the run on all ranks.
#[derive(Clone, Copy)]
pub(super) enum Halt {
    Finished = 1,
    NoGain,
    Interrupted,
}

impl Halt {
    pub(super) const ALL: [Self; 3] = [Self::Finished, Self::NoGain, Self::Interrupted];

    pub(super) fn outcome(self) -> (End, &'static str) {
        match self {
            Self::Finished => (End::Finished, "finished"),
            Self::NoGain => (End::Finished, "no gain"),
            Self::Interrupted => (End::Interrupted, "interrupted"),
        }
    }
}
