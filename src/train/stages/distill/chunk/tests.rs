use super::*;

#[test]
fn a_written_chunk_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chunk");
    let chunk = Chunk { outcomes: vec![Ok("Hallo \"Welt\"".into()), Err("empty".into())] };
    std::fs::write(&path, chunk.to_bytes().unwrap()).unwrap();
    let sentences = ["a".to_owned(), "b".to_owned()];
    assert_eq!(Chunk::read(&path, &sentences).unwrap(), chunk);
    let error = Chunk::read(&path, &sentences[..1]).unwrap_err().to_string();
    assert!(error.contains("has 2 sentences") && error.contains("remove"), "{error}");
    std::fs::write(&path, b"{\"target\":\"x\"}\n{\"tar").unwrap();
    let error = Chunk::read(&path, &sentences).unwrap_err().to_string();
    assert!(error.contains("chunk:2"), "{error}");
}
