//! A bundle: the folder that holds one trained model.
//!
//! `config.json`, `model.safetensors` (f16, with the matrices of the layers in 8 bits if [`Stored::Q8`]; f32 and bf16
//! are read too), `tokenizer.json`, `README.md` (the model card), and optionally `shortlist.safetensors`
//! ([`Shortlist`]) and `lm.safetensors` ([`LanguageModel`]).
//!
//! Opening a bundle validates all of it: no later code meets a tensor that is missing, has a wrong shape or holds
//! NaN.

mod seal;
mod weights;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::{Backend, Config, KnownSentence, LanguageModel, Network, QuantizedNetwork, Shortlist};
use crate::text::{Reader, Tokenizer};
use crate::{Error, Result, files};
use seal::{Seal, seal};

pub use weights::Stored;

const NO_FOLDER: &str = "there is no such folder. A model is a folder with config.json, model.safetensors and \
                         tokenizer.json: `train run` makes one from parallel text, and models/en-de in the \
                         source code is one. Without --model, `tutti serve` and `tutti translate` use the models that are built in";

/// Returns the content of a file by its name.
type Read<'a> = &'a dyn Fn(&str) -> Result<Cow<'static, [u8]>>;

/// Quality at a number of steps, measured by `train evaluate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    pub steps: u8,
    pub bleu: f64,
    pub chrf: f64,
}

/// A validated bundle. Its tensors are f32 on the CPU.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Name of the folder, such as `en-de`.
    pub name: String,
    pub dir: PathBuf,
    pub config: Config,
    pub tokenizer: Arc<Tokenizer>,
    /// SHA-256 of `model.safetensors`, in hexadecimal.
    pub checksum: String,
    /// Used in q8 inference.
    pub shortlist: Option<Arc<Shortlist>>,
    /// Used to decode an Imputer's slots.
    pub lm: Option<Arc<LanguageModel>>,
    /// Number type of the layers' matrices in `model.safetensors`.
    pub stored: Stored,
    tensors: Arc<HashMap<String, Tensor>>,
}

impl Bundle {
    pub const CONFIG: &str = "config.json";
    pub const WEIGHTS: &str = "model.safetensors";
    pub const TOKENIZER: &str = "tokenizer.json";
    pub const CARD: &str = "README.md";
    pub const SHORTLIST: &str = "shortlist.safetensors";
    pub const LM: &str = "lm.safetensors";

