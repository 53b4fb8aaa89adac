use super::*;

#[test]
fn collapsing_merges_neighbours_and_keeps_log_probs_aligned() {
    let hypothesis = Hypothesis {
        tokens: vec![7, 7, 8, 7, 9, 9, 9],
        token_log_probs: vec![-2.0, -1.0, -0.5, -4.0, -0.1, -0.2, -0.3],
        score: -1.5,
    };
    let collapsed = hypothesis.collapsed();
    assert_eq!(collapsed.tokens, [7, 8, 7, 9]);
    assert_eq!(collapsed.token_log_probs, [-1.0, -0.5, -4.0, -0.1]);
    assert_eq!(collapsed.score, -1.5);
}

#[test]
fn the_best_candidate_comes_first_and_ties_keep_their_order() {
    let candidate = |token, score| Hypothesis { tokens: vec![token], token_log_probs: vec![score], score };
    let mut all = vec![candidate(1, -2.0), candidate(2, -1.0), candidate(3, -2.0), candidate(4, -0.5)];
    best_first(&mut all);
    assert_eq!(all.iter().map(|h| h.tokens[0]).collect::<Vec<_>>(), [4, 2, 1, 3]);
}
