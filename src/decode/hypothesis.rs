//! A finished candidate translation, and which of several is best.

/// One candidate translation of a sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hypothesis {
    /// The inner tokens, without bos and eos.
    pub tokens: Vec<u32>,
    /// Log-probability of each of `tokens` when it was last predicted; 0 for a pinned one.
    pub token_log_probs: Vec<f32>,
    /// Mean log-probability over the places that the network filled, repeats included, so that
    /// collapsing does not change which length wins. 0 where it filled none.
    pub score: f32,
}

impl Hypothesis {
    /// Joins equal adjacent tokens; each run keeps the log-probability of its most certain token.
    /// What a network that guesses places side by side says twice is rarely meant twice: joining pays at
    /// any number of steps (at one step some 4 BLEU on Tatoeba).
    #[must_use]
    pub fn collapsed(self) -> Self {
        let mut tokens: Vec<u32> = Vec::with_capacity(self.tokens.len());
        let mut token_log_probs: Vec<f32> = Vec::with_capacity(self.tokens.len());
        for (token, log_prob) in self.tokens.into_iter().zip(self.token_log_probs) {
            match (tokens.last(), token_log_probs.last_mut()) {
                (Some(&last), Some(best)) if last == token => *best = best.max(log_prob),
                _ => {
                    tokens.push(token);
                    token_log_probs.push(log_prob);
                }
            }
        }
        Self { tokens, token_log_probs, score: self.score }
    }
}

/// Sorts by score, highest first; equal scores keep the candidates' order.
pub fn best_first(hypotheses: &mut [Hypothesis]) {
    hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collapsing_joins_neighbours_and_keeps_log_probs_aligned() {
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
        let candidate =
            |token, score| Hypothesis { tokens: vec![token], token_log_probs: vec![score], score };
        let mut all = vec![candidate(1, -2.0), candidate(2, -1.0), candidate(3, -2.0), candidate(4, -0.5)];
        best_first(&mut all);
        assert_eq!(all.iter().map(|h| h.tokens[0]).collect::<Vec<_>>(), [4, 2, 1, 3]);
    }
}
