use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use super::*;
use crate::decode::{imputed_token, translate};
use crate::model::Tensors;
use crate::model::{Backend, Network, Padded, Shape, Spec, TOP_K};
use crate::train::update::ema::Ema;
use crate::train::weights::{Weights, frozen};

fn shape() -> Shape {
    "enc=1,dec=2,d=16,ffn=32,heads=2,vocab=32,positions=24".parse().unwrap()
}

fn student() -> Weights {
    let backend = Backend::cpu();
    Weights::of(&shape(), &Spec::initial(&shape(), 3, backend.device()).unwrap(), &backend).unwrap()
}

fn named(weights: &Weights) -> BTreeMap<String, Var> {
    weights.vars.clone()
}

/// A teacher that follows the student, as in a run.
fn follower(student: &Weights, decay: f64) -> (Ema, Network) {
    let ema = Ema::new(named(student), decay).unwrap();
    let network = frozen(&shape(), &ema.tensors(), &Backend::cpu()).unwrap();
    (ema, network)
}

pub(super) fn objective(teacher: Network, settings: Settings) -> Dims {
    with_teacher(Teacher::exact(teacher), settings)
}

pub(super) fn with_teacher(teacher: Teacher, settings: Settings) -> Dims {
    Dims {
        settings,
        teacher,
        lm: None,
        specials: Specials::default(),
        length_weight: 0.1,
        products: Precision::F32,
        batch_tokens: 512,
    }
}

fn pair(source: &[u32], target: &[u32]) -> Pair {
    Pair { source: [&[1], source, &[2]].concat(), target: [&[1], target, &[2]].concat() }
}

pub(super) fn pairs() -> Vec<Pair> {
    vec![
        pair(&[10, 11, 12, 13], &[20, 21, 22, 23, 24]),
        pair(&[14, 9], &[25, 26, 27, 28, 29, 30, 31]),
        pair(&[8, 8, 8], &[19, 18, 17, 16]),
    ]
}

pub(super) fn losses(objective: &impl Objective, student: &Weights, pairs: &[Pair]) -> Losses {
    let pairs: Vec<&Pair> = pairs.iter().collect();
    let masks = Rng::from_seed(7);
    objective.losses(Step { student: &student.network, pairs: &pairs, masks, dropout: 5 }).unwrap()
}

pub(super) fn number(scalar: &Tensor) -> f32 {
    scalar.to_scalar().unwrap()
}

/// Logits and lengths, which depend on every part of a network.
fn fingerprint(network: &Network) -> Vec<f32> {
    let mode = Mode::inference();
    let ids = |ids: &[u32]| Padded::new([ids].into_iter(), 0, network.device()).unwrap();
    let source = ids(&[1, 10, 11, 12, 2]);
    let states = network.encode(&source, &mode).unwrap();
    let memory = network.memory(&states, &source.lengths, &mode).unwrap();
    let decoded = network.decode(&ids(&[1, 4, 4, 20, 2]), &memory, &mode).unwrap();
    let chosen = network.select(&decoded, vec![1, 2]).unwrap();
    let logits = network.logits(&chosen, &mode).unwrap();
    let lengths = network.length_logits(&states, &source.lengths, &mode).unwrap().unwrap();
    let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    [flat(logits), flat(lengths)].concat()
}

#[test]
fn at_the_first_update_the_losses_are_finite() {
    let student = student();
    let (_ema, teacher) = follower(&student, 0.9);
    for (mask, steps) in [(Mask::Random, 2), (Mask::Full, 4)] {
        let dims = objective(teacher.clone(), Settings { mask, steps, ..Settings::default() });
        let losses = losses(&dims, &student, &pairs());
        let hidden = number(&losses.hidden.unwrap());
        assert!(hidden > 0.0 && hidden.is_finite(), "{hidden}");
        let (total, tokens, length) =
            (number(&losses.total), number(&losses.tokens), number(losses.length.as_ref().unwrap()));
        assert!(total.is_finite() && tokens > 0.0);
        assert!((total - (tokens + 0.4 * hidden + 0.1 * length)).abs() < 1e-5);
    }
}

#[test]
fn with_one_mask_a_fresh_student_has_the_hidden_states_of_its_teacher_exactly() {
    let student = student();
    let (_ema, teacher) = follower(&student, 0.9);
    let dims = objective(teacher, Settings::default());
    let words = [pair(&[10, 11, 12], &[20]), pair(&[9], &[21])];
    let losses = losses(&dims, &student, &words);
    assert_eq!(losses.masked_tokens, 2);
    assert_eq!(number(&losses.hidden.unwrap()), 0.0);
    let gradients = losses.total.backward().unwrap();
    for (name, var) in &student.vars {
        let gradient = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
    }
}

