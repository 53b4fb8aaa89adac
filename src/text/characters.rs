//! Characters that carry no words: taken out, or made plain, before the network reads a text, and put back in the target
//! language's form afterwards. What is invisible, and what is another form of a letter, ICU says.

use std::iter::once;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// How a sentence was typed, as far as its translation should follow.
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

    /// A translation, or a part of one, with the quotation marks, apostrophes and dashes of the language where its
    /// source has such marks. `opened` says whether a quotation mark is open: false before the first part.
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

/// The text as the network reads it: without invisible characters, with plain spaces, quotation marks and dashes,
/// and with full-width letters and ligatures as ordinary ones.
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
    // One space where there were several, or one beside a dash.
    while out.contains("  ") {
        out = out.replace("  ", " ");
    }
    out
}

/// Whether a character is neither seen nor takes room: controls, zero-width characters, marks of direction, soft
/// hyphens. So is U+FFFD: what it stood for is lost already.
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
