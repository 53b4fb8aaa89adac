use super::*;

#[test]
fn case_digits_and_punctuation_do_not_change_a_template() {
    let mut templates = Templates::default();
    let counts: Vec<usize> =
        ["Version 1.2 of {0}.", "version 10.77 of {1}", "Version of it", "VERSION 3.4 (of) {2}!"]
            .iter()
            .map(|sentence| templates.count(sentence))
            .collect();
    assert_eq!(counts, [1, 2, 1, 3]);
}