#[test]
fn one_teacher_pass_gives_a_fresh_student_no_loss() {
    let student = student();
    let (_ema, teacher) = follower(&student, 0.9);
    let settings = Settings { steps: 1, temperature: 1.0, ..Settings::default() };
    let losses = losses(&objective(teacher, settings), &student, &pairs());
    assert_eq!(number(&losses.hidden.unwrap()), 0.0);
    assert!(number(&losses.tokens).abs() < 1e-5, "{}", number(&losses.tokens));
}

#[test]
fn the_gradient_reaches_all_of_the_student_and_nothing_of_the_teacher() {
    let student = student();
    let (ema, teacher) = follower(&student, 0.9);
    for unsupervised in [false, true] {
        let settings = Settings { unsupervised, ..Settings::default() };
        let losses = losses(&objective(teacher.clone(), settings), &student, &pairs());
        let gradients = losses.total.backward().unwrap();
        for (name, var) in ema.vars() {
            assert!(gradients.get(&var).is_none(), "{name}");
        }
        for (name, var) in &student.vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient reaches {name}"));
            assert!(number(&gradient.abs().unwrap().sum_all().unwrap()) > 0.0, "{name}");
        }
    }
}

#[test]
fn after_k_updates_the_teacher_is_the_closed_form_of_the_average() {
    const DECAY: f64 = 0.8;
    const UPDATES: usize = 6;
    let student = student();
    let (mut ema, teacher) = follower(&student, DECAY);
    let begin = fingerprint(&teacher);
    let copy = |weights: &Weights| -> Tensors {
        weights.tensors().into_iter().map(|(name, t)| (name, t.copy().unwrap())).collect()
    };
    let mut history = vec![copy(&student)];
    for update in 1..=UPDATES {
        for var in student.vars.values() {
            var.set(&var.as_detached_tensor().affine(1.0, 0.02 * update as f64).unwrap()).unwrap();
        }
        ema.update().unwrap();
        history.push(copy(&student));
    }
    // T_k = d^k · S_0 + (1 - d) · Σ d^(k-i) · S_i
    let closed = student.vars.keys().map(|name| {
        let mut sum = (&history[0][name] * DECAY.powi(UPDATES as i32)).unwrap();
        for (i, weights) in history.iter().enumerate().skip(1) {
            let share = (1.0 - DECAY) * DECAY.powi((UPDATES - i) as i32);
            sum = (sum + (&weights[name] * share).unwrap()).unwrap();
        }
        (name.clone(), sum)
    });
    let closed = frozen(&shape(), &closed.collect(), &Backend::cpu()).unwrap();
    let (found, expected) = (fingerprint(&teacher), fingerprint(&closed));
    assert!(found != begin, "the network over the average follows it");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-3 * expected.abs().max(1.0), "{found}, not {expected}");
    }
}

#[test]
fn unsupervised_targets_are_the_teachers_translations_and_gold_targets_are_not_used() {
    let student = student();
    let (_ema, teacher) = follower(&student, 0.9);
    let dims = objective(teacher.clone(), Settings { unsupervised: true, ..Settings::default() });
    let gold = pairs();
    let bare: Vec<Pair> =
        gold.iter().map(|p| Pair { source: p.source.clone(), target: Vec::new() }).collect();

    let refs: Vec<&Pair> = bare.iter().collect();
    let written = dims.with_targets(&refs).unwrap();
    let sources: Vec<Vec<u32>> = bare.iter().map(|p| p.source.clone()).collect();
    let options = DecodeOptions::new(Steps::new(dims.settings.translation_steps).unwrap());
    let translated = translate(&teacher, &sources, &options).unwrap();
    for ((pair, source), hypotheses) in written.iter().zip(&sources).zip(&translated) {
        assert_eq!(&pair.source, source);
        let (bos, rest) = pair.target.split_first().unwrap();
        let (eos, words) = rest.split_last().unwrap();
        assert_eq!((*bos, words, *eos), (1, hypotheses[0].tokens.as_slice(), 2));
        assert!(!words.is_empty());
    }

    let (a, b) = (losses(&dims, &student, &gold), losses(&dims, &student, &bare));
    assert_eq!(number(&a.total), number(&b.total));
    assert!(number(&a.total).is_finite() && a.masked_tokens > 0);
}

