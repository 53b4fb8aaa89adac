//! Compares each kernel with the equivalent CPU operation, in the emulation or on a GPU (see `machines`).

use std::sync::Arc;

use candle_core::{Device as Cpu, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::testing::emulated::Emulated;
use super::*;
use crate::nn::ops::{self, AttentionMask};

const TYPES: [(Element, f32); 3] = [(Element::F32, 1e-5), (Element::F16, 2e-3), (Element::Bf16, 1.6e-2)];

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-2.0f32..2.0)).collect()
}

/// An argument of a kernel.
enum Input<'a> {
    /// The address of the output.
    Out,
    Values(Element, &'a [f32]),
    Words(&'a [u32]),
    /// An array of the addresses of these inputs.
    Pointers(Element, &'a [Vec<f32>]),
    /// An earlier input.
    Again(usize),
    Null,
    Count(usize),
    Real(f32),
}

/// Any device, for one kernel.
trait Machine {
    /// The output of `kernel`, `count` values. They are -77 before, which no kernel computes.
    fn run(&self, kernel: Kernel, grid: Grid, to: Element, count: usize, inputs: &[Input]) -> Vec<f32>;
}

impl<D: Device> Machine for D {
    fn run(&self, kernel: Kernel, grid: Grid, to: Element, count: usize, inputs: &[Input]) -> Vec<f32> {
        let mut kept = Vec::new();
        let mut place = |bytes: &[u8]| {
            let memory = self.allocate(bytes.len()).unwrap();
            let at = self.address(&memory);
            self.upload(bytes, at).unwrap();
            kept.push(memory);
            at
        };
        let out = place(&to.encode(&vec![-77.0; count]));
        let mut arguments: Vec<Argument> = Vec::new();
        for input in inputs {
            let argument = match *input {
                Input::Out => out.into(),
                Input::Values(element, values) => place(&element.encode(values)).into(),
                Input::Words(words) => {
                    place(&words.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<_>>()).into()
                }
                Input::Pointers(element, all) => {
                    let places: Vec<u8> =
                        all.iter().flat_map(|values| place(&element.encode(values)).to_ne_bytes()).collect();
                    place(&places).into()
                }
                Input::Again(index) => arguments[index],
                Input::Null => Argument::Address(0),
                Input::Count(value) => Argument::U32(value as u32),
                Input::Real(value) => value.into(),
            };
            arguments.push(argument);
        }
        self.launch(kernel, grid, &arguments).unwrap();
        let mut bytes = vec![0; count * to.size()];
        self.download(out, &mut bytes).unwrap();
        to.decode(&bytes)
    }
}

/// The emulation with threads in both orders, or, if `TUTTI_TEST_GPU` is set, the first GPU.
fn machines(element: Element) -> Vec<Box<dyn Machine>> {
    #[cfg(feature = "cuda")]
    if std::env::var_os("TUTTI_TEST_GPU").is_some() {
        return vec![Box::new(super::cuda::Cuda::open(0, element).unwrap())];
    }
    let _ = element;
    vec![Box::new(Emulated::default()), Box::new(Emulated::backwards())]
}

/// Runs on all machines, whose results must be equal: another order of threads reveals a missing barrier.
fn run(kernel: Kernel, grid: Grid, to: Element, count: usize, inputs: &[Input]) -> Vec<f32> {
    let element = match kernel {
        Kernel::Embed(element) | Kernel::Norm(element) | Kernel::Attention(element, _) => element,
        Kernel::BestTokens | Kernel::LengthClasses | Kernel::Training(_) => Element::F32,
    };
    let found: Vec<_> =
        machines(element).iter().map(|machine| machine.run(kernel, grid, to, count, inputs)).collect();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(found.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])), "{kernel:?} lacks a barrier");
    found.into_iter().next().unwrap()
}

fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{what}: {found} instead of {expected} at {i}");
    }
}

