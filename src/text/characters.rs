//! Invisible characters and typography. The network reads plain text without them; its translation gets the quotation
//! marks, apostrophes and dashes of the target language. ICU knows invisible characters and other forms of letters.

use std::iter::once;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// The typography of a sentence that its translation should have, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Typography {
    curly_quotes: bool,
    curly_apostrophes: bool,
    long_dashes: bool,
}

impl Typography {
    pub fn of(text: &str) -> Self {
        if text.is_ascii() {
            return Self::default();
        }
        Self {
            curly_quotes: text.contains(['“', '”', '„', '«', '»']),
            curly_apostrophes: text.contains(['’', '‘']),
            long_dashes: text.contains(['–', '—']),
        }
    }

    /// A translation, or a part of one, with the quotation marks, apostrophes and dashes of the language if the source
    /// has such marks. `opened` says whether a quotation mark is open: false before the first part.
    pub fn apply(self, text: String, language: &str, opened: &mut bool) -> String {
        if self == Self::default() {
            return text;
        }
        let (open, close) = match language.split('-').next().unwrap_or(language) {
            "de" | "cs" | "sk" | "bg" | "is" => ('„', '“'),
            "pl" | "ro" | "hu" | "hr" => ('„', '”'),
            "fr" | "it" | "ru" | "uk" | "el" | "no" | "nb" => ('«', '»'),
            "sv" | "fi" => ('”', '”'),
            _ => ('“', '”'),
        };
        let text = if self.long_dashes { text.replace(" - ", " – ") } else { text };
        let set = |c: char| match c {
            '"' if self.curly_quotes => {
                *opened = !*opened;
                if *opened { open } else { close }
            }
            '\'' if self.curly_apostrophes => '’',
            c => c,
        };
        text.chars().map(set).collect()
    }
}

/// The text for the network: without invisible characters, with plain spaces, quotation marks and dashes, and with
/// ordinary letters for full-width letters and ligatures.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{20}'..='\u{7e}' => out.push(c),
            _ if is_invisible(c) => {}
            _ if c.is_whitespace() => out.push(' '),
            '“' | '”' | '„' | '‟' | '«' | '»' => out.push('"'),
            '‘' | '’' | '‚' | '‛' | '´' => out.push('\''),
            '–' | '—' | '―' => {
                let spaced = out.is_empty() || out.ends_with(' ');
                out.push_str(if spaced { "-" } else { " - " });
            }
            '‐' | '‑' | '−' => out.push('-'),
            // Ligatures, full-width and half-width letters.
            '\u{fb00}'..='\u{ffef}' => {
                out.extend(ComposingNormalizerBorrowed::new_nfkc().normalize_iter(once(c)));
            }
            c => out.push(c),
        }
    }
    // Several spaces, also those next to a dash, become one.
    while out.contains("  ") {
        out = out.replace("  ", " ");
    }
    out
}

/// Whether a character is invisible and has no width: controls, zero-width characters, direction marks, soft hyphens.
/// U+FFFD counts as invisible, because it stands for a character that is lost.
pub fn is_invisible(c: char) -> bool {
    match c {
        '\u{20}'..='\u{7e}' => false,
        '\u{fffd}' => true,
        c if c.is_control() => !c.is_whitespace(),
        c => CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c),
    }
}

#[cfg(test)]
mod tests;
