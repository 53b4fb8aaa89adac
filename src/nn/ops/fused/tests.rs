//! Compares the fused sublayers with the composed ops, which are tested with finite differences.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{
    Activation, AttentionMask, Classes, Output, WeightedLoss, backward, cross_attention, dropout, layer_norm,
    linear, residual_dropout, self_attention,
};
use super::*;

const WIDTH: usize = 64;
const EPS: f32 = 1e-5;
const DROPOUT: (f32, u64) = (0.25, 7);

fn random(shape: &[usize], scale: f32, seed: u64) -> Var {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-scale..scale)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Lengths of sentences: more rows than a block has, and sentences of less and more than a tile.
fn lengths() -> Arc<[usize]> {
    (0..60).map(|row| [1, 5, 17, 40, 33, 16, 2][row % 7]).collect()
}

const LEN: usize = 41;

/// 1 for each real position, 0 for the others: `[rows, len, 1]`.
fn real(lengths: &[usize], len: usize) -> Tensor {
    let ones = lengths.iter().flat_map(|&l| (0..len).map(move |i| f32::from(i < l)));
    Tensor::from_vec(ones.collect::<Vec<f32>>(), (lengths.len(), len, 1), &Device::Cpu).unwrap()
}

/// The result, and the gradients of a loss that weights each of its values differently.
fn result_and_gradients(vars: &[Var], result: impl Fn() -> Result<Tensor>) -> (Tensor, Vec<Tensor>) {
    let y = result().unwrap().broadcast_mul(&real(&lengths(), LEN)).unwrap();
    let weighting = random(y.dims(), 1.0, 99);
    let loss = (&y * weighting.as_detached_tensor()).unwrap().sum_all().unwrap();
    let gradients = backward(&loss).unwrap();
    (y, vars.iter().map(|var| gradients.get(var).unwrap().clone()).collect())
}

fn assert_near(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, want) = (flat(got), flat(want));
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let size = norm(&mut want.iter().map(|&v| v.into()));
    let off = norm(&mut got.iter().zip(&want).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    assert!(size > 0.0 && off <= tolerance * size, "{what}: off by {off} of {size}");
}

