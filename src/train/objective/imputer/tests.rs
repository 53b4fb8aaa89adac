use super::*;
use crate::model::{Backend, Shape};
use crate::train::config::Imputer as Settings;
use crate::train::rng::Rng;
use crate::train::weights::Weights;

fn shape() -> Shape {
    Settings::default().shape("enc=1,dec=2,d=16,ffn=32,heads=2,vocab=48,positions=24".parse().unwrap())
}

fn objective(mask: SlotMask, dropout: f32) -> Imputer {
    Imputer { specials: Specials::default(), mask, dropout, products: Precision::F32 }
}

fn framed(inner: &[u32]) -> Vec<u32> {
    [&[1], inner, &[2]].concat()
}

fn pairs() -> Vec<Pair> {
    [
        (&[10, 11, 12, 13][..], &[20, 21, 21, 22, 23, 24][..]),
        (&[14, 9], &[25, 26, 27, 28, 29, 30, 31]),
        (&[8, 8, 8, 40, 41, 42], &[19]),
    ]
    .map(|(source, target)| Pair { source: framed(source), target: framed(target) })
    .into()
}

fn losses(objective: &Imputer, student: &Network, pairs: &[Pair], seed: u64) -> Losses {
    let pairs: Vec<&Pair> = pairs.iter().collect();
    objective.losses(Step { student, pairs: &pairs, masks: Rng::from_seed(seed), dropout: 5 }).unwrap()
}

fn number(scalar: &Tensor) -> f32 {
    scalar.to_scalar().unwrap()
}

#[test]
fn every_weight_gets_a_gradient() {
    let student = Weights::initial(&shape(), 1, &Backend::cpu()).unwrap();
    assert!(!student.vars.keys().any(|name| name.starts_with("length")));
    for mask in [SlotMask::Full, SlotMask::Uniform, SlotMask::Block] {
        for dropout in [0.0, 0.2] {
            let losses = losses(&objective(mask, dropout), &student.network, &pairs(), 8);
            let gradients = losses.total.backward().unwrap();
            for (name, var) in &student.vars {
                let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient reaches {name}"));
                let size = number(&gradient.abs().unwrap().sum_all().unwrap());
                assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
            }
        }
    }
}

/// The definition by brute force over a small vocabulary: all fillings of the slots that collapse to the target.
#[test]
fn with_all_slots_masked_the_loss_is_that_of_all_fillings_and_its_gradient_the_slope() {
    let shape =
        Settings::default().shape("enc=1,dec=1,d=16,ffn=32,heads=2,vocab=16,positions=8".parse().unwrap());
    let student = Weights::initial(&shape, 2, &Backend::cpu()).unwrap();
    let pairs = [Pair { source: vec![1, 2], target: framed(&[9, 7]) }]; // four slots
    let loss = |student: &Weights| losses(&objective(SlotMask::Full, 0.0), &student.network, &pairs, 1);
    let value = number(&loss(&student).total);

    let (network, mode) = (&student.network, Mode::inference());
    let padded = |ids: &[u32]| Padded::new([ids].into_iter(), 0, network.device()).unwrap();
    let source = padded(&pairs[0].source);
    let states = network.encode(&source, &mode).unwrap();
    let memory = network.memory(&states, &source.lengths, &mode).unwrap();
    let decoded = network.decode(&padded(&[4; 4]), &memory, &mode).unwrap();
    let logits = network.logits(&decoded.flatten_to(1).unwrap(), &mode).unwrap();
    let log_probs = ops::log_softmax(&logits.narrow(1, 3, 13).unwrap()).unwrap();
    let blank = Specials::default().blank();
    let mut sum = 0f64;
    for filling in 0..3usize.pow(4) {
        let slots: Vec<u32> = (0..4).map(|slot| [blank, 9, 7][filling / 3usize.pow(slot) % 3]).collect();
        let mut collapsed = slots.clone();
        collapsed.dedup();
        collapsed.retain(|&token| token != blank);
        if collapsed == [9, 7] {
            let score = slots.iter().zip(&log_probs).map(|(&token, row)| f64::from(row[token as usize - 3]));
            sum += score.sum::<f64>().exp();
        }
    }
    let expected = (-sum.ln() / 4.0) as f32;
    assert!((value - expected).abs() < 1e-5, "{value}, not {expected}");

    let places = [
        ("output.bias", 9),
        ("output.bias", 3),
        ("decoder.positions.weight", 17),
        ("embedding.weight", 7 * 16),
    ];
    assert_gradients_are_slopes(&student, loss, &places, 1e-2);
}

