use candle_core::Tensor;
use candle_core::backprop::GradStore;

use super::*;
use crate::nn::ops::{KernelPath, with_path};
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
        measure_product: true,
        stages: Vec::new(),
        seed: 1,
    }
}

#[test]
fn stages_are_selected_by_prefixes_of_their_names() {
    let chosen = |names: &[&str]| {
        let stages = names.iter().map(ToString::to_string).collect();
        run(&Options { stages, ..options(1) }).map(|all| all.iter().map(|m| m.stage).collect::<Vec<_>>())
    };
    assert_eq!(chosen(&["imputer", "ar"]).unwrap(), ["ar", "imputer"]);
    assert_eq!(chosen(&["dims"]).unwrap().len(), 3);
    assert!(chosen(&["cmlmx"]).is_err());
}

#[test]
fn every_stage_is_measured() {
    let measured = run(&options(3)).unwrap();
    let stages: Vec<&str> = measured.iter().map(|m| m.stage).collect();
    assert_eq!(stages.len(), 6);
    assert_eq!(stages[..3], ["ar", "cmlm", "imputer"]);
    for m in &measured {
        assert!(m.tokens_per_second > 0.0 && m.best_tokens_per_second >= m.tokens_per_second);
        assert!(m.seconds_per_update > 0.0 && m.matrix_share.unwrap() > 0.0);
    }
    // A target token and its share of the source: three products with each weight.
    let cmlm = measured[1].operations_per_token;
    assert!((1e4..1e5).contains(&cmlm), "{cmlm}");
    let passes = |stage: usize| measured[stage].operations_per_token - cmlm;
    assert!(passes(4) > passes(3) && passes(3) > 0.0, "a teacher's passes are work too");
}

#[test]
fn without_the_large_product_only_updates_are_computed() {
    let options = Options { measure_product: false, stages: vec!["cmlm".into()], ..options(2) };
    let before = operations();
    let measured = run(&options).unwrap();
    assert!(measured[0].matrix_share.is_none() && measured[0].seconds_per_update > 0.0);
    // The product alone has 500 million.
    assert!(operations() - before < 100_000_000);
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

/// The name of a stage, its weights and its loss.
type Learner = (&'static str, Weights, Box<dyn Objective>);

/// One for each objective, with the same weights and random numbers on every device.
fn learners(options: &Options, backend: &Backend) -> Vec<Learner> {
    let mut learners: Vec<Learner> = stage_benches(options, backend)
        .unwrap()
        .into_iter()
        .filter(|bench| !bench.stage.contains("q8"))
        .map(|bench| (bench.stage, bench.weights, bench.objective))
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

/// Asserts that losses and gradients differ by at most a thousandth of the expected ones.
fn assert_learnt(what: &str, found: &First, expected: &First) {
    let (loss, expected_loss) = (found.0, expected.0);
    assert!((loss - expected_loss).abs() < 1e-3 * expected_loss.abs(), "{what}: {loss}, not {expected_loss}");
    for ((name, found), (_, expected)) in found.1.iter().zip(&expected.1) {
        let size = expected.iter().map(|v| v * v).sum::<f32>().sqrt();
        let off = found.iter().zip(expected).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        assert!(off <= 1e-3 * size + 1e-6, "{what}, {name}: off by {off} of {size}");
    }
}

#[test]
fn every_stage_learns_the_same_on_every_kernel_path() {
    let options = options(1);
    let corpus = random_corpus(&options, &Rng::from_seed(2));
    for (stage, weights, objective) in &learners(&options, &Backend::cpu()) {
        let of = |path| with_path(path, || first_update(weights, objective.as_ref(), &corpus));
        let expected = of(KernelPath::Cpu);
        for path in [KernelPath::Kernels, KernelPath::Stock] {
            assert_learnt(&format!("{stage}, {path:?}"), &of(path), &expected);
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
    // Full f32 products, so that only the order of sums differs.
    candle_core::cuda::set_gemm_reduced_precision_f32(false);
    let moved = |learners: &[Learner]| -> Vec<(First, First)> {
        let moved = learners.iter().map(|(_, weights, objective)| {
            let learnt = first_update(weights, objective.as_ref(), &corpus);
            let named = || weights.vars.iter().map(|(name, var)| (name.clone(), var.clone()));
            let mut optimizer = Optimizer::new(named(), AdamW { eps: 1e-3, ..AdamW::default() }).unwrap();
            let mut ema = crate::train::update::ema::Ema::new(named(), 0.9).unwrap();
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