/// Checks that both give the same up to the rounding of operands, and `fused` the same bits on any number of threads.
fn assert_same(
    names: &[&str],
    vars: &[Var],
    fused: impl Fn() -> Result<Tensor> + Sync,
    composed: impl Fn() -> Result<Tensor>,
) {
    let (y, gradients) = result_and_gradients(vars, &fused);
    let (want, want_gradients) = result_and_gradients(vars, composed);
    assert_near("result", &y, &want, 4e-3);
    for ((name, got), want) in names.iter().zip(&gradients).zip(&want_gradients) {
        assert_near(name, got, want, 1.5e-2);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let (again, gradients_again) = pool.install(|| result_and_gradients(vars, &fused));
    let bits = |t: &Tensor| -> Vec<u32> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(bits(&y), bits(&again));
    for ((name, a), b) in names.iter().zip(&gradients).zip(&gradients_again) {
        assert_eq!(bits(a), bits(b), "{name}");
    }
}

/// Whether the CPU lacks AMX; prints that the test is skipped.
fn unavailable() -> bool {
    let none = !amx_selected();
    if none {
        eprintln!("skipped: this CPU has no AMX");
    }
    none
}

fn frame<'a>(vars: &'a [Var], lengths: &'a [usize]) -> Frame<'a> {
    Frame { gain: &vars[1], bias: &vars[2], eps: EPS, lengths, dropout: DROPOUT }
}

fn affine(vars: &[Var], first: usize) -> Affine {
    Affine { weight: vars[first].as_tensor().clone(), bias: vars[first + 1].as_tensor().clone() }
}

/// Input, gain, bias, and two affine maps.
fn variables(inner: usize, outer: usize) -> Vec<Var> {
    let rows = lengths().len();
    vec![
        random(&[rows, LEN, WIDTH], 1.0, 1),
        random(&[WIDTH], 1.0, 2),
        random(&[WIDTH], 0.5, 3),
        random(&[inner, WIDTH], 0.2, 4),
        random(&[inner], 0.2, 5),
        random(&[WIDTH, outer], 0.2, 6),
        random(&[WIDTH], 0.2, 7),
    ]
}

const NAMES: [&str; 10] =
    ["x", "gain", "bias", "inner", "inner bias", "outer", "outer bias", "memory", "map", "map bias"];

fn normed(vars: &[Var]) -> Result<Tensor> {
    layer_norm(&vars[0], &vars[1], &vars[2], EPS)
}

fn composed_linear(x: &Tensor, vars: &[Var], first: usize, activation: Activation) -> Result<Tensor> {
    linear(x, &vars[first], &vars[first + 1], activation, Precision::Bf16)
}

fn composed_residual(vars: &[Var], branch: &Tensor) -> Result<Tensor> {
    residual_dropout(&vars[0], branch, DROPOUT.0, DROPOUT.1)
}

/// A chain of one sublayer.
fn feed_forward(vars: &[Var], lengths: &[usize]) -> Result<Tensor> {
    let own = feed_forward_sublayer(&vars[0], &frame(vars, lengths), affine(vars, 3), affine(vars, 5))?;
    chain(&vars[0], None, vec![own])
}

#[test]
fn a_feed_forward_sublayer_equals_the_composed_ops() {
    if unavailable() {
        return;
    }
    let (vars, lengths) = (variables(96, 96), lengths());
    assert_same(
        &NAMES,
        &vars,
        || feed_forward(&vars, &lengths),
        || {
            let inner = composed_linear(&normed(&vars)?, &vars, 3, Activation::Relu)?;
            composed_residual(&vars, &composed_linear(&inner, &vars, 5, Activation::None)?)
        },
    );
}

#[test]
fn a_self_attention_sublayer_equals_the_composed_ops() {
    if unavailable() {
        return;
    }
    let (vars, lengths) = (variables(3 * WIDTH, WIDTH), lengths());
    for mask in [AttentionMask::Whole, AttentionMask::Causal] {
        assert_same(
            &NAMES,
            &vars,
            || {
                let (qkv, output) = (affine(&vars, 3), affine(&vars, 5));
                let frame = frame(&vars, &lengths);
                let own = self_attention_sublayer(&vars[0], &frame, qkv, output, 2, mask)?;
                chain(&vars[0], None, vec![own])
            },
            || {
                let qkv = composed_linear(&normed(&vars)?, &vars, 3, Activation::None)?;
                let mixed = self_attention(&qkv, &lengths, 2, mask)?;
                composed_residual(&vars, &composed_linear(&mixed, &vars, 5, Activation::None)?)
            },
        );
    }
}

#[test]
fn a_cross_attention_sublayer_equals_the_composed_ops() {
    if unavailable() {
        return;
    }
    let (mut vars, lengths) = (variables(WIDTH, WIDTH), lengths());
    let sources: Arc<[usize]> = lengths.iter().map(|l| l * 3 / 2 + 1).collect();
    vars.push(random(&[lengths.len(), 61, WIDTH], 1.0, 8));
    vars.push(random(&[2 * WIDTH, WIDTH], 0.2, 9));
    vars.push(random(&[2 * WIDTH], 0.2, 10));
    let sublayer = |source: Source| {
        let (query, output, frame) = (affine(&vars, 3), affine(&vars, 5), frame(&vars, &lengths));
        cross_attention_sublayer(&vars[0], source, (&sources, 61), &frame, query, output, 2)
    };
    let fused = || chain(&vars[0], Some(&vars[7]), vec![sublayer(Source::Memory(affine(&vars, 8)))?]);
    let composed = |keys_values: &Tensor| {
        let query = composed_linear(&normed(&vars)?, &vars, 3, Activation::None)?;
        let mixed = cross_attention(&query, keys_values, &lengths, &sources, 2)?;
        composed_residual(&vars, &composed_linear(&mixed, &vars, 5, Activation::None)?)
    };
    assert_same(&NAMES, &vars, fused, || composed(&composed_linear(&vars[7], &vars, 8, Activation::None)?));

    // Keys and values that are given have no gradient.
    let given = random(&[lengths.len(), 61, 2 * WIDTH], 1.0, 11).as_detached_tensor();
    let names = &NAMES[..7];
    let fused = || chain(&vars[0], None, vec![sublayer(Source::KeysValues(given.clone()))?]);
    assert_same(names, &vars[..7], fused, || composed(&given));
    assert!(
        chain(&vars[0], None, vec![sublayer(Source::Memory(affine(&vars, 8))).unwrap()]).is_err(),
        "no memory"
    );
    assert!(sublayer(Source::KeysValues(vars[7].as_tensor().clone())).is_err());
    assert!(
        sublayer(Source::KeysValues(random(&[lengths.len(), 61, 2 * WIDTH], 1.0, 12).as_tensor().clone()))
            .is_err()
    );
}

#[test]
fn a_backward_pass_without_ops_backward_is_an_error() {
    if unavailable() {
        return;
    }
    let (vars, lengths) = (variables(32, 32), lengths());
    let y = feed_forward(&vars, &lengths);
    assert!(y.unwrap().sum_all().unwrap().backward().is_err());
}

#[test]
fn an_output_layer_with_tiles_equals_f32_on_rounded_values() {
    if unavailable() {
        return;
    }
    let (rows, classes, forbidden) = (571, 700, 5);
    let rounded = |t: &Tensor| t.to_dtype(DType::BF16).and_then(|t| t.to_dtype(DType::F32)).unwrap();
    let vars = [&[rows, WIDTH][..], &[classes, WIDTH], &[classes]].map(|shape| {
        let values = random(shape, 1.0, shape.len() as u64 * 7 + shape[0] as u64);
        Var::from_tensor(&rounded(&values)).unwrap()
    });
    let output = |precision| Output { x: &vars[0], weight: &vars[1], bias: &vars[2], forbidden, precision };
    let gold: Arc<[u32]> =
        (0..rows).map(|row| (forbidden + row * 7 % (classes - forbidden)) as u32).collect();
    let chosen = Arc::new(Classes::new((0..rows).map(|row| -> Vec<u32> {
        (0..row % 4).map(|i| (forbidden + (row * 31 + i * 400) % (classes - forbidden)) as u32).collect()
    })));
    let weigh = |log_probs: &[f32]| {
        let weights: Vec<f32> = (0..log_probs.len()).map(|i| (i % 5) as f32 / 1000.0).collect();
        let value = log_probs.iter().zip(&weights).map(|(&s, &w)| -f64::from(s) * f64::from(w)).sum();
        Ok::<_, candle_core::Error>(WeightedLoss { value, weights })
    };
    let losses: [&dyn Fn(Precision) -> Tensor; 3] = [
        &|precision| output(precision).cross_entropy(&gold, 0.1).unwrap(),
        &|precision| output(precision).cross_entropy(&gold, 0.0).unwrap(),
        &|precision| output(precision).loss_of(&chosen, weigh).unwrap(),
    ];
    for loss in losses {
        let result_and_gradients = |precision| {
            let loss = loss(precision);
            let gradients = backward(&(&loss * 2.0).unwrap()).unwrap();
            let own = vars.each_ref().map(|var| gradients.get(var).unwrap().clone());
            (loss.to_scalar::<f32>().unwrap(), own)
        };
        let ((got, own), (want, wanted)) =
            (result_and_gradients(Precision::Bf16), result_and_gradients(Precision::F32));
        assert!((got - want).abs() < 1e-4 * want.abs(), "{got}, not {want}");
        for ((name, got), want) in ["x", "weight", "bias"].iter().zip(&own).zip(&wanted) {
            assert_near(name, got, want, 5e-3);
        }
    }
    let log_probs = |precision| output(precision).log_probs_of(&chosen).unwrap();
    assert!(
        log_probs(Precision::Bf16).iter().zip(log_probs(Precision::F32)).all(|(a, b)| (a - b).abs() < 1e-3)
    );
    let best = |precision| output(precision).best_tokens().unwrap();
    for ((class, log_prob), (of_f32, exact)) in best(Precision::Bf16).into_iter().zip(best(Precision::F32)) {
        assert!(class as usize >= forbidden && (log_prob - exact).abs() < 1e-3, "{log_prob}, not {exact}");
        assert_eq!(class, of_f32);
    }
    vars[2].set(&vars[2].affine(0.0, f64::NAN).unwrap()).unwrap();
    let loss = output(Precision::Bf16).cross_entropy(&gold, 0.1).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan(), "NaN scores");
    assert!(best(Precision::Bf16).iter().all(|(_, log_prob)| log_prob.is_nan()), "NaN scores");
}

