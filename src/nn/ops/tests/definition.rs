//! Compares forward and backward pass of each fused op with stock candle, for shapes from the smallest.

use candle_core::{Device, Tensor};

use super::*;
use crate::nn::gemm::Precision;
use crate::nn::ops::{
    Activation, AttentionMask, append, attention, best_tokens, cross_attention, cross_entropy, distillation,
    divergence, dropout, embed, layer_norm, linear, log_softmax, mean, mean_of_real, pad_stack, residual,
    residual_dropout, select, self_attention, top_tokens, vocabulary,
};

#[test]
fn linear_follows_its_definition() {
    for (rows, input, out) in [(1, 1, 1), (1, 16, 5), (7, 33, 18), (65, 8, 300), (300, 24, 16)] {
        let inputs = [random((rows, input), 1), random((out, input), 2), random(out, 3)];
        for activation in [Activation::None, Activation::Relu] {
            assert_same(
                &format!("linear {rows}x{input}x{out} {activation:?}"),
                &inputs,
                |t| linear(&t[0], &t[1], &t[2], activation, Precision::F32),
                |t| linear::stock(&t[0], &t[1], &t[2], activation, Precision::F32),
            );
        }
    }
}

#[test]
fn linear_takes_any_number_of_dimensions_and_any_layout() {
    let inputs = [random((12, 3, 4), 1), random((6, 12), 2), random(6, 3)];
    let x = |t: &[Tensor]| t[0].permute((2, 1, 0)); // [4, 3, 12], not contiguous
    assert_same(
        "linear of a permuted input",
        &inputs,
        |t| linear(&x(t)?, &t[1], &t[2], Activation::Relu, Precision::F32),
        |t| linear::stock(&x(t)?.contiguous()?, &t[1], &t[2], Activation::Relu, Precision::F32),
    );
}

#[test]
fn linear_in_bf16_agrees_with_f32_up_to_rounding() {
    let inputs = [random((9, 70), 1), random((20, 70), 2), random(20, 3)];
    let op = |path, precision| {
        let linear = |t: &[Tensor]| linear(&t[0], &t[1], &t[2], Activation::None, precision);
        with_gradients(|t| with_path(path, || linear(t)), &inputs)
    };
    let (want, want_grads) = op(KernelPath::Cpu, Precision::F32);
    for path in [KernelPath::Cpu, KernelPath::Kernels, KernelPath::Stock] {
        let (got, got_grads) = op(path, Precision::Bf16);
        assert_close("bf16", &got, &want, 0.05);
        for (got, want) in got_grads.iter().zip(&want_grads) {
            assert_close("bf16 gradient", got, want, 0.05);
        }
    }
}

#[test]
fn a_linear_whose_sizes_do_not_fit_is_an_error() {
    let (x, bias) = (random((2, 5), 1), random(3, 3));
    assert!(linear(&x, &random((3, 4), 2), &bias, Activation::None, Precision::F32).is_err());
}

#[test]
fn layer_norm_follows_its_definition() {
    for (shape, width) in [(vec![1, 1, 8], 8), (vec![1, 17], 17), (vec![5, 3, 32], 32), (vec![600, 40], 40)] {
        let inputs = [(random(shape, 1) * 3.0).expect("x"), random(width, 2), random(width, 3)];
        assert_same(
            &format!("layer norm of width {width}"),
            &inputs,
            |t| layer_norm(&t[0], &t[1], &t[2], 1e-5),
            |t| layer_norm::stock(&t[0], &t[1], &t[2], 1e-5),
        );
    }
}

#[test]
fn the_norm_of_a_constant_row_is_its_bias() {
    let x = Tensor::full(3f32, (2, 8), &Device::Cpu).expect("x");
    let (got, grads) = with_gradients(
        |t| layer_norm(&t[0], &t[1], &t[2], 1e-5),
        &[x, random(8, 2), Tensor::full(0.5f32, 8, &Device::Cpu).expect("bias")],
    );
    assert_eq!(flat(&got), [0.5; 16]);
    assert!(grads.iter().all(|g| flat(g).iter().all(|v| v.is_finite())));
}

