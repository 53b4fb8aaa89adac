//! The dependencies of the crate: licences and sources follow deny.toml, and none is unused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn toml(file: &str) -> toml::Table {
    fs::read_to_string(root().join(file)).unwrap().parse().unwrap()
}

/// All packages of a build on this machine with all features, from `cargo metadata`.
fn packages() -> Vec<Value> {
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let rustc = run("rustc", &["-vV"]);
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let arguments =
        ["metadata", "--locked", "--all-features", "--format-version", "1", "--filter-platform", host];
    let mut metadata: Value = serde_json::from_str(&run(env!("CARGO"), &arguments)).unwrap();
    // The list may contain packages of other platforms, which are not resolved.
    let used: Vec<String> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap().to_owned())
        .collect();
    let packages = metadata["packages"].as_array_mut().map(std::mem::take).unwrap();
    packages.into_iter().filter(|package| used.iter().any(|id| package["id"] == **id)).collect()
}

/// Whether an SPDX expression is satisfied: `(MIT OR Apache-2.0) AND Unicode-3.0`. An old `/` means OR.
fn allowed(expression: &str, list: &[&str]) -> bool {
    let met = |choices: &str| {
        let choices = choices.trim().trim_start_matches('(').trim_end_matches(')').replace('/', " OR ");
        choices.split(" OR ").any(|licence| list.contains(&licence.trim()))
    };
    expression.split(" AND ").all(met)
}

#[test]
fn every_licence_is_on_the_list() {
    let deny = toml("deny.toml");
    let list: Vec<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let packages = packages();
    assert!(packages.len() > 100, "{} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(allowed(licence, &list), "{} has the licence {licence}", package["name"]);
    }
    assert!(allowed("(MIT OR LGPL-2.1) AND Unicode-3.0", &list) && allowed("GPL-3.0/MIT", &list));
    assert!(!allowed("GPL-3.0", &list) && !allowed("MIT AND GPL-3.0", &list));
}

#[test]
fn every_package_comes_from_one_registry() {
    let sources = packages().into_iter().filter_map(|package| package["source"].as_str().map(str::to_owned));
    let mut sources: Vec<String> = sources.collect();
    sources.sort();
    sources.dedup();
    assert!(sources.len() == 1 && sources[0].starts_with("registry+"), "{sources:?}");
}

fn sources(folder: PathBuf, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let cargo = toml("Cargo.toml");
    let mut code = String::new();
    ["src", "tests", "benches", "loadtest"].iter().for_each(|folder| sources(root().join(folder), &mut code));
    let mut sections = vec![&cargo["dependencies"], &cargo["dev-dependencies"]];
    sections.extend(cargo["target"].as_table().unwrap().values().map(|target| &target["dependencies"]));
    let names = sections.into_iter().flat_map(|section| section.as_table().unwrap().keys());
    for name in names {
        let krate = name.replace('-', "_");
        let paths = [format!("{krate}::"), format!("use {krate};")];
        assert!(paths.iter().any(|path| code.contains(path.as_str())), "nothing uses {name}");
    }
}