    /// Reads and validates a folder.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::Bundle`] if its content is invalid: names the file and the
    /// tensor or key.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_skipping(dir, None)
    }

    /// Opens a folder but ignores `file`, which is [`Self::SHORTLIST`] or [`Self::LM`]. For commands that replace
    /// that file.
    pub fn open_without(dir: &Path, file: &str) -> Result<Self> {
        Self::open_skipping(dir, Some(file))
    }

    /// A bundle that is part of the program. `content` returns a file by its name.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn built_in(name: &str, content: &dyn Fn(&str) -> Option<&'static [u8]>) -> Result<Self> {
        let dir = Path::new("(built in)").join(name);
        let missing = |file: &Path| Error::io(file)(ErrorKind::NotFound.into());
        Self::from_files(name.to_owned(), &dir, None, &|file| {
            content(file).map(Cow::Borrowed).ok_or_else(|| missing(&dir.join(file)))
        })
    }

    fn open_skipping(dir: &Path, skipped: Option<&str>) -> Result<Self> {
        let folder = files::resolve_current(dir);
        if !folder.is_dir() {
            return Err(Error::bundle(dir, NO_FOLDER));
        }
        let name = dir.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        let bundle = Self::from_files(name.unwrap_or_default(), &folder, skipped, &|file| {
            files::read(&folder.join(file)).map(Cow::Owned)
        })?;
        Ok(Self { dir: dir.to_path_buf(), ..bundle })
    }

    /// `dir` appears in errors; `skipped` is [`Seal::skipped`].
    fn from_files(name: String, dir: &Path, skipped: Option<&str>, read: Read<'_>) -> Result<Self> {
        let path = dir.join(Self::CONFIG);
        let text = String::from_utf8(read(Self::CONFIG)?.into_owned())
            .map_err(|error| Error::bundle(&path, format!("is not valid UTF-8 ({error})")))?;
        let config: Config = serde_json::from_str(&text).map_err(|e| Error::bundle(&path, e.to_string()))?;
        config.validate().map_err(|e| Error::bundle(&path, e.to_string()))?;
        let seal = Seal { dir, config: &config, text: &text, skipped };
        seal.check_config()?;

        let path = dir.join(Self::TOKENIZER);
        let bytes = read(Self::TOKENIZER)?;
        seal.check(Self::TOKENIZER, &bytes)?;
        let tokenizer = Tokenizer::from_bytes(&bytes, &path)?;
        if tokenizer.vocab_size() != config.shape.vocab {
            let (found, expected) = (tokenizer.vocab_size(), config.shape.vocab);
            let reason = format!("has {found} tokens, but {} expects {expected}", Self::CONFIG);
            return Err(Error::bundle(&path, reason));
        }

        if config.shape.has_blanks() && !tokenizer.spells_everything() {
            let reason = "has no token for every byte, which an Imputer needs: its blank takes the id of the unknown token";
            return Err(Error::bundle(&path, reason));
        }

        let path = dir.join(Self::WEIGHTS);
        let bytes = read(Self::WEIGHTS)?;
        seal.check(Self::WEIGHTS, &bytes)?;
        let (tensors, stored) =
            weights::read(&bytes, &config.shape).map_err(|reason| Error::bundle(&path, reason))?;
        let vocab = config.shape.vocab;
        let shortlist = optional(&seal, Self::SHORTLIST, read, "train shortlist", |bytes| {
            Shortlist::from_bytes(bytes, vocab)
        })?;
        let lm =
            optional(&seal, Self::LM, read, "train lm", |bytes| LanguageModel::from_bytes(bytes, vocab))?;
        let name = if name.is_empty() { format!("{}-{}", config.source, config.target) } else { name };
        Ok(Self {
            name,
            dir: dir.to_path_buf(),
            config,
            tokenizer: Arc::new(tokenizer),
            checksum: files::digest(&bytes),
            shortlist,
            lm,
            stored,
            tensors: Arc::new(tensors),
        })
    }

    /// Splits and tokenizes source texts, and assembles translations.
    pub fn reader(&self) -> Reader {
        let Config { source, target, shape, .. } = &self.config;
        Reader::new(self.tokenizer.clone(), source, target, shape.source_limit())
    }

    /// The f32 network with this bundle's weights.
    pub fn network(&self, backend: &Backend) -> Result<Network> {
        let device = backend.device();
        let tensors = self
            .tensors
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), tensor.to_device(device)?)))
            .collect::<Result<HashMap<_, _>>>()?;
        Ok(Network::load(&self.config.shape, &VarBuilder::from_tensors(tensors, DType::F32, device))?)
    }

    /// The 8-bit network, with this bundle's shortlist if there is one and `shortlist` is set.
    pub fn quantized(&self, shortlist: bool) -> Result<QuantizedNetwork> {
        let network = QuantizedNetwork::new(&self.config.shape, &self.tensors)?;
        match self.shortlist.as_ref().filter(|_| shortlist) {
            Some(shortlist) => network.with_shortlist(shortlist.clone()),
            None => Ok(network),
        }
    }

    /// Writes measured scores into `config.json`, atomically.
    pub fn record_scores(&self, scores: Vec<Score>) -> Result<()> {
        let config = Config { scores, ..self.config.clone() };
        if self.is_sealed() {
            return seal(&self.dir, config);
        }
        files::write(&self.dir.join(Self::CONFIG), config.to_json()?.as_bytes())
    }

    /// Whether `config.json` contains the checksums of the files.
    pub fn is_sealed(&self) -> bool {
        !self.config.files.is_empty()
    }

    /// Opens a folder without comparing checksums, to seal it again.
    ///
    /// # Errors
    /// As [`open`](Self::open), except for checksums.
    pub fn open_unsealed(dir: &Path) -> Result<Self> {
        Self::open_skipping(dir, Some(Self::CONFIG))
    }

    /// Writes the current checksums of the files, and the known sentence, into `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read or written.
    pub fn seal(&self, known: Option<KnownSentence>) -> Result<()> {
        seal(&self.dir, Config { known, ..self.config.clone() })
    }

    /// The weights by name: f32, on the CPU.
    pub fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }

    /// Checks that a bundle may be written to `dir`: it is missing, empty or a bundle.
    ///
    /// # Errors
    /// [`Error::Bundle`] if `dir` holds anything else, which would be lost.
    pub fn check_destination(dir: &Path) -> Result<()> {
        if dir.exists() && !dir.join(Self::CONFIG).exists() && !is_empty_folder(dir) {
            return Err(Error::bundle(dir, "exists and is not a bundle; choose another folder"));
        }
        Ok(())
    }

    /// Writes a bundle with f16 weights; otherwise as [`save_as`](Self::save_as).
    ///
    /// # Errors
    /// As [`save_as`](Self::save_as).
    pub fn save(
        dir: &Path,
        config: &Config,
        tokenizer: &Tokenizer,
        tensors: &HashMap<String, Tensor>,
        card: &str,
    ) -> Result<()> {
        Self::save_as(dir, config, tokenizer, tensors, card, Stored::F16)
    }

    /// Writes a bundle without checksums. Atomic: it is written to a temporary folder, which then replaces `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written; [`Error::Bundle`] or [`Error::Config`] if [`Bundle::open`] would
    /// refuse the result. `dir` is unchanged then.
    pub fn save_as(
        dir: &Path,
        config: &Config,
        tokenizer: &Tokenizer,
        tensors: &HashMap<String, Tensor>,
        card: &str,
        stored: Stored,
    ) -> Result<()> {
        config.validate()?;
        Self::check_destination(dir)?;
        let bytes = weights::serialize(tensors, stored)
            .map_err(|reason| Error::bundle(dir.join(Self::WEIGHTS), reason))?;
        // Checksums and known sentence of another bundle do not apply.
        let config = Config { files: BTreeMap::new(), known: None, ..config.clone() };
        files::replace_folder(dir, |fresh| {
            files::write(&fresh.join(Self::CONFIG), config.to_json()?.as_bytes())?;
            files::write(&fresh.join(Self::CARD), card.as_bytes())?;
            tokenizer.save(fresh.join(Self::TOKENIZER))?;
            files::write(&fresh.join(Self::WEIGHTS), &bytes)?;
            // Validates what was written, for example that f16 can hold all weights. Errors name `dir`, not the
            // temporary folder.
            Self::open(fresh).map(drop).map_err(|error| match error {
                Error::Bundle { path, reason } => {
                    Error::bundle(dir.join(path.file_name().unwrap_or_default()), reason)
                }
                other => other,
            })
        })
    }
}

/// SHA-256 in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    files::digest(bytes)
}

/// Reads an optional file. `command` is the one that can write it again.
fn optional<T>(
    seal: &Seal<'_>,
    file: &str,
    content: Read<'_>,
    command: &str,
    read: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<Arc<T>>> {
    if seal.skipped == Some(file) {
        return Ok(None);
    }
    let path = seal.dir.join(file);
    match content(file) {
        Ok(bytes) => {
            seal.check(file, &bytes)?;
            match read(&bytes) {
                Ok(read) => Ok(Some(Arc::new(read))),
                Err(reason) => Err(Error::bundle(path, format!("{reason}; `{command}` writes it again"))),
            }
        }
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            if seal.config.files.contains_key(file) {
                let reason = format!("is missing, but {} lists it; `{command}` writes it", Bundle::CONFIG);
                return Err(Error::bundle(path, reason));
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// An empty folder can be replaced without loss.
fn is_empty_folder(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}
