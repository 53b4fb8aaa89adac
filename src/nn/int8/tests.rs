use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::kernel::Path;
use super::*;

mod speed;

fn random(length: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..length).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn filled(x: &[f32], width: usize, input: Input) -> Rows {
    filled_on(Path::best(), x, width, input)
}

fn filled_on(path: Path, x: &[f32], width: usize, input: Input) -> Rows {
    let mut rows = Rows::on_path(path);
    rows.quantize(x, width, input);
    rows
}

fn forward(linear: &PackedLinear, x: &[f32], mode: StoreMode, start: f32) -> Vec<f32> {
    let mut out = vec![start; x.len() / linear.inputs() * linear.outputs()];
    linear.forward(&filled_on(linear.path(), x, linear.inputs(), linear.input()), mode, &mut out);
    out
}

/// The definition: both operands rounded, summed in i64, scaled.
fn expected(x: &[f32], weight: &[f32], bias: &[f32], inputs: usize, input: Input) -> Vec<f32> {
    let rounded = |row: &[f32], largest: f32| -> (Vec<i64>, f32) {
        let top = row.iter().fold(0f32, |top, v| top.max(v.abs()));
        let inverse = if top > 0.0 { largest / top } else { 0.0 };
        (row.iter().map(|v| (v * inverse).round_ties_even() as i64).collect(), top / largest)
    };
    let mut out = Vec::new();
    for row in x.chunks_exact(inputs) {
        let (row, scale) = rounded(row, if input == Input::Signed { 127.0 } else { 255.0 });
        for (channel, bias) in weight.chunks_exact(inputs).zip(bias) {
            let (channel, channel_scale) = rounded(channel, 127.0);
            let sum: i64 = row.iter().zip(&channel).map(|(a, b)| a * b).sum();
            out.push(sum as f32 * (scale * channel_scale) + bias);
        }
    }
    out
}

const SIZES: [(usize, usize, usize); 13] = [
    (1, 1, 1),
    (2, 31, 3),
    (3, 33, 4),
    (13, 64, 65),
    (14, 32, 256),
    (15, 100, 17),
    (29, 7, 130),
    (43, 96, 64),
    (5, 257, 1031),
    (1, 32, 64),
    (16, 65, 128),
    (33, 40, 256),
    (64, 31, 192),
];

#[test]
fn every_path_has_the_bits_of_the_definition_at_ragged_sizes() {
    for path in Path::available() {
        for (seed, (count, outputs, inputs)) in SIZES.into_iter().enumerate() {
            let (weight, bias) = (random(outputs * inputs, seed as u64), random(outputs, 99));
            for input in [Input::Signed, Input::NonNegative] {
                let mut x = random(count * inputs, 7 + seed as u64);
                if input == Input::NonNegative {
                    x.iter_mut().for_each(|v| *v = v.max(0.0));
                }
                let linear = PackedLinear::on_path(path, &weight, &bias, inputs, input).unwrap();
                let want = expected(&x, &weight, &bias, inputs, input);
                let got = forward(&linear, &x, StoreMode::Store, f32::NAN);
                assert_eq!(bits(&got), bits(&want), "{path:?} {count}x{outputs}x{inputs} {input:?}");
                let sum: Vec<f32> = want.iter().map(|v| 0.5 + v).collect();
                assert_eq!(bits(&forward(&linear, &x, StoreMode::Add, 0.5)), bits(&sum), "{path:?}");
            }
        }
    }
}

#[test]
fn a_fused_relu_product_equals_two_products_on_every_path() {
    for path in Path::available() {
        for (seed, (count, outputs, inputs)) in SIZES.into_iter().enumerate() {
            let x = random(count * inputs, 7 + seed as u64);
            let inner = (random(outputs * inputs, seed as u64), random(outputs, 99));
            let outer = random(40 * outputs, 11);
            let first = PackedLinear::on_path(path, &inner.0, &inner.1, inputs, Input::Signed).unwrap();
            let second =
                PackedLinear::on_path(path, &outer, &[0.5; 40], outputs, Input::NonNegative).unwrap();
            let relu: Vec<f32> =
                expected(&x, &inner.0, &inner.1, inputs, Input::Signed).iter().map(|v| v.max(0.0)).collect();
            let mut between = Rows::on_path(path);
            let rows = filled_on(path, &x, inputs, Input::Signed);
            first.forward_relu(&rows, &mut Positive::default(), &mut between);
            let mut got = vec![f32::NAN; count * 40];
            second.forward(&between, StoreMode::Store, &mut got);
            let want = expected(&relu, &outer, &[0.5; 40], outputs, Input::NonNegative);
            assert_eq!(bits(&got), bits(&want), "{path:?} {count}x{outputs}x{inputs}");
        }
    }
}

