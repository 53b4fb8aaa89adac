use super::*;

#[test]
fn refusals_use_the_words_that_clients_look_for() {
    let pair = Pair { source: "en".into(), target: "de".into() };
    assert!(pair.check("EN", "De").is_ok());
    let refused = |source, target| pair.check(source, target).unwrap_err().to_string();
    assert_eq!(refused("zz", "de"), "zz is not supported");
    assert_eq!(refused("en", "zz"), "zz is not supported");
    assert_eq!(refused("auto", "de"), "auto is not supported");
    assert_eq!(refused("de", "en"), "English (en) is not available as a target language from German (de)");
}

#[test]
fn names_are_sorted_and_unique() {
    assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
}