#[test]
fn a_teacher_in_eight_bits_predicts_about_the_same_as_the_exact_one_and_follows_the_student() {
    let student = student();
    let (mut ema, exact) = follower(&student, 0.5);
    let teachers = |follows| Teacher::eight_bit(exact.clone(), ema.tensors(), follows);
    let (following, fixed) = (teachers(true), teachers(false));
    let settings = Settings { mask: Mask::Full, steps: 1, temperature: 1.0, ..Settings::default() };
    let [exact, following, fixed] = [Teacher::exact(exact.clone()), following, fixed]
        .map(|teacher| with_teacher(teacher, settings.clone()));
    let divergence = |dims: &Dims| number(&losses(dims, &student, &pairs()).tokens);
    assert!(divergence(&following) < 1e-3 && divergence(&fixed) < 1e-3, "equal weights, apart from rounding");

    for var in student.vars.values() {
        var.set(&(var.as_detached_tensor() * -1.5).unwrap()).unwrap();
    }
    ema.update().unwrap();
    let (expected, found) = (divergence(&exact), divergence(&following));
    assert!(expected > 0.1 && (expected - found).abs() < 0.05 * expected, "{expected} {found}");
    let stale = divergence(&fixed);
    assert!((expected - stale).abs() > (expected - found).abs(), "{expected} {stale}");
}

#[test]
fn several_passes_in_eight_bits_fill_all_masked_places() {
    let student = student();
    let (ema, network) = follower(&student, 0.9);
    let pairs = pairs();
    let pairs: Vec<&Pair> = pairs.iter().collect();
    let masked: Vec<Masked> = pairs.iter().map(|pair| mask_all(&pair.target, 4)).collect();
    let specials = Specials::default();
    let batch = Batch::new(&pairs, &masked, &shape(), &specials, network.device()).unwrap();
    let mode = Mode::inference();
    let targets = |teacher: Teacher| {
        let source = teacher.encode(&pairs, &mode).unwrap();
        teacher.targets(&source, &masked, 4, &mode).unwrap()
    };
    let exact = targets(Teacher::exact(network.clone()));
    let eight = targets(Teacher::eight_bit(network.clone(), ema.tensors(), false));
    assert_eq!(eight.hidden.dims(), &[batch.masked_tokens(), shape().d_model]);
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let apart: f32 = flat(&eight.hidden).iter().zip(flat(&exact.hidden)).map(|(a, b)| (a - b).abs()).sum();
    let whole: f32 = flat(&exact.hidden).iter().map(|v| v.abs()).sum();
    assert!(apart < 0.2 * whole, "{apart} of {whole}");
}

#[test]
fn mixed_masks_hide_all_of_about_half_of_the_sentences_and_some_of_the_others() {
    let dims = objective(student().network, Settings { mask: Mask::Mixed, ..Settings::default() });
    let target: Vec<u32> = [1].into_iter().chain(10..30).chain([2]).collect();
    let mut masks = Rng::from_seed(3);
    let counts: Vec<usize> =
        (0..2_000).map(|_| dims.draw_canvas(&target, &[], &mut masks).positions.len()).collect();
    let all = counts.iter().filter(|&&count| count == 20).count();
    // Of the other half, a twentieth has all masked by chance.
    assert!((950..1_100).contains(&all), "{all}");
    assert!((1..20).all(|count| counts.contains(&count)));
}

#[test]
fn a_full_canvas_may_have_one_of_the_lengths_that_the_teacher_finds_most_probable() {
    let network = student().network;
    let settings = |length_beam| Settings { mask: Mask::Full, length_beam, ..Settings::default() };
    let lengths = |length_beam| -> Vec<usize> {
        let dims = objective(network.clone(), settings(length_beam));
        let mut masks = Rng::from_seed(5);
        let target = [1, 20, 21, 22, 23, 2];
        let log_probs = [f32::NEG_INFINITY, -5.0, -1.0, -2.0, -4.0, -3.0];
        (0..99).map(|_| dims.draw_canvas(&target, &log_probs, &mut masks).positions.len()).collect()
    };
    assert!(lengths(0).iter().all(|&inner| inner == 4), "the target's own");
    assert!(lengths(1).iter().all(|&inner| inner == 2));
    let drawn = lengths(3);
    assert!([2, 3, 5].iter().all(|length| drawn.iter().filter(|l| *l == length).count() > 20), "{drawn:?}");

    let student = student();
    let (_ema, teacher) = follower(&student, 0.9);
    let all = losses(&objective(teacher, settings(3)), &student, &pairs());
    assert!(number(&all.total).is_finite() && all.masked_tokens > 0);
}