/// The gradients of some values, by central differences of `step` to either side.
fn assert_gradients_are_slopes(
    student: &Weights,
    loss: impl Fn(&Weights) -> Losses,
    places: &[(&str, usize)],
    step: f32,
) {
    let gradients = loss(student).total.backward().unwrap();
    for &(name, at) in places {
        let var = &student.vars[name];
        let gradient: Vec<f32> = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let moved = |by: f32| {
            let mut values = values.clone();
            values[at] += by;
            var.set(&Tensor::from_vec(values, var.shape(), var.device()).unwrap()).unwrap();
            number(&loss(student).total)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        moved(0.0);
        assert!((gradient[at] - slope).abs() < 2e-3, "{name}: {}, slope {slope}", gradient[at]);
    }
}

#[test]
fn with_some_slots_revealed_the_gradient_is_the_slope_where_the_alignment_stays() {
    let student = Weights::initial(&shape(), 6, &Backend::cpu()).unwrap();
    let of = |student: &Weights| losses(&objective(SlotMask::Block, 0.0), &student.network, &pairs(), 11);
    let first = of(&student);
    let slots: usize = pairs().iter().map(|pair| 2 * pair.source.len()).sum();
    assert!(first.masked_tokens < slots, "some are revealed");
    let places = [("output.bias", 21), ("output.bias", 3), ("decoder.layers.1.feed_forward.outer.bias", 5)];
    // The step is small, so that the best alignment does not change.
    assert_gradients_are_slopes(&student, of, &places, 4e-3);
}

#[test]
fn nan_scores_give_a_nan_loss_and_nan_gradients_so_that_the_update_is_skipped() {
    let student = Weights::initial(&shape(), 6, &Backend::cpu()).unwrap();
    let var = &student.vars["decoder.norm.bias"];
    var.set(&(var.as_detached_tensor() * f64::NAN).unwrap()).unwrap();
    let losses = losses(&objective(SlotMask::Block, 0.0), &student.network, &pairs(), 11);
    assert!(number(&losses.total).is_nan());
    let gradients = losses.total.backward().unwrap();
    let norm =
        number(&gradients.get(&student.vars["output.bias"]).unwrap().sqr().unwrap().sum_all().unwrap());
    assert!(norm.is_nan());
}

#[test]
fn revealed_slots_show_an_alignment_of_the_target_and_are_not_predicted() {
    let specials = Specials::default();
    let student = Weights::initial(&shape(), 3, &Backend::cpu()).unwrap();
    let pairs = pairs();
    let spellings: Vec<Spelling> = pairs.iter().map(|pair| Spelling::of(pair, &specials)).collect();
    let mode = Mode::inference();
    let source = Padded::new(pairs.iter().map(|p| p.source.as_slice()), 0, student.network.device()).unwrap();
    let states = student.network.encode(&source, &mode).unwrap();
    let memory = student.network.memory(&states, &source.lengths, &mode).unwrap();
    let wanted = [true, false, true];
    let imputer = objective(SlotMask::Block, 0.0);
    let paths = imputer.paths(&student.network, &memory, &spellings, &wanted, &mode).unwrap();
    for ((path, spelling), (pair, wanted)) in paths.iter().zip(&spellings).zip(pairs.iter().zip(wanted)) {
        assert_eq!(path.is_some(), wanted);
        let Some(path) = path else { continue };
        let canvas = spelling.canvas(Some(path), Vec::new(), &specials).canvas;
        assert_eq!(canvas.len(), 2 * pair.source.len());
        let some = spelling.canvas(Some(path), vec![0, 3], &specials);
        assert_eq!((some.canvas[0], some.canvas[3], some.positions), (4, 4, vec![0, 3]));
        assert!((0..canvas.len()).all(|slot| [0, 3].contains(&slot) || some.canvas[slot] == canvas[slot]));
        let (mut collapsed, blank) = (canvas, specials.blank());
        collapsed.dedup();
        collapsed.retain(|&token| token != blank);
        assert_eq!(framed(&collapsed), pair.target);
    }
}

#[test]
fn the_mask_is_never_predicted_and_gets_no_gradient() {
    let student = Weights::initial(&shape(), 4, &Backend::cpu()).unwrap();
    let gradients =
        losses(&objective(SlotMask::Full, 0.0), &student.network, &pairs(), 1).total.backward().unwrap();
    let gradient: Vec<f32> = gradients.get(&student.vars["output.bias"]).unwrap().to_vec1().unwrap();
    assert!(gradient[4].abs() < 1e-30, "{}", gradient[4]);
    assert!(gradient[3].abs() > 1e-4, "the blank is: {}", gradient[3]);
}

#[test]
fn a_target_with_too_few_slots_is_an_error_not_a_loss() {
    let student = Weights::initial(&shape(), 1, &Backend::cpu()).unwrap();
    let long = Pair { source: vec![1, 9, 2], target: framed(&[20; 4]) };
    let step = Step { student: &student.network, pairs: &[&long], masks: Rng::from_seed(1), dropout: 0 };
    let error = objective(SlotMask::Full, 0.0).losses(step).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("7 slots") && error.contains("spelt in 6"), "{error}");
}
