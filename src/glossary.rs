//! Terms with prescribed translations. A term is found at word boundaries, in any case, and its translation is
//! inserted as given.

use std::collections::HashMap;
use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::{Error, Result};

/// Maximum number of terms, since every request with the glossary searches for them.
pub const MAX_TERMS: usize = 10_000;

/// Maximum size of the compiled search, in bytes.
const MAX_COMPILED: usize = 64 << 20;

#[derive(Debug)]
pub struct Glossary {
    terms: Vec<(String, String)>,
    /// Translations by lower-case term.
    translations: HashMap<String, String>,
    /// `None` if there are no terms.
    search: Option<Regex>,
}

impl Glossary {
    /// White space around terms and translations is removed. A later translation of the same term replaces an earlier
    /// one.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an empty term or translation, for line breaks and characters of private use in
    /// them, and for more than [`MAX_TERMS`] terms.
    pub fn new(terms: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        // `None` for terms that were replaced. Replacing in place bounds the work for a million equal terms.
        let mut given: Vec<Option<(String, String)>> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (term, translation) in terms {
            let (term, translation) = (term.trim().to_owned(), translation.trim().to_owned());
            for text in [&term, &translation] {
                if text.is_empty() || text.chars().any(is_unprintable) {
                    let reason = format!(
                        "glossary: {term:?} to {translation:?} has an empty side or a control character"
                    );
                    return Err(Error::InvalidRequest(reason));
                }
            }
            if places.len() == MAX_TERMS {
                return Err(Error::InvalidRequest(format!("glossary: more than {MAX_TERMS} terms")));
            }
            if let Some(replaced) = places.insert(term.to_lowercase(), given.len()) {
                given[replaced] = None;
            }
            given.push(Some((term, translation)));
        }
        let terms: Vec<(String, String)> = given.into_iter().flatten().collect();
        let translations =
            terms.iter().map(|(term, translation)| (term.to_lowercase(), translation.clone())).collect();
        let search = search(&terms)?;
        Ok(Self { terms, translations, search })
    }

    /// Approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        // Each text is stored twice, in a string and in an entry of a map.
        let texts = self.terms.iter().map(|(term, translation)| 2 * (term.len() + translation.len()) + 128);
        texts.sum::<usize>() + self.search.as_ref().map_or(0, Regex::memory_usage)
    }

    /// The terms in their original order.
    pub fn terms(&self) -> &[(String, String)] {
        &self.terms
    }

    /// The positions of terms in the text, with their translations. Of overlapping terms, the first one is used; of
    /// terms that start at the same position, the longest.
    pub fn find(&self, text: &str) -> Vec<(Range<usize>, &str)> {
        let Some(search) = &self.search else { return Vec::new() };
        let translation = |found: &str| self.translations.get(&found.to_lowercase()).map(String::as_str);
        search
            .find_iter(text)
            .filter_map(|found| Some((found.range(), translation(&text[found.range()])?)))
            .collect()
    }
}

/// Control characters; and characters of private use, which represent tags during translation.
fn is_unprintable(character: char) -> bool {
    character.is_control() || ('\u{e000}'..='\u{f8ff}').contains(&character)
}

fn search(terms: &[(String, String)]) -> Result<Option<Regex>> {
    if terms.is_empty() {
        return Ok(None);
    }
    let mut longest_first: Vec<&str> = terms.iter().map(|(term, _)| term.as_str()).collect();
    longest_first.sort_by_key(|term| std::cmp::Reverse(term.len()));
    let is_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let border = |at_word: bool| if at_word { r"\b" } else { "" };
    let pattern = |term: &&str| {
        let (start, end) = (border(is_word(term.chars().next())), border(is_word(term.chars().next_back())));
        format!("{start}{}{end}", regex::escape(term))
    };
    let pattern = longest_first.iter().map(pattern).collect::<Vec<_>>().join("|");
    let bounds = Regex::config().nfa_size_limit(Some(MAX_COMPILED));
    let any_case = syntax::Config::new().case_insensitive(true);
    let built = Regex::builder().configure(bounds).syntax(any_case).build(&pattern);
    built.map(Some).map_err(|_| Error::InvalidRequest("glossary: the terms are too long in total".into()))
}

#[cfg(test)]
mod tests;
