//! The contribution guide tells a newcomer where things are.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[test]
fn the_guide_names_files_that_exist() {
    let guide = read(".github/CONTRIBUTING.md");
    let spans = guide.split('`').skip(1).step_by(2);
    let paths: Vec<&str> =
        spans.filter(|span| span.starts_with("src/") || span.starts_with("tests/")).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    }
}

#[test]
fn a_newcomer_finds_each_place_by_the_guide_and_by_a_word_in_the_file() {
    let guide = read(".github/CONTRIBUTING.md");
    for (question, file, word) in [
        ("remasking", "src/decode/canvas.rs", "Remasking is decided here"),
        ("metric", "src/metrics/engine_metrics.rs", "EngineMetrics"),
        ("limits", "src/http/request.rs", "limits"),
        ("DiMS loss", "src/train/objective/", "loss"),
        ("[train]", "src/train/config/train.rs", "`[train]`"),
    ] {
        let row =
            guide.lines().find(|line| line.starts_with('|') && line.contains(question)).expect(question);
        assert!(row.contains(&format!("`{file}`")), "{row}");
        let file = if file.ends_with('/') { format!("{file}dims/mod.rs") } else { file.to_owned() };
        assert!(read(&file).contains(word), "{file}: {word}");
    }
}
