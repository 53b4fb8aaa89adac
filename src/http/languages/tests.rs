use super::*;

#[test]
fn refusals_use_the_words_that_clients_look_for() {
    let pair = Pair { source: "en".into(), target: "de".into() };
    assert!(pair.check("EN", "De").is_ok());
    let refused = |source, target| pair.check(source, target).unwrap_err().to_string();
    assert_eq!(refused("zz", "de"), "zz is not supported");
    assert_eq!(refused("en", "ZZ"), "zz is not supported");
    assert_eq!(refused("not a tag", "de"), "not a tag is not supported");
    assert_eq!(refused("de", "en"), "English (en) is not available as a target language from German (de)");
}

#[test]
fn regions_and_three_letters_fall_back_to_what_is_served() {
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
fn names_are_those_that_people_use() {
    for (code, expected) in
        [("en", "English"), ("de", "German"), ("pt-BR", "Portuguese"), ("el", "Greek"), ("zz", "zz")]
    {
        assert_eq!(name(code), expected);
    }
}
