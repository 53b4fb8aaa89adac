//! Splits a line into its head (indentation, bullet, number, marks of headings and quotations), its body, and its tail
//! (a colon, an ellipsis, white space). Only the body is translated.

/// The three parts of a line. Joined, they are the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<'a> {
    pub head: &'a str,
    pub body: &'a str,
    pub tail: &'a str,
}

impl<'a> Layout<'a> {
    pub fn of(line: &'a str) -> Self {
        let mut start = line.len() - line.trim_start().len();
        while let Some(mark) = mark(&line[start..]) {
            start += mark;
        }
        let (head, rest) = line.split_at(start);
        let mut end = rest.trim_end().len();
        for tail in ["...", "…", ":"] {
            let body = rest[..end].strip_suffix(tail).map(str::trim_end);
            // Three points alone are a body.
            if let Some(body) = body.filter(|body| body.ends_with(char::is_alphanumeric)) {
                end = body.len();
                break;
            }
        }
        let (body, tail) = rest.split_at(end);
        Self { head, body, tail }
    }
}

/// The length of a bullet, a number or a mark at the start of `text`, with the white space after it.
fn mark(text: &str) -> Option<usize> {
    let end = text.find(char::is_whitespace)?;
    let inner = &text[..end];
    let hashes = || (1..=6).contains(&inner.len()) && inner.bytes().all(|b| b == b'#');
    let bullet = matches!(inner, "-" | "*" | "+" | "•" | "‣" | "▪" | "◦" | "·" | "–" | "—" | "[x]" | "[X]");
    if text.starts_with("[ ] ") {
        return Some("[ ] ".len());
    }
    let quoted = || !inner.is_empty() && inner.bytes().all(|b| b == b'>');
    if !(bullet || hashes() || quoted() || is_number(inner)) {
        return None;
    }
    let space = text[end..].len() - text[end..].trim_start().len();
    Some(end + space)
}

/// `1.`, `12)`, `(3)`, `a)`, `1.2.`
fn is_number(text: &str) -> bool {
    let digits = |text: &str| {
        let mut parts = text.split('.');
        parts.all(|part| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let letter = |text: &str| text.len() == 1 && text.bytes().all(|b| b.is_ascii_lowercase());
    match (text.strip_prefix('('), text.strip_suffix(')'), text.strip_suffix('.')) {
        (Some(open), Some(_), _) => {
            open.strip_suffix(')').is_some_and(|inner| digits(inner) || letter(inner))
        }
        (None, Some(inner), _) => digits(inner) || letter(inner),
        (None, None, Some(inner)) => digits(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
