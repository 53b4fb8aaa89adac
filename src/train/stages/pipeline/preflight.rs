//! Checks before the first stage, for errors that would otherwise appear after hours: missing files, unusable text, a
//! teacher that does not fit.

use super::artifact::Artifact;
use super::stages::PipelineStage;
use crate::model::{Backend, Bundle};
use crate::train::config::LengthLimit;
use crate::train::config::OnBadLine;
use crate::train::config::{Config, Data, StageName, ValidationConfig};
use crate::train::data::corpus::{Corpus, read_lines, require_equal_counts};
use crate::train::import::marian;
use crate::train::stages::dims;
use crate::{Error, Result};

/// # Errors
/// The first problem, with its file and line.
pub fn check(config: &Config, stages: &[PipelineStage]) -> Result<()> {
    training_text(&config.data)?;
    for ValidationConfig { source, target, .. } in config.data.validation_sets() {
        require_equal_counts((&source, read_lines(&source)?.len()), (&target, read_lines(&target)?.len()))?;
    }
    for (index, stage) in stages.iter().enumerate() {
        let made = |artifact: &Artifact| stages[..index].iter().any(|s| s.outputs.contains(artifact));
        let makes_teacher = stage.sources.iter().any(|(key, teacher)| key == "dims.teacher" && made(teacher));
        if makes_teacher && stage.sources.iter().any(|(key, _)| key == "dims.lm") {
            let reason = "dims.lm is set, but an earlier stage makes the teacher, without a language model; name a bundle that \
                          has one in dims.teacher, or set dims.lm = false";
            return Err(Error::Config(reason.into()));
        }
        for (_, artifact) in stage.sources.iter().filter(|(_, artifact)| !made(artifact)) {
            match artifact {
                Artifact::File(path) => drop(std::fs::File::open(path).map_err(Error::io(path))?),
                Artifact::Bundle(path) => (stage.fits)(config, &Bundle::open(path)?)?,
                Artifact::Marian(path) => drop(marian::require_files(path)?),
            }
        }
        if stage.name == StageName::Dims {
            dims::require_place(config, &Backend::of_tensors(config.train.device)?)?;
        }
    }
    Ok(())
}

/// Checks the lines without a tokenizer, so their numbers of tokens are not checked yet.
fn training_text(data: &Data) -> Result<()> {
    let mut usable = 0;
    for (source, target) in data.original_files() {
        let (files, limit) = ((source.as_path(), target.as_path()), LengthLimit::tokens(usize::MAX));
        Corpus::read_texts(files, limit, data.on_bad_line, |_| Ok(vec![0; 3]), |_, _| usable += 1)?;
    }
    if usable == 0 && !data.original_files().is_empty() {
        let reason = match data.on_bad_line {
            OnBadLine::Skip => "the training text has no usable pair: in each, a line is empty or not UTF-8",
            OnBadLine::Error => "the files of the training text have no lines",
        };
        return Err(Error::Config(reason.into()));
    }
    Ok(())
}