#[test]
fn a_token_and_its_position_are_embedded() {
    let (d, table, places) = (40, random(7 * 40, 1), random(5 * 40, 2));
    for (element, tolerance) in TYPES {
        let inputs = [
            Input::Values(element, &table),
            Input::Values(Element::F32, &places),
            Input::Words(&[6, 0, 3]),
            Input::Words(&[0, 4, 1]),
            Input::Out,
            Input::Count(d),
            Input::Real(3.0),
        ];
        let found = run(Kernel::Embed(element), Grid::rows(3, 64), Element::F32, 3 * d, &inputs);
        let expected: Vec<f32> = [(6, 0), (0, 4), (3, 1)]
            .iter()
            .flat_map(|&(id, place)| (0..d).map(move |i| (id * d + i, place * d + i)))
            .map(|(token, place)| 3.0 * (table[token] + places[place]))
            .collect();
        close(&found, &expected, 3.0 * tolerance, "embed");
    }
}

#[test]
fn a_norm_equals_the_cpus_norm_of_the_chosen_rows() {
    for d in [8, 33, 96, 600] {
        let (x, gain, bias) = (random(4 * d, 3), random(d, 4), random(d, 5));
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Cpu::Cpu).unwrap();
        let normed =
            ops::layer_norm(&tensor(&x, &[4, d]), &tensor(&gain, &[d]), &tensor(&bias, &[d]), 1e-5).unwrap();
        let normed: Vec<f32> = normed.flatten_all().unwrap().to_vec1().unwrap();
        for (element, tolerance) in TYPES {
            for chosen in [None, Some([2u32, 0, 2, 3])] {
                let states = vec![0.0; 4 * d];
                let inputs = [
                    Input::Values(Element::F32, &x),
                    chosen.as_ref().map_or(Input::Null, |rows| Input::Words(rows)),
                    Input::Values(Element::F32, &gain),
                    Input::Values(Element::F32, &bias),
                    Input::Out,
                    Input::Values(Element::F32, &states),
                    Input::Count(d),
                    Input::Real(1e-5),
                ];
                let found = run(Kernel::Norm(element), Grid::rows(4, 96), element, 4 * d, &inputs);
                let rows = chosen.unwrap_or([0, 1, 2, 3]);
                let expected: Vec<f32> =
                    rows.iter().flat_map(|&r| normed[r as usize * d..][..d].to_vec()).collect();
                close(&found, &expected, tolerance, "norm");
            }
        }
    }
}

fn attention_grid(sentences: usize, heads: usize, head: usize) -> Grid {
    let shared_floats = 2 * 32 * (head + 1) + 4 * (head + 32);
    Grid { width: sentences as u32, height: heads as u32, threads: 128, shared_floats }
}

/// Converts `[len, width]` of each sentence to a padded batch, and back.
fn padded(rows: &[f32], lengths: &[usize], width: usize) -> Tensor {
    let longest = *lengths.iter().max().unwrap();
    let mut values = Vec::new();
    let mut from = 0;
    for &len in lengths {
        values.extend_from_slice(&rows[from * width..(from + len) * width]);
        values.resize(values.len() + (longest - len) * width, 0.0);
        from += len;
    }
    Tensor::from_vec(values, (lengths.len(), longest, width), &Cpu::Cpu).unwrap()
}

fn packed(padded: &Tensor, lengths: &[usize]) -> Vec<f32> {
    let rows: Vec<Vec<Vec<f32>>> = padded.to_vec3().unwrap();
    rows.iter().zip(lengths).flat_map(|(row, &len)| row[..len].concat()).collect()
}

fn starts(lengths: &[usize]) -> Vec<u32> {
    let mut end = 0;
    std::iter::once(0)
        .chain(lengths.iter().map(|&len| {
            end += len as u32;
            end
        }))
        .collect()
}

