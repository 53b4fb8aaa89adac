//! The reasons for which a run ends.

use super::End;

/// The reason for which the first rank ends the run on all ranks. The numbers are exchanged; 0 means to continue.
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
