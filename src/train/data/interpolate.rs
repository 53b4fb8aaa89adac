//! `train interpolate`: chooses, among several translations of a training sentence, the one that is most similar to
//! the human reference (sequence-level interpolation, Kim and Rush 2016). Such text is as regular as distilled text
//! and closer to the references.
//!
//! The translations may come from one model with several numbers of steps (`tutti translate`), from several models,
//! or from the candidates of a beam.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use crate::eval::ChrfStats;
use crate::train::data::corpus::{read_lines, require_equal_counts};
use crate::{Error, Result, files};

/// The texts. All have the same number of lines, plain or gzip.
#[derive(Clone, Debug)]
pub struct Interpolate {
    pub source: PathBuf,
    /// Human translation.
    pub reference: PathBuf,
    /// Translations of the whole source.
    pub candidates: Vec<PathBuf>,
    /// The reference is used if no candidate reaches this mean chrF (0 to 100) against the references; 0 never uses
    /// it.
    pub min_chrf: f64,
    /// Folder of the chosen pairs.
    pub output: PathBuf,
}

/// The result, which becomes `manifest.json` in the output folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interpolation {
    pub source: TextFile,
    pub reference: TextFile,
    pub candidates: Vec<CandidateFile>,
    pub min_chrf: f64,
    /// Number of pairs written.
    pub kept: usize,
    /// Number of these that use the reference.
    pub references_kept: usize,
    /// Number of lines left out: source or reference is empty, or all candidates are and the reference may not be
    /// used.
    pub dropped: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextFile {
    pub path: PathBuf,
    /// SHA-256.
    pub checksum: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateFile {
    #[serde(flatten)]
    pub text: TextFile,
    /// Number of lines that use this translation.
    pub chosen: usize,
}

/// Files of the output folder: the sources and the chosen translations.
pub const SOURCE: &str = "train.source";
pub const TARGET: &str = "train.target";
const MANIFEST: &str = "manifest.json";

/// Chooses, for each source, the candidate with the highest sentence chrF; ties go to the candidate named first. A
/// source that occurs in several lines gets the same translation everywhere, the one with the highest mean over its
/// references, so that the text does not contradict itself. The output folder is written atomically.
///
/// # Errors
/// [`Error::Config`] without candidates, for an invalid `min_chrf`, if no line remains, and for an output folder with
/// other files; [`Error::Data`] for texts of unequal length or a line that is not UTF-8; [`Error::Io`].
pub fn interpolate(options: &Interpolate) -> Result<Interpolation> {
    let Interpolate { source, reference, candidates, min_chrf, output } = options;
    if !(0.0..=100.0).contains(min_chrf) {
        return Err(Error::Config(format!("min_chrf must be 0 to 100, not {min_chrf}")));
    }
    if candidates.is_empty() {
        return Err(Error::Config(
            "there is no candidate; give at least one translation of the source".into(),
        ));
    }
    require_own(output)?;
    let sources = read_lines(source)?;
    let read = |path: &PathBuf| {
        let lines = read_lines(path)?;
        require_equal_counts((source, sources.len()), (path, lines.len()))?;
        Ok(lines)
    };
    let reference_index = candidates.len();
    let translations = candidates.iter().chain([reference]).map(read).collect::<Result<Vec<_>>>()?;
    let chosen = choose(&sources, &translations, *min_chrf);

    let mut texts = [String::new(), String::new()];
    let mut counts = vec![0; translations.len()];
    for (source, choice) in sources.iter().zip(chosen) {
        let Some((index, line)) = choice else { continue };
        for (text, line) in texts.iter_mut().zip([source.trim(), translations[index][line].trim()]) {
            text.extend([line, "\n"]);
        }
        counts[index] += 1;
    }
    let kept = counts.iter().sum();
    let references_kept = counts[reference_index];
    if kept == 0 {
        let reason = format!("no line of {} has a source, a reference and a candidate", source.display());
        return Err(Error::Config(reason));
    }
    let text = |path: &Path| -> Result<TextFile> {
        Ok(TextFile { path: path.to_path_buf(), checksum: files::checksum(path)? })
    };
    let candidates = candidates
        .iter()
        .zip(counts)
        .map(|(path, chosen)| -> Result<CandidateFile> { Ok(CandidateFile { text: text(path)?, chosen }) });
    let manifest = Interpolation {
        source: text(source)?,
        reference: text(reference)?,
        candidates: candidates.collect::<Result<_>>()?,
        min_chrf: *min_chrf,
        kept,
        references_kept,
        dropped: sources.len() - kept,
    };
    let json = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::Config(e.to_string()))?;
    files::replace_folder(output, |folder| {
        files::write(&folder.join(SOURCE), texts[0].as_bytes())?;
        files::write(&folder.join(TARGET), texts[1].as_bytes())?;
        files::write(&folder.join(MANIFEST), &json)
    })?;
    Ok(manifest)
}

