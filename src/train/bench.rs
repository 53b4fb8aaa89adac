//! `train bench`: how fast an update is, for each kind of stage, on random text and weights. The stages
//! take turns, update by update, so that what else the machine does falls on all of them.

use std::time::Instant;

use serde::Serialize;

use super::ar::Autoregressive;
use super::batches::{Batches, Position};
use super::config::{Dims as DimsSettings, Following, Imputer as ImputerSettings, Mask, Products, SlotMask};
use super::corpus::{Corpus, Pair, Room};
use super::dims::{Dims, Teacher};
use super::objective::{Cmlm, Imputer, Objective, Step};
use super::optimizer::{AdamW, Optimizer};
use super::rate::matrix_rate;
use super::rng::Rng;
use super::weights::{Weights, frozen};
use crate::model::{Backend, DeviceChoice, Shape, Spec};
use crate::nn::ops::operations;
use crate::text::Specials;
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
    /// Measured updates of each stage; one more goes before them.
    pub updates: usize,
    pub seed: u64,
}

/// One stage's updates.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub stage: &'static str,
    /// Medians over the updates. Target tokens, bos and eos counted, padding not.
    pub tokens_per_second: f64,
    pub seconds_per_update: f64,
    /// Of the fastest update.
    pub best_tokens_per_second: f64,
    /// Floating-point operations of products with weights, padding and gradients included; see
    /// [`operations`](crate::nn::ops::operations).
    pub operations_per_token: f64,
    /// The median update's, of the rate that a large product has on this device.
    pub matrix_share: f64,
}

struct Update {
    seconds: f64,
    target_tokens: usize,
    operations: u64,
}

struct Lane {
    stage: &'static str,
    weights: Weights,
    optimizer: Optimizer,
    objective: Box<dyn Objective>,
    updates: Vec<Update>,
}

/// Measures AR, CMLM, Imputer and DiMS (of a CMLM: random masks, two teacher passes; full masks, four, on the CPU also in eight bits).
///
/// Errors: no updates; a batch too small for a sentence; whatever the network answers.
pub fn run(options: &Options) -> Result<Vec<Measured>> {
    if options.updates == 0 {
        return Err(Error::Config("updates is 0; it must be at least 1".into()));
    }
    if options.shape.has_blanks() {
        return Err(Error::Config(
            "the imputer is one of the stages measured: leave imputer out of the shape".into(),
        ));
    }
    let rng = Rng::from_seed(options.seed);
    let corpus = random_corpus(options, &rng);
    let mut batches = Batches::new(corpus.lengths(), options.batch_tokens, &rng, Position::default())?;
    let backend = Backend::of_tensors(options.device)?;
    let mut lanes = lanes(options, &backend)?;
    for update in 0..=options.updates as u64 {
        let pairs: Vec<&Pair> = batches.next_batch()?.iter().map(|&i| &corpus.pairs[i]).collect();
        for lane in &mut lanes {
            let (begin, before) = (Instant::now(), operations());
            let losses = lane.objective.losses(Step {
                student: &lane.weights.network,
                pairs: &pairs,
                masks: rng.fork("masks", update),
                dropout: rng.fork("dropout", update).next_u64(),
            })?;
            let gradients = losses.total.backward()?;
            lane.optimizer.step(&gradients, 1.0, 1e-4)?;
            backend.device().synchronize()?;
            lane.updates.push(Update {
                seconds: begin.elapsed().as_secs_f64(),
                target_tokens: losses.target_tokens,
                operations: operations() - before,
            });
        }
    }
    let matrix_rate = matrix_rate(backend.device(), options.products.into())?;
    Ok(lanes.into_iter().map(|lane| lane.measured(matrix_rate)).collect())
}

