use super::*;

fn vocabulary(dict: &str, codes: &str) -> Result<Vocabulary> {
    let folder = tempfile::tempdir().unwrap();
    let (d, c) = (folder.path().join("dict.txt"), folder.path().join("codes"));
    std::fs::write(&d, dict).unwrap();
    std::fs::write(&c, codes).unwrap();
    Vocabulary::read(&d, &c)
}

const DICT: &str = "the 9\nlow 5\nlow@@ 4\ner 3\nn@@ 2\ne@@ 2\nw 1\n";
const CODES: &str = "#version: 0.2\nt h\nth e</w>\nl o\nlo w</w>\nlo w\ne r</w>\n";

#[test]
fn words_are_split_by_the_codes_and_decoded_unchanged() {
    let Vocabulary { tokenizer, rows, fairseq_size } = vocabulary(DICT, CODES).unwrap();
    assert_eq!(fairseq_size, 11);
    assert_eq!(rows.len(), tokenizer.vocab_size());
    let ids = tokenizer.encode("the lower new").unwrap();
    // the, low@@, er, n@@, e@@, w
    assert_eq!(ids, [1, 5, 7, 8, 9, 10, 11, 2]);
    let fairseq: Vec<&EmbeddingRow> = ids.iter().map(|&id| &rows[id as usize]).collect();
    assert_eq!(fairseq[1], &EmbeddingRow::Token(4));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the lower new");
    assert_eq!(tokenizer.decode(&ids[1..3]).unwrap(), "the low");
}

#[test]
fn tokens_outside_the_dict_are_unknown() {
    let Vocabulary { tokenizer, rows, .. } = vocabulary(DICT, CODES).unwrap();
    let row = |id: u32| rows[id as usize].clone();
    // An unknown character, and a piece that is only an intermediate step of merges.
    let ids = tokenizer.encode("ö th").unwrap();
    assert_eq!(ids[1], 3);
    assert!(ids[2..ids.len() - 1].iter().all(|&id| id == 3 || row(id) == EmbeddingRow::Unknown), "{ids:?}");
    assert!(tokenizer.encode("<mask> <unk>").unwrap().iter().all(|&id| id != 4));
}

#[test]
fn codes_of_fastbpe_are_the_same_with_counts() {
    let counted: String = CODES.lines().skip(1).map(|l| format!("{l} 7\n")).collect();
    let (a, b) = (vocabulary(DICT, CODES).unwrap(), vocabulary(DICT, &counted).unwrap());
    assert_eq!(a.tokenizer.to_json().unwrap(), b.tokenizer.to_json().unwrap());
}

#[test]
fn other_files_are_refused_by_line() {
    for (dict, codes, reason) in [
        ("the 9\nlow\n", CODES, "dict.txt:2"),
        ("the 9\nthe 8\n", CODES, "dict.txt:2"),
        (DICT, "#version: 0.1\nt h\n", "version 0.1"),
        (DICT, "t h\n", "codes:1"),
        (DICT, "#version: 0.2\nt\n", "codes:2"),
    ] {
        let error = vocabulary(dict, codes).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(reason), "{error}");
    }
}
