use super::*;

#[test]
fn a_mistyped_word_gets_the_nearest_known_one() {
    let known = ["max_texts", "max_text_chars", "model"];
    assert_eq!(nearest("max_txts", known), Some("max_texts"));
    assert_eq!(nearest("modle", known), Some("model"));
    assert_eq!(nearest("frobnicate", known), None);
    assert_eq!(nearest("model", []), None);
}

#[test]
fn a_message_of_serde_gets_a_suggestion() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(rename = "steps")]
        _steps: u32,
        #[serde(rename = "seed")]
        _seed: u32,
    }
    let error = toml::from_str::<Settings>("stesp = 1").unwrap_err();
    assert!(with_suggestion(error.message()).ends_with("did you mean `steps`?"), "{error}");
    let error = toml::from_str::<Settings>("steps = true").unwrap_err();
    assert_eq!(with_suggestion(error.message()), error.message());
}

#[test]
fn old_arguments_are_warned_about() {
    let arguments = ["train", "cmlm", "--beam=4", "--cmlm-like", "x=--beam"].map(str::to_owned);
    let warnings = renamed_arguments(arguments, &[("cmlm", "parallel"), ("--beam", "--length-beam")]);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("cmlm is now called parallel") && warnings[1].contains("--length-beam"));
}
