//! The models of a report.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{About, ReportPlan};
use crate::Result;
use crate::decode::{
    DecodeOptions, InferenceModel, SearchOptions, Steps, search_passages, translate_passages_with,
};
use crate::eval::Repetition;
use crate::model::{Architecture, Bundle, Network};
use crate::text::Passage;

/// Decoding of a row: steps and lengths, or the width of a beam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodingSetup {
    /// Parallel decoding with this number of steps and of lengths.
    Steps { steps: usize, length_beam: usize },
    /// Beam search from left to right, with this width.
    Beam(usize),
}

impl fmt::Display for DecodingSetup {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Steps { steps: 1, length_beam: 1 } => write!(f, "1 step, 1 length"),
            Self::Steps { steps: 1, length_beam } => write!(f, "1 step, {length_beam} lengths"),
            Self::Steps { steps, length_beam: 1 } => write!(f, "{steps} steps, 1 length"),
            Self::Steps { steps, length_beam } => write!(f, "{steps} steps, {length_beam} lengths"),
            Self::Beam(1) => write!(f, "greedy"),
            Self::Beam(beam) => write!(f, "beam {beam}"),
        }
    }
}

/// A network with the decodings that it supports.
pub trait ReportTranslator {
    /// The decodings, in the order of the report: fastest first.
    fn setups(&self) -> Vec<DecodingSetup>;

    /// Translates passages, in batches of up to `max_batch_tokens` padded tokens. Returns the network's repeats before
    /// equal neighbours are merged.
    fn translate(
        &self,
        setup: DecodingSetup,
        passages: &mut [Passage],
        max_batch_tokens: usize,
    ) -> Result<Repetition>;
}

/// A bundle and its network.
pub struct ReportModel {
    pub name: String,
    pub bundle: Bundle,
    pub translator: Box<dyn ReportTranslator>,
}

impl ReportModel {
    /// Opens a bundle. `name` defaults to its path.
    ///
    /// # Errors
    /// Those of the bundle.
    pub fn open(name: Option<&str>, path: &Path, plan: &ReportPlan) -> Result<Self> {
        let bundle = Bundle::open(path)?;
        let backend = plan.backend();
        let translator: Box<dyn ReportTranslator> = match bundle.config.architecture {
            Architecture::Cmlm | Architecture::Imputer => Box::new(ParallelTranslator {
                network: InferenceModel::open(&bundle, &backend)?,
                steps: plan.steps.iter().filter_map(|&steps| Steps::new(steps)).collect(),
                length_beams: plan.length_beams.clone(),
            }),
            Architecture::Ar => Box::new(AutoregressiveTranslator {
                network: bundle.network(&backend)?,
                beams: plan.beams.clone(),
            }),
        };
        let name = name.map_or_else(|| path.display().to_string(), str::to_owned);
        Ok(Self { name, bundle, translator })
    }

    pub fn about(&self) -> About {
        let Self { name, bundle, .. } = self;
        About { name: name.clone(), path: bundle.dir.clone(), checksum: bundle.checksum.clone() }
    }
}

/// A parallel model.
pub struct ParallelTranslator {
    pub network: InferenceModel,
    pub steps: Vec<Steps>,
    pub length_beams: Vec<usize>,
}

impl ReportTranslator for ParallelTranslator {
    fn setups(&self) -> Vec<DecodingSetup> {
        let setups = |&length_beam: &usize| {
            self.steps.iter().map(move |steps| DecodingSetup::Steps { steps: steps.get(), length_beam })
        };
        self.length_beams.iter().flat_map(setups).collect()
    }

    fn translate(
        &self,
        setup: DecodingSetup,
        passages: &mut [Passage],
        max_batch_tokens: usize,
    ) -> Result<Repetition> {
        let found = self.steps.iter().find_map(|&own| match setup {
            DecodingSetup::Steps { steps, length_beam } if own.get() == steps => Some((own, length_beam)),
            _ => None,
        });
        let Some((steps, length_beam)) = found else {
            return Err(crate::Error::Config(format!("a parallel model cannot decode with {setup}")));
        };
        let options = DecodeOptions { steps, length_beam, max_batch_tokens, collapse: true };
        let mut repetition = Repetition::default();
        translate_passages_with(&self.network, passages, &options, |_, found| {
            repetition = repetition + Repetition::of(&found.tokens);
            Ok(())
        })?;
        Ok(repetition)
    }
}

/// An autoregressive model, in f32.
pub struct AutoregressiveTranslator {
    pub network: Network,
    pub beams: Vec<usize>,
}

impl ReportTranslator for AutoregressiveTranslator {
    fn setups(&self) -> Vec<DecodingSetup> {
        self.beams.iter().map(|&beam| DecodingSetup::Beam(beam)).collect()
    }

    /// Equal neighbours are intended and not merged.
    fn translate(
        &self,
        setup: DecodingSetup,
        passages: &mut [Passage],
        max_batch_tokens: usize,
    ) -> Result<Repetition> {
        let DecodingSetup::Beam(beam) = setup else {
            return Err(crate::Error::Config(format!("an autoregressive model cannot decode with {setup}")));
        };
        let mut repetition = Repetition::default();
        let options = SearchOptions { max_batch_tokens, ..SearchOptions::new(beam) };
        search_passages(&self.network, passages, &options, |_, _, found| {
            repetition = repetition + Repetition::of(&found.hypothesis.tokens);
            Ok(())
        })?;
        Ok(repetition)
    }
}
