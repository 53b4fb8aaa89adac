//! Detects the language of a text: lingua over the served languages and those that are confused with them, and
//! Unicode scripts where no statistics are needed.

use std::sync::OnceLock;

use icu_locale::{LocaleExpander, subtags};
use icu_properties::props::Script;
use icu_properties::{CodePointMapData, PropertyParser};
use lingua::{Language, LanguageDetector, LanguageDetectorBuilder};
use serde::Serialize;

use super::languages::{Pair, canonical};

/// Number of characters that are examined; more do not change the result.
const SAMPLE_CHARS: usize = 1000;

/// In percent. A text is not in the source language if another language has at least this probability and the source
/// language less than [`IMPROBABLE`]. Short texts often meet neither condition.
const PROBABLE: f64 = 60.0;
const IMPROBABLE: f64 = 20.0;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// In percent.
    pub confidence: f64,
    pub language: String,
}

pub struct Detector {
    pair: Pair,
    /// `None` if several scripts are usual (Japanese, Chinese) or the language is unknown.
    source_script: Option<Script>,
    /// Whether there are statistics of the source language.
    source_known: bool,
    /// Built on first use, since the statistics take memory that servers without `auto` do not need.
    inner: OnceLock<LanguageDetector>,
}

impl Detector {
    pub fn new(pair: Pair) -> Self {
        let source_script = script_of_language(&pair.source);
        let source_known = Language::all().into_iter().any(|language| means(&pair.source, language));
        Self { pair, source_script, source_known, inner: OnceLock::new() }
    }

    /// The possible languages of the text, most probable first; never empty. For a text without letters, and for one in
    /// a script of no known language, the source language with confidence 0. LibreTranslate answers English, but this
    /// server may not serve it.
    pub fn detect(&self, text: &str) -> Vec<Detection> {
        let sample: String = text.chars().take(SAMPLE_CHARS).collect();
        let values = self.inner.get_or_init(build).compute_language_confidence_values(sample);
        let mut detections: Vec<Detection> = values
            .into_iter()
            .filter(|(_, confidence)| *confidence >= 0.01)
            .map(|(language, confidence)| Detection {
                confidence: (confidence * 1000.0).round() / 10.0,
                language: self.code(language),
            })
            .collect();
        if detections.is_empty() {
            detections.push(Detection { confidence: 0.0, language: self.pair.source.clone() });
        }
        detections
    }

    /// The detected language: the source language, unless another one is much more probable.
    pub fn decide(&self, text: &str) -> Detection {
        let detections = self.detect(text);
        let source = detections.iter().find(|detection| detection.language == self.pair.source);
        let source =
            source.cloned().unwrap_or(Detection { confidence: 0.0, language: self.pair.source.clone() });
        let best = detections.into_iter().next();
        let probable = |best: &Detection| {
            best.confidence >= PROBABLE && source.confidence < IMPROBABLE && self.differs_from_source(best)
        };
        best.filter(probable).unwrap_or(source)
    }

    /// Decides over the texts of a document, each with whether it is in another script. Such texts are kept by
    /// themselves, so they do not count if the others have more letters.
    pub fn decide_over(&self, texts: &[(&str, bool)]) -> Detection {
        let letters = |in_other_script: bool| -> usize {
            let texts = texts.iter().filter(|(_, other)| *other == in_other_script);
            texts.map(|(text, _)| text.chars().filter(|letter| letter.is_alphabetic()).count()).sum()
        };
        let all = letters(true) >= letters(false);
        let decisive = texts.iter().filter(|(_, other)| all || !*other);
        let decisive: Vec<&str> = decisive.map(|(text, _)| *text).collect();
        self.decide(&decisive.join("\n"))
    }

    /// Whether the statistics can tell this language from the source language. Without statistics of the source
    /// language, its texts seem to be in another language of the same script.
    fn differs_from_source(&self, detection: &Detection) -> bool {
        if self.source_known {
            return true;
        }
        let scripts = (likely_script(&self.pair.source), likely_script(&detection.language));
        matches!(scripts, (Some(source), Some(other)) if source != other)
    }

    pub fn is_source(&self, detection: &Detection) -> bool {
        detection.language == self.pair.source
    }

    /// Whether most letters of the text belong to another script than that of the source language.
    pub fn in_other_script(&self, text: &str) -> bool {
        let Some(expected) = self.source_script else { return false };
        if text.is_ascii() && expected == Script::Latin {
            return false;
        }
        let (mut own, mut other) = (0_usize, 0_usize);
        for letter in text.chars().filter(|letter| letter.is_alphabetic()) {
            match CodePointMapData::<Script>::new().get(letter) {
                script if script == expected => own += 1,
                Script::Common | Script::Inherited | Script::Unknown => {}
                _ => other += 1,
            }
        }
        other > own
    }

    /// The code of the language as it is served, otherwise its ISO 639-1 code.
    fn code(&self, language: Language) -> String {
        let served = self.pair.codes().into_iter().find(|served| means(served, language));
        served.map_or_else(|| iso_code(language), str::to_owned)
    }
}

fn iso_code(language: Language) -> String {
    language.iso_code_639_1().to_string()
}

/// Whether a code of a bundle is one of this language.
fn means(code: &str, language: Language) -> bool {
    canonical(code).is_some_and(|tag| tag.language.as_str() == iso_code(language))
}

/// All languages whose statistics are compiled in (see Cargo.toml).
fn build() -> LanguageDetector {
    LanguageDetectorBuilder::from_all_languages().build()
}

/// As CLDR has it: also for several scripts at once, such as `Jpan`.
fn likely_script(code: &str) -> Option<subtags::Script> {
    LocaleExpander::new_common().get_likely_script(&canonical(code)?)
}

fn script_of_language(code: &str) -> Option<Script> {
    let script = likely_script(code)?;
    PropertyParser::<Script>::new().get_strict(script.as_str())
}

#[cfg(test)]
mod tests;
