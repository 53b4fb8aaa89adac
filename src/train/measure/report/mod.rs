//! `train report`: compares the quality and latency of several models, each with several decodings, on one test set.
//!
//! The report takes any [`ReportTranslator`]. A significance test compares every row with the first model. `measure`
//! computes the numbers, `table` writes Markdown, `plot` draws quality over latency. Latency covers the text path, the
//! network and its decoding, without a server.

mod measure;
mod model;
mod plot;
mod table;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::eval::Resamples;
use crate::model::{Backend, Dtype};
use crate::train::observe::Machine;
use crate::{Error, Result, files};
pub use measure::{Against, Bucket, Row};
pub use model::{AutoregressiveTranslator, DecodingSetup, ParallelTranslator, ReportModel, ReportTranslator};

/// What to measure, and on which text.
#[derive(Clone, Debug, Serialize)]
pub struct ReportPlan {
    pub source: PathBuf,
    pub reference: PathBuf,
    /// Number of sentences, from the start of the files; all by default.
    pub sentences: Option<usize>,
    pub steps: Vec<u8>,
    pub length_beams: Vec<usize>,
    /// Beam widths of autoregressive models.
    pub beams: Vec<usize>,
    /// Longest source of each bucket but the last, in words, ascending; empty for no buckets.
    pub buckets: Vec<usize>,
    pub resamples: usize,
    pub seed: u64,
    /// Number of sentences that are timed one by one, spread over the set.
    pub timed_sentences: usize,
    /// Number of timings of each sentence; their median counts.
    pub timing_rounds: usize,
    /// Padded tokens of a batch for the measurement of quality.
    pub batch_tokens: usize,
    pub dtype: Dtype,
    /// Whether bundles' shortlists and language models are used.
    pub shortlist: bool,
    pub lm: bool,
}

impl ReportPlan {
    /// The backend of all models.
    pub fn backend(&self) -> Backend {
        Backend::cpu().with_dtype(self.dtype).with_shortlist(self.shortlist).with_lm(self.lm)
    }

    /// # Errors
    /// The flag with an invalid value.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Config(format!("report: {what}")));
        match () {
            () if self.steps.is_empty() || self.steps.contains(&0) => {
                wrong("--steps needs numbers of at least 1")
            }
            () if self.length_beams.is_empty() || self.length_beams.contains(&0) => {
                wrong("--length-beam needs numbers of at least 1")
            }
            () if self.beams.is_empty() || self.beams.contains(&0) => {
                wrong("--beam needs numbers of at least 1")
            }
            () if !self.buckets.is_sorted_by(|a, b| a < b) => wrong("--buckets must be ascending"),
            () if self.timed_sentences == 0 => wrong("--timed-sentences must be at least 1"),
            () if self.timing_rounds == 0 => wrong("--timing-rounds must be at least 1"),
            () => Ok(()),
        }
    }
}

/// The whole result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub plan: ReportPlan,
    pub models: Vec<About>,
    pub machine: Machine,
    /// Number of threads for matrix products.
    pub threads: usize,
    /// Number of sentences of the test set, and of each bucket.
    pub sentences: usize,
    pub buckets: Vec<Bucket>,
    pub rows: Vec<Row>,
}

/// Identification of a model.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    pub name: String,
    pub path: PathBuf,
    /// SHA-256 of the weights.
    pub checksum: String,
}

/// Measures every model with each of its decodings. Calls `each` after each row.
///
/// # Errors
/// An invalid test set, and the errors of the networks.
pub fn run(plan: &ReportPlan, models: &[ReportModel], mut each: impl FnMut(&Row)) -> Result<Report> {
    plan.validate()?;
    let texts = measure::BucketedTexts::read(plan)?;
    let resamples = Resamples::draw(texts.len(), plan.resamples, plan.seed);
    let mut rows: Vec<Row> = Vec::new();
    let mut baselines = Vec::new();
    for (index, model) in models.iter().enumerate() {
        for setup in model.translator.setups() {
            let (mut row, scores) = measure::measure(plan, model, setup, &texts, &resamples)?;
            if index == 0 {
                baselines.push(scores);
            } else {
                row.compare(&scores, &baselines);
            }
            each(&row);
            rows.push(row);
        }
    }
    Ok(Report {
        plan: plan.clone(),
        models: models.iter().map(ReportModel::about).collect(),
        machine: Machine::this(),
        threads: rayon::current_num_threads(),
        sentences: texts.len(),
        buckets: texts.buckets().to_vec(),
        rows,
    })
}

impl Report {
    /// Writes `report.md`, `quality.svg` and `report.json` into a folder, and creates it.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Config(e.to_string()))?;
        files::write(&folder.join("report.json"), &json)?;
        files::write(&folder.join("quality.svg"), plot::quality_over_latency(self)?.as_bytes())?;
        files::write(&folder.join("report.md"), table::markdown(self).as_bytes())
    }
}