/// Row lengths, padded length, width, heads.
const SELF_SHAPES: [(&[usize], usize, usize, usize); 6] = [
    (&[1], 1, 8, 1),
    (&[5], 5, 8, 1),
    (&[1, 4, 2], 4, 16, 2),
    (&[3, 7, 7, 1], 7, 24, 3),
    (&[2, 3], 9, 16, 1), // more padding than any row needs
    (&[40, 17], 40, 32, 4),
];

#[test]
fn self_attention_follows_its_mask() {
    for ((real, len, width, heads), mask) in SELF_SHAPES
        .into_iter()
        .flat_map(|shape| [(shape, AttentionMask::Whole), (shape, AttentionMask::Causal)])
    {
        let real = lengths(real);
        let qkv = (random((real.len(), len, 3 * width), 1) * 2.0).expect("qkv");
        assert_same(
            &format!("self-attention {real:?} of {len}, {heads} heads of {width}, {mask:?}"),
            &[qkv],
            |t| self_attention(&t[0], &real, heads, mask),
            |t| {
                let part = |i| t[0].narrow(2, i * width, width);
                attention::stock(&part(0)?, &part(1)?, &part(2)?, &real, &real, heads, mask)
            },
        );
    }
}

#[test]
fn cross_attention_ignores_the_padding_of_the_source() {
    let sources: [(&[usize], usize); 6] =
        [(&[1], 1), (&[3], 3), (&[6, 1, 2], 6), (&[2, 2, 9, 4], 9), (&[1, 5], 11), (&[12, 33], 33)];
    for ((real, len, width, heads), (source, source_len)) in SELF_SHAPES.into_iter().zip(sources) {
        let (real, source) = (lengths(real), lengths(source));
        let rows = real.len();
        let query = (random((rows, len, width), 1) * 2.0).expect("query");
        let keys_values = random((rows, source_len, 2 * width), 2);
        assert_same(
            &format!("cross-attention {real:?} of {len} to {source:?} of {source_len}"),
            &[query, keys_values],
            |t| cross_attention(&t[0], &t[1], &real, &source, heads),
            |t| {
                let part = |i| t[1].narrow(2, i * width, width);
                attention::stock(&t[0], &part(0)?, &part(1)?, &real, &source, heads, AttentionMask::Whole)
            },
        );
    }
}

#[test]
fn padding_is_not_read_and_gets_no_gradient() {
    let (real, width) = (lengths(&[2, 4]), 8);
    let qkv = random((2, 4, 3 * width), 1);
    let poisoned = {
        let mut values = flat(&qkv);
        values[2 * 3 * width..4 * 3 * width].fill(f32::NAN);
        Tensor::from_vec(values, qkv.shape(), qkv.device()).expect("qkv")
    };
    let (clean, clean_grads) =
        with_gradients(|t| self_attention(&t[0], &real, 2, AttentionMask::Whole), &[qkv]);
    let (got, grads) = with_gradients(|t| self_attention(&t[0], &real, 2, AttentionMask::Whole), &[poisoned]);
    assert_eq!(bits(&got), bits(&clean));
    assert_eq!(bits(&grads[0]), bits(&clean_grads[0]));
    assert!(flat(&got)[2 * width..4 * width].iter().all(|&v| v == 0.0));
    assert!(flat(&grads[0])[2 * 3 * width..4 * 3 * width].iter().all(|&v| v == 0.0));
}