#[test]
fn of_equal_classes_the_lower_one_is_the_best() {
    if unavailable() {
        return;
    }
    let (x, bias) = (random(&[70, WIDTH], 1.0, 1), Tensor::zeros(700, DType::F32, &Device::Cpu).unwrap());
    let half = random(&[350, WIDTH], 1.0, 2).into_inner();
    let weight = Tensor::cat(&[&half, &half], 0).unwrap();
    let output = Output { x: &x, weight: &weight, bias: &bias, forbidden: 5, precision: Precision::Bf16 };
    // The copies of forbidden classes are allowed.
    let best = output.best_tokens().unwrap();
    assert!(best.iter().all(|&(class, _)| (5..355).contains(&class)), "{best:?}");
}

#[test]
fn a_linear_layer_with_tiles_equals_f32_on_rounded_values() {
    if unavailable() {
        return;
    }
    for (rows, activation) in [(1, Activation::None), (571, Activation::None), (1100, Activation::Relu)] {
        let vars = [&[rows, 96][..], &[WIDTH, 96], &[WIDTH]].map(|shape| {
            let values = random(shape, 1.0, shape.len() as u64 * 7 + shape[0] as u64);
            let values = values.to_dtype(DType::BF16).and_then(|t| t.to_dtype(DType::F32)).unwrap();
            Var::from_tensor(&values).unwrap()
        });
        let weighting = random(&[rows, WIDTH], 1.0, 5);
        let result_and_gradients = |precision| {
            let y = linear(&vars[0], &vars[1], &vars[2], activation, precision).unwrap();
            let loss = (&y * weighting.as_detached_tensor()).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            (y, vars.each_ref().map(|var| gradients.get(var).unwrap().clone()))
        };
        let ((y, own), (want, wanted)) =
            (result_and_gradients(Precision::Bf16), result_and_gradients(Precision::F32));
        assert_near("result", &y, &want, 1e-5);
        for ((name, got), want) in ["x", "weight", "bias"].iter().zip(&own).zip(&wanted) {
            assert_near(name, got, want, 5e-3);
        }
    }
}

