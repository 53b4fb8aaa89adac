//! `tutti translate` with documents, by the built program with the model that is built in.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn translate(flags: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
    command.env_clear().args(["translate", "--threads", "1"]).args(flags);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses its flags does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn translated(flags: &[&str], input: &str) -> String {
    let output = translate(flags, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn html_keeps_its_tags() {
    let page = "<ul>\n  <li title=\"Good morning.\">Thank <b>you</b>.</li>\n</ul>\n<code>let x;</code>\n";
    let german = translated(&["--html"], page);
    for kept in ["<ul>\n  <li title=\"", "<b>", "</b>", "</li>\n</ul>\n<code>let x;</code>\n"] {
        assert!(german.contains(kept), "{german}");
    }
    assert!(german.contains("Guten Morgen") && !german.contains("Thank"), "{german}");
    assert_eq!(translated(&["--format", "html"], page), german);
}

#[test]
fn subtitles_and_json_keep_what_is_not_text() {
    let subtitles = "1\n00:00:01,000 --> 00:00:02,000\nThank you.\n";
    let german = translated(&["--format", "srt"], subtitles);
    assert!(german.starts_with("1\n00:00:01,000 --> 00:00:02,000\n") && german.contains("Dank"), "{german}");
    let german = translated(&["--format", "json"], "{\"greeting\": \"Good morning.\"}");
    assert!(german.contains("\"greeting\"") && german.contains("Guten Morgen"), "{german}");
}

#[test]
fn a_mistake_is_told_in_one_line() {
    for (flags, input, words) in [
        (["--steps", "1,4", "--html"].as_slice(), "<p>a</p>", "a single number of steps"),
        (&["--format", "docx"], "", "format docx is unknown"),
        (&["--format", "json"], "{", "not valid JSON"),
    ] {
        let output = translate(flags, input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(words), "{told}");
        assert!(!told.contains("backtrace") && told.lines().count() <= 3, "{told}");
    }
}
