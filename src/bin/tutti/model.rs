//! The models of the repository, built in so that the program translates without other files.
//!
//! `cargo install` copies only the program, and a relative path to a model would depend on the working folder. The
//! models make this program larger and slower to build, so tests, benchmarks and `train` do not contain them.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use tutti::Result;
use tutti::model::Bundle;
use tutti::settings::ModelSettings;

/// A model that is part of the program.
pub struct BuiltIn {
    name: &'static str,
    files: Dir<'static>,
}

/// The first one translates a request that names no languages.
static MODELS: [BuiltIn; 2] = [
    BuiltIn { name: "en-de", files: include_dir!("$CARGO_MANIFEST_DIR/models/en-de") },
    BuiltIn { name: "de-en", files: include_dir!("$CARGO_MANIFEST_DIR/models/de-en") },
];

/// Where the files of a model are. It is decided once, so that a folder that comes or goes later changes nothing.
#[derive(Clone)]
pub enum Place {
    BuiltIn(&'static BuiltIn),
    Folder(PathBuf),
}

impl Place {
    /// The place of `--model`: a folder, or the name of a built-in model; an existing folder of that name comes first.
    /// Empty for the first built-in model.
    pub fn of(model: &Path) -> Self {
        if model.as_os_str().is_empty() {
            return Self::BuiltIn(&MODELS[0]);
        }
        let built_in = MODELS.iter().find(|built_in| model == Path::new(built_in.name));
        match built_in.filter(|_| !model.exists()) {
            Some(built_in) => Self::BuiltIn(built_in),
            None => Self::Folder(model.to_owned()),
        }
    }

    /// # Errors
    /// As [`Bundle::open`].
    pub fn open(&self) -> Result<Bundle> {
        match self {
            Self::BuiltIn(BuiltIn { name, files }) => {
                Bundle::built_in(name, &|file| files.get_file(file).map(|file| file.contents()))
            }
            Self::Folder(folder) => Bundle::open(folder),
        }
    }

    pub fn is_built_in(&self) -> bool {
        matches!(self, Self::BuiltIn(_))
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("built in"),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

/// A model to serve.
#[derive(Clone)]
pub struct Served {
    pub place: Place,
    pub settings: ModelSettings,
}

/// The models to serve: all built-in ones in place of one without a folder. Each of these gets all its threads, because
/// most servers translate in one direction at a time.
pub fn served(models: &[ModelSettings]) -> Vec<Served> {
    let at = |place: Place, settings: &ModelSettings| Served { place, settings: settings.clone() };
    let all = |settings: &ModelSettings| match settings.folder.as_os_str().is_empty() {
        true => MODELS.iter().map(|model| at(Place::BuiltIn(model), settings)).collect(),
        false => vec![at(Place::of(&settings.folder), settings)],
    };
    models.iter().flat_map(all).collect()
}
