//! Language tags, their English names, and LibreTranslate's messages for languages that are not served.

use icu_locale::fallback::LocaleFallbacker;
use icu_locale::{DataLocale, LanguageIdentifier, Locale, LocaleCanonicalizer};

use crate::{Error, Result};

/// The English name of a language, or its code.
pub fn name(code: &str) -> &str {
    let language = code.split(['-', '_']).next().unwrap_or(code);
    let known = match language.len() {
        2 => isolang::Language::from_639_1(language),
        _ => isolang::Language::from_639_3(language),
    };
    known.map_or(code, |known| plain_name(known.to_name()))
}

/// Removes ISO 639's remark from a name, as in `Modern Greek (1453-)`.
fn plain_name(name: &'static str) -> &'static str {
    let name = name.split(" (").next().unwrap_or(name);
    name.strip_prefix("Modern ").unwrap_or(name)
}

/// The served code that matches a client's tag: the same tag in any spelling, or CLDR's fallback (`en-US`, `en_us`
/// and `eng` match `en`).
pub fn resolve<'a>(tag: &str, served: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if let Some(same) = served.clone().into_iter().find(|code| code.eq_ignore_ascii_case(tag)) {
        return Some(same);
    }
    let requested = canonical(tag)?;
    let served: Vec<(LanguageIdentifier, &str)> =
        served.into_iter().filter_map(|code| Some((canonical(code)?, code))).collect();
    let mut candidates =
        LocaleFallbacker::new().for_config(Default::default()).fallback_for(DataLocale::from(&requested));
    while !candidates.get().is_unknown() {
        let candidate = candidates.get().into_locale().id;
        if let Some((_, code)) = served.iter().find(|(tag, _)| *tag == candidate) {
            return Some(code);
        }
        candidates.step();
    }
    // Another region is better than no translation: `pt` if only `pt-BR` is served.
    served.iter().find(|(tag, _)| tag.language == requested.language).map(|(_, code)| *code)
}

/// `None` if the text is not a language tag.
pub fn canonical(tag: &str) -> Option<LanguageIdentifier> {
    let mut locale = Locale::try_from_str(&tag.replace('_', "-")).ok()?;
    LocaleCanonicalizer::new_extended().canonicalize(&mut locale);
    (!locale.id.language.is_unknown()).then_some(locale.id)
}

/// A direction of translation, with the codes of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub source: String,
    pub target: String,
}

impl Pair {
    /// Both codes.
    pub fn codes(&self) -> [&str; 2] {
        [&self.source, &self.target]
    }

    /// The served code that matches `tag`.
    ///
    /// # Errors
    /// [`Error::UnsupportedLanguage`] with the tag in lower case.
    pub fn resolve(&self, tag: &str) -> Result<&str> {
        resolve(tag, self.codes())
            .ok_or_else(|| Error::UnsupportedLanguage(format!("{} is not supported", tag.to_lowercase())))
    }

    /// Checks that this pair serves a client's tags, in any spelling.
    ///
    /// # Errors
    /// [`Error::UnsupportedLanguage`] with LibreTranslate's message.
    pub fn check(&self, source: &str, target: &str) -> Result<()> {
        let (source, target) = (self.resolve(source)?, self.resolve(target)?);
        if source != self.source || target != self.target {
            return Err(Error::UnsupportedLanguage(format!(
                "{} ({target}) is not available as a target language from {} ({source})",
                name(target),
                name(source)
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
