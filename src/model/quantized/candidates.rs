//! The tokens that a [`Shortlist`] allows for a sentence.

use std::sync::Arc;

use super::{Canvas, QuantizedNetwork};
use crate::model::Shortlist;
use crate::nn::int8::{Channelwise, PackedLinear, Rows};
use crate::{Error, Result};

/// What the output product is narrowed with.
#[derive(Debug)]
pub(super) struct Narrowing {
    shortlist: Arc<Shortlist>,
    weights: Channelwise,
}

/// A sentence's own small vocabulary.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Ascending.
    tokens: Vec<u32>,
    /// A channel for each of them.
    output: PackedLinear,
}

impl QuantizedNetwork {
    /// The same network, whose predictions choose among each sentence's candidates where that is allowed
    /// ([`Canvas::narrow`]). Their log-probabilities are those among the candidates.
    ///
    /// # Errors
    /// [`Error::Config`] for a shortlist of another vocabulary.
    pub fn with_shortlist(self, shortlist: Arc<Shortlist>) -> Result<Self> {
        let (own, its) = (self.shape.vocab, shortlist.vocab());
        if own != its {
            return Err(Error::Config(format!("a shortlist for {its} tokens does not fit {own}")));
        }
        let weights = self.output.channelwise();
        Ok(Self { narrowing: Some(Narrowing { shortlist, weights }), ..self })
    }

    pub fn has_shortlist(&self) -> bool {
        self.narrowing.is_some()
    }

    /// What of a sentence its candidates are made from: nothing where there are none.
    pub(super) fn kept<'a>(&self, source: &'a [u32]) -> &'a [u32] {
        if self.has_shortlist() { source } else { &[] }
    }

    /// What a canvas chooses from, if not from all tokens.
    pub(super) fn candidates<'a>(&self, canvas: &Canvas<'a>) -> Option<&'a Candidates> {
        let Narrowing { shortlist, weights } = self.narrowing.as_ref().filter(|_| canvas.narrow)?;
        Some(canvas.keys.candidates.get_or_init(|| {
            let mut tokens = shortlist.candidates(canvas.keys.source());
            if self.shape.has_blanks() {
                tokens.insert(0, self.specials().blank()); // the lowest of them
            }
            let output = self.output.select(weights, &tokens);
            Candidates { tokens, output }
        }))
    }
}

impl Candidates {
    /// As [`PackedLinear::top_tokens`], on this thread: it is little work.
    pub fn top_tokens<const N: usize>(&self, rows: &Rows) -> impl Iterator<Item = [(u32, f32); N]> {
        let top = self.output.top_tokens::<N>(rows, 0, 1);
        top.into_iter().map(|top| top.map(|(place, log_prob)| (self.tokens[place as usize], log_prob)))
    }
}
