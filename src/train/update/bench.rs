//! `train bench`: the speed of an update for each kind of stage, on random text and weights. Stages take turns after
//! each update, so that other load on the machine affects all of them equally.

use std::time::Instant;

use serde::Serialize;

use crate::model::{Backend, DeviceChoice, Shape, Spec};
use crate::nn::ops::{backward, operations};
use crate::text::Specials;
use crate::train::config::LengthLimit;
use crate::train::config::{
    Dims as DimsSettings, Imputer as ImputerSettings, Mask, Products, SlotMask, TeacherDecay,
};
use crate::train::data::batches::{Batches, Position};
use crate::train::data::corpus::{Corpus, Pair};
use crate::train::objective::Autoregressive;
use crate::train::objective::Dims;
use crate::train::objective::Teacher;
use crate::train::objective::{Cmlm, Imputer, Objective, Step};
use crate::train::observe::machine::cpu_seconds;
use crate::train::rng::Rng;
use crate::train::update::optimizer::{AdamW, Optimizer};
use crate::train::update::rate::LargeProduct;
use crate::train::weights::{Weights, frozen};
use crate::{Error, Result};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    pub shape: Shape,
    pub products: Products,
    /// Padded tokens of the longer side in a batch.
    pub batch_tokens: usize,
    /// Tokens of a sentence on either side, bos and eos included: drawn from half to one and a half of this.
    pub sentence_tokens: usize,
    pub dropout: f32,
    pub device: DeviceChoice,
    /// Number of measured updates of each stage; one more runs first to warm up.
    pub updates: usize,
    /// Whether to measure a large product too, for [`StageSpeed::matrix_share`].
    pub measure_product: bool,
    /// Prefixes of the names of the stages to measure; empty for all stages.
    pub stages: Vec<String>,
    pub seed: u64,
}

/// The speed of one stage.
#[derive(Clone, Debug, Serialize)]
pub struct StageSpeed {
    pub stage: &'static str,
    /// Median over the updates. Counts target tokens with bos and eos, without padding.
    pub tokens_per_second: f64,
    /// Median over the updates.
    pub seconds_per_update: f64,
    /// Median over the updates, of all CPUs together. Other load on the machine changes it less than elapsed time.
    /// `None` if the system does not report it.
    pub cpu_seconds_per_update: Option<f64>,
    /// Rate of the fastest update.
    pub best_tokens_per_second: f64,
    /// Floating-point operations of products with weights, padding and gradients included; see
    /// [`crate::nn::ops::operations`].
    pub operations_per_token: f64,
    /// Floating-point operations per second of an update, as a share of those of a large matrix product on this device,
    /// which is computed just before each update: median over the updates. `None` if that was not measured.
    pub matrix_share: Option<f64>,
}

struct UpdateCost {
    seconds: f64,
    cpu_seconds: Option<f64>,
    target_tokens: usize,
    operations: u64,
    /// Rate of a large product, measured just before.
    matrix_rate: Option<f64>,
}

struct StageBench {
    stage: &'static str,
    weights: Weights,
    optimizer: Optimizer,
    objective: Box<dyn Objective>,
    updates: Vec<UpdateCost>,
}

/// Measures AR, CMLM, Imputer and DiMS. DiMS distils a CMLM: with random masks and two teacher passes, and with full
/// masks and four passes, on the CPU also with a teacher in eight bits.
///
/// # Errors
/// [`Error::Config`] for no updates, an Imputer's shape, unknown stages, or batches too small for a sentence; and the
/// errors of the network.
pub fn run(options: &Options) -> Result<Vec<StageSpeed>> {
    if options.updates == 0 {
        return Err(Error::Config("updates is 0; it must be at least 1".into()));
    }
    if options.shape.has_blanks() {
        return Err(Error::Config(
            "the imputer is one of the measured stages; remove imputer from the shape".into(),
        ));
    }
    let rng = Rng::from_seed(options.seed);
    let corpus = random_corpus(options, &rng);
    let mut batches = Batches::new(corpus.lengths(), options.batch_tokens, &rng, Position::default())?;
    let backend = Backend::of_tensors(options.device)?;
    let mut benches = stage_benches(options, &backend)?;
    let large = options
        .measure_product
        .then(|| LargeProduct::new(backend.device(), options.products.into()))
        .transpose()?;
    for update in 0..=options.updates as u64 {
        let pairs: Vec<&Pair> = batches.next_batch()?.iter().map(|&i| &corpus.pairs[i]).collect();
        for bench in &mut benches {
            let matrix_rate = large.as_ref().map(LargeProduct::rate).transpose()?;
            let (begin, cpu_begin, before) = (Instant::now(), cpu_seconds(), operations());
            let losses = bench.objective.losses(Step {
                student: &bench.weights.network,
                pairs: &pairs,
                masks: rng.fork("masks", update),
                dropout: rng.fork("dropout", update).next_u64(),
            })?;
            let gradients = backward(&losses.total)?;
            bench.optimizer.step(&gradients, 1.0, 1e-4)?;
            backend.device().synchronize()?;
            bench.updates.push(UpdateCost {
                seconds: begin.elapsed().as_secs_f64(),
                cpu_seconds: cpu_seconds().zip(cpu_begin).map(|(end, begin)| end - begin),
                target_tokens: losses.target_tokens,
                operations: operations() - before,
                matrix_rate,
            });
        }
    }
    Ok(benches.into_iter().map(StageBench::speed).collect())
}

