//! Help with names that were typed: "did you mean", and what has another name by now.

/// Jaro-Winkler similarity below which two words have nothing to do with each other.
const ALIKE: f64 = 0.8;

pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|&(score, _)| score > ALIKE).map(|(_, known)| known)
}

/// Adds a suggestion to one of serde's messages: ``unknown field `stpes`, expected one of `steps`, `seed` ``.
pub fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let unknown = ["unknown field `", "unknown variant `"].into_iter().find_map(|start| message.find(start));
    let Some(at) = unknown else { return message.to_owned() };
    let mut words = message[at..].split('`').skip(1).step_by(2);
    let word = words.next().unwrap_or_default();
    match nearest(word, words) {
        Some(known) => format!("{message}; did you mean `{known}`?"),
        None => message.to_owned(),
    }
}

/// What to say about an old name that still works.
pub fn renamed(old: &str, new: &str) -> String {
    format!("{old} is now called {new}; the next version will refuse the old name")
}

/// A warning for each command line argument that has another name by now. `names` are pairs of old and new.
pub fn renamed_arguments(arguments: impl IntoIterator<Item = String>, names: &[(&str, &str)]) -> Vec<String> {
    let warn = |argument: String| {
        let name = argument.split('=').next().unwrap_or_default();
        names.iter().find(|(old, _)| *old == name).map(|(old, new)| renamed(old, new))
    };
    arguments.into_iter().filter_map(warn).collect()
}

#[cfg(test)]
mod tests;
