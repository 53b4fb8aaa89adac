//! The model that translates the training text.

use super::{Settings, filter::drop_reason, require_teacher};
use crate::decode::{SearchOptions, search_passages};
use crate::model::{Backend, Bundle, Network};
use crate::text::{Passage, Reader, Warning};
use crate::train::config::Config;
use crate::train::import::marian::Marian;
use crate::{Error, Result};

pub enum DistillTeacher {
    /// A bundle of `train ar`. It translates like the server, with protected spans.
    Own { network: Box<Network>, reader: Reader, checksum: String },
    /// A model of Marian. Its tokenizer has no tokens for spans, so it gets sentences unchanged.
    Marian(Box<Marian>),
}

/// The translation of one sentence.
pub struct Translation {
    pub text: String,
    /// The reason to drop it, if there is one.
    pub drop_reason: Option<&'static str>,
}

impl DistillTeacher {
    /// # Errors
    /// A teacher of another architecture or for other languages; an invalid folder.
    pub fn open(config: &Config, settings: &Settings, backend: &Backend) -> Result<Self> {
        if let Some(folder) = &settings.marian {
            return Ok(Self::Marian(Box::new(Marian::open(folder)?)));
        }
        let bundle = Bundle::open(&settings.teacher(&config.output))?;
        require_teacher(&bundle, &config.data)?;
        Ok(Self::Own {
            network: Box::new(bundle.network(backend)?),
            reader: bundle.reader(),
            checksum: bundle.checksum.clone(),
        })
    }

    /// SHA-256 of the weights, in hexadecimal; for a Marian model, of all its files.
    pub fn checksum(&self) -> &str {
        match self {
            Self::Own { checksum, .. } => checksum,
            Self::Marian(marian) => &marian.checksum,
        }
    }

    /// Largest number of tokens of a sentence, special tokens included.
    pub fn limit(&self) -> usize {
        match self {
            Self::Own { network, .. } => network.shape().max_positions,
            Self::Marian(marian) => marian.limit(),
        }
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Own { reader, .. } => reader.tokenizer().encode(text),
            Self::Marian(marian) => marian.encode(text),
        }
    }

    pub fn translate(
        &self,
        sentences: &[String],
        options: &SearchOptions,
        settings: &Settings,
    ) -> Result<Vec<Translation>> {
        match self {
            Self::Own { network, reader, .. } => {
                read_and_search(network, reader, sentences, options, settings)
            }
            Self::Marian(marian) => {
                let sources = sentences.iter().map(|s| marian.encode(s)).collect::<Result<Vec<_>>>()?;
                let found = marian.search(&sources, options)?;
                let translated = found.iter().zip(&sources).map(|(found, source)| Translation {
                    text: marian.decode(&found.hypothesis.tokens),
                    drop_reason: drop_reason(found, source.len().saturating_sub(1), settings),
                });
                Ok(translated.collect())
            }
        }
    }
}

/// Translates with protected spans. Drops translations that were joined from pieces, because a student would learn
/// them; the reason is the name of the warning. [`drop_reason`] checks lengths and repetitions.
fn read_and_search(
    network: &Network,
    reader: &Reader,
    sentences: &[String],
    options: &SearchOptions,
    settings: &Settings,
) -> Result<Vec<Translation>, Error> {
    let mut passages: Vec<Passage> = sentences.iter().map(|sentence| reader.read(sentence)).collect();
    let mut drop_reasons = vec![None; sentences.len()];
    search_passages(network, &mut passages, options, |i, source, found| {
        drop_reasons[i] = drop_reasons[i].or(drop_reason(found, source.len().saturating_sub(2), settings));
        Ok(())
    })?;
    let translated = passages.iter().zip(drop_reasons).map(|(passage, drop_reason)| Translation {
        text: passage.text(),
        drop_reason: drop_reason
            .or_else(|| passage.warnings().contains(&Warning::Split).then(|| Warning::Split.name())),
    });
    Ok(translated.collect())
}
