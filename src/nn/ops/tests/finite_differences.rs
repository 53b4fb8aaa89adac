//! Compares the gradient of every fused op, for every entry of every input, with central differences.

use super::*;
use crate::nn::gemm::Precision;
use crate::nn::ops::{
    Activation, AttentionMask, cross_attention, cross_entropy, dropout, layer_norm, linear, residual_dropout,
    self_attention,
};

const STEP: f32 = 1e-2;

/// The weighted sum of `f` in f64, so that only the op itself is in f32.
fn loss(f: &impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> f64 {
    let out = f(inputs).expect("the op");
    flat(&out).iter().zip(flat(&weighting(&out))).map(|(&v, w)| f64::from(v) * f64::from(w)).sum()
}

fn assert_matches_differences(what: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (_, grads) = with_gradients(&f, inputs);
    for (input, grad) in grads.iter().enumerate() {
        for (i, got) in flat(grad).into_iter().enumerate() {
            let at = |step: f32| {
                let mut moved = inputs.to_vec();
                let mut values = flat(&moved[input]);
                values[i] += step;
                moved[input] =
                    Tensor::from_vec(values, inputs[input].shape(), inputs[input].device()).expect("input");
                loss(&f, &moved)
            };
            let slope = (at(STEP) - at(-STEP)) / (2.0 * f64::from(STEP));
            let off = (f64::from(got) - slope).abs();
            assert!(off < 2e-3 * slope.abs().max(1.0), "{what}, input {input} at {i}: {got}, not {slope}");
        }
    }
}

#[test]
fn linear_matches_finite_differences() {
    let (x, weight) = (random((3, 5), 1), random((4, 5), 2));
    assert_matches_differences("linear", &[x.clone(), weight.clone(), random(4, 3)], |t| {
        linear(&t[0], &t[1], &t[2], Activation::None, Precision::F32)
    });
    // Biases far from 0, because a difference across the kink of the ReLU is not a derivative.
    let bias = Tensor::new(&[6f32, -6.0, 6.0, -6.0], x.device()).expect("bias");
    assert_matches_differences("linear with relu", &[x, weight, bias], |t| {
        linear(&t[0], &t[1], &t[2], Activation::Relu, Precision::F32)
    });
}

#[test]
fn layer_norm_matches_finite_differences() {
    for width in [8, 19] {
        let x = (random((3, width), 1) * 2.0).expect("x");
        assert_matches_differences("layer norm", &[x, random(width, 2), random(width, 3)], |t| {
            layer_norm(&t[0], &t[1], &t[2], 1e-5)
        });
    }
}

#[test]
fn attention_matches_finite_differences() {
    for (real, len, heads) in [(&[1][..], 1, 1), (&[3, 1], 3, 2), (&[2, 4], 5, 1)] {
        let real = lengths(real);
        let qkv = random((real.len(), len, 24), 1);
        for mask in [AttentionMask::Whole, AttentionMask::Causal] {
            let qkv = std::slice::from_ref(&qkv);
            assert_matches_differences("self-attention", qkv, |t| self_attention(&t[0], &real, heads, mask));
        }
    }
    let (real, source) = (lengths(&[2, 1, 3]), lengths(&[4, 2, 1]));
    for heads in [1, 2] {
        let inputs = [random((3, 3, 8), 1), random((3, 4, 16), 2)];
        assert_matches_differences("cross-attention", &inputs, |t| {
            cross_attention(&t[0], &t[1], &real, &source, heads)
        });
    }
}

#[test]
fn dropout_and_residual_match_finite_differences() {
    assert_matches_differences("dropout", &[random((4, 9), 1)], |t| dropout(&t[0], 0.4, 3));
    let inputs = [random((4, 9), 1), random((4, 9), 2)];
    for p in [0.0, 0.4] {
        assert_matches_differences("residual", &inputs, |t| residual_dropout(&t[0], &t[1], p, 3));
    }
}

#[test]
fn cross_entropy_matches_finite_differences() {
    let gold: Arc<[u32]> = [5, 9, 7].into();
    for (smoothing, forbidden) in [(0.0, 0), (0.1, 5), (0.3, 2)] {
        assert_matches_differences("cross entropy", &[random((3, 11), 1)], |t| {
            cross_entropy(&t[0], &gold, smoothing, forbidden)
        });
    }
}
