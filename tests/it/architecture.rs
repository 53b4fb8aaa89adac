//! Compares the module graph in the sources with the diagrams of the documentation.
//!
//! Tests (`tests.rs`, `tests/`, `testing/`) and the programs may use any module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Arrows = BTreeSet<(String, String)>;

/// Modules that all others may use; the diagrams leave them out.
const GROUND: [&str; 3] = ["error", "files", "keys"];
const MAX_LINES: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, as paths relative to the repository.
fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn for_tests(path: &Path) -> bool {
    let name = |part: &std::ffi::OsStr| part == "tests" || part == "testing" || part == "tests.rs";
    path.iter().any(name)
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `[a, b]`, `src/lib.rs` is empty.
fn module(path: &Path) -> Vec<String> {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    let mut parts: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Each module with the modules that its code names.
fn uses() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let files: Vec<PathBuf> =
        sources("src").into_iter().filter(|path| !for_tests(path) && !path.starts_with("src/bin")).collect();
    let modules: BTreeSet<Vec<String>> = files.iter().map(|path| module(path)).collect();
    let of = |path: &PathBuf| {
        let own = module(path);
        let named = paths(&without_comments(&text(path)), &own).into_iter().map(|mut path| {
            while !modules.contains(&path) {
                path.pop();
            }
            path
        });
        let others = named.filter(|other| *other != own && !other.is_empty()).collect();
        (own, others)
    };
    files.iter().map(of).collect()
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.split("//").next().unwrap_or_default())).collect()
}

/// Every path that starts with `crate::` or `super::`, from the root of the crate; groups are split.
fn paths(code: &str, own: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let (mut rest, mut base) = (&code[at..], own.to_vec());
            if let Some(path) = rest.strip_prefix("crate::") {
                (rest, base) = (path, Vec::new());
            }
            while let Some(path) = rest.strip_prefix("super::") {
                rest = path;
                base.pop();
            }
            tree(rest, base, &mut found);
        }
    }
    found
}

/// Reads `a::b`, `a::{b, c::d}`. Returns the rest.
fn tree<'a>(mut code: &'a str, mut base: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        code = code.trim_start();
        if let Some(mut group) = code.strip_prefix('{') {
            loop {
                group = tree(group, base.clone(), found).trim_start();
                match group.strip_prefix(',') {
                    Some(more) => group = more,
                    None => return group.strip_prefix('}').unwrap_or(group),
                }
            }
        }
        let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
        let (name, rest) = code.split_at(end);
        if !name.is_empty() && name != "self" {
            base.push(name.to_owned());
        }
        match rest.strip_prefix("::") {
            Some(more) => code = more,
            None => {
                found.push(base);
                return rest;
            }
        }
    }
}

/// Arrows between the rooms that `room` names.
fn arrows(room: impl Fn(&[String]) -> Option<String>) -> Arrows {
    let named = |(from, to): (&Vec<String>, &Vec<String>)| Some((room(from)?, room(to)?));
    let all = uses();
    let pairs = all.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
    pairs.filter_map(named).filter(|(from, to)| from != to).collect()
}

fn top(module: &[String]) -> Option<String> {
    module.first().filter(|name| !GROUND.contains(&name.as_str())).cloned()
}

fn inside_train(module: &[String]) -> Option<String> {
    match module {
        [train, room, ..] if train == "train" => Some(room.clone()),
        _ => None,
    }
}

/// The arrows of the first Mermaid diagram of a file: `a & b --> c --> d & e`.
fn drawn(path: &str) -> Arrows {
    let text = text(Path::new(path));
    let diagram = text.split("```mermaid").nth(1).unwrap_or_else(|| panic!("{path} has no diagram"));
    let diagram = diagram.split("```").next().unwrap();
    let mut arrows = Arrows::new();
    for line in diagram.lines().map(|line| line.trim_start_matches("//!").trim()) {
        let steps: Vec<Vec<&str>> =
            line.split("-->").map(|side| side.split('&').map(str::trim).collect()).collect();
        for pair in steps.windows(2) {
            let each = pair[0].iter().flat_map(|from| pair[1].iter().map(move |to| (from, to)));
            arrows.extend(each.map(|(from, to)| ((*from).to_owned(), (*to).to_owned())));
        }
    }
    arrows
}

#[track_caller]
fn assert_drawn(real: &Arrows, path: &str) {
    let drawn = drawn(path);
    let missing: Vec<_> = real.difference(&drawn).collect();
    assert!(missing.is_empty(), "{path} does not draw, so the code must not have: {missing:?}");
    let stale: Vec<_> = drawn.difference(real).collect();
    assert!(stale.is_empty(), "{path} draws what the code no longer has: {stale:?}");
}

#[test]
fn the_rooms_of_the_crate_use_each_other_as_its_front_page_draws() {
    assert_drawn(&arrows(top), "src/lib.rs");
}

#[test]
fn the_rooms_of_training_use_each_other_as_their_page_draws() {
    assert_drawn(&arrows(inside_train), "src/train/mod.rs");
}

#[test]
fn the_diagram_of_the_readme_has_no_arrow_that_the_code_has_not() {
    let real = arrows(top);
    let wrong: Vec<_> = drawn("README.md").into_iter().filter(|arrow| !real.contains(arrow)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Modules that reach themselves. A folder and its files count as one, because `mod.rs` names its parts.
fn circles(arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Vec<String> {
    let related = |a: &[String], b: &[String]| a.starts_with(b) || b.starts_with(a);
    let next = |from: &Vec<String>| {
        let to = arrows.get(from).into_iter().flatten();
        to.filter(|to| !related(from, to)).cloned().collect::<Vec<_>>()
    };
    let reaches_itself = |start: &&Vec<String>| {
        let (mut seen, mut open) = (BTreeSet::new(), next(start));
        while let Some(at) = open.pop() {
            if at == **start {
                return true;
            }
            if seen.insert(at.clone()) {
                open.extend(next(&at));
            }
        }
        false
    };
    arrows.keys().filter(reaches_itself).map(|module| module.join("::")).collect()
}

#[test]
fn what_all_modules_may_use_uses_none_of_the_others() {
    let mut found = uses();
    found.retain(|from, to| top(from).is_none() && to.iter().any(|to| top(to).is_some()));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn no_two_files_need_each_other() {
    assert_eq!(circles(&uses()), Vec::<String>::new());
}

#[test]
fn no_file_is_longer_than_one_thought() {
    let all = ["src", "tests", "benches", "loadtest"].into_iter().flat_map(sources);
    let lines = all.map(|path| (text(&path).lines().count(), path));
    let long: Vec<_> = lines.filter(|(lines, _)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:?}");
}

#[test]
fn unit_tests_are_in_files_of_their_own() {
    let inline = |path: &PathBuf| text(path).lines().any(|line| line.starts_with("mod tests {"));
    let found: Vec<_> = sources("src").into_iter().filter(inline).collect();
    assert!(found.is_empty(), "move them to tests.rs beside the file: {found:?}");
}

#[test]
fn paths_are_read_with_their_groups() {
    let own = ["engine".to_owned(), "plan".to_owned()];
    let code = "use crate::{Result, model::{self, Shape}};\nuse super::queue::Queue;\nlet x = xcrate::y;";
    let mut read: Vec<String> = paths(code, &own).iter().map(|path| path.join("::")).collect();
    read.sort();
    assert_eq!(read, ["Result", "engine::queue::Queue", "model", "model::Shape"]);
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let arrows = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")];
    let graph = arrows.map(|(from, to)| (module(from), BTreeSet::from([module(to)])));
    assert_eq!(circles(&graph.into()), ["b", "c"]);
}
