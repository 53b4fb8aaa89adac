//! A row has the same bits alone, in a batch, after longer rows and on any number of threads.

use candle_core::Tensor;
use proptest::prelude::*;

use super::*;
use crate::nn::gemm::Precision;
use crate::nn::ops::{
    Activation, AttentionMask, best_tokens, cross_attention, layer_norm, linear, self_attention,
};

const WIDTH: usize = 24;
const HEADS: usize = 3;

/// A sentence of `len` positions, the same for equal arguments.
fn sentence(len: usize, width: usize, seed: u64) -> Tensor {
    random((len, width), seed)
}

/// Sentences padded to `len` with large values, which must not change a result.
fn batch(sentences: &[Tensor], len: usize) -> Tensor {
    let rows: Vec<Tensor> = sentences
        .iter()
        .map(|s| {
            let (own, width) = s.dims2().expect("a matrix");
            let junk = (random((len - own, width), 77) * 1e6).expect("junk");
            Tensor::cat(&[s, &junk], 0).expect("a padded row")
        })
        .collect();
    Tensor::stack(&rows, 0).expect("a batch")
}

/// The real positions of row `i`.
fn row(of: &Tensor, i: usize, len: usize) -> Vec<u32> {
    bits(&of.get(i).and_then(|r| r.narrow(0, 0, len)).expect("a row"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attention_of_a_row_does_not_depend_on_other_rows(
        shapes in prop::collection::vec((1usize..20, 1usize..20), 1..9), extra in 0usize..5, causal: bool,
    ) {
        let mask = if causal { AttentionMask::Causal } else { AttentionMask::Whole };
        let real: Vec<usize> = shapes.iter().map(|s| s.0).collect();
        let source: Vec<usize> = shapes.iter().map(|s| s.1).collect();
        let (len, source_len) = (real.iter().max().unwrap_or(&0) + extra, source.iter().max().unwrap_or(&0) + extra);
        let of = |lens: &[usize], width| -> Vec<Tensor> {
            lens.iter().zip(0..).map(|(&l, seed)| sentence(l, width, seed)).collect()
        };
        let (qkv, query, memory) = (of(&real, 3 * WIDTH), of(&real, WIDTH), of(&source, 2 * WIDTH));
        let mixed = self_attention(&batch(&qkv, len), &lengths(&real), HEADS, mask).expect("batch");
        let crossed = cross_attention(
            &batch(&query, len), &batch(&memory, source_len), &lengths(&real), &lengths(&source), HEADS,
        ).expect("batch");
        for (i, &(own, source)) in shapes.iter().enumerate() {
            let alone = self_attention(&batch(&qkv[i..=i], own), &lengths(&[own]), HEADS, mask).expect("alone");
            prop_assert_eq!(row(&alone, 0, own), row(&mixed, i, own));
            let alone = cross_attention(
                &batch(&query[i..=i], own), &batch(&memory[i..=i], source), &lengths(&[own]), &lengths(&[source]), HEADS,
            ).expect("alone");
            prop_assert_eq!(row(&alone, 0, own), row(&crossed, i, own));
        }
    }

    #[test]
    fn linear_and_norm_of_a_row_do_not_depend_on_other_rows(
        rows in 1usize..200, width in 1usize..70, out in 5usize..90, at in 0usize..200, seed: u64,
    ) {
        let at = at % rows;
        let (x, weight, bias) = (random((rows, width), seed), random((out, width), 2), random(out, 3));
        let alone = x.narrow(0, at, 1).expect("a row");
        let (gain, shift) = (random(width, 4), random(width, 5));
        for precision in [Precision::F32, Precision::Bf16] {
            let op = |x: &Tensor| linear(x, &weight, &bias, Activation::Relu, precision).expect("linear");
            prop_assert_eq!(bits(&op(&alone)), bits(&op(&x).narrow(0, at, 1).expect("a row")));
        }
        let op = |x: &Tensor| layer_norm(x, &gain, &shift, 1e-5).expect("norm");
        prop_assert_eq!(bits(&op(&alone)), bits(&op(&x).narrow(0, at, 1).expect("a row")));
        if width > 5 {
            let best = |x: &Tensor| best_tokens(x, 5).expect("best");
            let ((token, score), (same, same_score)) = (best(&alone)[0], best(&x)[at]);
            prop_assert_eq!((token, score.to_bits()), (same, same_score.to_bits()));
        }
    }
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let real = lengths(&[9, 4, 11, 2]);
    let inputs = [random((4, 11, WIDTH), 1), random((3 * WIDTH, WIDTH), 2), random(3 * WIDTH, 3)];
    let norm = [random(WIDTH, 4), random(WIDTH, 5)];
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let inputs = [inputs.as_slice(), norm.as_slice()].concat();
            let (out, grads) = with_gradients(
                |t| {
                    let x = layer_norm(&t[0], &t[3], &t[4], 1e-5)?;
                    let qkv = linear(&x, &t[1], &t[2], Activation::None, Precision::F32)?;
                    self_attention(&qkv, &real, HEADS, AttentionMask::Causal)
                },
                &inputs,
            );
            (bits(&out), grads.iter().map(bits).collect::<Vec<_>>())
        })
    };
    assert_eq!(on(1), on(3));
}