#[test]
fn self_attention_over_packed_rows_equals_the_cpu() {
    // Sentences of less than one tile, of exactly one, of more; the last one is empty.
    let lengths = [3, 32, 1, 70];
    for (heads, head, columns) in [(3, 16, Columns::One), (2, 64, Columns::Two), (1, 104, Columns::Four)] {
        let (d, rows) = (heads * head, lengths.iter().sum::<usize>());
        let qkv = random(rows * 3 * d, 6);
        let real: Arc<[usize]> = lengths.into();
        let expected =
            ops::self_attention(&padded(&qkv, &lengths, 3 * d), &real, heads, AttentionMask::Whole).unwrap();
        let expected = packed(&expected, &lengths);
        for (element, tolerance) in TYPES {
            let mut ends = starts(&lengths);
            ends.push(*ends.last().unwrap());
            let kernel = Kernel::Attention(element, columns);
            let grid = attention_grid(lengths.len() + 1, heads, head);
            let inputs = [
                Input::Values(element, &qkv),
                Input::Count(3 * d),
                Input::Words(&ends),
                Input::Again(0),
                Input::Null,
                Input::Null,
                Input::Count(3 * d),
                Input::Count(d),
                Input::Count(2 * d),
                Input::Out,
                Input::Count(d),
                Input::Count(head),
                Input::Real((head as f32).powf(-0.5)),
            ];
            let found = run(kernel, grid, element, rows * d, &inputs);
            close(&found, &expected, 3.0 * tolerance, &format!("{kernel:?}"));
        }
    }
}

#[test]
fn cross_attention_reads_the_keys_of_its_own_sentence() {
    let (lengths, sources) = ([2, 5, 4], [40, 1, 9]);
    let (heads, head) = (2, 24);
    let d = heads * head;
    let rows = lengths.iter().sum::<usize>();
    let queries = random(rows * d, 7);
    // Keys and values of two layers, of which the second is used.
    let memory: Vec<Vec<f32>> = (0..3).map(|i| random(sources[i] * 4 * d, 8 + i as u64)).collect();
    let second: Vec<f32> =
        memory.iter().flat_map(|m| m.chunks_exact(4 * d).flat_map(|row| row[2 * d..].to_vec())).collect();
    let (real, real_sources): (Arc<[usize]>, Arc<[usize]>) = (lengths.into(), sources.into());
    let expected = ops::cross_attention(
        &padded(&queries, &lengths, d),
        &padded(&second, &sources, 2 * d),
        &real,
        &real_sources,
        heads,
    )
    .unwrap();
    let expected = packed(&expected, &lengths);
    for (element, tolerance) in TYPES {
        let kernel = Kernel::Attention(element, Columns::One);
        let inputs = [
            Input::Values(element, &queries),
            Input::Count(d),
            Input::Words(&starts(&lengths)),
            Input::Null,
            Input::Pointers(element, &memory),
            Input::Words(&sources.map(|len| len as u32)),
            Input::Count(4 * d),
            Input::Count(2 * d),
            Input::Count(3 * d),
            Input::Out,
            Input::Count(d),
            Input::Count(head),
            Input::Real((head as f32).powf(-0.5)),
        ];
        let found = run(kernel, attention_grid(3, heads, head), element, rows * d, &inputs);
        close(&found, &expected, 3.0 * tolerance, "cross-attention");
    }
}

/// Tokens and log-probabilities of the `count` best of `from..` in rows of `vocab` scores, `stride` apart.
fn best(logits: &[f32], stride: usize, from: usize, vocab: usize, count: usize) -> Vec<(u32, f32)> {
    let rows = logits.len() / stride;
    let other = vec![0.0; rows * count];
    let answer = |tokens: bool| {
        let beside = || Input::Values(Element::F32, &other);
        let (first, second) = if tokens { (Input::Out, beside()) } else { (beside(), Input::Out) };
        let inputs = [
            Input::Values(Element::F32, logits),
            Input::Count(stride),
            Input::Count(from),
            Input::Count(vocab),
            Input::Count(count),
            first,
            second,
        ];
        run(Kernel::BestTokens, Grid::rows(rows, 64), Element::F32, rows * count, &inputs)
    };
    // Ids are compared as bits.
    answer(true).iter().map(|v| v.to_bits()).zip(answer(false)).collect()
}

