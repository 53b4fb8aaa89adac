use std::collections::BTreeSet;

use proptest::prelude::*;
use safetensors::tensor::TensorView;

use super::*;

const LOWEST: u32 = Specials::NAMES.len() as u32;
const VOCAB: usize = 150;

fn lists() -> impl Strategy<Value = (Vec<u32>, Vec<Vec<u32>>)> {
    let token = LOWEST..VOCAB as u32;
    let list = proptest::collection::vec(token.clone(), 0..6);
    (proptest::collection::vec(token, 1..5), proptest::collection::vec(list, VOCAB))
}

proptest! {
    #[test]
    fn a_sentence_gets_common_tokens_candidates_and_its_own_tokens(
        (common, lists) in lists(),
        source in proptest::collection::vec(0..VOCAB as u32, 0..20),
    ) {
        let shortlist = Shortlist::new(&common, &lists).unwrap();
        let mut expected: BTreeSet<u32> = common.into_iter().collect();
        for &token in &source {
            expected.extend(&lists[token as usize]);
            expected.extend((token >= LOWEST).then_some(token));
        }
        prop_assert_eq!(shortlist.candidates(&source), Vec::from_iter(expected));
    }

    #[test]
    fn a_serialized_shortlist_is_read_back_unchanged((common, lists) in lists()) {
        let shortlist = Shortlist::new(&common, &lists).unwrap();
        let bytes = shortlist.to_bytes(&BTreeMap::from([("made".into(), "here".into())])).unwrap();
        prop_assert_eq!(Shortlist::from_bytes(&bytes, VOCAB).unwrap(), shortlist);
    }
}

#[test]
fn an_invalid_shortlist_is_an_error() {
    let lists = vec![vec![9]; 20];
    let refused = |common: &[u32], lists: &[Vec<u32>]| Shortlist::new(common, lists).unwrap_err().to_string();
    assert!(refused(&[], &lists).contains("no common token"));
    assert!(refused(&[20], &lists).contains("token 20"));
    assert!(refused(&[LOWEST - 1], &lists).contains("cannot occur in a translation"));
    assert!(refused(&[70_000], &lists).contains("outside the vocabulary of 20 tokens"));
    assert!(refused(&[9], &vec![Vec::new(); MAX_TOKENS + 1]).contains("up to 65536 tokens"));

    let bytes = Shortlist::new(&[9], &lists).unwrap().to_bytes(&BTreeMap::new()).unwrap();
    assert!(Shortlist::from_bytes(&bytes, 21).unwrap_err().contains("is for 20 tokens, the model has 21"));
    assert!(Shortlist::from_bytes(&bytes[..bytes.len() - 1], 20).unwrap_err().contains("not a complete"));
    let other = |name: &str, dtype, bytes: &[u8], shape: Vec<usize>| {
        let tensor = TensorView::new(dtype, shape, bytes).unwrap();
        Shortlist::from_bytes(&safetensors::serialize([(name, tensor)], None).unwrap(), 20).unwrap_err()
    };
    assert!(other("starts", Dtype::F32, &[0; 4], vec![1]).contains("expected one row of U32"));
    assert!(other("starts", Dtype::U32, &[0; 4], vec![1]).contains("has no tensor"));
}

#[test]
fn lists_that_are_not_consecutive_are_an_error() {
    let broken = |starts: Vec<u32>| {
        let this = Shortlist { vocab: 3, common: vec![6], starts, tokens: vec![7, 8] };
        Shortlist { vocab: 10, starts: [this.starts.clone(), vec![2; 7]].concat(), ..this }.check()
    };
    assert_eq!(broken(vec![0, 1, 2, 2]), Ok(()));
    for starts in [vec![1, 1, 2, 2], vec![0, 2, 1, 2], vec![0, 1, 5, 2]] {
        assert!(broken(starts).unwrap_err().contains("not consecutive"));
    }
}
