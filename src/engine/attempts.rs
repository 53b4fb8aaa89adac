//! Calls of the network that may fail. One bad input must not end the process, and a broken device must: the
//! two are told apart here.
//!
//! A call that fails is repeated sentence by sentence, so that an input that the network cannot take fails
//! alone. Then a sentence that has been translated before is tried once more: if the network cannot do that
//! either, several times in a row, it is the network that is broken. A panic counts as an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::decode::{DecodingRules, Encoded, LengthBeam, Prediction, Row, Steps, Translator};
use crate::{Error, Result};

/// So many failures in a row, of sentences that should not fail, are the end.
const FAILURES_IN_A_ROW: u32 = 3;

/// A network, and what it has shown that it can do.
pub struct Attempts<T> {
    network: T,
    /// A source that it has translated.
    proven: Option<Vec<u32>>,
    /// Failures since the last success, as long as nothing is proven.
    failures: u32,
}

impl<T: Translator> Attempts<T> {
    pub fn new(network: T) -> Self {
        Self { network, proven: None, failures: 0 }
    }

    pub fn rules(&self) -> DecodingRules {
        self.network.rules()
    }

    /// What became of each source.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] where there is no room for so many, [`Error::EngineDead`] where the network is
    /// broken.
    pub fn encode(&mut self, sources: &[&[u32]]) -> Result<Vec<Result<Encoded<T::Memory>>>> {
        match encode(&self.network, sources) {
            Ok(encoded) => return Ok(encoded.into_iter().map(Ok).collect()),
            Err(error @ Error::DeviceMemory { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(%error, sentences = sources.len(), "encoding failed; trying each alone")
            }
        }
        let alone =
            |source: &&[u32]| encode(&self.network, &[source]).and_then(|mut one| one.pop().ok_or_else(none));
        let each: Vec<_> = sources.iter().map(alone).collect();
        self.judge(each.iter().filter_map(|one| one.as_ref().err()).next())?;
        Ok(each)
    }

    /// What became of each sentence, of which `rows_of` says how many of the `rows` are its own, in order.
    /// `source` is that of the first sentence.
    ///
    /// # Errors
    /// [`Error::EngineDead`] where the network is broken.
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
                tracing::error!(%error, rows = rows.len(), "a pass failed; trying each sentence alone")
            }
        }
        let mut rest = rows;
        let alone = |&own: &usize| {
            let (own, others) = rest.split_at(own.min(rest.len()));
            rest = others;
            decode(&self.network, own)
        };
        let each: Vec<_> = rows_of.iter().map(alone).collect();
        self.judge(each.iter().filter_map(|one| one.as_ref().err()).next())?;
        Ok(each)
    }

    /// Whether a failure is the network's and not its input's.
    fn judge(&mut self, failure: Option<&Error>) -> Result<()> {
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
    let encoded = caught(|| network.encode(sources))?;
    if encoded.len() == sources.len() {
        return Ok(encoded);
    }
    Err(Error::Model(format!("{} sentences encoded of {}", encoded.len(), sources.len())))
}

fn decode<T: Translator>(network: &T, rows: &[Row<'_, T::Memory>]) -> Result<Vec<Vec<Prediction>>> {
    let answers = caught(|| network.decode(rows))?;
    if answers.len() == rows.len() {
        return Ok(answers);
    }
    Err(Error::Model(format!("{} answers for {} rows", answers.len(), rows.len())))
}

fn none() -> Error {
    Error::Model("no sentence was encoded".into())
}

/// Whether the network takes the first pass of a sentence. That there is no memory now says nothing.
fn works<T: Translator>(network: &T, source: &[u32]) -> bool {
    let first_pass = || {
        let encoded = encode(network, &[source])?.pop().ok_or_else(none)?;
        let beam = LengthBeam::new(&encoded.length_prediction, 1, Steps::ONE, &network.rules())?;
        let rows: Vec<_> = beam.rows(&encoded.memory).collect();
        decode(network, &rows).map(drop)
    };
    matches!(first_pass(), Ok(()) | Err(Error::DeviceMemory { .. }))
}

/// A panic as an error. The network is asked through a shared reference and keeps nothing between calls but
/// caches, so what a panic leaves is judged by the next call.
fn caught<R>(call: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(Error::Model(format!("panic: {}", message_of(panic.as_ref())))))
}

pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}
