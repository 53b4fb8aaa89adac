use super::*;

#[test]
fn a_token_counts_when_it_equals_the_one_before_it() {
    assert_eq!(Repetition::of(&[7, 7, 7, 8, 7]), Repetition { repeated: 2, total: 5 });
    assert_eq!(Repetition::of_words("the the cat  cat sat").rate(), 0.4);
    assert_eq!(Repetition::of_words("").rate(), 0.0);
}

#[test]
fn sentences_do_not_repeat_each_other() {
    let sum: Repetition = ["a b", "b c"].into_iter().map(Repetition::of_words).sum();
    assert_eq!(sum, Repetition { repeated: 0, total: 4 });
}
