//! `train import fairseq`: converts a CMLM, CMLMC or DiMS checkpoint of fairseq, or of the forks that published the
//! latter two, to a bundle.
//!
//! fairseq's networks differ from tutti's in what [`Shape`] describes, and in the vocabulary, whose mask is the
//! unknown token. Anything else (another activation, separate embeddings) is refused by name.
//!
//! The tokenizer fits only this model and its students: it has the pieces of fairseq's dictionary.

mod checkpoint;
mod pickle;
mod vocabulary;
mod weights;

use std::path::{Path, PathBuf};

use self::checkpoint::{Arguments, FairseqCheckpoint};
use self::vocabulary::Vocabulary;
use self::weights::{Conversion, FairseqTensors, convert};
use crate::model::{Bundle, Config, DecoderAttention, Lengths, NormPlace, Positions, Refresh, Shape};
use crate::{Error, Result};

/// The files to import, and the folder to write to.
#[derive(Clone, Debug)]
pub struct Import {
    /// `model.pt`, written by `fairseq-train` or PyTorch's `torch.save`.
    pub checkpoint: PathBuf,
    /// `dict.txt` of both languages.
    pub dict: PathBuf,
    /// BPE codes of subword-nmt or fastBPE.
    pub codes: PathBuf,
    /// Folder of the bundle.
    pub output: PathBuf,
    /// Language codes; by default those of the checkpoint.
    pub source_lang: Option<String>,
    pub target_lang: Option<String>,
}

/// Writes the bundle.
///
/// # Errors
/// Files that cannot be read; an unsupported architecture, setting or tensor, by name; a dictionary that does not fit
/// the checkpoint.
pub fn import(import: &Import) -> Result<()> {
    let wrong = |reason: String| Error::bundle(&import.checkpoint, reason);
    let vocabulary = Vocabulary::read(&import.dict, &import.codes)?;
    let FairseqCheckpoint { arguments, tensors } = FairseqCheckpoint::read(&import.checkpoint)?;
    require_known(&arguments).map_err(wrong)?;
    let mut source = FairseqTensors::new(tensors);
    let learned = ["encoder_learned_pos", "decoder_learned_pos"].map(|key| arguments.flag(key));
    let shape = shape(&arguments, &source, &vocabulary, learned).map_err(wrong)?;
    let scale = if arguments.flag("no_scale_embedding") { 1.0 } else { (shape.d_model as f64).sqrt() };
    let conversion = Conversion { shape: &shape, vocabulary: &vocabulary, scale, learned_positions: learned };
    let tensors = convert(&mut source, &conversion).map_err(wrong)?;

    let language = |given: &Option<String>, key: &str, flag: &str| {
        let own = given.clone().or_else(|| arguments.text(key).map(str::to_owned));
        own.ok_or_else(|| wrong(format!("does not contain its {key}; give it with {flag}")))
    };
    let source_lang = language(&import.source_lang, "source_lang", "--source")?;
    let target_lang = language(&import.target_lang, "target_lang", "--target")?;
    let mut config = Config::new(shape, &source_lang, &target_lang);
    if architecture(&arguments) == DISTILLED {
        config.default_steps = 1;
    }
    let card = card(import, &arguments, &config);
    Bundle::save(&import.output, &config, &vocabulary.tokenizer, &tensors, &card)
}

/// Architecture of DiMS students.
const DISTILLED: &str = "cmlm_distill";

fn architecture(arguments: &Arguments) -> &str {
    arguments.text("arch").or_else(|| arguments.text("_name")).unwrap_or_default()
}

/// Refuses settings that would change the computation.
fn require_known(arguments: &Arguments) -> Result<(), String> {
    let name = architecture(arguments);
    let known = ["cmlm_transformer", "cmlmc_transformer", DISTILLED];
    if !known.iter().any(|known| name.starts_with(known)) {
        return Err(format!(
            "architecture {name:?} is not supported; expected {} or one of their presets",
            known.join(", ")
        ));
    }
    let activation = arguments.text("activation_fn").unwrap_or("relu");
    if activation != "relu" {
        return Err(format!("activation_fn is {activation:?}; only relu is supported"));
    }
    let unknown = [
        "ctc",
        "src_embedding_copy",
        "adaptive_input",
        "no_token_positional_embeddings",
        "layernorm_embedding",
        "dont_use_layernorm",
        "no_cross_attention",
        "cross_self_attention",
    ];
    match unknown.into_iter().find(|key| arguments.flag(key)) {
        Some(key) => Err(format!("{key} is set, which is not supported")),
        None => Ok(()),
    }
}

