//! Finds emoji, each with its modifiers as one span, and other symbols: arrows, dingbats, trade marks.

use icu_segmenter::GraphemeClusterSegmenter;

use super::{Kind, Span};

pub fn find(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    // U+00A0 to U+00BF start with 0xC2, all other symbols with 0xE2 to 0xF0.
    if !text.bytes().any(|byte| byte == 0xc2 || byte >= 0xe2) {
        return spans;
    }
    let segmenter = GraphemeClusterSegmenter::new();
    let mut end = 0;
    for (start, c) in text.char_indices() {
        if start < end || !is_symbol(c) {
            continue;
        }
        let cluster = segmenter.segment_str(&text[start..]).nth(1).unwrap_or(c.len_utf8());
        end = start + cluster;
        spans.push(Span { range: start..end, kind: Kind::Symbol });
    }
    spans
}

/// Whether a symbol or an emoji starts with this character.
fn is_symbol(c: char) -> bool {
    match c {
        '©' | '®' | '¶' | '§' | '¦' | '¬' => true,
        // Bullets in a line, per mille, and the like.
        '•' | '‣' | '†' | '‡' | '※' | '⁂' => true,
        // Letter-like (™, №, ℃), arrows, mathematical operators, technical, boxes, dingbats, and more arrows.
        '\u{2100}'..='\u{214f}' | '\u{2190}'..='\u{2bff}' => true,
        '\u{1f000}'..='\u{1faff}' => true,
        _ => c > '\u{ff}' && emojis::get(c.encode_utf8(&mut [0; 4])).is_some(),
    }
}
