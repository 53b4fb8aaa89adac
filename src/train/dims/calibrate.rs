//! How sure a student is. It learns from sharpened distributions, so it is surer than its teacher. Its best
//! tokens do not mind; but candidates of several lengths are compared by their log-probabilities, and there
//! a student that is too sure chooses worse.

use candle_core::Tensor;

use crate::Result;
use crate::model::{NormPlace, Shape};
use crate::train::checkpoint::Tensors;

/// The weights of a network whose logits are `scale` times those of `weights`: what gives the last states,
/// the last norm, and the output's bias are scaled; all else stays. No best token changes.
pub(super) fn scaled(weights: &Tensors, shape: &Shape, scale: f64) -> Result<Tensors> {
    let norm = match shape.norm {
        NormPlace::Pre => "decoder.norm".to_string(),
        NormPlace::Post => {
            format!("decoder.layers.{}.feed_forward_norm", shape.decoder_layers.saturating_sub(1))
        }
    };
    let logits = [format!("{norm}.weight"), format!("{norm}.bias"), "output.bias".to_string()];
    let scale = |(name, tensor): (&String, &Tensor)| {
        let tensor = if logits.contains(name) { (tensor * scale)? } else { tensor.clone() };
        Ok((name.clone(), tensor))
    };
    weights.iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Backend, Padded, Spec};
    use crate::nn::Mode;
    use crate::train::weights::frozen;

    #[test]
    fn all_logits_are_scaled_wherever_the_last_norm_stands() {
        for norm in [NormPlace::Pre, NormPlace::Post] {
            let shape = Shape {
                norm,
                ..("enc=1,dec=2,d=16,ffn=32,heads=2,vocab=32,positions=24".parse::<Shape>().unwrap())
            };
            let backend = Backend::cpu();
            let weights: Tensors = Spec::initial(&shape, 3, backend.device())
                .unwrap()
                .into_iter()
                .map(|(name, t)| (name, (t + 0.1).unwrap()))
                .collect();
            let logits = |weights: &Tensors| {
                let network = frozen(&shape, weights, &backend).unwrap();
                let mode = Mode::inference();
                let ids = |ids: &[u32]| Padded::new([ids].into_iter(), 0, network.device()).unwrap();
                let source = ids(&[1, 10, 11, 2]);
                let states = network.encode(&source, &mode).unwrap();
                let memory = network.memory(&states, &source.lengths, &mode).unwrap();
                let decoded = network.decode(&ids(&[1, 4, 20, 2]), &memory, &mode).unwrap();
                let chosen = network.select(&decoded, vec![1, 2]).unwrap();
                network.logits(&chosen, &mode).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (whole, half) = (logits(&weights), logits(&scaled(&weights, &shape, 0.5).unwrap()));
            for (whole, half) in whole.iter().zip(&half) {
                assert!((0.5 * whole - half).abs() < 1e-4 * whole.abs().max(1.0), "{norm:?}: {whole} {half}");
            }
        }
    }
}