#[test]
fn invalid_lengths_and_heads_are_an_error() {
    let qkv = random((2, 4, 24), 1);
    for (real, heads) in [(&[4][..], 1), (&[4, 5], 1), (&[4, 0], 1), (&[4, 4], 0), (&[4, 4], 3)] {
        assert!(
            self_attention(&qkv, &lengths(real), heads, AttentionMask::Whole).is_err(),
            "{real:?} {heads}"
        );
    }
    let query = random((2, 3, 8), 1);
    let fits = lengths(&[3, 3]);
    assert!(cross_attention(&query, &random((1, 4, 16), 2), &fits, &lengths(&[4]), 1).is_err());
    assert!(cross_attention(&query, &random((2, 4, 8), 2), &fits, &lengths(&[4, 4]), 1).is_err());
}

#[test]
fn scores_of_any_size_give_a_softmax_without_nan() {
    let real = lengths(&[3]);
    for scale in [1e-30, 1e3, 1e15] {
        let qkv = (random((1, 3, 24), 1) * scale).expect("qkv");
        let (got, grads) = with_gradients(|t| self_attention(&t[0], &real, 1, AttentionMask::Whole), &[qkv]);
        assert!(flat(&got).iter().chain(&flat(&grads[0])).all(|v| v.is_finite()), "scale {scale}");
    }
}

#[test]
fn residual_is_a_sum_with_or_without_dropout() {
    for shape in [vec![1], vec![3, 7], vec![2, 5, 1000]] {
        let inputs = [random(shape.clone(), 1), random(shape, 2)];
        assert_same("residual", &inputs, |t| residual(&t[0], &t[1]), |t| &t[0] + &t[1]);
        assert_same(
            "residual with dropout",
            &inputs,
            |t| residual_dropout(&t[0], &t[1], 0.3, 5),
            |t| &t[0] + (&t[1] * chance::mask_of(&t[1], 0.3, 5))?,
        );
        assert_same(
            "dropout",
            &inputs[..1],
            |t| dropout(&t[0], 0.3, 5),
            |t| &t[0] * chance::mask_of(&t[0], 0.3, 5),
        );
    }
    assert!(residual(&random((2, 3), 1), &random((3, 2), 2)).is_err());
}

#[test]
fn cross_entropy_smooths_over_the_allowed_classes() {
    for (rows, classes, forbidden) in [(1, 2, 0), (1, 7, 5), (4, 37, 5), (90, 300, 5), (3, 128, 0)] {
        let logits = (random((rows, classes), 1) * 4.0).expect("logits");
        let gold: Arc<[u32]> =
            (0..rows).map(|i| (forbidden + i * 7 % (classes - forbidden)) as u32).collect();
        for smoothing in [0.0, 0.1, 1.0] {
            assert_same(
                &format!("cross entropy {rows}x{classes} from {forbidden}, smoothing {smoothing}"),
                std::slice::from_ref(&logits),
                |t| cross_entropy(&t[0], &gold, smoothing, forbidden),
                |t| cross_entropy::stock(&t[0], &gold, smoothing, forbidden),
            );
        }
    }
}

#[test]
fn divergence_is_over_the_allowed_classes_with_temperature() {
    for (rows, classes, forbidden) in [(1, 2, 0), (1, 7, 5), (4, 37, 5), (9, 300, 5)] {
        let teacher = (random((rows, classes), 2) * 4.0).expect("teacher");
        for temperature in [0.5, 1.0] {
            assert_same(
                &format!("divergence {rows}x{classes} from {forbidden}, temperature {temperature}"),
                &[random((rows, classes), 1)],
                |t| divergence(&t[0], &teacher, temperature, forbidden),
                |t| distillation::stock(&t[0], &teacher, temperature, forbidden),
            );
        }
    }
}

#[test]
fn an_embedding_sums_the_gradients_of_repeated_tokens() {
    let often: Vec<u32> = (0..9000u32).map(|i| if i % 3 == 0 { 4 } else { i * 31 % 7 }).collect();
    for ids in [vec![0], vec![6, 6, 6], vec![2, 0, 5, 2], often] {
        let ids = Tensor::from_vec(ids.clone(), ids.len(), &Device::Cpu).expect("ids");
        // Sums of thousands of values are compared as means.
        let scale = (ids.elem_count() as f64).recip();
        assert_same(
            &format!("{} rows of an embedding", ids.elem_count()),
            &[random((7, 5), 1)],
            |t| embed(&t[0], &ids)? * scale,
            |t| t[0].index_select(&ids, 0)? * scale,
        );
    }
}

