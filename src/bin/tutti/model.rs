//! The model that is built into the program, so that a single file translates wherever it is started.
//!
//! Built in rather than beside the program: `cargo install` copies nothing but the program, and a path
//! relative to the working folder works in one folder only. It adds the size of the files to this program
//! (19 MB to 16 MB) and to nothing else: tests, benches and `train` do not link it.

use std::path::Path;

use include_dir::{Dir, include_dir};
use tutti::Result;
use tutti::model::Bundle;

const NAME: &str = "en-de";

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/models/en-de");

/// The bundle in `folder`, or the one that is built in.
pub fn open(folder: Option<&Path>) -> Result<Bundle> {
    match folder.filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => Bundle::open(folder),
        None => Bundle::built_in(NAME, &|file| FILES.get_file(file).map(|file| file.contents())),
    }
}
