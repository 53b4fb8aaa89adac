//! `train report`: quality and latency of several models, each decoded in several ways, on one test set.
//!
//! Anything that implements [`Scored`] can take part. Every row is compared with the first model: is the difference larger than
//! chance? `measure` takes the numbers, `table` writes Markdown, `plot` draws quality over latency. Latency is that of
//! the text path, the network and its decoding, without a server.

mod measure;
mod plot;
mod scored;
mod table;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::eval::Resamples;
use crate::model::{Backend, Dtype};
use crate::train::observe::Machine;
use crate::{Error, Result, files};
pub use measure::{Against, Bucket, Row};
pub use scored::{Autoregressive, Model, Parallel, Scored, Way};

/// What is to be measured, and on what.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub source: PathBuf,
    pub reference: PathBuf,
    /// From the head of the files; all where left out.
    pub sentences: Option<usize>,
    pub steps: Vec<u8>,
    pub length_beams: Vec<usize>,
    /// Of an autoregressive model, which has no steps.
    pub beams: Vec<usize>,
    /// The longest source of each bucket but the last, in words, ascending; none for no buckets.
    pub buckets: Vec<usize>,
    pub resamples: usize,
    pub seed: u64,
    /// Sentences that are timed one by one, spread over the set.
    pub timed_sentences: usize,
    /// How often each of them is timed: the median of its times counts.
    pub timing_rounds: usize,
    /// Padded tokens of a batch, where quality is measured.
    pub batch_tokens: usize,
    pub dtype: Dtype,
    /// Whether bundles' shortlists and language models are used.
    pub shortlist: bool,
    pub lm: bool,
}

impl Plan {
    /// What models compute on and with.
    pub fn backend(&self) -> Backend {
        Backend::cpu().with_dtype(self.dtype).with_shortlist(self.shortlist).with_lm(self.lm)
    }

    /// # Errors
    /// The flag whose value cannot work.
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
            () if !self.buckets.is_sorted_by(|a, b| a < b) => wrong("--buckets must ascend"),
            () if self.timed_sentences == 0 => wrong("--timed-sentences must be at least 1"),
            () if self.timing_rounds == 0 => wrong("--timing-rounds must be at least 1"),
            () => Ok(()),
        }
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub plan: Plan,
    pub models: Vec<About>,
    pub machine: Machine,
    /// That products are computed on.
    pub threads: usize,
    /// Sentences of the test set, and of each bucket.
    pub sentences: usize,
    pub buckets: Vec<Bucket>,
    pub rows: Vec<Row>,
}

/// One of the models.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    pub name: String,
    pub path: PathBuf,
    /// SHA-256 of the weights.
    pub checksum: String,
}

/// Measures every model with each of its decodings; `each` gets each row when it is done.
///
/// # Errors
/// A test set that cannot be used, and what a network answers with.
pub fn run(plan: &Plan, models: &[Model], mut each: impl FnMut(&Row)) -> Result<Report> {
    plan.validate()?;
    let texts = measure::Texts::read(plan)?;
    let resamples = Resamples::draw(texts.len(), plan.resamples, plan.seed);
    let mut rows: Vec<Row> = Vec::new();
    let mut baselines = Vec::new();
    for (index, model) in models.iter().enumerate() {
        for way in model.scored.ways() {
            let (mut row, scores) = measure::measure(plan, model, way, &texts, &resamples)?;
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
        models: models.iter().map(Model::about).collect(),
        machine: Machine::this(),
        threads: rayon::current_num_threads(),
        sentences: texts.len(),
        buckets: texts.buckets().to_vec(),
        rows,
    })
}

impl Report {
    /// Writes `report.md`, `quality.svg` and `report.json` into a folder, which is made.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Config(e.to_string()))?;
        files::write(&folder.join("report.json"), &json)?;
        files::write(&folder.join("quality.svg"), plot::quality_over_latency(self)?.as_bytes())?;
        files::write(&folder.join("report.md"), table::markdown(self).as_bytes())
    }
}
