//! A translator without weights, for tests of everything above the network. It counts calls, can be held before each
//! pass, and can fail on request.
//!
//! Its "translations" consist of hashes: a prediction depends on the row's source, on the position, and on the tokens
//! revealed to the left and right of it. So every step changes the text, and a mix-up of rows is noticed. The most
//! probable length is that of the source.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::decode::{Encoded, Limits, Prediction, Row, Translator};
use crate::model::{LengthPrediction, Refresh};
use crate::text::Specials;
use crate::{Error, Result};

/// See the module. Clones share counters and gate, so that a test can keep one.
#[derive(Clone, Debug)]
pub struct FakeTranslator {
    limits: Limits,
    vocabulary: u32,
    fault: Option<(std::ops::Range<usize>, Fault)>,
    /// A source with this token makes the encoder or a pass fail.
    poison: Option<(u32, Pass, Fault)>,
    /// Every pass panics while this is set.
    broken: Arc<AtomicBool>,
    refresh: Refresh,
    /// Number of source tokens that may be in memory.
    capacity: usize,
    /// Weak references to the tokens in memory.
    kept: Arc<()>,
    counts: Arc<Counts>,
    gate: Arc<Gate>,
}

/// A source, bos and eos included. As on a device, memory is freed when all sources encoded together are dropped.
#[derive(Clone, Debug)]
pub struct FakeMemory {
    source: Vec<u32>,
    _reserved: Arc<[Weak<()>]>,
}

impl FakeMemory {
    pub fn source(&self) -> &[u32] {
        &self.source
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error,
    Panic,
}

impl Fault {
    fn happen(self, what: &str) -> Result<()> {
        match self {
            Self::Error => Err(Error::Model(format!("the fake network fails at {what}"))),
            Self::Panic => panic!("the fake network panics at {what}"),
        }
    }
}

/// Which call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Encode,
    Decode,
}

impl Default for FakeTranslator {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeTranslator {
    /// 128 tokens on both sides, a vocabulary of 1024, gate open.
    pub fn new() -> Self {
        Self {
            limits: Limits { source_tokens: 128, target_tokens: 128, has_blanks: false },
            vocabulary: 1024,
            fault: None,
            poison: None,
            broken: Arc::default(),
            refresh: Refresh::Masked,
            capacity: usize::MAX,
            kept: Arc::default(),
            counts: Arc::default(),
            gate: Arc::new(Gate::new()),
        }
    }

    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Predicted ids stay below `vocabulary` (at least 6: the specials and one word).
    #[must_use]
    pub fn with_vocabulary(self, vocabulary: u32) -> Self {
        Self { vocabulary: vocabulary.max(6), ..self }
    }

    /// Sets which positions its passes rewrite.
    #[must_use]
    pub fn with_refresh(self, refresh: Refresh) -> Self {
        Self { refresh, ..self }
    }

    /// Limits its memory to this many source tokens, bos and eos included, over all sentences that are not dropped.
    #[must_use]
    pub fn with_capacity(self, tokens: usize) -> Self {
        Self { capacity: tokens, ..self }
    }

    /// Fails at the `pass`-th decoder pass, counting from 1.
    #[must_use]
    pub fn failing_at(self, pass: usize, fault: Fault) -> Self {
        Self { fault: Some((pass..pass + 1, fault)), ..self }
    }

    /// Fails at the `pass`-th decoder pass, counting from 1, and at every later one.
    #[must_use]
    pub fn failing_from(self, pass: usize, fault: Fault) -> Self {
        Self { fault: Some((pass..usize::MAX, fault)), ..self }
    }

    /// Fails whenever a source in a call contains this token.
    #[must_use]
    pub fn failing_on(self, token: u32, pass: Pass, fault: Fault) -> Self {
        Self { poison: Some((token, pass, fault)), ..self }
    }

    /// Every pass panics while this is set.
    pub fn broken(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.broken)
    }

    fn check_poison<'a>(&self, pass: Pass, mut sources: impl Iterator<Item = &'a [u32]>) -> Result<()> {
        match self.poison {
            Some((token, at, fault)) if at == pass && sources.any(|source| source.contains(&token)) => {
                fault.happen(&format!("token {token}"))
            }
            _ => Ok(()),
        }
    }

    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    fn predict(&self, source: &[u32], canvas: &[u32], place: usize) -> Prediction {
        let around = [place.checked_sub(1), place.checked_add(1)];
        let seen = around.map(|p| p.and_then(|p| canvas.get(p)).copied().unwrap_or(0));
        let parts = [place as u32, seen[0], seen[1]];
        let hash = source.iter().chain(&parts).fold(0x9e37_79b9_7f4a_7c15, |hash, &part| mix(hash, part));
        let words = u64::from(self.vocabulary) - 5;
        let uncertainty = ((hash >> 40) % 1000) as f32;
        Prediction { token: 5 + (hash % words) as u32, log_prob: -(uncertainty + 1.0) / 1024.0 }
    }
}

