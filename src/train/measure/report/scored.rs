//! The models of a report.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{About, Plan};
use crate::Result;
use crate::decode::{
    DecodeOptions, InferenceModel, SearchOptions, Steps, search_passages, translate_passages_with,
};
use crate::eval::Repetition;
use crate::model::{Architecture, Bundle, Network};
use crate::text::Passage;

/// How a translation is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// In parallel, with this number of passes and of lengths.
    Steps { steps: usize, length_beam: usize },
    /// Left to right, with a beam of this width.
    Beam(usize),
}

impl fmt::Display for Way {
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
pub trait Scored {
    /// In the order of the report, fastest first.
    fn ways(&self) -> Vec<Way>;

    /// Translates passages, in batches of up to `max_batch_tokens` padded tokens. Returns the network's repeats before
    /// equal neighbours are merged.
    fn translate(&self, way: Way, passages: &mut [Passage], max_batch_tokens: usize) -> Result<Repetition>;
}

/// A bundle and its network.
pub struct Model {
    pub name: String,
    pub bundle: Bundle,
    pub scored: Box<dyn Scored>,
}

impl Model {
    /// Opens a bundle. `name` defaults to its path.
    ///
    /// # Errors
    /// Those of the bundle.
    pub fn open(name: Option<&str>, path: &Path, plan: &Plan) -> Result<Self> {
        let bundle = Bundle::open(path)?;
        let backend = plan.backend();
        let scored: Box<dyn Scored> = match bundle.config.architecture {
            Architecture::Cmlm | Architecture::Imputer => Box::new(Parallel {
                network: InferenceModel::open(&bundle, &backend)?,
                steps: plan.steps.iter().filter_map(|&steps| Steps::new(steps)).collect(),
                length_beams: plan.length_beams.clone(),
            }),
            Architecture::Ar => {
                Box::new(Autoregressive { network: bundle.network(&backend)?, beams: plan.beams.clone() })
            }
        };
        let name = name.map_or_else(|| path.display().to_string(), str::to_owned);
        Ok(Self { name, bundle, scored })
    }

    pub fn about(&self) -> About {
        let Self { name, bundle, .. } = self;
        About { name: name.clone(), path: bundle.dir.clone(), checksum: bundle.checksum.clone() }
    }
}

/// A parallel model.
pub struct Parallel {
    pub network: InferenceModel,
    pub steps: Vec<Steps>,
    pub length_beams: Vec<usize>,
}

impl Scored for Parallel {
    fn ways(&self) -> Vec<Way> {
        let ways = |&length_beam: &usize| {
            self.steps.iter().map(move |steps| Way::Steps { steps: steps.get(), length_beam })
        };
        self.length_beams.iter().flat_map(ways).collect()
    }

    fn translate(&self, way: Way, passages: &mut [Passage], max_batch_tokens: usize) -> Result<Repetition> {
        let found = self.steps.iter().find_map(|&own| match way {
            Way::Steps { steps, length_beam } if own.get() == steps => Some((own, length_beam)),
            _ => None,
        });
        let Some((steps, length_beam)) = found else {
            return Err(crate::Error::Config(format!("a parallel model cannot decode with {way}")));
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
pub struct Autoregressive {
    pub network: Network,
    pub beams: Vec<usize>,
}

impl Scored for Autoregressive {
    fn ways(&self) -> Vec<Way> {
        self.beams.iter().map(|&beam| Way::Beam(beam)).collect()
    }

    /// Equal neighbours are intended and not merged.
    fn translate(&self, way: Way, passages: &mut [Passage], max_batch_tokens: usize) -> Result<Repetition> {
        let Way::Beam(beam) = way else {
            return Err(crate::Error::Config(format!("an autoregressive model cannot decode with {way}")));
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
