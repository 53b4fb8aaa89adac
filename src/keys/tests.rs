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
fn renamed_arguments_get_a_warning() {
    let arguments = ["train", "cmlm", "--beam=4", "--cmlm-like", "x=--beam"].map(str::to_owned);
    let warnings = renamed_arguments(arguments, &[("cmlm", "parallel"), ("--beam", "--length-beam")]);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("cmlm is now called parallel") && warnings[1].contains("--length-beam"));
}

#[test]
fn a_value_that_equals_an_old_name_gets_no_warning() {
    let count = |line: &str| {
        let arguments = line.split(' ').map(str::to_owned);
        renamed_arguments(arguments, &[("cmlm", "parallel")]).len()
    };
    for line in ["train average --stage cmlm", "train average --stage=cmlm", "train cmlm --config cmlm"] {
        assert_eq!(count(line), 1, "{line}");
    }
    for line in ["cmlm run", "train bench --stages cmlm", "train run --output cmlm"] {
        assert_eq!(count(line), 0, "{line}");
    }
}

#[test]
fn an_unknown_key_gets_a_suggestion_or_a_reference() {
    assert_eq!(unknown("stesp", ["steps", "seed"], "server.toml"), "unknown key stesp; did you mean steps?");
    assert_eq!(unknown("xyz", ["steps"], "server.toml"), "unknown key xyz; server.toml lists all keys");
}

#[test]
fn the_error_for_a_value_outside_its_range_has_its_key_and_its_limits() {
    assert_eq!(in_range("threads", 3, 0, 3), Ok(()));
    assert_eq!(in_range("threads", 4, 0, 3).unwrap_err(), "threads must be 0 to 3, not 4");
    assert_eq!(at_least("updates", 0, 1).unwrap_err(), "updates must be at least 1, not 0");
    assert_eq!(at_most("best", 6, "kept", 5).unwrap_err(), "best must be at most kept (5), not 6");
    assert_eq!(positive("rate", 0.0).unwrap_err(), "rate must be more than 0, not 0");
    assert!(positive("rate", f64::INFINITY).is_err() && not_negative("clip", f64::NAN).is_err());
    assert_eq!(not_negative("clip", 0.0), Ok(()));
    assert!(below_one("dropout", 1.0).is_err() && below_one("dropout", 0.0).is_ok());
}

#[test]
fn a_pair_is_split_at_its_first_equals_sign() {
    assert_eq!(key_value("log = a=b"), Ok(("log", "a=b")));
    assert_eq!(key_value("steps").unwrap_err(), "--set steps: expected KEY=VALUE");
}
