use super::*;
use crate::model::{Backend, Padded, Spec};
use crate::nn::Mode;
use crate::train::weights::frozen;

fn initial(shape: &Shape) -> Tensors {
    let weights = Spec::initial(shape, 3, &Device::Cpu).unwrap().into_iter();
    weights.map(|(name, t)| (name, (t + 0.1).unwrap())).collect()
}

/// Logits of two positions.
fn logits(shape: &Shape, weights: &Tensors) -> Vec<Vec<f32>> {
    let network = frozen(shape, weights, &Backend::cpu()).unwrap();
    let mode = Mode::inference();
    let ids = |ids: &[u32]| Padded::new([ids].into_iter(), 0, network.device()).unwrap();
    let source = ids(&[1, 10, 11, 2]);
    let states = network.encode(&source, &mode).unwrap();
    let memory = network.memory(&states, &source.lengths, &mode).unwrap();
    let decoded = network.decode(&ids(&[1, 4, 20, 2]), &memory, &mode).unwrap();
    let chosen = network.select(&decoded, vec![1, 2]).unwrap();
    network.logits(&chosen, &mode).unwrap().to_vec2().unwrap()
}

#[test]
fn all_logits_are_scaled_with_either_position_of_the_norm() {
    for norm in [NormPlace::Pre, NormPlace::Post] {
        let shape = Shape {
            norm,
            ..("enc=1,dec=2,d=16,ffn=32,heads=2,vocab=32,positions=24".parse::<Shape>().unwrap())
        };
        let weights = initial(&shape);
        let half = Calibration { scale: 0.5, ..Calibration::NONE };
        let half = half.of(&weights, &ModelConfig::new(shape.clone(), "en", "de")).unwrap();
        let (whole, half) = (logits(&shape, &weights).concat(), logits(&shape, &half).concat());
        for (whole, half) in whole.iter().zip(&half) {
            assert!((0.5 * whole - half).abs() < 1e-4 * whole.abs().max(1.0), "{norm:?}: {whole} {half}");
        }
    }
}

#[test]
fn a_penalty_affects_only_the_blank_and_is_applied_after_the_scale() {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=32,positions=24,imputer=1".parse().unwrap();
    let model = ModelConfig::new(shape.clone(), "en", "de");
    let (weights, blank) = (initial(&shape), model.specials.blank() as usize);
    let changed = Calibration { scale: 0.5, blank_penalty: 0.75 }.of(&weights, &model).unwrap();
    for (before, after) in logits(&shape, &weights).iter().zip(logits(&shape, &changed)) {
        for (token, (before, after)) in before.iter().zip(after).enumerate() {
            let expected = before / 2.0 - if token == blank { 0.75 } else { 0.0 };
            assert!((expected - after).abs() < 1e-4 * expected.abs().max(1.0), "{token}: {expected} {after}");
        }
    }
}

#[test]
fn invalid_values_are_refused() {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=32,positions=24".parse().unwrap();
    let model = ModelConfig::new(shape.clone(), "en", "de");
    for (scale, blank_penalty, expected) in [
        (0.0, 0.0, "more than 0"),
        (f64::NAN, 0.0, "more than 0"),
        (1.0, f64::INFINITY, "number"),
        (1.0, 0.5, "Imputer"),
    ] {
        let refused = Calibration { scale, blank_penalty }.of(&initial(&shape), &model);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
