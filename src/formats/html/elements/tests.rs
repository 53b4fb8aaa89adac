use super::*;

#[test]
fn blocks_are_found_and_inline_elements_are_not() {
    for name in ["address", "div", "p", "td", "ul", "h1", "title"] {
        assert!(is_block(name.as_bytes()), "{name}");
    }
    for name in ["a", "b", "span", "br", "img", "code", "x-y", ""] {
        assert!(!is_block(name.as_bytes()), "{name}");
    }
}