#[test]
fn rows_are_reused_for_other_widths_and_counts() {
    for path in Path::available() {
        let mut rows = Rows::on_path(path);
        for (seed, (count, inputs)) in
            [(33, 256), (1, 64), (5, 40), (20, 128), (0, 64), (40, 64)].into_iter().enumerate()
        {
            let (x, weight) = (random(count * inputs, seed as u64), random(37 * inputs, 50 + seed as u64));
            let linear = PackedLinear::on_path(path, &weight, &[0.5; 37], inputs, Input::Signed).unwrap();
            rows.quantize(&x, inputs, Input::Signed);
            let mut out = vec![f32::NAN; count * 37];
            linear.forward(&rows, StoreMode::Store, &mut out);
            assert_eq!(
                bits(&out),
                bits(&expected(&x, &weight, &[0.5; 37], inputs, Input::Signed)),
                "{path:?}"
            );
            let best = linear.best_tokens(&rows, 4, 1);
            let largest =
                out.chunks(37).map(|y| (4..37).rev().max_by(|&a, &b| y[a].total_cmp(&y[b])).unwrap());
            assert!(best.iter().map(|&(token, _)| token as usize).eq(largest), "{path:?} {count}x{inputs}");
        }
    }
}

#[test]
fn quantize_normed_equals_norm_then_quantize() {
    let (width, count) = (72, 17);
    let x = random(count * width, 1);
    let norm = Norm::new(random(width, 2), random(width, 3));
    let linear = PackedLinear::new(&random(9 * width, 4), &[0.0; 9], width, Input::Signed).unwrap();
    let mut normed = x.clone();
    norm.apply(&mut normed);
    for (row, normed) in x.chunks(width).zip(normed.chunks(width)) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
        for (i, (&v, &got)) in row.iter().zip(normed).enumerate() {
            let (gain, bias) = (f64::from(random(width, 2)[i]), f64::from(random(width, 3)[i]));
            let want = (f64::from(v) - mean) / (variance + 1e-5).sqrt() * gain + bias;
            assert!((f64::from(got) - want).abs() < 1e-5, "{got} for {want}");
        }
    }
    let mut rows = Rows::default();
    rows.quantize_normed(&x, &norm);
    let (mut a, mut b) = (vec![0.0; count * 9], vec![0.0; count * 9]);
    linear.forward(&rows, StoreMode::Store, &mut a);
    linear.forward(&filled(&normed, width, Input::Signed), StoreMode::Store, &mut b);
    assert_eq!(bits(&a), bits(&b));
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    let (outputs, inputs) = (70, 50);
    let (weight, bias) = (random(outputs * inputs, 1), random(outputs, 2));
    let linear = PackedLinear::new(&weight, &bias, inputs, Input::Signed).unwrap();
    let x = random(40 * inputs, 3);
    let alone: Vec<Vec<f32>> =
        x.chunks(inputs).map(|row| forward(&linear, row, StoreMode::Store, 0.0)).collect();
    for count in 1..=40 {
        let out = forward(&linear, &x[..count * inputs], StoreMode::Store, 0.0);
        for (row, alone) in out.chunks(outputs).zip(&alone) {
            assert_eq!(bits(row), bits(alone), "among {count}");
        }
    }
}

#[test]
fn the_rounding_error_is_at_most_half_a_step_of_each_operand() {
    let (outputs, inputs) = (48, 256);
    let (x, weight) = (random(20 * inputs, 4), random(outputs * inputs, 5));
    let linear = PackedLinear::new(&weight, &vec![0.0; outputs], inputs, Input::Signed).unwrap();
    let got = forward(&linear, &x, StoreMode::Store, 0.0);
    for (row, got) in x.chunks(inputs).zip(got.chunks(outputs)) {
        for (channel, &got) in weight.chunks(inputs).zip(got) {
            let exact: f64 = row.iter().zip(channel).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            // |x̂ŵ - xw| <= |x|·½s_w + |w|·½s_x + ¼·s_x·s_w, with steps of at most 1/127.
            let size: f64 = row.iter().zip(channel).map(|(a, b)| f64::from(a.abs() + b.abs())).sum();
            let bound = size * 0.5 / 127.0 + inputs as f64 * 0.25 / 127.0 / 127.0 + 1e-4;
            assert!((f64::from(got) - exact).abs() <= bound, "{got} for {exact}, bound {bound}");
        }
    }
}

#[test]
fn a_row_of_zeros_gives_the_biases_and_nan_stays_in_its_row() {
    let (weight, bias) = (random(6 * 9, 1), random(6, 2));
    let linear = PackedLinear::new(&weight, &bias, 9, Input::Signed).unwrap();
    let mut x = vec![0.0; 3 * 9];
    x[9..18].fill(f32::NAN);
    let out = forward(&linear, &x, StoreMode::Store, 0.0);
    assert_eq!((bits(&out[..6]), bits(&out[12..])), (bits(&bias), bits(&bias)));
}