#[test]
fn selected_rows_may_be_repeated() {
    for places in [vec![0], vec![5, 0, 3], vec![1, 1, 4], (0..6).rev().collect()] {
        let index = Tensor::from_vec(places.clone(), places.len(), &Device::Cpu).expect("index");
        assert_same(
            &format!("rows {places:?}"),
            &[random((6, 5), 1)],
            |t| select(&t[0], places.clone()),
            |t| t[0].index_select(&index, 0),
        );
    }
}

#[test]
fn a_kernel_drops_the_same_values_as_the_cpu() {
    let x = random((3, 700), 1);
    for seed in [0, 5, u64::MAX] {
        let on = |path| with_path(path, || bits(&dropout(&x, 0.3, seed).expect("dropout")));
        assert_eq!(on(KernelPath::Kernels), on(KernelPath::Cpu), "seed {seed}");
    }
}

#[test]
fn append_and_pad_stack_agree_on_every_path() {
    let (past, next) = (random((3, 4, 5), 1), random((3, 1, 5), 2));
    let of = |path| with_path(path, || append(&past, &next).expect("append"));
    assert_eq!(bits(&of(KernelPath::Cpu)), bits(&of(KernelPath::Kernels)));
    let rows = [random((1, 6), 2), random((4, 6), 3)];
    let of = |path| with_path(path, || pad_stack(rows.iter()).expect("stack"));
    assert_eq!(bits(&of(KernelPath::Cpu)), bits(&of(KernelPath::Kernels)));
}

#[test]
fn forbidden_classes_take_no_probability_and_no_gradient() {
    let gold: Arc<[u32]> = [6, 5].into();
    let plain = random((2, 9), 1);
    let (mut raised, forbidden) = (flat(&plain), 5);
    for row in raised.chunks_exact_mut(9) {
        row[..forbidden].fill(50.0);
    }
    let raised = Tensor::from_vec(raised, (2, 9), &Device::Cpu).expect("logits");
    let loss = |x: Tensor| with_gradients(|t| cross_entropy(&t[0], &gold, 0.1, forbidden), &[x]);
    let ((a, _), (b, grads)) = (loss(plain), loss(raised));
    assert_eq!(bits(&a), bits(&b));
    for row in flat(&grads[0]).chunks_exact(9) {
        assert!(row[..forbidden].iter().all(|&g| g == 0.0) && row[forbidden..].iter().all(|&g| g != 0.0));
    }
}

#[test]
fn a_forbidden_gold_class_is_an_error() {
    let logits = random((2, 9), 1);
    for gold in [vec![4, 5], vec![5, 9], vec![5], vec![5, 5, 5], vec![]] {
        assert!(cross_entropy(&logits, &gold.clone().into(), 0.1, 5).is_err(), "{gold:?}");
    }
}

#[test]
fn best_tokens_follow_the_log_softmax() {
    for (rows, classes, forbidden) in [(1, 16, 5), (1, 6, 5), (5, 37, 5), (40, 900, 5), (3, 20, 0)] {
        let logits = (random((rows, classes), 1) * 9.0).expect("logits");
        let got = best_tokens(&logits, forbidden).expect("best");
        let want = vocabulary::stock(&logits, forbidden).expect("best in stock ops");
        for ((token, score), (best, log_prob)) in got.into_iter().zip(want) {
            assert_eq!(token, best);
            assert!(token as usize >= forbidden);
            assert!((score - log_prob).abs() < 1e-5, "{score}, not {log_prob}");
        }
    }
}

