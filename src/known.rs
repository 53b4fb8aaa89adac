//! The known sentence: a bundle contains one sentence with its translation, so that a machine can check that it
//! computes the model correctly. Checksums of files cannot detect a broken kernel or driver.

use crate::decode::{DecodeOptions, InferenceModel, Steps, Translator, translate};
use crate::eval::corpus_chrf;
use crate::model::{Architecture, Backend, Bundle, DeviceChoice, DtypeChoice, KnownSentence};
use crate::{Error, Result};

/// Minimum chrF against the known translation. Other number types and kernels may change a word; the output of a
/// broken network is completely different.
const MIN_CHRF: f64 = 60.0;

/// The default sentence.
const DEFAULT_SENTENCE: &str = "The weather is nice today, and we are going for a walk with our dog.";

/// Writes the checksums of a bundle's files and a known sentence with its translation into `config.json`. Uses
/// `sentence`, or the bundle's known sentence, or a default one.
///
/// # Errors
/// [`Error::Bundle`] and [`Error::Io`] for a folder that is not a bundle or cannot be written.
pub fn seal(bundle: &Bundle, sentence: Option<&str>) -> Result<Option<KnownSentence>> {
    let known = match bundle.config.architecture {
        // Autoregressive models are never served.
        Architecture::Ar => None,
        Architecture::Cmlm | Architecture::Imputer => translate_known(bundle, sentence)?,
    };
    bundle.seal(known.clone())?;
    Ok(known)
}

/// `None` if the default sentence is too long for the model.
fn translate_known(bundle: &Bundle, sentence: Option<&str>) -> Result<Option<KnownSentence>> {
    let existing = bundle.config.known.as_ref().map(|known| known.source.as_str());
    let source = sentence.or(existing).unwrap_or(DEFAULT_SENTENCE).to_owned();
    let steps = bundle.config.default_steps;
    let network = InferenceModel::open(bundle, &Backend::choose(DeviceChoice::Cpu, DtypeChoice::Auto)?)?;
    match translation(&network, bundle, &source, steps) {
        Ok(translation) => Ok(Some(KnownSentence { source, steps, translation })),
        Err(Error::TooLarge { .. }) if sentence.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks that the network translates the bundle's known sentence correctly. A bundle without one passes.
///
/// # Errors
/// [`Error::Bundle`] with both translations if they differ too much.
pub fn check<T: Translator>(network: &T, bundle: &Bundle) -> Result<()> {
    let Some(KnownSentence { source, steps, translation: expected }) = &bundle.config.known else {
        return Ok(());
    };
    let found = translation(network, bundle, source, *steps)?;
    if found == *expected || corpus_chrf([(found.as_str(), expected.as_str())]) >= MIN_CHRF {
        return Ok(());
    }
    let reason = format!(
        "{source:?} becomes {found:?} on this machine, but was {expected:?} where the bundle was made: try another \
         --device or --dtype"
    );
    Err(Error::bundle(&bundle.dir, reason))
}

fn translation<T: Translator>(network: &T, bundle: &Bundle, source: &str, steps: u8) -> Result<String> {
    let steps = Steps::new(steps).unwrap_or(Steps::ONE);
    let options =
        DecodeOptions { length_beam: network.limits().default_length_beam(), ..DecodeOptions::new(steps) };
    let ids = bundle.tokenizer.encode(source)?;
    let best = translate(network, &[ids], &options)?.into_iter().flatten().next();
    bundle.tokenizer.decode(&best.unwrap_or_default().tokens)
}
