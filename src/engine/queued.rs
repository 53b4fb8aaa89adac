//! The answer to one queued sentence.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::shared::Shared;
use super::{Item, Outcome, Timings};
use crate::decode::Hypothesis;
use crate::{Error, Result};

/// The answer to one item, as a future. Dropping it cancels the item: its rows are removed before the next
/// pass.
#[must_use = "dropping this cancels the item"]
pub(super) struct Queued {
    pub answer: oneshot::Receiver<Result<Outcome>>,
    pub shared: Arc<Shared>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.answer.is_terminated() {
            // Closed before the flag is set, because the model thread checks the channel when it sees the flag.
            self.answer.close();
            self.shared.mark_cancelled();
        }
    }
}

impl Future for Queued {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| Err(Error::EngineDead("the model thread dropped a sentence".into())))
        })
    }
}

impl Outcome {
    /// The answer to a source without words.
    pub(super) fn empty(item: &Item) -> Self {
        Self {
            hypotheses: vec![Hypothesis::default()],
            steps_used: 0,
            lowered: None,
            timings: Timings::default(),
            trace: item.trace.then(Vec::new),
            schedule: None,
        }
    }
}