#[test]
fn top_tokens_are_sorted_log_probabilities_and_include_eos() {
    const END: u32 = 2;
    for (rows, classes, count) in [(1, 16, 1), (7, 37, 5), (3, 20, 99), (40, 900, 8)] {
        let logits = (random((rows, classes), 1) * 9.0).expect("logits");
        let got = top_tokens(&logits, END, 5, count).expect("top");
        for (row, got) in logits.to_vec2::<f32>().expect("rows").into_iter().zip(got) {
            let allowed = || row.iter().enumerate().filter(|(i, _)| *i == END as usize || *i >= 5);
            let sum: f64 = allowed().map(|(_, &v)| f64::from(v).exp()).sum();
            let mut want: Vec<(usize, f32)> = allowed().map(|(i, &v)| (i, v)).collect();
            want.sort_by(|a, b| b.1.total_cmp(&a.1));
            assert_eq!(got.len(), count.min(want.len()));
            for ((token, score), (i, v)) in got.into_iter().zip(want) {
                assert_eq!(token as usize, i);
                assert!((f64::from(score) - (f64::from(v) - sum.ln())).abs() < 1e-5);
            }
        }
    }
    let mut row = [0f32; 16];
    (row[END as usize], row[5], row[9], row[11]) = (3.0, f32::NAN, 3.0, 3.0);
    let logits = Tensor::from_vec(row.to_vec(), (1, 16), &Device::Cpu).expect("logits");
    let tokens: Vec<u32> = top_tokens(&logits, END, 5, 3).expect("top")[0].iter().map(|t| t.0).collect();
    assert_eq!(tokens, [END, 9, 11], "ties go to the lower id, and NaN is ignored");
}

#[test]
fn ties_between_tokens_go_to_the_lower_id() {
    let mut row = [0f32; 64];
    (row[2], row[17], row[18], row[40], row[63]) = (9.0, 3.0, 3.0, 3.0, 3.0);
    let logits = Tensor::from_vec(row.to_vec(), (1, 64), &Device::Cpu).expect("logits");
    assert_eq!(best_tokens(&logits, 5).expect("best")[0].0, 17);
    assert_eq!(vocabulary::stock(&logits, 5).expect("best")[0].0, 17);
}

#[test]
fn log_softmax_equals_the_stock_op() {
    let scores = (random((6, 50), 1) * 9.0).expect("scores");
    let got = log_softmax(&scores).expect("log softmax").concat();
    let want = candle_nn::ops::log_softmax(&scores, 1).expect("log softmax");
    assert_close("log softmax", &Tensor::from_vec(got, (6, 50), &Device::Cpu).expect("rows"), &want, 1e-5);
}

#[test]
fn stacked_rows_are_padded_with_zeros_at_the_end() {
    let long = random((9, 6), 1);
    let rows = [random((1, 6), 2), long.narrow(0, 3, 4).expect("a view"), random((2, 6), 3)];
    let got = pad_stack(rows.iter()).expect("stack");
    let want: Vec<Tensor> =
        rows.iter().map(|r| r.pad_with_zeros(0, 0, 4 - r.dim(0).expect("rows")).expect("padding")).collect();
    assert_close("pad_stack", &got, &Tensor::stack(&want, 0).expect("stock"), 0.0);
    assert!(pad_stack([random((1, 6), 2), random((1, 5), 2)].iter()).is_err());
    assert!(pad_stack([].iter()).is_err());
}

#[test]
fn a_mean_ignores_padding() {
    let x = random((3, 4, 6), 1);
    let real = lengths(&[4, 1, 3]);
    assert_same(
        "mean",
        std::slice::from_ref(&x),
        |t| mean_of_real(&t[0], &real),
        |t| mean::stock(&t[0], &real),
    );
    assert!(mean_of_real(&x, &lengths(&[4, 0, 3])).is_err());
    assert!(mean_of_real(&x, &lengths(&[4, 5, 3])).is_err());
}
