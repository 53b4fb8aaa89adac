//! Recorded passes (CUDA graphs): one launch instead of a hundred.
//!
//! A sequence runs plainly the first time, so that everything lazy is set up. The second time it is recorded and
//! replayed; after that it is only replayed. A sequence that cannot be recorded always runs plainly.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use super::told;
use crate::Result;
use crate::nn::device::Counts;

enum Known {
    /// Has run once.
    Seen,
    Recorded {
        graph: CudaGraph,
        launches: u64,
    },
    /// Could not be recorded.
    Plain,
}

#[derive(Default)]
struct State {
    known: HashMap<u64, Known>,
    counts: Counts,
}

// SAFETY: graphs belong to a context, not to a thread, and are used only while the lock is held.
unsafe impl Send for State {}

pub(super) struct Graphs {
    state: Mutex<State>,
    stream: Arc<CudaStream>,
    /// Disables recording.
    none: bool,
}

impl Graphs {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Self { state: Mutex::default(), stream, none: false }
    }

    pub(super) fn none(stream: Arc<CudaStream>) -> Self {
        Self { none: true, ..Self::new(stream) }
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// As [`crate::nn::device::Device::replay`]. `launches` is the counter that `record` increments.
    pub(super) fn replay(
        &self,
        key: u64,
        record: &dyn Fn() -> Result<()>,
        launches: &AtomicU64,
    ) -> Result<()> {
        if self.none {
            return record();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { known, counts } = &mut *state;
        match known.get(&key) {
            None => {
                record()?;
                known.insert(key, Known::Seen);
                return Ok(());
            }
            Some(Known::Plain) => return record(),
            Some(Known::Seen) => {
                let before = launches.load(Ordering::Relaxed);
                let graph = self.record(record);
                // Recording runs nothing; its launches count when the graph is replayed.
                let inside = launches.swap(before, Ordering::Relaxed) - before;
                let Ok(Some(graph)) = graph else {
                    known.insert(key, Known::Plain);
                    return record();
                };
                counts.recordings += 1;
                known.insert(key, Known::Recorded { graph, launches: inside });
            }
            Some(Known::Recorded { .. }) => {}
        }
        if let Some(Known::Recorded { graph, launches }) = known.get(&key) {
            graph.launch().map_err(|e| told("replay", e))?;
            counts.replays += 1;
            counts.replayed_launches += launches;
        }
        Ok(())
    }

    /// Records a graph. Returns `None` or an error if that is impossible; the stream is then unchanged.
    fn record(&self, record: &dyn Fn() -> Result<()>) -> Result<Option<CudaGraph>> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(|e| told("recording", e))?;
        let launched = record();
        // Also after an error, so that the stream leaves capture mode.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        launched.and_then(|()| graph.map_err(|e| told("recording", e)))
    }
}
