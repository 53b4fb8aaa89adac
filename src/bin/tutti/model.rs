//! The default model, built in so that the program translates without other files.
//!
//! `cargo install` copies only the program, and a relative path to a model would depend on the working folder. The
//! model makes this program 29.5 MB larger and slower to build, so tests, benchmarks and `train` do not contain it.

use std::path::Path;

use include_dir::{Dir, include_dir};
use tutti::Result;
use tutti::model::Bundle;

const NAME: &str = "en-de";

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/models/en-de");

/// The bundle in `folder`, or the default model.
pub fn open(folder: Option<&Path>) -> Result<Bundle> {
    match folder.filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => Bundle::open(folder),
        None => Bundle::built_in(NAME, &|file| FILES.get_file(file).map(|file| file.contents())),
    }
}