impl StageBench {
    fn speed(self) -> StageSpeed {
        // The first update warms up.
        let measured = &self.updates[1..];
        let rates = sorted(measured.iter().map(|update| update.target_tokens as f64 / update.seconds));
        let seconds = sorted(measured.iter().map(|update| update.seconds));
        let cpu_seconds = sorted(measured.iter().filter_map(|update| update.cpu_seconds));
        let share = |update: &UpdateCost| {
            update.matrix_rate.map(|rate| update.operations as f64 / update.seconds / rate)
        };
        let shares = sorted(measured.iter().filter_map(share));
        let tokens: usize = measured.iter().map(|update| update.target_tokens).sum();
        let operations: u64 = measured.iter().map(|update| update.operations).sum();
        StageSpeed {
            stage: self.stage,
            tokens_per_second: rates[rates.len() / 2],
            seconds_per_update: seconds[seconds.len() / 2],
            cpu_seconds_per_update: cpu_seconds.get(cpu_seconds.len() / 2).copied(),
            best_tokens_per_second: rates[rates.len() - 1],
            operations_per_token: operations as f64 / tokens.max(1) as f64,
            matrix_share: shares.get(shares.len() / 2).copied(),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn random_corpus(options: &Options, rng: &Rng) -> Corpus {
    let mut rng = rng.fork("bench corpus", 0);
    let first = Specials::NAMES.len();
    let max_tokens = options.shape.max_positions;
    let mut sentence = || {
        let length = options.sentence_tokens / 2 + rng.below(options.sentence_tokens + 1);
        let length = length.clamp(3, max_tokens);
        let inner = (2..length).map(|_| (first + rng.below(options.shape.vocab - first)) as u32);
        let Specials { bos, eos, .. } = Specials::default();
        [bos].into_iter().chain(inner).chain([eos]).collect::<Vec<u32>>()
    };
    let count = (options.updates + 2) * options.batch_tokens / 3;
    let pairs = (0..count.min(20_000)).map(|_| Pair { source: sentence(), target: sentence() });
    // Pairs that do not fit an Imputer's slots are left out for all stages.
    let limit = LengthLimit { tokens: max_tokens, in_slots: true };
    Corpus { pairs: pairs.filter(|pair| pair.fits(limit)).collect(), ..Corpus::default() }
}

/// The name of a stage, the shape of its network, and its loss.
type StageToMeasure = (&'static str, Shape, Box<dyn Objective>);

fn stage_benches(options: &Options, backend: &Backend) -> Result<Vec<StageBench>> {
    let specials = Specials::default();
    let products = options.products.into();
    let dims = |mask, steps, teacher| -> Result<Box<dyn Objective>> {
        let settings =
            DimsSettings { mask, steps, ema: TeacherDecay::Switch(false), ..DimsSettings::default() };
        Ok(Box::new(Dims {
            settings,
            teacher,
            lm: None,
            specials,
            length_weight: 0.1,
            products,
            batch_tokens: options.batch_tokens,
        }))
    };
    let (label_smoothing, length_weight, dropout) = (0.1, 0.1, options.dropout);
    let tensors = Spec::initial(&options.shape, options.seed, backend.device())?;
    let exact = || Ok::<_, Error>(Teacher::exact(frozen(&options.shape, &tensors, backend)?));
    let eight_bit = Teacher::eight_bit(frozen(&options.shape, &tensors, backend)?, tensors.clone(), true);
    let slots = Imputer { specials, mask: SlotMask::Block, dropout, products };
    let plain = || options.shape.clone();
    let with_slots = ImputerSettings::default().shape(plain());
    let mut stages: Vec<StageToMeasure> = vec![
        (
            "ar",
            plain(),
            Box::new(Autoregressive { specials, label_smoothing, length_weight, dropout, products }),
        ),
        ("cmlm", plain(), Box::new(Cmlm { specials, label_smoothing, length_weight, dropout, products })),
        ("imputer", with_slots, Box::new(slots)),
        ("dims, random masks, 2 passes", plain(), dims(Mask::Random, 2, exact()?)?),
        ("dims, full masks, 4 passes", plain(), dims(Mask::Full, 4, exact()?)?),
    ];
    if backend.gpu().is_none() {
        stages.push(("dims, full masks, 4 passes, teacher in q8", plain(), dims(Mask::Full, 4, eight_bit)?));
    }
    let bench = |(stage, shape, objective): StageToMeasure| {
        let weights = Weights::initial(&shape, options.seed, backend)?;
        let named = weights.vars.iter().map(|(name, var)| (name.clone(), var.clone()));
        let optimizer = Optimizer::new(named, AdamW::default())?;
        Ok(StageBench { stage, weights, optimizer, objective, updates: Vec::new() })
    };
    let wanted = |name: &str| {
        options.stages.is_empty() || options.stages.iter().any(|stage| name.starts_with(stage.as_str()))
    };
    let benches =
        stages.into_iter().filter(|(name, ..)| wanted(name)).map(bench).collect::<Result<Vec<_>>>()?;
    if benches.is_empty() {
        return Err(Error::Config(
            "no stage has such a name; the stages are ar, cmlm, imputer and dims".into(),
        ));
    }
    Ok(benches)
}

#[cfg(test)]
mod tests;
