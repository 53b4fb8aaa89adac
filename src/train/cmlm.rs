//! `train cmlm`: from a tokenizer and parallel text to checkpoints and a bundle.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::checkpoint::{Tensors, average};
use super::config::Config;
use super::corpus::Corpus;
use super::evaluate::TestSet;
use super::objective::Cmlm;
use super::run::{End, Published, Run, Stage};
use crate::Result;
use crate::model::{Backend, Bundle, Config as ModelConfig, Shape, Spec};
use crate::text::{Specials, Tokenizer};

/// Classes of the length head: a translation may be up to 64 tokens shorter or 63 longer.
const LENGTH_CLASSES: usize = 128;

/// The shape that a configuration and a tokenizer ask for.
pub fn shape(config: &Config, tokenizer: &Tokenizer) -> Result<Shape> {
    let m = &config.model;
    let shape = Shape {
        encoder_layers: m.encoder_layers,
        decoder_layers: m.decoder_layers,
        d_model: m.d_model,
        ffn: m.ffn,
        heads: m.heads,
        vocab: tokenizer.vocab_size(),
        max_positions: m.max_positions,
        length_classes: LENGTH_CLASSES,
    };
    shape.validate()?;
    Ok(shape)
}

/// Trains, going on from the last checkpoint in `config.output` if there is one. `stop` is looked at
/// after each update; when it is set, everything is saved first.
///
/// Writes `checkpoints/`, `log.jsonl`, and at the end `bundle/` with the final weights (the moving
/// average, where the run keeps one), or the mean of the best where `train.average_best` asks for it.
pub fn run(config: &Config, stop: &AtomicBool) -> Result<End> {
    let (train, data) = (&config.train, &config.data);
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let backend = Backend::cpu();
    let shape = shape(config, &tokenizer)?;
    let positions = shape.max_positions;
    let limit = data.max_tokens_per_sentence.min(positions);
    let (source, target) = data.valid_files();
    let stage = Stage {
        train: train.clone(),
        schedule: train.schedule(),
        output: config.output.clone(),
        config: config.to_toml()?,
        initial: Spec::initial(&shape, train.seed, backend.device())?,
        shape,
        corpus: Corpus::read_all(data, limit, &tokenizer)?,
        valid: TestSet::read_within(&source, &target, train.valid_sentences, &tokenizer, positions)?,
        tokenizer: &tokenizer,
        published: Published::Average,
        scored_steps: 4,
        starts_validated: false,
    };
    let objective = Cmlm {
        specials: Specials::default(),
        label_smoothing: train.label_smoothing as f32,
        length_weight: train.length_loss_weight,
        dropout: train.dropout as f32,
        products: train.products.into(),
    };
    let mut run = Run::prepare(stage, backend, |_| objective)?;
    let end = run.train(stop)?;
    if end == End::Finished {
        let (best, bundle) = (run.best(train.average_best)?, config.output.join("bundle"));
        if best.is_empty() {
            write_bundle(config, &tokenizer, run.published(), &bundle)?;
        } else {
            write_average(config, &best, &bundle)?;
        }
    }
    Ok(end)
}

/// Writes a bundle with the mean weights of some checkpoints of a run: of their moving averages, where
/// each of them has one.
pub fn write_average(config: &Config, checkpoints: &[PathBuf], output: &Path) -> Result<()> {
    let tokenizer = Tokenizer::load(&config.tokenizer.path)?;
    let paths: Vec<PathBuf> = checkpoints.iter().map(|c| c.join("ema.safetensors")).collect();
    let averaged = if paths.iter().all(|p| p.exists()) { paths } else { checkpoints.to_vec() };
    write_bundle(config, &tokenizer, &average(&averaged)?, output)
}

/// Positions that no training sentence can have reached stay out of the bundle: the server then splits
/// a longer sentence, instead of translating it with positions that were never trained.
fn write_bundle(config: &Config, tokenizer: &Tokenizer, weights: &Tensors, path: &Path) -> Result<()> {
    let data = &config.data;
    let mut shape = shape(config, tokenizer)?;
    shape.max_positions = shape.max_positions.min(data.max_tokens_per_sentence);
    let mut weights = weights.clone();
    for name in ["encoder.positions.weight", "decoder.positions.weight"] {
        if let Some(table) = weights.get_mut(name) {
            *table = table.narrow(0, 0, shape.max_positions)?;
        }
    }
    let model = ModelConfig::new(shape, &data.source_lang, &data.target_lang);
    let card = super::card::draft(&model, &config.to_toml()?);
    Bundle::save(path, &model, tokenizer, &weights, &card)
}
