use super::*;

#[test]
fn the_network_reads_plain_characters() {
    for (text, expected) in [
        ("\u{feff}so\u{ad}ft\u{200b} \u{0}x", "soft x"),
        ("3\u{a0}of\u{202f}12", "3 of 12"),
        ("“We can’t,” he said — “no.”", "\"We can't,\" he said - \"no.\""),
        ("yes—no", "yes - no"),
        ("Ｏｐｅｎ ﬁle", "Open file"),
        ("a  b", "a b"),
        ("Größe 日本", "Größe 日本"),
    ] {
        assert_eq!(plain(text), expected, "{text:?}");
    }
}

#[test]
fn a_translation_has_the_typography_of_its_source() {
    let german = |source: &str, text: &str| Typography::of(source).apply(text.into(), "de", &mut false);
    assert_eq!(german("“a” — b’s", "\"a\" - b's"), "„a“ – b’s");
    assert_eq!(german("\"a\" - b's", "\"a\" - b's"), "\"a\" - b's");
}