fn shape(
    arguments: &Arguments,
    source: &FairseqTensors,
    vocabulary: &Vocabulary,
    learned: [bool; 2],
) -> Result<Shape, String> {
    let same = |what: &str| -> Result<usize, String> {
        let of = |side: &str| {
            let key = format!("{side}_{what}");
            let number = arguments.number(&key).and_then(|n| usize::try_from(n).ok());
            number.ok_or_else(|| format!("the arguments do not contain {key}"))
        };
        let (encoder, decoder) = (of("encoder")?, of("decoder")?);
        if encoder == decoder {
            Ok(encoder)
        } else {
            Err(format!("encoder_{what} is {encoder}, but decoder_{what} is {decoder}; they must be equal"))
        }
    };
    let norms = ["encoder_normalize_before", "decoder_normalize_before"].map(|key| arguments.flag(key));
    let norm = match norms {
        [false, false] => NormPlace::Post,
        [true, true] => NormPlace::Pre,
        _ => return Err("encoder_normalize_before and decoder_normalize_before differ".into()),
    };
    let whole = source.has("decoder.layers.0.self_attn_unmasked_layer_norm.weight");
    let positions = match (source.has("decoder.PEfc.weight"), arguments.flag("no_scale_embedding")) {
        (true, _) => Positions::Concat,
        (false, true) => Positions::Unscaled,
        (false, false) => Positions::Scaled,
    };
    let corrects = whole
        || architecture(arguments).starts_with("cmlmc_transformer")
        || arguments.number("selfcorrection").is_some_and(|from| from >= 0);
    let offset = arguments.flag("pred_length_offset");
    let shape = Shape {
        encoder_layers: source.layers("encoder"),
        decoder_layers: source.layers("decoder"),
        d_model: same("embed_dim")?,
        ffn: same("ffn_embed_dim")?,
        heads: same("attention_heads")?,
        vocab: vocabulary.rows.len(),
        max_positions: max_positions(arguments, source, learned)?,
        length_classes: source.dims("decoder.embed_length.weight")?[0],
        lengths: if offset { Lengths::Offset } else { Lengths::Absolute },
        norm,
        positions,
        decoder_attention: if whole { DecoderAttention::WholeThenCausal } else { DecoderAttention::Whole },
        refresh: if corrects { Refresh::All } else { Refresh::Masked },
    };
    shape.validate().map_err(|e| e.to_string())?;
    Ok(shape)
}

/// The number of positions that both sides have.
fn max_positions(
    arguments: &Arguments,
    source: &FairseqTensors,
    learned: [bool; 2],
) -> Result<usize, String> {
    const PADDING_ROWS: usize = 2;
    let mut positions = usize::MAX;
    for (side, key, learned) in
        [("encoder", "max_source_positions", learned[0]), ("decoder", "max_target_positions", learned[1])]
    {
        let configured = arguments.number(key).and_then(|n| usize::try_from(n).ok()).unwrap_or(1024);
        let available = if learned {
            source.dims(&format!("{side}.embed_positions.weight"))?[0].saturating_sub(PADDING_ROWS)
        } else {
            configured
        };
        positions = positions.min(configured).min(available);
    }
    Ok(positions)
}

fn card(import: &Import, arguments: &Arguments, config: &Config) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!(
        "# {} → {}\n\nImported from a fairseq checkpoint of architecture {:?} ({}, {}, {}). \
         Its text must be prepared as for that model: words and punctuation separated by spaces, \
         usually by the Moses scripts.\n",
        config.source,
        config.target,
        architecture(arguments),
        name(&import.checkpoint),
        name(&import.dict),
        name(&import.codes),
    )
}
