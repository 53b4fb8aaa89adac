//! The elements of HTML, by how their text is translated.

/// Elements whose content is not prose.
pub fn is_kept(name: &[u8]) -> bool {
    matches!(
        name,
        b"code"
            | b"kbd"
            | b"samp"
            | b"var"
            | b"tt"
            | b"pre"
            | b"script"
            | b"style"
            | b"textarea"
            | b"svg"
            | b"math"
            | b"template"
            | b"noscript"
            | b"iframe"
            | b"object"
    )
}

/// Elements without content or end tag.
pub fn is_void(name: &[u8]) -> bool {
    matches!(
        name,
        b"area"
            | b"base"
            | b"br"
            | b"col"
            | b"embed"
            | b"hr"
            | b"img"
            | b"input"
            | b"link"
            | b"meta"
            | b"param"
            | b"source"
            | b"track"
            | b"wbr"
    )
}

/// Elements that the next element can close.
pub fn has_optional_end(name: &[u8]) -> bool {
    matches!(
        name,
        b"p" | b"li"
            | b"dt"
            | b"dd"
            | b"tr"
            | b"td"
            | b"th"
            | b"option"
            | b"optgroup"
            | b"thead"
            | b"tbody"
            | b"tfoot"
            | b"colgroup"
            | b"rt"
            | b"rp"
    )
}

/// Elements that end a sentence, including fields and controls.
pub fn is_block(name: &[u8]) -> bool {
    const NAMES: [&str; 63] = [
        "address",
        "article",
        "aside",
        "audio",
        "blockquote",
        "body",
        "button",
        "canvas",
        "caption",
        "center",
        "col",
        "colgroup",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "frameset",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "header",
        "hgroup",
        "hr",
        "html",
        "iframe",
        "input",
        "label",
        "legend",
        "li",
        "main",
        "marquee",
        "menu",
        "nav",
        "ol",
        "optgroup",
        "option",
        "p",
        "pre",
        "section",
        "select",
        "summary",
        "table",
        "tbody",
        "td",
        "textarea",
        "tfoot",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
    ];
    NAMES.binary_search_by(|block| block.as_bytes().cmp(name)).is_ok()
}

#[cfg(test)]
mod tests;
