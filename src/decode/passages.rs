//! Translates whole texts: collects the requests of [`Passage`]s, answers them with [`translate`], and repeats until
//! no passage has another request.

use super::{DecodeOptions, Hypothesis, Steps, Translator, translate};
use crate::Result;
use crate::text::{Candidate, Effort, Passage};

/// More steps than this rarely improve a translation.
const MOST_STEPS: usize = 10;

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

/// Twice as many steps, at most [`MOST_STEPS`], and never fewer than `steps`.
pub fn more_steps(steps: Steps) -> Steps {
    let twice = Steps::new((2 * steps.get()).min(MOST_STEPS) as u8).unwrap_or(steps);
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
    for round in 0.. {
        let requests = passages.iter_mut().map(Passage::requests).collect::<Result<Vec<_>>>()?;
        if requests.iter().all(Vec::is_empty) {
            break;
        }
        let mut answers: Vec<Vec<Vec<Candidate>>> =
            requests.iter().map(|own| vec![Vec::new(); own.len()]).collect();
        for effort in [Effort::Usual, Effort::More] {
            let all = requests
                .iter()
                .enumerate()
                .flat_map(|(i, own)| own.iter().enumerate().map(move |(j, request)| (i, j, request)));
            let places: Vec<_> = all.filter(|(.., request)| request.effort == effort).collect();
            let sources: Vec<Vec<u32>> = places.iter().map(|(.., request)| request.source.clone()).collect();
            let options = DecodeOptions { collapse: false, ..options.with_effort(effort) };
            let found = translate(translator, &sources, &options)?;
            for (&(i, j, _), hypotheses) in places.iter().zip(found) {
                if let Some(best) = hypotheses.first().filter(|_| round == 0) {
                    first(i, best)?;
                }
                answers[i][j] = hypotheses.into_iter().map(candidate).collect();
            }
        }
        for (passage, answers) in passages.iter_mut().zip(answers) {
            passage.answer(answers)?;
        }
    }
    Ok(())
}
