//! `train distill`: translates the training text with an autoregressive teacher, either that of `train ar` or a
//! Marian model (sequence-level distillation, Kim and Rush 2016). Such text is more regular than human translations,
//! which helps parallel models.
//!
//! The work is cut into chunks, each written as one file. A stopped run loses at most one chunk, and several machines
//! can share the work (`--shard i/n`): collect their chunks in one folder, and the run that finds all of them writes
//! the text and its manifest.

mod chunk;
mod filter;
mod teacher;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::decode::SearchOptions;
use crate::files;
use crate::model::{Architecture, Backend, Bundle, checksum};
use crate::train::config::{Config, Data, Distill as Settings, distilled_files};
use crate::train::data::corpus::read_source_texts;
use crate::train::data::texts::require_languages;
use crate::train::observe::event::Skipped;
use crate::train::observe::progress::Progress;
use crate::train::update::run::End;
use crate::{Error, Result};
use chunk::Chunk;
use teacher::DistillTeacher;

/// The part of the work that one machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Counted from 1.
    index: usize,
    count: usize,
}

impl Shard {
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Whether other machines do the rest.
    pub fn is_part(self) -> bool {
        self.count > 1
    }

    fn takes(self, chunk: usize) -> bool {
        chunk % self.count == self.index - 1
    }
}

/// `2/4` is the second of four.
impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Config(format!("shard {text:?} is not i/n with 1 ≤ i ≤ n, such as 2/4"));
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let (index, count) = (index.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
        if (1..=count).contains(&index) { Ok(Self { index, count }) } else { Err(wrong()) }
    }
}

/// Everything that determines the text, stored as `plan.json`. A folder belongs to one plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct DistillPlan {
    /// SHA-256 of the teacher's weights.
    teacher: String,
    beam: usize,
    length_penalty: f32,
    products: crate::train::config::Products,
    max_length_ratio: f64,
    repeated_ngram: usize,
    chunk: usize,
    /// SHA-256 of all source sentences, one a line.
    sources: String,
    sentences: usize,
}

/// `manifest.json`: a description of the text and of what was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(flatten)]
    plan: DistillPlan,
    /// Number of pairs in the text.
    pub kept: usize,
    /// Number of dropped translations, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Source lines that were not translated.
    pub skipped: Skipped,
    /// SHA-256 of the two files.
    source_checksum: String,
    target_checksum: String,
}

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const PLAN: &str = "plan.json";

/// Translates those chunks of this shard that are missing. `stop` is checked before each chunk. If all chunks of all
/// shards exist, writes `train.<source>`, `train.<target>` and, last, `manifest.json`. Returns [`End::Finished`] when
/// this shard is done, even if chunks of others are still missing.
///
/// # Errors
/// A teacher that is not autoregressive or for other languages; a folder that was started with another plan; and
/// invalid bundles, data or folders.
pub fn run(config: &Config, shard: Shard, stop: &AtomicBool) -> Result<End> {
    let data = &config.data;
    let settings = config.distill.clone().unwrap_or_default();
    let folder = settings.output(&config.output);
    let backend = Backend::of_tensors(config.train.device)?;
    let teacher = DistillTeacher::open(config, &settings, &backend)?;
    let limit = data.max_tokens_per_sentence.min(teacher.limit());
    let (texts, skipped) = read_source_texts(data, limit, |text| teacher.encode(text))?;
    let plan = DistillPlan::new(&settings, &teacher, &texts);
    plan.claim(&folder)?;
    let files = distilled_files(&folder, &data.source_lang, &data.target_lang);
    if Manifest::read(&folder).is_ok_and(|manifest| manifest.plan == plan && manifest.verify(&files).is_ok())
    {
        return Ok(End::Finished);
    }

    let chunks: Vec<&[String]> = texts.chunks(settings.chunk).collect();
    let own: Vec<usize> = (0..chunks.len()).filter(|&i| shard.takes(i)).collect();
    let existing = own.iter().filter(|&&i| chunk_path(&folder, i).exists()).count();
    let progress = Progress::new("chunks", own.len() as u64, existing as u64);
    if let Some(reason) = backend.cpu_fallback_reason() {
        progress.announce(format!("computing on the CPU: {reason}"));
    }
    let search = SearchOptions {
        beam: settings.beam,
        length_penalty: settings.length_penalty,
        max_batch_tokens: settings.batch_tokens,
        precision: settings.precision(),
    };
    for &index in &own {
        let path = chunk_path(&folder, index);
        if path.exists() {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            progress.finish();
            return Ok(End::Interrupted);
        }
        let chunk = Chunk::translate(chunks[index], &teacher, &search, &settings)?;
        files::write(&path, &chunk.to_bytes()?)?;
        progress.advance();
    }
    progress.finish();
    if (0..chunks.len()).all(|i| chunk_path(&folder, i).exists()) {
        assemble(&folder, &chunks, plan, skipped, &files)?;
    }
    Ok(End::Finished)
}

