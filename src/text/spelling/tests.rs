use std::collections::HashSet;

use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;

#[test]
fn every_byte_is_written_as_one_character_of_the_librarys_alphabet() {
    let alphabet = ByteLevel::alphabet();
    let bytes: HashSet<u8> = alphabet.iter().filter_map(|&spelt| byte(spelt)).collect();
    assert_eq!((alphabet.len(), bytes.len()), (256, 256));
    let others = (0..0x500).filter_map(char::from_u32).filter(|c| !alphabet.contains(c));
    assert_eq!(others.filter_map(byte).count(), 0);
}

#[test]
fn a_token_is_spelt_by_its_bytes_or_by_its_name() {
    let spellings = Spellings::new(["", "Ġthe", "Ã", "日", ""].into_iter());
    let spelt_bytes: Vec<Option<&[u8]>> = (0..6).map(|id| spellings.of(id)).collect();
    let (none, the, half) = (&b""[..], &b" the"[..], &[0xc3][..]);
    assert_eq!(spelt_bytes, [Some(none), Some(the), Some(half), Some("日".as_bytes()), Some(none), None]);
    assert_eq!(spellings.of(u32::MAX), None);
}
