use super::*;
use crate::model::{Backend, NormPlace, Shape};
use crate::nn::gemm::Precision;
use crate::text::Specials;
use crate::train::weights::Weights;

fn plain() -> Shape {
    "enc=1,dec=2,d=16,ffn=32,heads=2,vocab=48,positions=24".parse().unwrap()
}

fn objective(settings: Settings, dropout: f32) -> Cmlmc {
    let cmlm = Cmlm {
        specials: Specials::default(),
        label_smoothing: 0.1,
        length_weight: 0.1,
        dropout,
        products: Precision::F32,
    };
    Cmlmc { cmlm, settings }
}

fn pairs() -> Vec<Pair> {
    let framed = |first: u32, len: u32| -> Vec<u32> {
        std::iter::once(1).chain((0..len).map(|i| 5 + (first + 7 * i) % 40)).chain([2]).collect()
    };
    [(4, 16), (9, 12), (2, 20), (15, 9)]
        .map(|(source, target)| Pair { source: framed(source, source), target: framed(3, target) })
        .into()
}

fn losses(objective: &impl Objective, student: &Network) -> Losses {
    let pairs = pairs();
    let pairs: Vec<&Pair> = pairs.iter().collect();
    objective.losses(Step { student, pairs: &pairs, masks: Rng::from_seed(8), dropout: 5 }).unwrap()
}

fn number(scalar: &Tensor) -> f32 {
    scalar.to_scalar().unwrap()
}

#[test]
fn every_weight_gets_a_gradient_with_all_switches_on() {
    let settings = Settings::default();
    for norm in [NormPlace::Pre, NormPlace::Post] {
        let shape = Shape { norm, ..settings.shape(plain()) };
        let student = Weights::initial(&shape, 1, &Backend::cpu()).unwrap();
        for dropout in [0.0, 0.2] {
            let losses = losses(&objective(settings.clone(), dropout), &student.network);
            let gradients = losses.total.backward().unwrap();
            for (name, var) in &student.vars {
                let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient reaches {name}"));
                let size = number(&gradient.abs().unwrap().sum_all().unwrap());
                assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
            }
        }
    }
}

#[test]
fn with_every_switch_off_the_losses_are_those_of_a_cmlm_bit_for_bit() {
    let settings = Settings {
        causal_attention: false,
        concat_positions: false,
        corrected: 0.0,
        masked_source: 0.0,
        ..Settings::default()
    };
    assert_eq!(settings.shape(plain()), plain());
    let student = Weights::initial(&plain(), 1, &Backend::cpu()).unwrap();
    let cmlmc = objective(settings, 0.2);
    let (a, b) = (losses(&cmlmc, &student.network), losses(&cmlmc.cmlm, &student.network));
    assert_eq!(number(&a.total).to_bits(), number(&b.total).to_bits());
    assert_eq!((a.masked_tokens, a.target_tokens), (b.masked_tokens, b.target_tokens));
}

#[test]
fn corrected_places_are_part_of_the_one_mean_and_source_words_have_their_weight() {
    let student = Weights::initial(&plain(), 1, &Backend::cpu()).unwrap();
    let of = |corrected: f64, masked_source: f64, source_weight: f64| {
        let settings = Settings { corrected, masked_source, source_weight, ..Settings::default() };
        losses(&objective(settings, 0.0), &student.network)
    };
    let (neither, corrected) = (of(0.0, 0.0, 0.01), of(0.3, 0.0, 0.01));
    assert!(corrected.masked_tokens > neither.masked_tokens);
    assert_eq!(number(corrected.length.as_ref().unwrap()), number(neither.length.as_ref().unwrap()));
    // The mean over the replaced positions only, without those of the masked pass.
    let sum = |losses: &Losses| number(&losses.tokens) * losses.masked_tokens as f32;
    let replaced = (corrected.masked_tokens - neither.masked_tokens) as f32;
    let mean = (sum(&corrected) - sum(&neither)) / replaced;
    assert!((1.0..12.0).contains(&mean), "{mean} nats of 43 words, untrained");

    let (light, heavy) = (of(0.0, 0.1, 0.01), of(0.0, 0.1, 2.0));
    assert_eq!(number(&light.tokens), number(&heavy.tokens));
    assert_ne!(number(&light.tokens), number(&neither.tokens), "the encoder reads masked sources");
    let words = (number(&heavy.total) - number(&light.total)) / 1.99;
    assert!((1.0..12.0).contains(&words), "{words}");
    let parts = number(&light.tokens) + 0.1 * number(light.length.as_ref().unwrap()) + 0.01 * words;
    assert!((number(&light.total) - parts).abs() < 1e-4);
}

#[test]
fn one_word_targets_leave_nothing_to_correct() {
    let student = Weights::initial(&plain(), 1, &Backend::cpu()).unwrap();
    let word = Pair { source: vec![1, 9, 2], target: vec![1, 20, 2] };
    let pairs = [&word, &word];
    let masks = Rng::from_seed(8);
    let objective = objective(Settings::default(), 0.0);
    let losses =
        objective.losses(Step { student: &student.network, pairs: &pairs, masks, dropout: 5 }).unwrap();
    assert_eq!(losses.masked_tokens, 2);
    assert!(number(&losses.total).is_finite());
}
