//! The tokens that a [`Shortlist`] allows for a sentence.

use std::sync::Arc;

use super::{QuantizedNetwork, SentenceKeys};
use crate::model::Shortlist;
use crate::nn::int8::{Channelwise, PackedLinear, Rows};
use crate::{Error, Result};

/// A shortlist and the output weights that it selects from.
#[derive(Debug)]
pub(super) struct ShortlistWeights {
    shortlist: Arc<Shortlist>,
    weights: Channelwise,
}

/// The restricted vocabulary of a sentence.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Ascending.
    tokens: Vec<u32>,
    /// One output for each token.
    output: PackedLinear,
}

impl QuantizedNetwork {
    /// Restricts predictions to each sentence's candidates. Log-probabilities are then over the candidates.
    ///
    /// # Errors
    /// [`Error::Config`] for a shortlist of another vocabulary.
    pub fn with_shortlist(self, shortlist: Arc<Shortlist>) -> Result<Self> {
        let (own, its) = (self.shape.vocab, shortlist.vocab());
        if own != its {
            return Err(Error::Config(format!(
                "the shortlist is for a vocabulary of {its} tokens, but the model has {own}: run `train shortlist`"
            )));
        }
        let weights = self.output.channelwise();
        Ok(Self { shortlist_weights: Some(ShortlistWeights { shortlist, weights }), ..self })
    }

    pub fn has_shortlist(&self) -> bool {
        self.shortlist_weights.is_some()
    }

    /// What must be kept of a source to find its candidates; nothing without a shortlist.
    pub(super) fn kept<'a>(&self, source: &'a [u32]) -> &'a [u32] {
        if self.has_shortlist() { source } else { &[] }
    }

    /// The candidates of a sentence.
    pub(super) fn candidates<'a>(&self, list: &ShortlistWeights, keys: &'a SentenceKeys) -> &'a Candidates {
        keys.candidates.get_or_init(|| {
            let mut tokens = list.shortlist.candidates(keys.source());
            if self.shape.has_blanks() {
                tokens.insert(0, self.specials().blank()); // it has the lowest id
            }
            let output = self.output.select(&list.weights, &tokens);
            Candidates { tokens, output }
        })
    }
}

impl Candidates {
    /// As [`PackedLinear::top_tokens`], on the current thread.
    pub fn top_tokens<const N: usize>(&self, rows: &Rows) -> impl Iterator<Item = [(u32, f32); N]> {
        let top = self.output.top_tokens::<N>(rows, 0, 1);
        top.into_iter().map(|top| top.map(|(place, log_prob)| (self.tokens[place as usize], log_prob)))
    }
}
