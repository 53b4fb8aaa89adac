use std::collections::HashMap;

use candle_core::{Device, Var};

use super::*;
use crate::model::{Backend, Positions};
use crate::nn::gemm::Precision;

fn shape() -> Shape {
    "enc=1,dec=2,d=16,ffn=32,heads=2,vocab=32,positions=16".parse().unwrap()
}

fn causal() -> Shape {
    Shape { decoder_attention: DecoderAttention::WholeThenCausal, ..shape() }
}

fn network(shape: &Shape, tensors: HashMap<String, Tensor>) -> Network {
    let vb = VarBuilder::from_tensors(tensors, candle_core::DType::F32, &Device::Cpu);
    Network::load(shape, &vb).unwrap()
}

/// Seeded values with equal positions.
fn with_equal_positions(shape: &Shape) -> Network {
    let mut tensors = Spec::initial(shape, 3, &Device::Cpu).unwrap();
    let positions = tensors.get_mut("decoder.positions.weight").unwrap();
    *positions = positions.zeros_like().unwrap();
    network(shape, tensors)
}

/// Last decoder states of a canvas, position by position.
fn states(network: &Network, canvas: &[u32]) -> Vec<Vec<f32>> {
    let mode = Mode::inference();
    let padded = |ids: &[u32]| Padded::new([ids].into_iter(), 0, &Device::Cpu).unwrap();
    let source = padded(&[1, 9, 10, 11, 2]);
    let encoded = network.encode(&source, &mode).unwrap();
    let memory = network.memory(&encoded, &source.lengths, &mode).unwrap();
    network.decode(&padded(canvas), &memory, &mode).unwrap().get(0).unwrap().to_vec2().unwrap()
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

const MASKS: [u32; 6] = [1, 4, 4, 4, 4, 2];

#[test]
fn masks_without_positions_differ_only_by_causal_attention() {
    let plain = states(&with_equal_positions(&shape()), &MASKS);
    assert!(
        (2..5).all(|place| max_difference(&plain[1], &plain[place]) < 1e-5),
        "equal inputs, equal states"
    );
    let causal = states(&with_equal_positions(&causal()), &MASKS);
    for place in 2..5 {
        assert!(max_difference(&causal[place - 1], &causal[place]) > 1e-3, "place {place}");
    }
}

#[test]
fn masks_differ_by_position_with_every_kind_of_position() {
    for positions in [Positions::Scaled, Positions::Unscaled, Positions::Concat] {
        let shape = Shape { positions, ..shape() };
        let network = Network::random(&shape, 3, &Backend::cpu()).unwrap();
        let apart = states(&network, &MASKS);
        assert!((2..5).all(|place| max_difference(&apart[1], &apart[place]) > 1e-3), "{positions:?}");
    }
}

#[test]
fn a_position_sees_later_ones_through_the_attention_over_the_whole_canvas() {
    let network = Network::random(&causal(), 3, &Backend::cpu()).unwrap();
    let (a, b) = (states(&network, &[1, 4, 4, 20, 2]), states(&network, &[1, 4, 4, 21, 2]));
    assert!(max_difference(&a[1], &b[1]) > 1e-4, "the last word changes the first position");

    // Without the output of the attention over the whole canvas it does not.
    let mut tensors = Spec::initial(&causal(), 3, &Device::Cpu).unwrap();
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("whole_attention.output")) {
        *tensor = tensor.zeros_like().unwrap();
        assert!(name.starts_with("decoder.layers"));
    }
    let blind = self::network(&causal(), tensors);
    let (a, b) = (states(&blind, &[1, 4, 4, 20, 2]), states(&blind, &[1, 4, 4, 21, 2]));
    assert_eq!((&a[..3], a[3] == b[3]), (&b[..3], false));
}

#[test]
fn concatenated_positions_equal_one_linear_map() {
    let shape = Shape { positions: Positions::Concat, ..shape() };
    let tensors = Spec::initial(&shape, 3, &Device::Cpu).unwrap();
    let values = |name: &str| -> Vec<Vec<f32>> { tensors[name].to_vec2().unwrap() };
    let (tokens, places, weight) =
        (values("embedding.weight"), values("decoder.positions.weight"), values("decoder.join.weight"));
    let network = network(&shape, tensors.clone());
    let ids = Tensor::new(&[[7u32, 9, 4]], &Device::Cpu).unwrap();
    let got = network.embed(&ids, 2, &network.decoder_input, &Mode::inference()).unwrap();
    let got: Vec<Vec<f32>> = got.get(0).unwrap().to_vec2().unwrap();
    for (i, token) in [7, 9, 4].into_iter().enumerate() {
        let both = [tokens[token].as_slice(), &places[2 + i]].concat();
        let want: Vec<f32> =
            weight.iter().map(|row| row.iter().zip(&both).map(|(w, x)| w * x).sum()).collect();
        assert!(max_difference(&got[i], &want) < 1e-5);
    }
}