/// An Imputer student and its teacher before the first update.
pub(super) fn imputers() -> (Weights, Ema, Network) {
    let shape = crate::train::config::Imputer::default().shape(shape());
    let student = Weights::initial(&shape, 3, &Backend::cpu()).unwrap();
    let ema = Ema::new(named(&student), 0.9).unwrap();
    let network = frozen(&shape, &ema.tensors(), &Backend::cpu()).unwrap();
    (student, ema, network)
}

#[test]
fn an_imputer_learns_its_own_later_steps_with_every_weight_and_has_no_length_loss() {
    let (student, ema, teacher) = imputers();
    for (mask, unsupervised) in [(Mask::Full, false), (Mask::Random, false), (Mask::Mixed, true)] {
        let settings = Settings { mask, unsupervised, steps: 3, ..Settings::default() };
        let exact = objective(teacher.clone(), settings.clone());
        let of_exact = losses(&exact, &student, &pairs());
        assert!(of_exact.length.is_none());
        let gradients = of_exact.total.backward().unwrap();
        for (name, var) in &student.vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient reaches {name}"));
            assert!(number(&gradient.abs().unwrap().sum_all().unwrap()) > 0.0, "{name}");
        }
        let slots: usize = pairs().iter().map(|pair| 2 * pair.source.len()).sum();
        assert!(of_exact.masked_tokens == slots || mask != Mask::Full && of_exact.masked_tokens < slots);

        let eight = with_teacher(Teacher::eight_bit(teacher.clone(), ema.tensors(), false), settings);
        let total = number(&losses(&eight, &student, &pairs()).total);
        assert!(total.is_finite() && total > 0.0, "{total}");
    }
}

#[test]
fn the_targets_of_an_imputer_are_its_output_after_equally_many_steps_read_slot_by_slot() {
    let (_, ema, teacher) = imputers();
    let (pairs, mode, specials) = (pairs(), Mode::inference(), Specials::default());
    let pairs: Vec<&Pair> = pairs.iter().collect();
    let masked: Vec<Masked> =
        pairs.iter().map(|pair| Spelling::of(pair, &specials).masks(&specials)).collect();
    for steps in [1, 3, 4] {
        let sources: Vec<&[u32]> = pairs.iter().map(|pair| pair.source.as_slice()).collect();
        let encoded = crate::decode::Translator::encode(&teacher, &sources).unwrap();
        let mut decoded = Vec::new();
        for sentence in &encoded {
            let steps = Steps::new(steps as u8).unwrap();
            let rules = crate::decode::Translator::rules(&teacher);
            let mut beam =
                crate::decode::LengthBeam::new(&sentence.length_prediction, 1, steps, &rules).unwrap();
            while !beam.finished() {
                let rows: Vec<_> = beam.rows(&sentence.memory).collect();
                let mut answers = crate::decode::Translator::decode(&teacher, &rows).unwrap();
                if rows[0].top_k {
                    // Only the best token of each slot, so that slots are not read together.
                    let others = answers[0].chunks_mut(TOP_K).flat_map(|choices| &mut choices[1..]);
                    others.for_each(|other| other.log_prob = f32::NEG_INFINITY);
                }
                beam.apply(&answers).unwrap();
            }
            decoded.extend(beam.canvases()[0].tokens().to_vec());
        }
        let exact = Teacher::exact(teacher.clone());
        let targets = exact.targets(&exact.encode(&pairs, &mode).unwrap(), &masked, steps, &mode).unwrap();
        assert_eq!(targets.tokens, decoded, "{steps} steps");
        let scores = teacher.logits(&targets.hidden, &mode).unwrap();
        let best = ops::best_tokens(&scores, teacher.forbidden()).unwrap().into_iter();
        let best: Vec<u32> = best.map(|(token, _)| imputed_token(token, &teacher.specials())).collect();
        assert_eq!(best, targets.tokens, "states and tokens belong together");

        let eight = Teacher::eight_bit(teacher.clone(), ema.tensors(), false);
        let rounded = eight.targets(&eight.encode(&pairs, &mode).unwrap(), &masked, steps, &mode).unwrap();
        assert_eq!(rounded.hidden.dims(), targets.hidden.dims());
    }
}

#[test]
fn one_pass_of_an_imputer_gives_its_copy_no_loss() {
    let (student, _ema, teacher) = imputers();
    for mask in [Mask::Full, Mask::Random] {
        let settings = Settings { mask, steps: 1, temperature: 1.0, ..Settings::default() };
        let losses = losses(&objective(teacher.clone(), settings), &student, &pairs());
        assert_eq!(number(&losses.hidden.unwrap()), 0.0);
        assert!(number(&losses.tokens).abs() < 1e-5, "{}", number(&losses.tokens));
    }
}
