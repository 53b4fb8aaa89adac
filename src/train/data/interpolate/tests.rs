use super::*;

fn options(folder: &Path, texts: &[&str]) -> Interpolate {
    let paths: Vec<PathBuf> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let path = folder.join(format!("text{i}"));
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    Interpolate {
        source: paths[0].clone(),
        reference: paths[1].clone(),
        candidates: paths[2..].to_vec(),
        min_chrf: 0.0,
        output: folder.join("chosen"),
    }
}

#[test]
fn each_line_gets_the_most_similar_candidate_and_ties_go_to_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(
        dir.path(),
        &[
            "Good morning.\nThe dog sleeps.\nYes.\n\nNo.\n",
            "Guten Morgen.\nDer Hund schläft.\nJa.\nLeer.\nNein.\n",
            "Morgen.\nDer Hund schläft.\nJa.\nx\n\n",
            "Guten Morgen!\nDie Katze schläft.\nJa.\nx\n \n",
        ],
    );
    let chosen = interpolate(&options).unwrap();
    let text = |name| std::fs::read_to_string(options.output.join(name)).unwrap();
    assert_eq!(text(SOURCE), "Good morning.\nThe dog sleeps.\nYes.\n");
    assert_eq!(text(TARGET), "Guten Morgen!\nDer Hund schläft.\nJa.\n");
    assert_eq!(chosen.candidates.iter().map(|c| c.chosen).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((chosen.kept, chosen.dropped), (3, 2));
    assert!(text(MANIFEST).contains(&files::checksum(&options.reference).unwrap()));
}

#[test]
fn a_source_that_occurs_several_times_gets_one_translation() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(
        dir.path(),
        &[
            "Thanks.\nNo.\nThanks. \nThanks.\n",
            "Danke.\nNein.\nDanke!\nIch danke.\n",
            "Dank dir.\nNee.\nDank dir.\nDank dir.\n",
            "Danke.\nNein.\nDanke!\nIch danke.\n",
        ],
    );
    let chosen = interpolate(&options).unwrap();
    let text = std::fs::read_to_string(options.output.join(TARGET)).unwrap();
    // Each is the nearest to its own reference; on average over all three, "Danke." is.
    assert_eq!(text, "Danke.\nNein.\nDanke.\nDanke.\n");
    assert_eq!(chosen.candidates.iter().map(|c| c.chosen).collect::<Vec<_>>(), [0, 4]);
}

#[test]
fn the_reference_is_used_if_no_candidate_is_similar_enough() {
    let dir = tempfile::tempdir().unwrap();
    let texts = [
        "Goodbye!\nThe dog sleeps.\nGoodbye!\nGoodbye!\nNo.\n",
        "Tschüss!\nDer Hund schläft.\nAuf Wiedersehen!\nAuf Wiedersehen!\nNein.\n",
        "Gang!\nDer Hund schlief.\nGang!\nGang!\n\n",
    ];
    let options = Interpolate { min_chrf: 40.0, ..options(dir.path(), &texts) };
    let chosen = interpolate(&options).unwrap();
    let text = std::fs::read_to_string(options.output.join(TARGET)).unwrap();
    assert_eq!(text, "Auf Wiedersehen!\nDer Hund schlief.\nAuf Wiedersehen!\nAuf Wiedersehen!\nNein.\n");
    assert_eq!((chosen.kept, chosen.references_kept, chosen.dropped), (5, 4, 0));
    let error = interpolate(&Interpolate { min_chrf: 140.0, ..options }).unwrap_err().to_string();
    assert!(error.contains("0 to 100"), "{error}");
}

#[test]
fn texts_of_different_lengths_are_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let short = options(dir.path(), &["a\nb\n", "a\nb\n", "a\n"]);
    let error = interpolate(&short).unwrap_err().to_string();
    assert!(error.contains("text2:2") && error.contains("has 2"), "{error}");
    let none = options(dir.path(), &["a\n", "\n", "b\n"]);
    assert!(interpolate(&none).unwrap_err().to_string().contains("text0"));
    let error = interpolate(&Interpolate { candidates: Vec::new(), ..none.clone() }).unwrap_err();
    assert!(error.to_string().contains("candidate"), "{error}");
    assert!(!none.output.exists());
    let mine =
        Interpolate { output: dir.path().to_path_buf(), ..options(dir.path(), &["a\n", "b\n", "b\n"]) };
    std::fs::write(mine.output.join(MANIFEST), "of distilled text").unwrap();
    assert!(interpolate(&mine).unwrap_err().to_string().contains("choose another"));
    assert!(mine.reference.exists(), "existing files are kept");
}

#[test]
fn only_its_own_output_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), &["a\n", "b\n", "b\n"]);
    std::fs::create_dir(&options.output).unwrap();
    interpolate(&options).unwrap();
    interpolate(&options).unwrap();
    let own = options.output.join("candidate.de");
    std::fs::write(&own, "b\n").unwrap();
    let error = interpolate(&options).unwrap_err().to_string();
    assert!(error.contains("chosen contains other files") && own.exists(), "{error}");
}
