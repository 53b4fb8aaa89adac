//! The network as a whole: every weight is trained, the gradient is the slope of the loss, and the result for a
//! sentence does not depend on others in the batch, bit for bit.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use tutti::decode::{Encoded, Prediction, Row, Translator};
use tutti::model::{Backend, DecoderAttention, Lengths, Network, NormPlace, Positions, Refresh, Shape};
use tutti::nn::Mode;
use tutti::nn::gemm::Precision;
use tutti::nn::ops::backward;
use tutti::text::Specials;
use tutti::train::data::corpus::Pair;
use tutti::train::data::masking::mask_target;
use tutti::train::objective::{Batch, Losses, TrainingPass};
use tutti::train::rng::Rng;
use tutti::train::weights::Weights;

/// So few length classes that the tests use several of them.
fn shape(text: &str) -> Shape {
    let shape: Shape = text.parse().expect("a shape");
    Shape { length_classes: 12, ..shape }
}

fn tiny() -> Shape {
    shape("enc=2,dec=2,d=16,ffn=24,heads=2,vocab=32,positions=16")
}

/// Widths of whole tiles, which CPUs with AMX train by fused layers.
fn tiled() -> Shape {
    shape("enc=2,dec=2,d=64,ffn=96,heads=2,vocab=64,positions=16")
}

/// The plain network and its variants.
fn kinds(plain: &Shape) -> [Shape; 3] {
    let causal = Shape { decoder_attention: DecoderAttention::WholeThenCausal, ..plain.clone() };
    let post = Shape {
        norm: NormPlace::Post,
        positions: Positions::Unscaled,
        lengths: Lengths::Absolute,
        ..plain.clone()
    };
    [plain.clone(), Shape { positions: Positions::Concat, refresh: Refresh::All, ..causal }, post]
}

/// A network without a length head, which can predict blanks.
fn imputer(plain: &Shape) -> Shape {
    Shape { lengths: Lengths::Ctc, length_classes: 0, ..plain.clone() }
}

fn length_log_probs<M>(encoded: &Encoded<M>) -> Vec<f32> {
    encoded.length_prediction.clone().into_length_log_probs()
}

/// `bos`, `inner` words, `eos`.
fn sentence(inner: usize, vocab: usize, rng: &mut Rng) -> Vec<u32> {
    let words = Specials::NAMES.len();
    let mut ids = vec![Specials::default().bos];
    ids.extend((0..inner).map(|_| (words + rng.below(vocab - words)) as u32));
    ids.push(Specials::default().eos);
    ids
}

fn batch(shape: &Shape, seed: u64) -> Batch {
    let mut rng = Rng::from_seed(seed);
    let pairs: Vec<Pair> = [(3, 5), (9, 7), (1, 1), (6, 2)]
        .map(|(source, target)| Pair {
            source: sentence(source, shape.vocab, &mut rng),
            target: sentence(target, shape.vocab, &mut rng),
        })
        .into();
    let specials = Specials::default();
    let masked: Vec<_> = pairs.iter().map(|p| mask_target(&p.target, specials.mask, &mut rng)).collect();
    let pairs: Vec<&Pair> = pairs.iter().collect();
    Batch::new(&pairs, &masked, shape, &specials, &Device::Cpu).expect("a batch")
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("f32 values")
}

fn total(weights: &Weights, batch: &Batch, mode: &Mode) -> Tensor {
    let pass = TrainingPass::of(&weights.network, batch, mode).expect("a pass");
    let output = weights.network.output(&pass.hidden, weights.network.forbidden(), mode);
    let tokens = output.cross_entropy(&batch.gold, 0.1).expect("a loss");
    Losses::of(tokens, pass.length_loss, batch, 0.1).expect("a loss").total
}

