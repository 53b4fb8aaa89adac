use super::*;

const ENGLISH: &str = "The weather is nice today, and we are going for a walk with all of our friends.";

fn from(source: &str) -> Detector {
    Detector::new(Pair { source: source.into(), target: "de".into() })
}

#[test]
fn a_source_language_without_statistics_is_not_taken_for_another_one_of_its_script() {
    let polish = from("pl");
    for text in ["Gdzie jest dworzec kolejowy? Dziękuję bardzo za pomoc.", ENGLISH, "12 + 30", ""] {
        let detected = polish.decide(text);
        assert_eq!(detected, Detection { confidence: 0.0, language: "pl".into() }, "{text}");
        assert!(polish.is_source(&detected));
    }
}

#[test]
fn another_script_is_told_from_that_of_any_source_language() {
    let texts = [("ru", "Где находится вокзал?"), ("ja", "駅はどこですか。")];
    for (source, own) in texts {
        let detector = from(source);
        assert_eq!(detector.decide(ENGLISH).language, "en", "{source}");
        assert_eq!(detector.decide(own), Detection { confidence: 0.0, language: source.into() });
    }
}

#[test]
fn a_source_language_with_statistics_is_told_from_all_that_have_some() {
    for source in ["en", "en-GB", "eng"] {
        let detector = from(source);
        assert!(detector.is_source(&detector.decide(ENGLISH)), "{source}");
        assert_eq!(detector.decide("Das Wetter ist heute schön, und wir gehen spazieren.").language, "de");
    }
}
