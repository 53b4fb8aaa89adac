use super::*;

#[test]
fn staged_arrays_start_at_their_addresses() {
    let mut batch = Batch::new();
    batch.push(&[1, 7, 2]);
    batch.push(&[1, 2]);
    batch.wanted = vec![1];
    batch.keys = vec![1 << 40, 5];
    batch.key_lengths = vec![9, 4];
    let mut bytes = Vec::new();
    batch.stage(8, &mut bytes);
    assert_eq!(bytes.len(), Inputs::bytes(8));
    let at = Inputs::at(0, 8);
    let word = |address: Address, i: usize| {
        u32::from_ne_bytes(bytes[address as usize + 4 * i..][..4].try_into().unwrap())
    };
    let words = |address, count| (0..count).map(|i| word(address, i)).collect::<Vec<_>>();
    assert_eq!(u64::from_ne_bytes(bytes[8..16].try_into().unwrap()), 5);
    assert_eq!(words(at.starts, 9), [0, 3, 5, 5, 5, 5, 5, 5, 5]);
    assert_eq!(words(at.ids, 8), [1, 7, 2, 1, 2, 0, 0, 0]);
    assert_eq!(words(at.positions, 8), [0, 1, 2, 0, 1, 0, 0, 0]);
    assert_eq!(words(at.key_lengths, 8), [9, 4, 0, 0, 0, 0, 0, 0]);
    assert_eq!(words(at.wanted, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
}
