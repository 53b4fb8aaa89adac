//! The messages for wrong keys and values in the server's settings, in the TOML file of a training run and on the
//! command line: unknown keys with a suggestion, renamed keys, values outside their range.

use std::fmt::Display;

/// Jaro-Winkler similarity above which a word is likely a misspelling of another.
const MIN_SIMILARITY: f64 = 0.8;

/// The known word that is most similar to `word`, if any is similar enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|&(score, _)| score > MIN_SIMILARITY).map(|(_, known)| known)
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

/// The message for an unknown key, with a suggestion or else the place that lists all keys.
pub fn unknown<'a>(key: &str, known: impl IntoIterator<Item = &'a str>, reference: &str) -> String {
    match nearest(key, known) {
        Some(known) => format!("unknown key {key}; did you mean {known}?"),
        None => format!("unknown key {key}; {reference} lists all keys"),
    }
}

/// The warning for an old name that still works.
pub fn renamed(old: &str, new: &str) -> String {
    format!("{old} is now called {new}; the next version will refuse the old name")
}

/// A warning for each flag, subcommand and value of `--stage` that was renamed. Other values may equal an old name.
/// `arguments` begin with the program, `names` are pairs of old and new name.
pub fn renamed_arguments(arguments: impl IntoIterator<Item = String>, names: &[(&str, &str)]) -> Vec<String> {
    let arguments: Vec<String> = arguments.into_iter().skip(1).collect();
    let subcommand = arguments.iter().position(|argument| !argument.starts_with('-'));
    let mut warnings = Vec::new();
    for (i, argument) in arguments.iter().enumerate() {
        let of_stage = i > 0 && arguments[i - 1] == "--stage";
        let name = match argument.split_once('=') {
            Some(("--stage", value)) => value,
            Some((flag, _)) if flag.starts_with('-') => flag,
            None if argument.starts_with('-') || of_stage || subcommand == Some(i) => argument.as_str(),
            _ => continue,
        };
        warnings.extend(names.iter().find(|(old, _)| *old == name).map(|(old, new)| renamed(old, new)));
    }
    warnings
}

/// Key and value of a `--set KEY=VALUE`, without the spaces around them.
///
/// # Errors
/// The message for a text without `=`.
pub fn key_value(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim(), value.trim())),
        None => Err(format!("--set {text}: expected KEY=VALUE")),
    }
}

/// # Errors
/// The message for a value outside `min..=max`.
pub fn in_range<T: PartialOrd + Display>(key: &str, value: T, min: T, max: T) -> Result<(), String> {
    must(min <= value && value <= max, key, &value, format_args!("{min} to {max}"))
}

/// # Errors
/// The message for a value below `min`.
pub fn at_least<T: PartialOrd + Display>(key: &str, value: T, min: T) -> Result<(), String> {
    must(value >= min, key, &value, format_args!("at least {min}"))
}

/// # Errors
/// The message for a value above that of another key.
pub fn at_most<T: PartialOrd + Display>(key: &str, value: T, other: &str, limit: T) -> Result<(), String> {
    must(value <= limit, key, &value, format_args!("at most {other} ({limit})"))
}

/// # Errors
/// The message for a value that is not a positive number.
pub fn positive(key: &str, value: f64) -> Result<(), String> {
    must(value > 0.0 && value.is_finite(), key, &value, format_args!("more than 0"))
}

/// # Errors
/// The message for a value that is negative or not a number.
pub fn not_negative(key: &str, value: f64) -> Result<(), String> {
    must(value >= 0.0 && value.is_finite(), key, &value, format_args!("0 or more"))
}

/// # Errors
/// The message for a value outside `[0, 1)`.
pub fn below_one(key: &str, value: f64) -> Result<(), String> {
    must((0.0..1.0).contains(&value), key, &value, format_args!("at least 0 and less than 1"))
}

fn must(holds: bool, key: &str, value: &dyn Display, what: std::fmt::Arguments<'_>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key} must be {what}, not {value}")) }
}

#[cfg(test)]
mod tests;
