//! Whole texts through a network: [`Passage`]s ask, [`translate`] answers, until they need no more.

use super::{DecodeOptions, Hypothesis, Steps, Translator, translate};
use crate::Result;
use crate::text::{Candidate, Effort, Passage};

/// Further steps pay little beyond these.
const MOST_STEPS: usize = 10;

/// Lengths that are tried beyond those asked for where a sentence needs another attempt.
pub const MORE_LENGTHS: usize = 2;

impl DecodeOptions {
    /// These options, or more steps and lengths where a sentence needs another attempt.
    pub fn with_effort(self, effort: Effort) -> Self {
        match effort {
            Effort::Usual => self,
            Effort::More => {
                Self { steps: more_steps(self.steps), length_beam: self.length_beam + MORE_LENGTHS, ..self }
            }
        }
    }
}

/// Twice as many steps, but no more than pay.
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
/// What the network and the tokenizer answer with.
pub fn translate_passages<T: Translator>(
    translator: &T,
    passages: &mut [Passage],
    options: &DecodeOptions,
) -> Result<()> {
    translate_passages_with(translator, passages, options, |_, _| Ok(()))
}

/// [`translate_passages`], which calls `first` with each passage's place and the best hypothesis of each of its first
/// requests, before equal neighbours are joined.
///
/// # Errors
/// What the network and the tokenizer answer with, and what `first` does.
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
