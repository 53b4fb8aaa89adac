//! Detects the language of a text: lingua over the served languages and those that are confused with them, and
//! Unicode scripts where no statistics are needed.

use std::sync::OnceLock;

use icu_locale::LocaleExpander;
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
    /// Built on first use, since the statistics take memory that servers without `auto` do not need.
    inner: OnceLock<LanguageDetector>,
}

impl Detector {
    pub fn new(pair: Pair) -> Self {
        let source_script = script_of_language(&pair.source);
        Self { pair, source_script, inner: OnceLock::new() }
    }

    /// The possible languages of the text, most probable first; never empty. For a text without letters, the source
    /// language with confidence 0.
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
        best.filter(|best| best.confidence >= PROBABLE && source.confidence < IMPROBABLE).unwrap_or(source)
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
        let code = language.iso_code_639_1().to_string();
        let served = self
            .pair
            .codes()
            .into_iter()
            .find(|served| canonical(served).is_some_and(|tag| tag.language.as_str() == code));
        served.map_or(code.clone(), str::to_owned)
    }
}

/// All languages whose statistics are compiled in (see Cargo.toml).
fn build() -> LanguageDetector {
    LanguageDetectorBuilder::from_all_languages().build()
}

fn script_of_language(code: &str) -> Option<Script> {
    let script = LocaleExpander::new_common().get_likely_script(&canonical(code)?)?;
    PropertyParser::<Script>::new().get_strict(script.as_str())
}
