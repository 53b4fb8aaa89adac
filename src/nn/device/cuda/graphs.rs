//! Recorded passes (CUDA graphs): one launch instead of a hundred.
//!
//! The first run of a sequence launches its kernels one by one and sets up what is initialized lazily. The second run
//! is recorded and replayed; later ones are only replayed. A sequence that cannot be recorded is always launched kernel
//! by kernel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};

use super::driver_error;
use crate::Result;
use crate::nn::device::Counts;

/// The state of a sequence.
enum Recording {
    /// The sequence has run once.
    RunOnce,
    Recorded {
        graph: CudaGraph,
        launches: u64,
    },
    /// The sequence could not be recorded.
    Unrecordable,
}

#[derive(Default)]
struct State {
    recordings: HashMap<u64, Recording>,
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
        let State { recordings, counts } = &mut *state;
        match recordings.get(&key) {
            None => {
                record()?;
                recordings.insert(key, Recording::RunOnce);
                return Ok(());
            }
            Some(Recording::Unrecordable) => return record(),
            Some(Recording::RunOnce) => {
                let before = launches.load(Ordering::Relaxed);
                let graph = self.record(record);
                // Recording runs nothing; its launches count when the graph is replayed.
                let inside = launches.swap(before, Ordering::Relaxed) - before;
                let Ok(Some(graph)) = graph else {
                    recordings.insert(key, Recording::Unrecordable);
                    return record();
                };
                counts.recordings += 1;
                recordings.insert(key, Recording::Recorded { graph, launches: inside });
            }
            Some(Recording::Recorded { .. }) => {}
        }
        if let Some(Recording::Recorded { graph, launches }) = recordings.get(&key) {
            graph.launch().map_err(|e| driver_error("replay", e))?;
            counts.replays += 1;
            counts.replayed_launches += launches;
        }
        Ok(())
    }

    /// Records a graph. Returns `None` or an error if that is impossible; the stream is then unchanged.
    fn record(&self, record: &dyn Fn() -> Result<()>) -> Result<Option<CudaGraph>> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(|e| driver_error("recording", e))?;
        let launched = record();
        // Also after an error, so that the stream leaves capture mode.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        launched.and_then(|()| graph.map_err(|e| driver_error("recording", e)))
    }
}