fn chunk_path(folder: &Path, index: usize) -> PathBuf {
    folder.join("chunks").join(format!("{index:06}.jsonl"))
}

/// # Errors
/// A bundle that is not autoregressive, or for other languages.
pub(crate) fn require_teacher(bundle: &Bundle, data: &Data) -> Result<()> {
    let architecture = bundle.config.architecture;
    if architecture != Architecture::Ar {
        let reason =
            format!("is of architecture {}; the teacher must be a bundle of `train ar`", architecture.name());
        return Err(Error::bundle(&bundle.dir, reason));
    }
    require_languages(bundle, data)
}

impl DistillPlan {
    fn new(settings: &Settings, teacher: &DistillTeacher, texts: &[String]) -> Self {
        Self {
            teacher: teacher.checksum().to_owned(),
            beam: settings.beam,
            length_penalty: settings.length_penalty,
            products: settings.products,
            max_length_ratio: settings.max_length_ratio,
            repeated_ngram: settings.repeated_ngram,
            chunk: settings.chunk,
            sources: checksum(texts.join("\n").as_bytes()),
            sentences: texts.len(),
        }
    }

    /// Opens a new folder, or one with the same plan.
    fn claim(&self, folder: &Path) -> Result<()> {
        let path = folder.join(PLAN);
        if !path.exists() {
            return files::write(&path, &json(self)?);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let found: Self =
            serde_json::from_str(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
        if found == *self {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{} was started with another teacher, other sources or other settings (see {}); remove the folder, or choose another with distill.output",
            folder.display(),
            path.display()
        )))
    }
}

impl Manifest {
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Err(Error::Config(format!(
                "{} has no {MANIFEST}: `train distill` has not finished there",
                folder.display()
            )));
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    /// # Errors
    /// Text that differs from the manifest, for example after an incomplete copy.
    pub(crate) fn verify(&self, (source, target): &(PathBuf, PathBuf)) -> Result<()> {
        for (path, expected) in [(source, &self.source_checksum), (target, &self.target_checksum)] {
            if files::checksum(path)? != *expected {
                let reason = format!(
                    "does not match its checksum in {MANIFEST}; `train distill` writes it again, and text of your own \
                     belongs in data.source and data.target"
                );
                return Err(Error::bundle(path, reason));
            }
        }
        Ok(())
    }
}

/// Joins all chunks in order.
fn assemble(
    folder: &Path,
    chunks: &[&[String]],
    plan: DistillPlan,
    skipped: Skipped,
    (source_path, target_path): &(PathBuf, PathBuf),
) -> Result<()> {
    let (mut source, mut target) = (String::new(), String::new());
    let (mut kept, mut dropped) = (0, BTreeMap::new());
    for (index, sentences) in chunks.iter().enumerate() {
        let chunk = Chunk::read(&chunk_path(folder, index), sentences)?;
        for (sentence, outcome) in sentences.iter().zip(chunk.outcomes) {
            match outcome {
                Ok(translation) => {
                    source.extend([sentence.as_str(), "\n"]);
                    target.extend([translation.as_str(), "\n"]);
                    kept += 1;
                }
                Err(reason) => *dropped.entry(reason).or_insert(0) += 1,
            }
        }
    }
    if kept == 0 {
        let reasons: Vec<String> =
            dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let reason = format!("all translations of the teacher were dropped: {}", reasons.join(", "));
        return Err(Error::bundle(folder, reason));
    }
    files::write(source_path, source.as_bytes())?;
    files::write(target_path, target.as_bytes())?;
    let (source_checksum, target_checksum) = (checksum(source.as_bytes()), checksum(target.as_bytes()));
    let manifest = Manifest { plan, kept, dropped, skipped, source_checksum, target_checksum };
    files::write(&folder.join(MANIFEST), &json(&manifest)?)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Config(e.to_string()))
}

#[cfg(test)]
mod tests;
