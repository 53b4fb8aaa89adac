//! Markdown: headings, paragraphs, list items and table cells are translated; code, link targets and HTML are kept.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::edits::{Edits, Escape};
use super::{Document, has_words};

/// Splits Markdown into the texts of its blocks; inline markup stays in the text. It never fails.
pub fn read(source: &str) -> Document {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_STRIKETHROUGH;
    let mut edits = Edits::default();
    let mut block: Option<Range<usize>> = None;
    let mut kept = 0_usize;
    for (event, place) in Parser::new_ext(source, options).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::HtmlBlock | Tag::MetadataBlock(_)) => {
                end_block(source, &mut block, &mut edits);
                kept += 1;
            }
            Event::End(TagEnd::CodeBlock | TagEnd::HtmlBlock | TagEnd::MetadataBlock(_)) => kept -= 1,
            Event::Start(tag) if is_inline(&tag) => extend(&mut block, place),
            Event::End(tag) if is_inline_end(tag) => {}
            Event::Start(_) | Event::End(_) | Event::Rule => end_block(source, &mut block, &mut edits),
            Event::Html(_) => {}
            _ if kept == 0 => extend(&mut block, place),
            _ => {}
        }
    }
    end_block(source, &mut block, &mut edits);
    edits.into_document(source)
}

fn is_inline(tag: &Tag) -> bool {
    matches!(
        tag,
        Tag::Emphasis
            | Tag::Strong
            | Tag::Strikethrough
            | Tag::Link { .. }
            | Tag::Image { .. }
            | Tag::Superscript
            | Tag::Subscript
    )
}

fn is_inline_end(tag: TagEnd) -> bool {
    matches!(
        tag,
        TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Link
            | TagEnd::Image
            | TagEnd::Superscript
            | TagEnd::Subscript
    )
}

fn extend(block: &mut Option<Range<usize>>, place: Range<usize>) {
    match block {
        Some(begun) => begun.end = begun.end.max(place.end),
        None => *block = Some(place),
    }
}

/// Replaces the lines of a block one by one, so that the marks of continued lines (`> `, indentation) are kept.
fn end_block(source: &str, block: &mut Option<Range<usize>>, edits: &mut Edits) {
    let Some(place) = block.take() else { return };
    let mut start = place.start;
    for line in source[place].split_inclusive('\n') {
        let text = line.trim_start_matches([' ', '\t', '>']);
        let text_start = start + (line.len() - text.len());
        let text = text.trim_end();
        if has_words(text) {
            edits.push(text_start..text_start + text.len(), text.to_owned(), Escape::None);
        }
        start += line.len();
    }
}
