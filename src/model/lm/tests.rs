use super::*;

const FUSION: Fusion = Fusion { weight: 0.5, bonus: 2.0, penalty: 1.0 };
const VOCAB: usize = 12;

fn gram<const N: usize>(tokens: [u32; N], prob: f64, backoff: f64) -> Gram<N> {
    Gram { tokens, prob, backoff }
}

/// Ten tokens of equal probability, of which some follow others.
fn parts() -> (Vec<Gram<1>>, Vec<Gram<2>>, Vec<Gram<3>>) {
    let unigrams = (0..VOCAB as u32).map(|token| gram([token], 0.1, 0.5)).collect();
    let bigrams = vec![gram([1, 7], 0.4, 0.25), gram([7, 2], 0.3, 1.0), gram([7, 8], 0.2, 1.0)];
    let trigrams = vec![gram([1, 7, 8], 0.7, 1.0)];
    (unigrams, bigrams, trigrams)
}

fn lm() -> LanguageModel {
    let (unigrams, bigrams, trigrams) = parts();
    LanguageModel::new(FUSION, &unigrams, &bigrams, &trigrams).unwrap()
}

#[test]
fn the_longest_known_n_gram_is_used_and_shorter_ones_cost_back_off_weights() {
    let lm = lm();
    let close = |(log_prob, context): (f32, Context), prob: f64| {
        assert!((f64::from(log_prob) - prob.ln()).abs() < 0.13, "e^{log_prob} is not {prob}");
        context
    };
    let seven = close(lm.next(lm.start(), 7), 0.4);
    let eight = close(lm.next(seven, 8), 0.7);
    close((lm.end(seven), seven), 0.25 * 0.3);
    close(lm.next(seven, 9), 0.25 * 0.5 * 0.1);
    close(lm.next(eight, 7), 0.5 * 0.1);
    // Not at the start: the bigram.
    let (_, seven) = lm.next(eight, 7);
    close(lm.next(seven, 8), 0.2);
    let (log_prob, outside) = lm.next(seven, 99_999);
    assert!(log_prob < -20.0);
    close(lm.next(outside, 7), 0.1);
}

#[test]
fn a_serialized_model_is_read_back_unchanged() {
    let lm = lm();
    let bytes = lm.to_bytes(&BTreeMap::from([("from".into(), "a test".into())])).unwrap();
    let read = LanguageModel::from_bytes(&bytes, VOCAB).unwrap();
    assert_eq!(read, lm);
    assert_eq!((read.fusion(), read.sizes()), (FUSION, [3, 1]));
    assert!(
        LanguageModel::from_bytes(&bytes, 13).unwrap_err().contains("is for 12 tokens, the model has 13")
    );
    for end in 0..bytes.len() {
        assert!(LanguageModel::from_bytes(&bytes[..end], VOCAB).is_err());
    }
}

#[test]
fn a_file_with_inconsistent_parts_is_an_error() {
    let whole = lm().to_bytes(&BTreeMap::new()).unwrap();
    let file = rows::open(&whole).unwrap();
    let with = |name: &str, bytes: &[u8]| {
        let rows: Vec<_> = file
            .iter()
            .map(|(own, view)| {
                (own, view.dtype(), if own == name { bytes.to_vec() } else { view.data().to_vec() })
            })
            .collect();
        LanguageModel::from_bytes(&rows::serialize(&rows, &BTreeMap::new()).unwrap(), VOCAB).unwrap_err()
    };
    assert!(with("bigram.backoffs", &[0, 0]).contains("not of one length"));
    assert!(with("bigram.counts", &[9, 0].repeat(VOCAB)).contains("do not match their continuations"));
    assert!(with("bigram.tokens", &[8, 0, 2, 0, 2, 0]).contains("not in order"));
    assert!(with("trigram.tokens", &[3, 0]).contains("token 3 cannot occur in a translation"));
    assert!(with("trigram.log_probs", &[]).contains("do not match their continuations"));
    assert!(with("fusion", &f32::NAN.to_le_bytes().repeat(3)).contains("must be numbers"));
    assert!(with("fusion", &[0; 8]).contains("2 numbers, expected 3"));
    let negative = [0.5f32, 2.0, -1.0].map(f32::to_le_bytes).concat();
    assert!(with("fusion", &negative).contains("penalty -1"));
}

#[test]
fn n_grams_out_of_order_or_without_their_prefix_are_an_error() {
    let refused = |change: fn(&mut Vec<Gram<2>>, &mut Vec<Gram<3>>)| {
        let (unigrams, mut bigrams, mut trigrams) = parts();
        change(&mut bigrams, &mut trigrams);
        LanguageModel::new(FUSION, &unigrams, &bigrams, &trigrams).unwrap_err().to_string()
    };
    assert!(refused(|bigrams, _| bigrams.swap(0, 1)).contains("not in order"));
    assert!(refused(|bigrams, _| bigrams[2].tokens[1] = 2).contains("not in order"));
    assert!(refused(|_, trigrams| trigrams[0].tokens[1] = 9).contains("without a bigram"));
    assert!(refused(|bigrams, _| bigrams[1].tokens[1] = 70_000).contains("above 65,535"));
}
