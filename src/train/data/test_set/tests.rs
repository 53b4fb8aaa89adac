use super::*;

#[test]
fn a_line_that_is_too_long_is_split_and_its_translations_joined() {
    let corpus = ["one, two, three, four, five", "eins, zwei, drei", "yes"];
    let tokenizer = Arc::new(Tokenizer::train(corpus.iter(), 288).unwrap());
    let long = "one, two, three, four, five";
    let limit = tokenizer.encode(long).unwrap().len() - 1;
    let word = "x".repeat(200);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    std::fs::write(&path, format!("yes\n{long}\n{word}\nyes\n")).unwrap();
    let set = TestSet::read_within(&path, &path, 9, &tokenizer, ("en", "de"), limit).unwrap();
    assert!(set.ids.len() > 5 && set.ids.iter().all(|ids| ids.len() <= limit));
    let texts: Vec<String> = set.ids.iter().map(|ids| tokenizer.decode(ids).unwrap()).collect();
    let joined = set.join(&texts);
    assert_eq!([&joined[0], &joined[1], &joined[3]], ["yes", long, "yes"]);
    assert_eq!(joined[2].replace(' ', ""), word);
    std::fs::write(&path, "").unwrap();
    let error = TestSet::read_within(&path, &path, 9, &tokenizer, ("en", "de"), limit).err().unwrap();
    assert!(error.to_string().contains("no lines"), "{error}");
}