#[test]
fn a_fused_embedding_equals_the_composed_ops() {
    if unavailable() {
        return;
    }
    let (rows, len, scale) = (9, 13, 3.0);
    let vars = [random(&[20, WIDTH], 1.0, 1), random(&[31, WIDTH], 1.0, 2)];
    let ids: Vec<u32> = (0..rows * len).map(|i| (i * i % 31) as u32).collect();
    let ids = Tensor::from_vec(ids, (rows, len), &Device::Cpu).unwrap();
    for p in [0.0, DROPOUT.0] {
        let result_and_gradients = |fused: bool| {
            let y = if fused {
                embedded(&vars[0], &vars[1], &ids, scale, (p, DROPOUT.1)).unwrap()
            } else {
                let tokens = vars[1].index_select(&ids.flatten_all().unwrap(), 0).unwrap();
                let places = vars[0].narrow(0, 0, len).unwrap().unsqueeze(0).unwrap();
                let sum = tokens.reshape((rows, len, WIDTH)).and_then(|t| t.broadcast_add(&places)).unwrap();
                dropout(&(sum * f64::from(scale)).unwrap(), p, DROPOUT.1).unwrap()
            };
            let loss = (&y * random(&[rows, len, WIDTH], 1.0, 5).as_detached_tensor()).unwrap();
            let gradients = backward(&loss.sum_all().unwrap()).unwrap();
            (y, vars.each_ref().map(|var| gradients.get(var).unwrap().clone()))
        };
        let ((y, own), (want, wanted)) = (result_and_gradients(true), result_and_gradients(false));
        assert_near("result", &y, &want, 1e-6);
        for ((name, got), want) in ["positions", "table"].iter().zip(&own).zip(&wanted) {
            assert_near(name, got, want, 1e-5);
        }
    }
}

#[test]
fn the_gradients_of_a_memory_that_two_sublayers_read_are_added() {
    if unavailable() {
        return;
    }
    let (mut vars, lengths) = (variables(WIDTH, WIDTH), lengths());
    vars.push(random(&[lengths.len(), LEN, WIDTH], 1.0, 8));
    vars.push(random(&[2 * WIDTH, WIDTH], 0.2, 9));
    vars.push(random(&[2 * WIDTH], 0.2, 10));
    let own = |x: &Tensor| {
        let (query, output, frame) = (affine(&vars, 3), affine(&vars, 5), frame(&vars, &lengths));
        let source = Source::Memory(affine(&vars, 8));
        cross_attention_sublayer(x, source, (&lengths, LEN), &frame, query, output, 2)
    };
    let (x, memory) = (vars[0].as_tensor(), Some(vars[7].as_tensor()));
    let together = || chain(x, memory, vec![own(x)?, own(x)?]);
    let apart = || {
        let once = |x: &Tensor| chain(x, memory, vec![own(x)?]);
        once(&once(x)?)
    };
    let ((y, gradients), (want, wanted)) =
        (result_and_gradients(&vars, together), result_and_gradients(&vars, apart));
    assert_near("result", &y, &want, 1e-7);
    for ((name, got), want) in NAMES.iter().zip(&gradients).zip(&wanted) {
        assert_near(name, got, want, 1e-6);
    }
}

#[test]
fn a_chain_equals_its_sublayers_one_after_the_other() {
    if unavailable() {
        return;
    }
    let (vars, lengths) = (variables(96, 96), lengths());
    let own =
        |x: &Tensor| feed_forward_sublayer(x, &frame(&vars, &lengths), affine(&vars, 3), affine(&vars, 5));
    let x = vars[0].as_tensor();
    let together = || chain(x, None, vec![own(x)?, own(x)?, own(x)?]);
    let apart = || {
        let once = |x: &Tensor| chain(x, None, vec![own(x)?]);
        once(&once(&once(x)?)?)
    };
    let ((y, gradients), (want, wanted)) =
        (result_and_gradients(&vars, together), result_and_gradients(&vars, apart));
    assert_near("result", &y, &want, 1e-7);
    for ((name, got), want) in NAMES.iter().zip(&gradients).zip(&wanted) {
        assert_near(name, got, want, 1e-6);
    }
}
