//! Changes of case.

/// Puts the first character of each word in upper case (OpusTrainer's `TitleCase`). White space separates words.
/// `starts` says whether the text starts with a word.
pub fn title(text: &str, mut starts: bool) -> String {
    let mut title = String::with_capacity(text.len());
    for c in text.chars() {
        if starts {
            title.extend(c.to_uppercase());
        } else {
            title.push(c);
        }
        starts = c.is_whitespace();
    }
    title
}
