//! Translates whole texts: collects the requests of [`Passage`]s, decodes them with [`translate`], and repeats until
//! no passage has another request.

use super::{DecodeOptions, Hypothesis, SearchOptions, SearchResult, Steps, Translator, search, translate};
use crate::Result;
use crate::model::Network;
use crate::text::{Candidate, Effort, Passage};

/// More steps than this rarely improve a translation.
const MAX_STEPS: usize = 10;

/// Number of additional lengths for the second attempt at a sentence.
pub const MORE_LENGTHS: usize = 2;

impl DecodeOptions {
    /// These options, with more steps and lengths for [`Effort::More`].
    pub fn with_effort(self, effort: Effort) -> Self {
        match effort {
            Effort::Usual => self,
            Effort::More => {
                Self { steps: more_steps(self.steps), length_beam: self.length_beam + MORE_LENGTHS, ..self }
            }
        }
    }
}

/// Twice as many steps, at most `MAX_STEPS`, and never fewer than `steps`.
pub fn more_steps(steps: Steps) -> Steps {
    let twice = Steps::new((2 * steps.get()).min(MAX_STEPS) as u8).unwrap_or(steps);
    steps.max(twice)
}

impl From<&Hypothesis> for Candidate {
    fn from(hypothesis: &Hypothesis) -> Self {
        Self { tokens: hypothesis.tokens.clone(), score: hypothesis.score }
    }
}

/// Translates passages together, in batches of their sentences.
///
/// # Errors
/// Those of the network and the tokenizer.
pub fn translate_passages<T: Translator>(
    translator: &T,
    passages: &mut [Passage],
    options: &DecodeOptions,
) -> Result<()> {
    translate_passages_with(translator, passages, options, |_, _| Ok(()))
}

/// Like [`translate_passages`], but also calls `first` with the index of a passage and the best hypothesis for each
/// request of its first round, before equal neighbours are merged.
///
/// # Errors
/// Those of the network, the tokenizer and `first`.
pub fn translate_passages_with<T: Translator>(
    translator: &T,
    passages: &mut [Passage],
    options: &DecodeOptions,
    mut first: impl FnMut(usize, &Hypothesis) -> Result<()>,
) -> Result<()> {
    let joins = options.collapse && !translator.limits().has_blanks;
    let candidate = |hypothesis: Hypothesis| {
        let Hypothesis { tokens, score, .. } = if joins { hypothesis.collapsed() } else { hypothesis };
        Candidate { tokens, score }
    };
    answer_passages(passages, |round| {
        let options = DecodeOptions { collapse: false, ..options.with_effort(round.effort) };
        let found = translate(translator, &round.sources, &options)?;
        for (&passage, hypotheses) in round.passages.iter().zip(&found) {
            if let Some(best) = hypotheses.first().filter(|_| round.number == 0) {
                first(passage, best)?;
            }
        }
        Ok(found.into_iter().map(|hypotheses| hypotheses.into_iter().map(candidate).collect()).collect())
    })
}

/// [`translate_passages_with`] for an autoregressive network; [`Effort::More`] means a wider beam. `first` gets the
/// index of a passage, the source and the result of the search.
///
/// # Errors
/// Those of the network, the tokenizer and `first`.
pub fn search_passages(
    network: &Network,
    passages: &mut [Passage],
    options: &SearchOptions,
    mut first: impl FnMut(usize, &[u32], &SearchResult) -> Result<()>,
) -> Result<()> {
    answer_passages(passages, |round| {
        let beam = match round.effort {
            Effort::Usual => options.beam,
            Effort::More => options.beam + MORE_LENGTHS,
        };
        let found = search(network, &round.sources, &SearchOptions { beam, ..*options })?;
        if round.number == 0 {
            for ((&passage, source), found) in round.passages.iter().zip(&round.sources).zip(&found) {
                first(passage, source, found)?;
            }
        }
        Ok(found.iter().map(|found| vec![Candidate::from(&found.hypothesis)]).collect())
    })
}

/// Sources that a network translates together.
struct Round {
    /// From 0.
    number: usize,
    effort: Effort,
    sources: Vec<Vec<u32>>,
    /// The passage of each source.
    passages: Vec<usize>,
}

/// Repeats until no passage has another request. `answer` returns the candidates of each source, in order.
fn answer_passages(
    passages: &mut [Passage],
    mut answer: impl FnMut(&Round) -> Result<Vec<Vec<Candidate>>>,
) -> Result<()> {
    for number in 0.. {
        let requests = passages.iter_mut().map(Passage::requests).collect::<Result<Vec<_>>>()?;
        if requests.iter().all(Vec::is_empty) {
            break;
        }
        let mut answers: Vec<Vec<Vec<Candidate>>> =
            requests.iter().map(|own| vec![Vec::new(); own.len()]).collect();
        for effort in [Effort::Usual, Effort::More] {
            let (mut round, mut places) =
                (Round { number, effort, sources: vec![], passages: vec![] }, vec![]);
            for (passage, own) in requests.iter().enumerate() {
                for (place, request) in own.iter().enumerate().filter(|(_, own)| own.effort == effort) {
                    round.sources.push(request.source.clone());
                    round.passages.push(passage);
                    places.push(place);
                }
            }
            for ((&passage, place), candidates) in round.passages.iter().zip(places).zip(answer(&round)?) {
                answers[passage][place] = candidates;
            }
        }
        for (passage, answers) in passages.iter_mut().zip(answers) {
            passage.answer(answers)?;
        }
    }
    Ok(())
}