#[test]
fn weights_of_another_shape_are_an_error() {
    assert!(PackedLinear::new(&[0.0; 7], &[0.0; 2], 4, Input::Signed).is_err());
    assert!(PackedLinear::new(&[], &[0.0; 2], 0, Input::Signed).is_err());
}

#[test]
fn the_best_token_is_the_same_on_any_number_of_threads() {
    for (outputs, forbidden) in [(20, 5), (513, 5), (1100, 0), (1500, 520)] {
        let (inputs, count) = (24, 31);
        let (weight, bias) = (random(outputs * inputs, 1), random(outputs, 2));
        let linear = PackedLinear::new(&weight, &bias, inputs, Input::Signed).unwrap();
        let x = random(count * inputs, 3);
        let scores = forward(&linear, &x, StoreMode::Store, 0.0);
        let rows = filled(&x, inputs, Input::Signed);
        let found = on_threads(1, || linear.best_tokens(&rows, forbidden, 1));
        assert_eq!(found, on_threads(3, || linear.best_tokens(&rows, forbidden, 3)));
        for (row, (token, log_prob)) in scores.chunks(outputs).zip(&found) {
            let allowed = &row[forbidden..];
            let top = allowed.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(*token as usize, forbidden + allowed.iter().position(|&v| v == top).unwrap());
            let sum: f64 = allowed.iter().map(|&v| f64::from(v - top).exp()).sum();
            assert!((f64::from(*log_prob) + sum.ln()).abs() < 1e-5, "{log_prob} for {}", -sum.ln());
        }
        let alone = linear.best_tokens(&filled(&x[..inputs], inputs, Input::Signed), forbidden, 1);
        assert_eq!(alone[0], found[0]);
        let top = on_threads(1, || linear.top_tokens::<4>(&rows, forbidden, 1));
        assert_eq!(top, on_threads(3, || linear.top_tokens::<4>(&rows, forbidden, 3)));
        for ((row, top), &best) in scores.chunks(outputs).zip(&top).zip(&found) {
            assert_eq!(top[0], best);
            let mut sorted: Vec<usize> = (forbidden..outputs).collect();
            sorted.sort_by(|&a, &b| row[b].total_cmp(&row[a])); // stable: ties stay ascending
            for (&(token, log_prob), &expected) in top.iter().zip(&sorted) {
                assert_eq!(token as usize, expected);
                assert!((log_prob - best.1 - (row[expected] - row[best.0 as usize])).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn log_softmax_follows_its_definition_for_any_range_of_scores() {
    for (length, spread) in [(1, 1.0), (128, 5.0), (77, 200.0)] {
        let scores: Vec<f32> = random(length, 1).iter().map(|v| v * spread).collect();
        let mut got = scores.clone();
        log_softmax(&mut got);
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = scores.iter().map(|&v| f64::from(v - top).exp()).sum();
        for (score, got) in scores.iter().zip(got) {
            let want = f64::from(score - top) - sum.ln();
            assert!((f64::from(got) - want).abs() < 1e-6 * (1.0 + want.abs()) * 8.0, "{got} for {want}");
        }
    }
}

#[test]
fn ties_go_to_the_lower_id_also_across_blocks() {
    let outputs = 1200;
    let linear = PackedLinear::new(&vec![0.0; outputs * 8], &vec![0.25; outputs], 8, Input::Signed).unwrap();
    let found = linear.best_tokens(&filled(&random(8, 1), 8, Input::Signed), 5, 1);
    assert_eq!(found[0].0, 5);
    assert!((found[0].1 + (1195f32).ln()).abs() < 1e-5);
    let rows = filled(&random(8, 1), 8, Input::Signed);
    for threads in [1, 3] {
        let top = on_threads(threads, || linear.top_tokens::<4>(&rows, 510, threads))[0];
        assert_eq!(top.map(|(token, _)| token), [510, 511, 512, 513], "in two blocks");
    }
    let top = linear.top_tokens::<4>(&rows, outputs - 2, 1)[0];
    assert!(top[1].1 > f32::NEG_INFINITY && top[2..].iter().all(|rest| rest.1 == f32::NEG_INFINITY));
}

const ATTENTION_SIZES: [(usize, usize, usize, usize); 6] =
    [(16, 2, 1, 1), (64, 4, 5, 14), (96, 4, 4, 17), (8, 1, 7, 40), (80, 2, 16, 7), (64, 1, 37, 33)];

#[test]
fn attention_has_the_same_bits_for_any_register_width() {
    for (width, heads, count, keys) in ATTENTION_SIZES {
        let (q, kv) = (random(count * width, 1), random(keys * 2 * width, 2));
        let stride = 2 * width;
        let of = Attention {
            width,
            heads,
            len: keys,
            keys: Strided { data: &kv, stride },
            values: Strided { data: &kv[width..], stride },
        };
        let queries = Strided { data: &q, stride: width };
        let (mut widest, mut narrow) = (vec![f32::NAN; count * width], vec![f32::NAN; count * width]);
        of.attend(queries, count, &mut AttentionScratch::default(), &mut widest);
        let (transposed, weights) = (&mut vec![[0.0; 16]; width], &mut vec![[0.0; 16]; keys]);
        let narrowly =
            attention::Attend { of, queries, count, seen: None, transposed, weights, out: &mut narrow };
        pulp::WithSimd::with_simd(narrowly, pulp::Scalar::new());
        assert_eq!(bits(&widest), bits(&narrow), "{width} {heads} {count} {keys}");
    }
}

#[test]
fn attention_follows_its_definition_for_any_number_of_queries_and_keys() {
    for (width, heads, count, keys) in ATTENTION_SIZES {
        let head = width / heads;
        let (q, kv) = (random(count * width, 1), random(keys * 2 * width, 2));
        let (keys_of, values) =
            (Strided { data: &kv, stride: 2 * width }, Strided { data: &kv[width..], stride: 2 * width });
        let attention = Attention { width, heads, len: keys, keys: keys_of, values };
        let mut out = vec![f32::NAN; count * width];
        let mut scratch = AttentionScratch::default();
        attention.attend(Strided { data: &q, stride: width }, count, &mut scratch, &mut out);
        for (i, (q, out)) in q.chunks(width).zip(out.chunks(width)).enumerate() {
            for h in 0..heads {
                let of = |key: usize, part: usize, c: usize| {
                    f64::from(kv[key * 2 * width + part * width + h * head + c])
                };
                let scores: Vec<f64> = (0..keys)
                    .map(|key| (0..head).map(|c| f64::from(q[h * head + c]) * of(key, 0, c)).sum::<f64>())
                    .map(|dot| (dot / (head as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = scores.iter().sum();
                for c in 0..head {
                    let want: f64 = (0..keys).map(|key| scores[key] / sum * of(key, 1, c)).sum();
                    assert!((f64::from(out[h * head + c]) - want).abs() < 1e-5, "query {i} head {h}");
                }
            }
            let mut alone = vec![0.0; width];
            attention.attend(Strided { data: q, stride: width }, 1, &mut scratch, &mut alone);
            assert_eq!(bits(&alone), bits(out));
        }
    }
}

#[test]
fn a_query_over_the_first_keys_ignores_the_others_bit_for_bit() {
    for (width, heads, count, keys) in ATTENTION_SIZES {
        let (q, kv) = (random(count * width, 1), random(keys * 2 * width, 2));
        let stride = 2 * width;
        let of = |len: usize| Attention {
            width,
            heads,
            len,
            keys: Strided { data: &kv, stride },
            values: Strided { data: &kv[width..], stride },
        };
        let seen: Vec<usize> = (0..count).map(|i| 1 + i * 5 % keys).collect();
        let mut out = vec![f32::NAN; count * width];
        let mut scratch = AttentionScratch::default();
        of(keys).attend_to_first(Strided { data: &q, stride: width }, &seen, &mut scratch, &mut out);
        for (i, out) in out.chunks(width).enumerate() {
            let mut alone = vec![f32::NAN; width];
            let query = Strided { data: &q[i * width..], stride: width };
            of(seen[i]).attend(query, 1, &mut scratch, &mut alone);
            assert_eq!(bits(&alone), bits(out), "{width} {heads}: query {i} of {count}, {} keys", seen[i]);
        }
    }
}

#[test]
fn selected_channels_have_the_same_bits_as_in_the_full_map() {
    for (rows, inputs, outputs) in [(3, 33, 100), (14, 64, 65), (15, 256, 1031), (1, 7, 40)] {
        let (x, weight) = (random(rows * inputs, 1), random(outputs * inputs, 2));
        for path in Path::available() {
            let linear =
                PackedLinear::on_path(path, &weight, &random(outputs, 3), inputs, Input::Signed).unwrap();
            let weights = linear.channelwise();
            let all = forward(&linear, &x, StoreMode::Store, 0.0);
            for every in [1, 2, 7, 33, outputs] {
                let channels: Vec<u32> = (0..outputs as u32).rev().step_by(every).collect();
                let selected = linear.select(&weights, &channels);
                let of_all = all.chunks(outputs).flat_map(|row| channels.iter().map(|&c| row[c as usize]));
                let expected: Vec<f32> = of_all.collect();
                assert_eq!(bits(&forward(&selected, &x, StoreMode::Store, 0.0)), bits(&expected));
            }
        }
    }
}
