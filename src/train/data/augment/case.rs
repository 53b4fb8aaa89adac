//! Capitals.

/// The first character of each word in upper case, the others as they are (OpusTrainer's `TitleCase`). Words stand
/// between white space; whether one `starts` with the text is for the caller to say.
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
