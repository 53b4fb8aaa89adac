//! SubRip: blocks of a number, a time and lines of text, separated by blank lines. Only the lines of text are
//! translated. The lines of a block are one text, since sentences continue over them.

use super::edits::{Edits, Escape};
use super::{Document, has_words};

/// Splits subtitles into texts. A block without a time is kept as it is.
pub fn read(source: &str) -> Document {
    let mut edits = Edits::default();
    let mut start = 0;
    let mut cue: Option<std::ops::Range<usize>> = None;
    let mut after_time = false;
    let end_cue = |cue: &mut Option<std::ops::Range<usize>>, edits: &mut Edits| {
        if let Some(place) = cue.take().filter(|place| has_words(&source[place.clone()])) {
            let text = source[place.clone()].replace("\r\n", "\n");
            edits.push(place, text, Escape::None);
        }
    };
    for line in source.split_inclusive('\n') {
        let content = line.trim_end();
        let end = start + content.len();
        if content.is_empty() {
            end_cue(&mut cue, &mut edits);
            after_time = false;
        } else if !after_time && content.contains("-->") {
            after_time = true;
        } else if after_time {
            match &mut cue {
                Some(place) => place.end = end,
                None => cue = Some(start..end),
            }
        }
        start += line.len();
    }
    end_cue(&mut cue, &mut edits);
    edits.into_document(source)
}
