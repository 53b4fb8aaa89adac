//! The models of the repository, built in so that the program translates without other files.
//!
//! `cargo install` copies only the program, and a relative path to a model would depend on the working folder. The
//! models make this program larger and slower to build, so tests, benchmarks and `train` do not contain them.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use tutti::Result;
use tutti::model::Bundle;
use tutti::settings::ModelSettings;

struct BuiltIn {
    name: &'static str,
    files: Dir<'static>,
}

/// The first one translates a request that names no languages.
static MODELS: [BuiltIn; 1] =
    [BuiltIn { name: "en-de", files: include_dir!("$CARGO_MANIFEST_DIR/models/en-de") }];

/// The bundle in `folder`, or the built-in model of that name; without either, the first built-in model.
///
/// # Errors
/// As [`Bundle::open`].
pub fn open(folder: Option<&Path>) -> Result<Bundle> {
    let folder = folder.unwrap_or(Path::new(""));
    match built_in(folder) {
        Some(BuiltIn { name, files }) => {
            Bundle::built_in(name, &|file| files.get_file(file).map(|file| file.contents()))
        }
        None => Bundle::open(folder),
    }
}

/// The built-in model that `folder` means. A folder that exists is itself meant.
fn built_in(folder: &Path) -> Option<&'static BuiltIn> {
    if folder.as_os_str().is_empty() {
        return MODELS.first();
    }
    MODELS.iter().find(|model| folder == Path::new(model.name) && !folder.exists())
}

pub fn is_built_in(model: &ModelSettings) -> bool {
    built_in(&model.folder).is_some()
}

/// The models to serve: all built-in ones in place of one without a folder. Each of them has all its threads, since most
/// servers translate in one direction at a time.
pub fn served(models: &[ModelSettings]) -> Vec<ModelSettings> {
    let each_built_in = |model: &ModelSettings| {
        let folders = MODELS.iter().map(|built_in| PathBuf::from(built_in.name));
        folders.map(|folder| ModelSettings { folder, ..model.clone() }).collect()
    };
    let all = |model: &ModelSettings| match model.folder.as_os_str().is_empty() {
        true => each_built_in(model),
        false => vec![model.clone()],
    };
    models.iter().flat_map(all).collect()
}
