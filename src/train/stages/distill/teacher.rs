//! The model that translates the training text.

use std::sync::Arc;

use super::{Settings, require_teacher};
use crate::decode::{Search, Searched, search};
use crate::model::{Backend, Bundle, Network};
use crate::text::Tokenizer;
use crate::train::config::Config;
use crate::train::import::marian::Marian;
use crate::{Error, Result};

pub enum Teacher {
    /// A bundle of `train ar`.
    Own {
        network: Box<Network>,
        tokenizer: Arc<Tokenizer>,
        checksum: String,
    },
    Marian(Box<Marian>),
}

/// The translation of one sentence.
pub struct Translated {
    pub found: Searched,
    /// Number of source tokens, without special tokens.
    pub source: usize,
    pub text: String,
}

impl Teacher {
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
            tokenizer: bundle.tokenizer.clone(),
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
            Self::Own { tokenizer, .. } => tokenizer.encode(text),
            Self::Marian(marian) => marian.encode(text),
        }
    }

    pub fn translate(&self, sentences: &[String], options: &Search) -> Result<Vec<Translated>> {
        let sources = sentences.iter().map(|s| self.encode(s)).collect::<Result<Vec<_>>>()?;
        let (found, frame) = match self {
            Self::Own { network, .. } => (search(network, &sources, options)?, 2),
            Self::Marian(marian) => (marian.search(&sources, options)?, 1),
        };
        let translated = found.into_iter().zip(&sources).map(|(found, source)| {
            let tokens = &found.hypothesis.tokens;
            let text = match self {
                Self::Own { tokenizer, .. } => tokenizer.decode(tokens)?,
                Self::Marian(marian) => marian.decode(tokens),
            };
            Ok(Translated { source: source.len().saturating_sub(frame), text, found })
        });
        translated.collect::<Result<_, Error>>()
    }
}