#[test]
fn best_tokens_and_log_probabilities_equal_the_cpu() {
    for (vocab, stride) in [(16, 16), (61, 64), (700, 704)] {
        let mut logits = random(5 * stride, 9);
        // Scores outside the vocabulary or of forbidden tokens are ignored.
        for row in logits.chunks_exact_mut(stride) {
            row[vocab..].fill(f32::INFINITY);
            row[..5].fill(50.0);
        }
        let real: Vec<f32> = logits.chunks_exact(stride).flat_map(|row| row[..vocab].to_vec()).collect();
        let expected = Tensor::from_vec(real, (5, vocab), &Cpu::Cpu).unwrap();
        for count in [1, 4, 11] {
            let expected = ops::top_tokens(&expected, 5, 6, count).unwrap().concat();
            let found = best(&logits, stride, 5, vocab, count);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.0, expected.0);
                assert!((found.1 - expected.1).abs() < 1e-5, "{found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_token_and_nan_is_reported() {
    let mut row = vec![0.0; 200];
    (row[150], row[40], row[72]) = (3.0, 3.0, 3.0);
    assert_eq!(best(&row, 200, 5, 200, 4)[..3].iter().map(|b| b.0).collect::<Vec<_>>(), [40, 72, 150]);
    row[90] = f32::NAN;
    let (token, log_prob) = best(&row, 200, 5, 200, 1)[0];
    assert!(token == 40 && log_prob.is_nan());
    let (token, log_prob) = best(&vec![f32::NEG_INFINITY; 200], 200, 5, 200, 1)[0];
    assert!((5..200).contains(&token) && log_prob.is_nan());
}

#[test]
fn length_classes_come_from_the_mean_of_a_sentences_own_rows() {
    let (d, classes, lengths) = (48, 21, [4usize, 0, 1, 9]);
    let (states, weights, bias) = (random(14 * d, 10), random(classes * d, 11), random(classes, 12));
    let grid = Grid { shared_floats: 32 + d + classes, ..Grid::rows(4, 64) };
    let inputs = [
        Input::Values(Element::F32, &states),
        Input::Words(&starts(&lengths)),
        Input::Values(Element::F32, &weights),
        Input::Values(Element::F32, &bias),
        Input::Out,
        Input::Count(d),
        Input::Count(classes),
    ];
    let found = run(Kernel::LengthClasses, grid, Element::F32, 4 * classes, &inputs);
    let mut first = 0;
    for (sentence, &len) in lengths.iter().enumerate() {
        let found = &found[sentence * classes..][..classes];
        if len == 0 {
            assert!(found.iter().all(|&v| v == -77.0), "nothing is written for an empty sentence");
            continue;
        }
        let mean: Vec<f32> = (0..d)
            .map(|i| (first..first + len).map(|row| states[row * d + i]).sum::<f32>() / len as f32)
            .collect();
        let scores: Vec<f32> = (0..classes)
            .map(|c| bias[c] + mean.iter().zip(&weights[c * d..]).map(|(m, w)| m * w).sum::<f32>())
            .collect();
        let expected =
            ops::log_softmax(&Tensor::from_vec(scores, (1, classes), &Cpu::Cpu).unwrap()).unwrap().remove(0);
        close(found, &expected, 1e-4, "length classes");
        first += len;
    }
}

#[test]
fn access_outside_allocated_memory_is_an_error() {
    let device = Emulated::default();
    let memory = device.allocate(64).unwrap();
    let at = device.address(&memory);
    assert!(device.upload(&[0; 64], at).is_ok() && device.upload(&[0; 65], at).is_err());
    drop(memory);
    assert!(device.download(at, &mut [0]).is_err());
}