#[test]
fn every_weight_gets_a_gradient() {
    for shape in kinds(&tiny()).into_iter().chain(kinds(&tiled())) {
        let weights = Weights::initial(&shape, 1, &Backend::cpu()).expect("weights");
        let batch = batch(&shape, 1);
        let training = |seed, precision| Mode::training(0.3, seed, precision);
        let modes = [Mode::inference(), training(5, Precision::F32), training(6, Precision::Bf16)];
        for mode in modes {
            let grads = backward(&total(&weights, &batch, &mode)).expect("a backward pass");
            for (name, var) in &weights.vars {
                let grad = flat(grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient")));
                assert!(grad.iter().all(|g| g.is_finite()), "{name} {mode:?}");
                assert!(grad.iter().any(|g| *g != 0.0), "the gradient of {name} is zero, {mode:?}");
            }
        }
    }
}

/// Of each weight's gradient, the distance from that in f32 over the size of that.
#[test]
fn gradients_in_bf16_are_those_in_f32_but_for_rounding() {
    for shape in kinds(&tiled()) {
        let weights = Weights::initial(&shape, 2, &Backend::cpu()).expect("weights");
        let batch = batch(&shape, 3);
        let gradients = |precision| {
            backward(&total(&weights, &batch, &Mode::training(0.1, 9, precision))).expect("a backward pass")
        };
        let (got, want) = (gradients(Precision::Bf16), gradients(Precision::F32));
        let size = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        for (name, var) in &weights.vars {
            let (got, want) =
                (flat(got.get(var).expect("a gradient")), flat(want.get(var).expect("a gradient")));
            let off = size(&mut got.iter().zip(&want).map(|(a, b)| a - b)) / size(&mut want.into_iter());
            assert!(off < 0.1, "{name}: off by {off}");
        }
    }
}

/// For each tensor the entry with the largest gradient, where an error would be largest, and some others.
#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    const STEP: f32 = 4e-3;
    for shape in kinds(&shape("enc=1,dec=1,d=16,ffn=16,heads=2,vocab=16,positions=12")) {
        let weights = Weights::initial(&shape, 2, &Backend::cpu()).expect("weights");
        for (name, var) in weights.vars.iter().filter(|(name, _)| name.ends_with("inner.bias")) {
            // Not near the kink of ReLU: a difference across it is not a slope.
            let bias: Vec<f32> =
                (0..var.elem_count()).map(|i| if i.is_multiple_of(2) { 8.0 } else { -8.0 }).collect();
            var.set(&Tensor::from_vec(bias, var.shape(), var.device()).expect("values")).expect(name);
        }
        let batch = batch(&shape, 3);
        // Dropout is part of the loss: the same seed drops the same positions on both sides.
        let loss = || total(&weights, &batch, &Mode::training(0.1, 9, Precision::F32));
        let grads = loss().backward().expect("a backward pass");
        let mut rng = Rng::from_seed(4);
        for (name, var) in &weights.vars {
            let (grad, values) = (flat(grads.get(var).expect("a gradient")), flat(var));
            let largest =
                (0..grad.len()).max_by(|&a, &b| grad[a].abs().total_cmp(&grad[b].abs())).expect("an entry");
            let others: Vec<usize> = (0..4).map(|_| rng.below(grad.len())).collect();
            for i in [vec![largest], others].concat() {
                let at = |step: f32| {
                    let mut moved = values.clone();
                    moved[i] += step;
                    var.set(&Tensor::from_vec(moved, var.shape(), var.device()).expect("values"))
                        .expect("set");
                    f64::from(loss().to_scalar::<f32>().expect("a scalar"))
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * f64::from(STEP));
                at(0.0);
                let off = (f64::from(grad[i]) - slope).abs();
                assert!(off < 4e-4 + 0.02 * slope.abs(), "{name} at {i}: {}, not {slope}", grad[i]);
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_weights_and_another_seed_others() {
    let values = |seed| -> BTreeMap<String, Vec<f32>> {
        let weights = Weights::initial(&tiny(), seed, &Backend::cpu()).expect("weights");
        weights.tensors().into_iter().map(|(name, t)| (name, flat(&t))).collect()
    };
    let (first, again, other) = (values(1), values(1), values(2));
    assert!(first == again);
    for ((name, a), (_, b)) in first.iter().zip(&other) {
        let constant = name.ends_with("bias") || name.contains("norm");
        assert_eq!(a == b, constant, "{name}");
    }
    // Two matrices drawn from one stream would be equal up to scale.
    let matrices = first.iter().filter(|(name, _)| name.ends_with("weight") && !name.contains("norm"));
    let mut signs: Vec<Vec<bool>> =
        matrices.map(|(_, v)| v[..64].iter().map(|v| *v > 0.0).collect()).collect();
    let count = signs.len();
    signs.sort();
    signs.dedup();
    assert_eq!(signs.len(), count);
}

type Memory = <Network as Translator>::Memory;

/// A source, a canvas for it, and the wanted positions.
struct Case {
    source: Vec<u32>,
    canvas: Vec<u32>,
    wanted: Vec<usize>,
}

fn case(shape: &Shape, source: usize, target: usize, rng: &mut Rng) -> Case {
    let source = sentence(source, shape.vocab, rng);
    let mut canvas = sentence(target, shape.vocab, rng);
    let len = canvas.len();
    for id in &mut canvas[1..len - 1] {
        *id = if rng.below(2) == 0 { Specials::default().mask } else { *id };
    }
    let wanted = (1..len - 1).filter(|_| rng.below(4) > 0).collect();
    Case { source, canvas, wanted }
}

fn encode(network: &Network, cases: &[&Case]) -> Vec<Encoded<Memory>> {
    let sources: Vec<&[u32]> = cases.iter().map(|c| c.source.as_slice()).collect();
    Translator::encode(network, &sources).expect("encode")
}

fn decode<'a>(network: &Network, rows: &[(&'a Case, &'a Memory)]) -> Vec<Vec<Prediction>> {
    let row = |&(case, memory): &(&'a Case, &'a Memory)| Row {
        memory,
        canvas: &case.canvas,
        wanted: &case.wanted,
        top_k: false,
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    Translator::decode(network, &rows).expect("decode")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn prediction_bits(row: &[Prediction]) -> Vec<(u32, u32)> {
    row.iter().map(|p| (p.token, p.log_prob.to_bits())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(36))]

    #[test]
    fn a_sentence_has_the_same_translation_in_any_batch(
        lengths in prop::collection::vec((0usize..14, 0usize..14), 1..=40), seed: u64, wide: bool, kind in 0usize..4,
    ) {
        // Above and below the sizes at which the matrix product changes its algorithm.
        let shape = if wide { shape("enc=1,dec=2,d=72,ffn=136,heads=3,vocab=304,positions=16") } else { tiny() };
        let shape = kinds(&shape).into_iter().chain([imputer(&shape)]).nth(kind).expect("a kind");
        let network = Network::random(&shape, seed, &Backend::cpu()).expect("a network");
        let mut rng = Rng::from_seed(seed);
        let cases: Vec<Case> = lengths.iter().map(|&(s, t)| case(&shape, s, t, &mut rng)).collect();
        let cases: Vec<&Case> = cases.iter().collect();

        let together = encode(&network, &cases);
        let alone: Vec<Encoded<Memory>> = cases.iter().flat_map(|case| encode(&network, &[case])).collect();
        for (a, b) in together.iter().zip(&alone) {
            prop_assert_eq!(bits(&length_log_probs(a)), bits(&length_log_probs(b)));
        }
        // Memories made in a batch and alone, forwards and backwards.
        let row = |i: usize| (cases[i], if i.is_multiple_of(2) { &together[i].memory } else { &alone[i].memory });
        let forwards: Vec<_> = (0..cases.len()).map(row).collect();
        let backwards: Vec<_> = (0..cases.len()).rev().map(row).collect();
        let batched = decode(&network, &forwards);
        let reversed = decode(&network, &backwards);
        for (i, batched) in batched.iter().enumerate() {
            let single = &decode(&network, &[(cases[i], &alone[i].memory)])[0];
            prop_assert_eq!(single.len(), cases[i].wanted.len());
            prop_assert_eq!(prediction_bits(batched), prediction_bits(single));
            prop_assert_eq!(prediction_bits(&reversed[cases.len() - 1 - i]), prediction_bits(single));
            let forbidden = shape.forbidden();
            prop_assert!(single.iter().all(|p| p.token as usize >= forbidden && p.log_prob <= 0.0));
        }
    }

    /// Length scores are probabilities, and lengths beyond the positions have none.
    #[test]
    fn length_scores_are_log_probabilities_of_lengths_that_fit(source in 0usize..14, seed: u64) {
        let network = Network::random(&tiny(), seed, &Backend::cpu()).expect("a network");
        let case = case(&tiny(), source, 1, &mut Rng::from_seed(seed));
        let scores = length_log_probs(&encode(&network, &[&case])[0]);
        prop_assert!(scores.len() < network.limits().target_tokens);
        prop_assert!(scores.iter().all(|s| *s <= 0.0));
        let sum: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
        prop_assert!(sum > 0.0 && sum < 1.0 + 1e-5, "{sum}");
    }
}

#[test]
fn an_input_that_no_network_can_read_is_an_error() {
    let network = Network::random(&tiny(), 1, &Backend::cpu()).expect("a network");
    let encode = |ids: &[u32]| Translator::encode(&network, &[ids]).map(|_| ());
    assert!(encode(&[1, 31, 2]).is_ok());
    assert!(encode(&[1, 32, 2]).is_err());
    assert!(encode(&[1, u32::MAX, 2]).is_err());
    assert!(encode(&[]).is_err());
    assert!(encode(&[5; 16]).is_ok());
    assert!(encode(&[5; 17]).is_err());
    let memory = &Translator::encode(&network, &[&[1, 6, 2]]).expect("encode")[0].memory;
    let decode = |canvas: &[u32], wanted: &[usize]| {
        Translator::decode(&network, &[Row { memory, canvas, wanted, top_k: false }])
            .map(|rows| rows[0].len())
    };
    assert_eq!(decode(&[1, 4, 2], &[1]).expect("one"), 1);
    assert_eq!(decode(&[1, 4, 2], &[]).expect("none"), 0);
    assert!(decode(&[1, 4, 2], &[3]).is_err());
    assert!(decode(&[], &[]).is_err());
    assert!(decode(&[1, 99, 2], &[1]).is_err());
    assert!(decode(&[5; 17], &[1]).is_err());
}