/// For each line, the index of the chosen text and of its line. The last of `translations` is the reference.
fn choose(sources: &[String], translations: &[Vec<String>], min_chrf: f64) -> Vec<Option<(usize, usize)>> {
    let reference_index = translations.len() - 1;
    let references = &translations[reference_index];
    let mut lines_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (line, (source, reference)) in sources.iter().zip(references).enumerate() {
        if !source.trim().is_empty() && !reference.trim().is_empty() {
            lines_of.entry(source.trim()).or_default().push(line);
        }
    }
    let similarity = |text: &str, lines: &[usize]| -> f64 {
        let of_line = |&line: &usize| ChrfStats::of(text, references[line].trim()).score();
        lines.iter().map(of_line).sum::<f64>() / lines.len() as f64
    };
    // The first of the most similar texts. Equal texts are scored once.
    let most_similar = |indices: Range<usize>, lines: &[usize]| {
        let places = indices.flat_map(|i| lines.iter().map(move |&line| (i, line)));
        let mut seen = HashSet::new();
        let texts = places.map(|(i, line)| ((i, line), translations[i][line].trim()));
        let distinct = texts.filter(|&(_, text)| !text.is_empty() && seen.insert(text));
        let scored = distinct.map(|(place, text)| (place, similarity(text, lines)));
        scored.reduce(|best, other| if other.1 > best.1 { other } else { best })
    };
    let of_source: Vec<Vec<usize>> = lines_of.into_values().collect();
    let choice = |lines: &Vec<usize>| {
        let candidate = most_similar(0..reference_index, lines).filter(|&(_, chrf)| chrf >= min_chrf);
        let reference =
            || most_similar(reference_index..reference_index + 1, lines).filter(|_| min_chrf > 0.0);
        candidate.or_else(reference).map(|(place, _)| place)
    };
    let choices: Vec<_> = of_source.par_iter().map(choice).collect();
    let mut chosen = vec![None; sources.len()];
    for (lines, choice) in of_source.iter().zip(choices) {
        for &line in lines {
            chosen[line] = choice;
        }
    }
    chosen
}

/// # Errors
/// A folder with files that this command does not write; they would be lost.
fn require_own(output: &Path) -> Result<()> {
    if !output.exists() {
        return Ok(());
    }
    let mut own = true;
    for entry in std::fs::read_dir(output).map_err(Error::io(output))? {
        let name = entry.map_err(Error::io(output))?.file_name();
        own &= [SOURCE, TARGET, MANIFEST].iter().any(|file| name == *file);
    }
    // Folders of other commands contain a manifest, too.
    if own && (output.join(TARGET).is_file() || !output.join(MANIFEST).exists()) {
        return Ok(());
    }
    let reason = format!(
        "{} contains other files than those of this command; choose another folder",
        output.display()
    );
    Err(Error::Config(reason))
}

#[cfg(test)]
mod tests;
