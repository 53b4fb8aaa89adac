use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn groups_hold_all_sentences_in_order_and_are_of_similar_size(
        lengths in proptest::collection::vec(1usize..90, 1..80),
        groups in 1usize..20,
    ) {
        let ranges = cut(&lengths, groups);
        prop_assert!(ranges.len() <= groups);
        prop_assert!(ranges.iter().all(|range| !range.is_empty()));
        let all: Vec<usize> = ranges.iter().cloned().flatten().collect();
        prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        let rows: usize = lengths.iter().sum();
        for range in ranges {
            let own: usize = lengths[range].iter().sum();
            prop_assert!(own <= rows / groups + 2 * 90, "{} of {} in {}", own, rows, groups);
        }
    }
}

#[test]
fn few_or_very_unequal_sentences_are_shared_by_all_threads() {
    assert_eq!(groups_of(&[14; 5], 2, 14), None);
    assert_eq!(groups_of(&[14; 6], 2, 14), Some(vec![0..3, 3..6]));
    assert_eq!(groups_of(&[200], 2, 14), None);
    assert_eq!(groups_of(&[200], 1, 14).map(|groups| groups.len()), Some(1));
    assert_eq!(groups_of(&[100, 14, 14], 2, 14), None);
    assert_eq!(groups_of(&[14; 64], 2, 14).map(|groups| groups.len()), Some(22));
    assert_eq!(groups_of(&[14; 64], 2, 96).map(|groups| groups.len()), Some(10));
    assert_eq!(groups_of(&[14; 6], 2, 96), Some(vec![0..3, 3..6]));
    assert_eq!(groups_of(&[], 2, 14), None);
}

#[test]
fn a_block_has_one_part_for_each_sentence_with_rows() {
    let (starts, keys) = (&[0, 3, 3, 5, 9], &[0, 10, 20, 30, 40]);
    let block = Block { rows: 2..6, starts, keys, positions: None };
    let parts: Vec<_> = block.parts().map(|p| (p.index, p.rows.clone(), p.sentence.clone())).collect();
    assert_eq!(parts, [(0, 2..3, 0..10), (2, 3..5, 20..30), (3, 5..6, 30..40)]);
    let places: Vec<_> = block.parts().map(|p| p.places()).collect();
    assert_eq!(places, [2..3, 0..2, 0..1]);
    let positions = |block: &Block| -> Vec<usize> {
        block.parts().flat_map(|p| block.positions(&p).collect::<Vec<_>>()).collect()
    };
    assert_eq!(positions(&block), [2, 0, 1, 0]);
    let some = Block { positions: Some(&[0, 4, 7, 1, 6, 9, 3, 4, 5]), ..block };
    assert_eq!(positions(&some), [7, 1, 6, 9]);
}
