use super::*;

fn glossary(terms: &[(&str, &str)]) -> Result<Glossary> {
    Glossary::new(terms.iter().map(|(term, translation)| ((*term).to_owned(), (*translation).to_owned())))
}

fn found(terms: &[(&str, &str)], text: &str) -> Vec<(String, String)> {
    let glossary = glossary(terms).unwrap();
    let found = glossary.find(text).into_iter();
    found.map(|(place, translation)| (text[place].to_owned(), translation.to_owned())).collect()
}

#[test]
fn terms_are_found_in_any_case_and_only_at_word_boundaries() {
    let terms = [("tutti", "Tutti"), ("tutti frutti", "Eis"), ("C++", "C plus plus"), ("Größe", "size")];
    let expected = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    assert_eq!(found(&terms, "TUTTI and tuttis"), expected(&[("TUTTI", "Tutti")]));
    assert_eq!(
        found(&terms, "a Tutti Frutti, tutti."),
        expected(&[("Tutti Frutti", "Eis"), ("tutti", "Tutti")])
    );
    assert_eq!(found(&terms, "in c++: (C++)"), expected(&[("c++", "C plus plus"), ("C++", "C plus plus")]));
    assert_eq!(found(&terms, "die GRÖSSE, die GRÖßE"), expected(&[("GRÖßE", "size")]));
    assert!(found(&[], "tutti").is_empty());
}

#[test]
fn an_empty_side_is_refused_and_the_last_of_equal_terms_counts() {
    for bad in [[("", "a")], [("a", " ")], [("a\nb", "c")], [("a", "\u{e000}")]] {
        assert!(glossary(&bad).is_err(), "{bad:?}");
    }
    let glossary = glossary(&[("Tea", "Kaffee"), ("tea", "Tee")]).unwrap();
    assert_eq!(glossary.terms(), [("tea".to_owned(), "Tee".to_owned())]);
    assert_eq!(glossary.find("TEA")[0].1, "Tee");
}
