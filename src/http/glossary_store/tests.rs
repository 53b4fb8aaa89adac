use super::*;

fn stored(terms: usize) -> Stored {
    let terms = (0..terms).map(|term| (format!("term {term}"), format!("Begriff {term}")));
    Stored {
        name: "a".into(),
        created: SystemTime::UNIX_EPOCH,
        source: "en".into(),
        target: "de".into(),
        glossary: Arc::new(Glossary::new(terms).unwrap()),
    }
}

#[test]
fn the_total_memory_of_glossaries_is_limited() {
    let small = stored(10);
    let bytes = small.glossary.bytes();
    // The texts alone are about 500 bytes; the compiled search counts as well.
    assert!(bytes > 2000, "{bytes}");
    assert!(stored(100).glossary.bytes() > 3 * bytes);
    let glossaries = Glossaries { max_bytes: 5 * bytes / 2, ..Glossaries::default() };
    let first = glossaries.put(small.clone()).unwrap();
    glossaries.put(small.clone()).unwrap();
    let refused = glossaries.put(small.clone()).unwrap_err();
    assert!(matches!(refused, ApiError::Quota { what: "bytes of all glossaries", .. }), "{refused}");
    glossaries.remove(&first).unwrap();
    glossaries.put(small).unwrap();
}
