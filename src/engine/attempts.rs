//! Calls of the network that may fail. A bad input must not end the process, but a broken device must: this module
//! distinguishes the two.
//!
//! A call that fails is repeated for each sentence alone, so that only the sentence with the bad input fails. Then
//! a source that was translated before is tried several times. If that fails each time, the network is broken. A
//! panic counts as an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::decode::{DecodingRules, Encoded, LengthBeam, Prediction, Row, Steps, Translator};
use crate::{Error, Result};

/// Number of consecutive failures after which the network counts as broken.
const FAILURES_IN_A_ROW: u32 = 3;

/// A network, with a source that it is known to translate.
pub struct Attempts<T> {
    network: T,
    /// A source that was translated successfully.
    proven: Option<Vec<u32>>,
    /// Consecutive failures while there is no `proven` source.
    failures: u32,
}

impl<T: Translator> Attempts<T> {
    pub fn new(network: T) -> Self {
        Self { network, proven: None, failures: 0 }
    }

    pub fn rules(&self) -> DecodingRules {
        self.network.rules()
    }

    /// Encodes the sources; one result for each.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] if the device has too little memory for all of them, [`Error::EngineDead`] if the
    /// network is broken.
    pub fn encode(&mut self, sources: &[&[u32]]) -> Result<Vec<Result<Encoded<T::Memory>>>> {
        match encode(&self.network, sources) {
            Ok(encoded) => return Ok(encoded.into_iter().map(Ok).collect()),
            Err(error @ Error::DeviceMemory { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(%error, sentences = sources.len(), "encoding failed; trying each sentence alone")
            }
        }
        let alone = |source: &&[u32]| {
            encode(&self.network, &[source]).and_then(|mut one| one.pop().ok_or_else(no_encoding))
        };
        let each: Vec<_> = sources.iter().map(alone).collect();
        self.check_failure(each.iter().filter_map(|one| one.as_ref().err()).next())?;
        Ok(each)
    }

    /// Predicts for the rows of several sentences; one result for each sentence. `rows_of` holds the number of
    /// rows of each sentence, in order; `source` is the source of the first one.
    ///
    /// # Errors
    /// [`Error::EngineDead`] if the network is broken.
    pub fn decode(
        &mut self,
        rows: &[Row<'_, T::Memory>],
        rows_of: &[usize],
        source: &[u32],
    ) -> Result<Vec<Result<Vec<Vec<Prediction>>>>> {
        match decode(&self.network, rows) {
            Ok(answers) => {
                self.failures = 0;
                self.proven.get_or_insert_with(|| source.to_vec());
                let mut answers = answers.into_iter();
                return Ok(rows_of.iter().map(|&own| Ok(answers.by_ref().take(own).collect())).collect());
            }
            Err(error) => {
                tracing::error!(%error, rows = rows.len(), "a pass failed; each sentence is decoded alone")
            }
        }
        let mut rest = rows;
        let alone = |&own: &usize| {
            let (own, others) = rest.split_at(own.min(rest.len()));
            rest = others;
            decode(&self.network, own)
        };
        let each: Vec<_> = rows_of.iter().map(alone).collect();
        self.check_failure(each.iter().filter_map(|one| one.as_ref().err()).next())?;
        Ok(each)
    }

    /// An error if the network itself is broken, not only its input.
    fn check_failure(&mut self, failure: Option<&Error>) -> Result<()> {
        let Some(failure) = failure else { return Ok(()) };
        let broken = match &self.proven {
            Some(source) => (0..FAILURES_IN_A_ROW).all(|_| !works(&self.network, source)),
            None => {
                self.failures += 1;
                self.failures >= FAILURES_IN_A_ROW
            }
        };
        if broken { Err(Error::EngineDead(failure.to_string())) } else { Ok(()) }
    }
}

fn encode<T: Translator>(network: &T, sources: &[&[u32]]) -> Result<Vec<Encoded<T::Memory>>> {
    let encoded = catch_panic(|| network.encode(sources))?;
    if encoded.len() == sources.len() {
        return Ok(encoded);
    }
    Err(Error::Model(format!("{} sentences encoded of {}", encoded.len(), sources.len())))
}

fn decode<T: Translator>(network: &T, rows: &[Row<'_, T::Memory>]) -> Result<Vec<Vec<Prediction>>> {
    let answers = catch_panic(|| network.decode(rows))?;
    if answers.len() == rows.len() {
        return Ok(answers);
    }
    Err(Error::Model(format!("{} answers for {} rows", answers.len(), rows.len())))
}

fn no_encoding() -> Error {
    Error::Model("no sentence was encoded".into())
}

/// Whether the network computes the first pass of a sentence. A lack of memory does not count as a failure.
fn works<T: Translator>(network: &T, source: &[u32]) -> bool {
    let first_pass = || {
        let encoded = encode(network, &[source])?.pop().ok_or_else(no_encoding)?;
        let beam = LengthBeam::new(&encoded.length_prediction, 1, Steps::ONE, &network.rules())?;
        let rows: Vec<_> = beam.rows(&encoded.memory).collect();
        decode(network, &rows).map(drop)
    };
    matches!(first_pass(), Ok(()) | Err(Error::DeviceMemory { .. }))
}

/// Turns a panic into an error. The network is called through a shared reference and keeps only caches between
/// calls, so a later call shows whether the panic has damaged them.
fn catch_panic<R>(call: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(Error::Model(format!("panic: {}", message_of(panic.as_ref())))))
}

pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}