/// One round of splitmix64: neighbouring ids give unrelated hashes, on every platform.
fn mix(hash: u64, part: u32) -> u64 {
    let mut z = (hash ^ u64::from(part)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Translator for FakeTranslator {
    type Memory = FakeMemory;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn specials(&self) -> Specials {
        Specials::default()
    }

    fn refresh(&self) -> Refresh {
        self.refresh
    }

    fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Encoded<Self::Memory>>> {
        self.check_poison(Pass::Encode, sources.iter().copied())?;
        let (tokens, kept) = (sources.iter().map(|source| source.len()).sum(), Arc::weak_count(&self.kept));
        if tokens > self.capacity.saturating_sub(kept) {
            return Err(Error::DeviceMemory { bytes: tokens, free: self.capacity.saturating_sub(kept) });
        }
        self.counts.encode_calls.fetch_add(1, SeqCst);
        self.counts.encoded.fetch_add(sources.len(), SeqCst);
        self.counts.saw_batch(sources.iter().map(|source| source.len()));
        let lengths = self.limits.target_tokens.saturating_sub(1);
        let log_prob = |length: usize, expected: usize| match length {
            0 => f32::NEG_INFINITY,
            _ => -1.0 - length.abs_diff(expected) as f32,
        };
        let reserved: Arc<[Weak<()>]> = (0..tokens).map(|_| Arc::downgrade(&self.kept)).collect();
        let encode = |source: &&[u32]| Encoded {
            memory: FakeMemory { source: source.to_vec(), _reserved: Arc::clone(&reserved) },
            length_prediction: LengthPrediction::Lengths(
                (0..lengths).map(|l| log_prob(l, source.len().saturating_sub(2))).collect(),
            ),
        };
        Ok(sources.iter().map(encode).collect())
    }

    fn decode(&self, rows: &[Row<'_, Self::Memory>]) -> Result<Vec<Vec<Prediction>>> {
        self.gate.pass();
        let pass = self.counts.saw_pass(rows.len());
        self.counts.saw_batch(rows.iter().map(|row| row.canvas.len()));
        if let Some((passes, fault)) = &self.fault
            && passes.contains(&pass)
        {
            fault.happen(&format!("pass {pass}"))?;
        }
        if self.broken.load(SeqCst) {
            Fault::Panic.happen("every pass")?;
        }
        self.check_poison(Pass::Decode, rows.iter().map(|row| row.memory.source.as_slice()))?;
        let predict = |row: &Row<'_, FakeMemory>| {
            row.wanted.iter().map(|&place| self.predict(&row.memory.source, row.canvas, place)).collect()
        };
        Ok(rows.iter().map(predict).collect())
    }
}

/// Counters of a [`FakeTranslator`].
#[derive(Debug, Default)]
pub struct Counts {
    encode_calls: AtomicUsize,
    encoded: AtomicUsize,
    largest_batch_tokens: AtomicUsize,
    rows_by_pass: Mutex<Vec<usize>>,
}

impl Counts {
    pub fn encode_calls(&self) -> usize {
        self.encode_calls.load(SeqCst)
    }

    /// Number of encoded sentences.
    pub fn encoded(&self) -> usize {
        self.encoded.load(SeqCst)
    }

    /// Number of started decoder passes, without those that wait at the gate.
    pub fn passes(&self) -> usize {
        lock(&self.rows_by_pass).len()
    }

    /// Rows of each decoder pass, in order.
    pub fn rows_by_pass(&self) -> Vec<usize> {
        lock(&self.rows_by_pass).clone()
    }

    /// The largest rows × longest row of a call, of the encoder or the decoder.
    pub fn largest_batch_tokens(&self) -> usize {
        self.largest_batch_tokens.load(SeqCst)
    }

    /// Counts a pass and returns its number, from 1.
    fn saw_pass(&self, rows: usize) -> usize {
        let mut passes = lock(&self.rows_by_pass);
        passes.push(rows);
        passes.len()
    }

    fn saw_batch(&self, lengths: impl ExactSizeIterator<Item = usize>) {
        let padded = lengths.len() * lengths.max().unwrap_or(0);
        self.largest_batch_tokens.fetch_max(padded, SeqCst);
    }
}

/// A gate before each decoder pass. It is open at first; after [`close`](Self::close), each pass needs a permit from
/// [`allow`](Self::allow). All methods block threads, not tasks: call them on a separate thread.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    leaves: usize,
    waiting: usize,
}

impl Gate {
    fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    /// Makes passes wait from now on.
    pub fn close(&self) {
        self.update(|state| (state.closed, state.leaves) = (true, 0));
    }

    /// Lets every waiting and later pass through.
    pub fn open(&self) {
        self.update(|state| state.closed = false);
    }

    /// Lets `passes` more passes through.
    pub fn allow(&self, passes: usize) {
        self.update(|state| state.leaves += passes);
    }

    /// Blocks until a pass waits at the closed gate without a permit.
    pub fn wait_until_held(&self) {
        let held = |state: &mut GateState| !(state.closed && state.leaves == 0 && state.waiting > 0);
        drop(self.changed.wait_while(lock(&self.state), held).unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets one pass through and blocks until the next one waits at the gate.
    pub fn step(&self) {
        self.allow(1);
        self.wait_until_held();
    }

    fn pass(&self) {
        self.update(|state| state.waiting += 1);
        let held = |state: &mut GateState| state.closed && state.leaves == 0;
        let mut state =
            self.changed.wait_while(lock(&self.state), held).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.closed {
            state.leaves -= 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn update(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }
}

/// A panic of the fake must not cause a second one in the test that reads its counters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
