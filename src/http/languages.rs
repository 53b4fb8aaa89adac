//! Language codes and their English names, and LibreTranslate's words for what is not served.

use crate::{Error, Result};

/// Names of the languages that bundles are likely to have; any other is shown by its code.
const NAMES: [(&str, &str); 36] = [
    ("ar", "Arabic"),
    ("bg", "Bulgarian"),
    ("ca", "Catalan"),
    ("cs", "Czech"),
    ("da", "Danish"),
    ("de", "German"),
    ("el", "Greek"),
    ("en", "English"),
    ("eo", "Esperanto"),
    ("es", "Spanish"),
    ("et", "Estonian"),
    ("fa", "Persian"),
    ("fi", "Finnish"),
    ("fr", "French"),
    ("he", "Hebrew"),
    ("hi", "Hindi"),
    ("hu", "Hungarian"),
    ("id", "Indonesian"),
    ("it", "Italian"),
    ("ja", "Japanese"),
    ("ko", "Korean"),
    ("lt", "Lithuanian"),
    ("lv", "Latvian"),
    ("nb", "Norwegian"),
    ("nl", "Dutch"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("ro", "Romanian"),
    ("ru", "Russian"),
    ("sk", "Slovak"),
    ("sl", "Slovenian"),
    ("sv", "Swedish"),
    ("tr", "Turkish"),
    ("uk", "Ukrainian"),
    ("vi", "Vietnamese"),
    ("zh", "Chinese"),
];

/// The English name of a language, or its code.
pub fn name(code: &str) -> &str {
    NAMES.iter().find(|(known, _)| *known == code).map_or(code, |(_, name)| name)
}

/// One direction of translation, in lower-case codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub source: String,
    pub target: String,
}

impl Pair {
    /// Whether this pair serves what a client asks for; codes in any case. `auto` is refused like any
    /// other unknown code: nothing here detects languages.
    pub fn check(&self, source: &str, target: &str) -> Result<()> {
        let (source, target) = (source.to_lowercase(), target.to_lowercase());
        for code in [&source, &target] {
            if *code != self.source && *code != self.target {
                return Err(Error::UnsupportedLanguage(format!("{code} is not supported")));
            }
        }
        if source != self.source || target != self.target {
            return Err(Error::UnsupportedLanguage(format!(
                "{} ({target}) is not available as a target language from {} ({source})",
                name(&target),
                name(&source)
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
