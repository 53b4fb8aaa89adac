use super::*;

#[test]
fn errors_have_the_words_that_clients_search_for() {
    let pair = Pair { source: "en".into(), target: "de".into() };
    assert!(pair.check("EN", "De").is_ok());
    let refused = |source, target| pair.check(source, target).unwrap_err().to_string();
    assert_eq!(refused("zz", "de"), "zz is not supported");
    assert_eq!(refused("en", "ZZ"), "zz is not supported");
    assert_eq!(refused("not a tag", "de"), "not a tag is not supported");
    assert_eq!(refused("de", "en"), "English (en) is not available as a target language from German (de)");
}

#[test]
fn regions_and_three_letter_codes_fall_back_to_a_served_language() {
    let served = ["en", "de", "pt-BR"];
    for (tag, code) in [
        ("en-US", Some("en")),
        ("en_us", Some("en")),
        ("eng", Some("en")),
        ("de_AT", Some("de")),
        ("deu", Some("de")),
        ("DE-Latn-CH", Some("de")),
        ("pt", Some("pt-BR")),
        ("PT-br", Some("pt-BR")),
        ("fr", None),
        ("", None),
        ("auto", None),
    ] {
        assert_eq!(resolve(tag, served), code, "{tag}");
    }
}

#[test]
fn names_are_the_common_english_ones() {
    for (code, expected) in
        [("en", "English"), ("de", "German"), ("pt-BR", "Portuguese"), ("el", "Greek"), ("zz", "zz")]
    {
        assert_eq!(name(code), expected);
    }
}