impl Lane {
    fn measured(self, matrix_rate: f64) -> Measured {
        let measured = &self.updates[1..];
        let rates = sorted(measured.iter().map(|update| update.target_tokens as f64 / update.seconds));
        let seconds = sorted(measured.iter().map(|update| update.seconds));
        let shares = sorted(measured.iter().map(|update| update.operations as f64 / update.seconds));
        let tokens: usize = measured.iter().map(|update| update.target_tokens).sum();
        let operations: u64 = measured.iter().map(|update| update.operations).sum();
        Measured {
            stage: self.stage,
            tokens_per_second: rates[rates.len() / 2],
            seconds_per_update: seconds[seconds.len() / 2],
            best_tokens_per_second: rates[rates.len() - 1],
            operations_per_token: operations as f64 / tokens.max(1) as f64,
            matrix_share: shares[shares.len() / 2] / matrix_rate,
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
    let most = options.shape.max_positions;
    let mut sentence = || {
        let length = (options.sentence_tokens / 2 + rng.below(options.sentence_tokens + 1)).clamp(3, most);
        let inner = (2..length).map(|_| (first + rng.below(options.shape.vocab - first)) as u32);
        let Specials { bos, eos, .. } = Specials::default();
        [bos].into_iter().chain(inner).chain([eos]).collect::<Vec<u32>>()
    };
    let count = (options.updates + 2) * options.batch_tokens / 3;
    let pairs = (0..count.min(20_000)).map(|_| Pair { source: sentence(), target: sentence() });
    // What an Imputer could not learn, nobody is measured with.
    let room = Room { tokens: most, in_slots: true };
    Corpus { pairs: pairs.filter(|pair| room.holds(pair)).collect(), ..Corpus::default() }
}

/// A stage, the shape of its network, and what it minimises.
type Planned = (&'static str, Shape, Box<dyn Objective>);

fn lanes(options: &Options, backend: &Backend) -> Result<Vec<Lane>> {
    let specials = Specials::default();
    let products = options.products.into();
    let dims = |mask, steps, teacher| -> Result<Box<dyn Objective>> {
        let settings = DimsSettings { mask, steps, ema: Following::Switch(false), ..DimsSettings::default() };
        Ok(Box::new(Dims {
            settings,
            teacher,
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
    let mut stages: Vec<Planned> = vec![
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
    let lane = |(stage, shape, objective): Planned| {
        let weights = Weights::initial(&shape, options.seed, backend)?;
        let named = weights.vars.iter().map(|(name, var)| (name.clone(), var.clone()));
        let optimizer = Optimizer::new(named, AdamW::default())?;
        Ok(Lane { stage, weights, optimizer, objective, updates: Vec::new() })
    };
    stages.into_iter().map(lane).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use candle_core::backprop::GradStore;

    use super::*;
    use crate::nn::ops::{Way, by};
    use crate::train::config::Cmlmc as Settings;
    use crate::train::objective::Cmlmc;

    fn options(updates: usize) -> Options {
        Options {
            shape: "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=32,positions=24".parse().unwrap(),
            products: Products::F32,
            batch_tokens: 60,
            sentence_tokens: 8,
            dropout: 0.1,
            device: DeviceChoice::Cpu,
            updates,
            seed: 1,
        }
    }

    #[test]
    fn every_stage_is_measured() {
        let measured = run(&options(3)).unwrap();
        let stages: Vec<&str> = measured.iter().map(|m| m.stage).collect();
        assert_eq!(stages.len(), 6);
        assert_eq!(stages[..3], ["ar", "cmlm", "imputer"]);
        for m in &measured {
            assert!(m.tokens_per_second > 0.0 && m.best_tokens_per_second >= m.tokens_per_second);
            assert!(m.seconds_per_update > 0.0 && m.matrix_share > 0.0);
        }
        // Of a target token and its share of the source: three products with everything.
        let cmlm = measured[1].operations_per_token;
        assert!((1e4..1e5).contains(&cmlm), "{cmlm}");
        let passes = |stage: usize| measured[stage].operations_per_token - cmlm;
        assert!(passes(4) > passes(3) && passes(3) > 0.0, "a teacher's passes are work too");
    }

    #[test]
    fn no_updates_and_a_small_batch_are_errors() {
        assert!(run(&options(0)).unwrap_err().to_string().contains("updates"));
        let small = Options { batch_tokens: 5, ..options(1) };
        assert!(run(&small).is_err());
    }

    /// The loss of an update, and its gradients by name.
    type First = (f32, Vec<(String, Vec<f32>)>);

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn gradients(weights: &Weights, objective: &dyn Objective, corpus: &Corpus) -> (f32, GradStore) {
        let pairs: Vec<&Pair> = corpus.pairs.iter().take(5).collect();
        let rng = Rng::from_seed(4);
        let (student, masks) = (&weights.network, rng.fork("masks", 0));
        let losses = objective.losses(Step { student, pairs: &pairs, masks, dropout: 9 }).unwrap();
        (losses.total.to_scalar().unwrap(), losses.total.backward().unwrap())
    }

    fn first_update(weights: &Weights, objective: &dyn Objective, corpus: &Corpus) -> First {
        let (loss, gradients) = gradients(weights, objective, corpus);
        let named = weights.vars.iter().map(|(name, var)| (name.clone(), flat(gradients.get(var).unwrap())));
        (loss, named.collect())
    }

    /// What a stage is called, what it trains and what it minimises.
    type Learner = (&'static str, Weights, Box<dyn Objective>);

    /// One for each objective that there is, with the same weights and draws on every device.
    fn learners(options: &Options, backend: &Backend) -> Vec<Learner> {
        let mut learners: Vec<Learner> = lanes(options, backend)
            .unwrap()
            .into_iter()
            .filter(|lane| !lane.stage.contains("q8"))
            .map(|lane| (lane.stage, lane.weights, lane.objective))
            .collect();
        let settings = Settings { masked_source: 0.3, corrected: 0.5, ..Settings::default() };
        let cmlmc = Weights::initial(&settings.shape(options.shape.clone()), 6, backend).unwrap();
        let cmlm = Cmlm {
            specials: Specials::default(),
            label_smoothing: 0.1,
            length_weight: 0.1,
            dropout: 0.1,
            products: options.products.into(),
        };
        learners.push(("cmlmc", cmlmc, Box::new(Cmlmc { cmlm, settings })));
        learners
    }

    /// Both within a thousandth of the second, as losses and as vectors.
    fn assert_learnt(what: &str, found: &First, expected: &First) {
        let (loss, expected_loss) = (found.0, expected.0);
        assert!(
            (loss - expected_loss).abs() < 1e-3 * expected_loss.abs(),
            "{what}: {loss}, not {expected_loss}"
        );
        for ((name, found), (_, expected)) in found.1.iter().zip(&expected.1) {
            let size = expected.iter().map(|v| v * v).sum::<f32>().sqrt();
            let off = found.iter().zip(expected).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            assert!(off <= 1e-3 * size + 1e-6, "{what}, {name}: off by {off} of {size}");
        }
    }

    #[test]
    fn every_stage_learns_the_same_by_every_way() {
        let options = options(1);
        let corpus = random_corpus(&options, &Rng::from_seed(2));
        for (stage, weights, objective) in &learners(&options, &Backend::cpu()) {
            let of = |way| by(way, || first_update(weights, objective.as_ref(), &corpus));
            let expected = of(Way::Cpu);
            for way in [Way::Kernels, Way::Stock] {
                assert_learnt(&format!("{stage}, {way:?}"), &of(way), &expected);
            }
        }
    }

    #[test]
    #[cfg(feature = "cuda")]
    #[ignore = "needs a GPU"]
    fn every_stage_learns_on_a_gpu_what_it_learns_on_the_cpu() {
        let options = options(1);
        let corpus = random_corpus(&options, &Rng::from_seed(2));
        let gpu = Backend::of_tensors(DeviceChoice::Cuda(0)).unwrap();
        // Products in whole f32, so that nothing but the order of sums may differ.
        candle_core::cuda::set_gemm_reduced_precision_f32(false);
        let moved = |learners: &[Learner]| -> Vec<(First, First)> {
            let moved = learners.iter().map(|(_, weights, objective)| {
                let learnt = first_update(weights, objective.as_ref(), &corpus);
                let named = || weights.vars.iter().map(|(name, var)| (name.clone(), var.clone()));
                let mut optimizer = Optimizer::new(named(), AdamW { eps: 1e-3, ..AdamW::default() }).unwrap();
                let mut ema = crate::train::ema::Ema::new(named(), 0.9).unwrap();
                let gradients = gradients(weights, objective.as_ref(), &corpus).1;
                optimizer.step(&gradients, 0.5, 1e-2).unwrap();
                ema.update().unwrap();
                let vars = weights.vars.iter().map(|(name, var)| (name.clone(), flat(var)));
                let averages = ema.vars().into_iter().map(|(name, var)| (name, flat(&var)));
                (learnt, (1.0, vars.chain(averages).collect()))
            });
            moved.collect()
        };
        let (here, there) = (learners(&options, &Backend::cpu()), learners(&options, &gpu));
        for (i, (found, expected)) in moved(&there).iter().zip(&moved(&here)).enumerate() {
            assert_learnt(here[i].0, &found.0, &expected.0);
            assert_learnt(&format!("{}, moved", here[i].0), &found.1, &expected.1);
        }
    }
}
