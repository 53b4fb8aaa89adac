use super::*;

#[test]
fn heads_and_tails_are_split_off() {
    for (line, head, body, tail) in [
        ("Text", "", "Text", ""),
        ("  - Milk ", "  - ", "Milk", " "),
        ("## Before you begin", "## ", "Before you begin", ""),
        ("1. One", "1. ", "One", ""),
        ("(a) One", "(a) ", "One", ""),
        ("> > - [ ] Do it", "> > - [ ] ", "Do it", ""),
        ("Name:", "", "Name", ":"),
        ("Loading… ", "", "Loading", "… "),
        ("Loading...", "", "Loading", "..."),
        ("...", "", "...", ""),
        ("#tag first", "", "#tag first", ""),
        ("-5 degrees", "", "-5 degrees", ""),
        ("2026. It was", "", "2026. It was", ""),
        ("\t\u{a0}", "\t\u{a0}", "", ""),
    ] {
        assert_eq!(Layout::of(line), Layout { head, body, tail }, "{line:?}");
    }
}
