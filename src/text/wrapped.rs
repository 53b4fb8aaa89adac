//! Joins wrapped lines: sentences that continue in the next line.

use super::layout::Layout;

/// Smallest length in bytes of a line that may be wrapped. Shorter lines are labels, items of lists and verses.
const MIN_WRAPPED: usize = 40;

/// Whether a sentence may continue after this line: it is long and has no final mark.
pub fn is_open(line: &str) -> bool {
    let content = line.trim_end();
    content.len() >= MIN_WRAPPED && !content.ends_with(['.', '!', '?', ':', '…', '|'])
}

/// Whether a line may continue an open sentence: it starts with a letter or a digit and is not an item of a list.
pub fn continues(line: &str) -> bool {
    line.starts_with(char::is_alphanumeric) && Layout::of(line).head.is_empty()
}

/// Replaces line breaks within sentences by spaces, without moving any byte. `is_free` says whether the line break that
/// ends at a position may be replaced.
pub(super) fn join(text: &str, is_free: impl Fn(usize) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let content = line.trim_end_matches(['\n', '\r']);
        let end = out.len() + line.len() - 1;
        if is_open(line) && lines.peek().is_some_and(|next| continues(next)) && is_free(end) {
            out.push_str(content);
            out.extend(std::iter::repeat_n(' ', line.len() - content.len()));
        } else {
            out.push_str(line);
        }
    }
    out
}
