use candle_core::Device as Cpu;

use super::*;
use crate::decode::{DecodeOptions, Steps, translate};
use crate::model::{Backend, Lengths, Network, Shape, Spec};
use crate::nn::device::Element;
use crate::nn::device::testing::emulated::Emulated;

#[test]
fn a_device_translates_as_the_cpu_does() {
    let plain: Shape = "enc=1,dec=2,d=32,ffn=48,heads=2,vocab=90,positions=40".parse().unwrap();
    let imputer = Shape { lengths: Lengths::Ctc, length_classes: 0, ..plain.clone() };
    [plain, imputer].iter().for_each(translates_as_the_cpu_does);
}

fn translates_as_the_cpu_does(shape: &Shape) {
    let network = Network::random(shape, 5, &Backend::cpu()).unwrap();
    let tensors = Spec::initial(shape, 5, &Cpu::Cpu).unwrap();
    let device = DeviceNetwork::with_rows(Emulated::default(), shape, &tensors, Element::F32, 64).unwrap();
    let sources: Vec<Vec<u32>> = [3usize, 9, 1, 17, 0, 6]
        .iter()
        .map(|&words| {
            let inner = (0..words as u32).map(|i| 5 + (i * 31 + words as u32) % 80);
            std::iter::once(1).chain(inner).chain([2]).collect()
        })
        .collect();
    let steps = Steps::new(3).unwrap();
    let options = DecodeOptions { length_beam: 2, max_batch_tokens: 100, ..DecodeOptions::new(steps) };
    let expected = translate(&network, &sources, &options).unwrap();
    let translated = translate(&device, &sources, &options).unwrap();
    for (translated, expected) in translated.iter().zip(&expected) {
        assert_eq!(translated.len(), expected.len());
        for (translated, expected) in translated.iter().zip(expected) {
            assert_eq!(translated.tokens, expected.tokens);
            assert!((translated.score - expected.score).abs() < 1e-4);
        }
    }
}