#[test]
fn norms_after_sublayers_give_states_of_mean_zero_and_variance_one() {
    let shape = Shape { norm: NormPlace::Post, ..shape() };
    let network = Network::random(&shape, 3, &Backend::cpu()).unwrap();
    for state in states(&network, &MASKS) {
        let mean = state.iter().sum::<f32>() / state.len() as f32;
        let variance = state.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / state.len() as f32;
        assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-2, "{mean} {variance}");
    }
    assert!(!Spec::of(&shape).unwrap().contains_key("decoder.norm.weight"));
}

#[test]
fn a_decoder_that_attends_to_the_whole_canvas_cannot_decode_left_to_right() {
    let network = Network::random(&causal(), 3, &Backend::cpu()).unwrap();
    let mode = Mode::inference();
    let source = Padded::new([[1u32, 9, 2].as_slice()].into_iter(), 0, &Device::Cpu).unwrap();
    let memory = network.memory(&network.encode(&source, &mode).unwrap(), &source.lengths, &mode).unwrap();
    assert!(network.decode_causal(&source, &memory, &mode).is_err());
    assert!(network.decode_next(&[1], &mut Past::default(), &memory, &mode).is_err());
}

/// The states of a padded batch at all real positions, and the gradients of all weights for a weighted sum of them. A
/// pass without gradients comes first, as in training.
fn states_and_gradients(shape: &Shape, mode: impl Fn() -> Mode) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let tensors = Spec::initial(shape, 3, &Device::Cpu).unwrap();
    let vars: HashMap<String, Var> =
        tensors.into_iter().map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap())).collect();
    let own = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let (network, mode) = (network(shape, own), mode());
    let batch = |lengths: [u32; 3]| {
        let rows = lengths.map(|len| (0..len).map(|i| 5 + (7 * i + len) % 90).collect::<Vec<u32>>());
        Padded::new(rows.iter().map(Vec::as_slice), 0, &Device::Cpu).unwrap()
    };
    let (source, canvas) = (batch([3, 17, 9]), batch([12, 5, 20]));
    let encoded = network.encode(&source, &mode).unwrap();
    let memory = network.memory(&encoded, &source.lengths, &mode).unwrap();
    let first = network.decode(&canvas, &memory.detached(), &mode).unwrap();
    let second = network.decode(&canvas, &memory, &mode).unwrap();
    assert_eq!(first.dims(), second.dims());
    let places = canvas.lengths.iter().enumerate();
    let places = places.flat_map(|(row, &len)| (0..len).map(move |i| (row * 20 + i) as u32)).collect();
    let states = network.select(&second, places).unwrap();
    let weights: Vec<f32> = (0..states.elem_count()).map(|i| (i as f32 * 0.7).sin()).collect();
    let weighted = (&states * Tensor::from_vec(weights, states.dims(), &Device::Cpu).unwrap()).unwrap();
    let gradients = ops::backward(&weighted.sum_all().unwrap()).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut found: Vec<(String, Vec<f32>)> = vars
        .iter()
        .filter_map(|(name, var)| Some((name.clone(), values(gradients.get(var.as_tensor())?))))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    (values(&states), found)
}

#[test]
fn fused_layers_have_the_states_and_gradients_of_composed_ones() {
    let plain: Shape = "enc=2,dec=2,d=64,ffn=96,heads=2,vocab=96,positions=32".parse().unwrap();
    for decoder_attention in [DecoderAttention::Whole, DecoderAttention::WholeThenCausal] {
        let shape = Shape { decoder_attention, ..plain.clone() };
        // With f32 products, layers are never fused. Both draw the same seeds of dropout, and differ by rounding to bf16.
        let mode = |precision| move || Mode::training(0.1, 7, precision);
        let (states, fused) = states_and_gradients(&shape, mode(Precision::Bf16));
        let (want, composed) = states_and_gradients(&shape, mode(Precision::F32));
        let near = |name: &str, got: &[f32], want: &[f32]| {
            let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
            let size = norm(&mut want.iter().copied());
            let off = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
            assert!(off <= 0.25 * size + 1e-4, "{name}: off by {off} of {size}");
        };
        near("states", &states, &want);
        assert_eq!(fused.len(), composed.len());
        for ((name, got), (other, want)) in fused.iter().zip(&composed) {
            assert_eq!(name, other);
            near(name, got, want);
        }
    }
}
