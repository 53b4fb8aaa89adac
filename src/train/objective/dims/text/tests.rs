use std::sync::Arc;

use super::*;
use crate::model::{Fusion, Gram, LanguageModel};
use crate::train::config::{Dims as Settings, Mask, Target};
use crate::train::objective::Imputer;
use crate::train::objective::dims::Teacher;
use crate::train::objective::dims::tests::{imputers, losses, number, objective, pairs, with_teacher};

fn settings(mask: Mask, steps: u8, agree: f64) -> Settings {
    Settings { target: Target::Text, mask, steps, agree, ..Settings::default() }
}

#[test]
fn slots_agree_where_both_alignments_are_in_one_state() {
    let masked = |positions: &[u32]| Masked {
        canvas: vec![4; 4],
        positions: positions.to_vec(),
        gold: vec![0; positions.len()],
    };
    let student = [vec![0, 1, 2, 3], vec![1, 1, 2, 3]];
    let teacher = [Some(vec![1, 1, 2, 3]), Some(vec![1, 2, 2, 2])];
    let masked = [masked(&[0, 1, 3]), masked(&[0, 1, 2, 3])];
    let (places, slots) = agreeing(&student, &teacher, &masked);
    assert_eq!(places, [1, 2, 3, 5], "of the masked slots 0, 1, 3 and 0, 1, 2, 3");
    assert_eq!(slots, [1, 3, 4, 6], "of the slots 0 to 3 and 4 to 7");
}

#[test]
fn the_text_of_the_teacher_reaches_every_weight_of_the_student() {
    let (student, ema, teacher) = imputers();
    for (mask, agree) in [(Mask::Full, 0.0), (Mask::Mixed, 0.5), (Mask::Random, 1.0)] {
        let exact = objective(teacher.clone(), settings(mask, 3, agree));
        let of_exact = losses(&exact, &student, &pairs());
        assert!(of_exact.length.is_none());
        assert_eq!(of_exact.hidden.is_some(), agree > 0.0);
        let gradients = of_exact.total.backward().unwrap();
        for (name, var) in &student.vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient reaches {name}"));
            let sum = number(&gradient.abs().unwrap().sum_all().unwrap());
            assert!(sum > 0.0 && sum.is_finite(), "{name}");
        }
        let slots: usize = pairs().iter().map(|pair| pair.slots()).sum();
        assert!(of_exact.masked_tokens == slots || mask != Mask::Full && of_exact.masked_tokens < slots);

        let eight = Teacher::eight_bit(teacher.clone(), ema.tensors(), false);
        let total = number(&losses(&with_teacher(eight, settings(mask, 3, agree)), &student, &pairs()).total);
        assert!(total.is_finite() && total > 0.0, "{total}");
    }
}

#[test]
fn an_alignment_does_not_change_the_loss_of_a_fully_masked_canvas() {
    let (student, _ema, teacher) = imputers();
    let of = |agree| {
        let losses = losses(&objective(teacher.clone(), settings(Mask::Full, 3, agree)), &student, &pairs());
        number(&losses.tokens)
    };
    // Only with `agree` are the teacher's alignments computed.
    assert!((of(0.0) - of(0.5)).abs() < 1e-6, "{} {}", of(0.0), of(0.5));
}

#[test]
fn a_copy_agrees_with_one_pass_of_its_teacher_and_learns_the_text_alone() {
    let (student, _ema, teacher) = imputers();
    let plain = Settings { temperature: 1.0, ..settings(Mask::Full, 1, 1.0) };
    let same = losses(&objective(teacher.clone(), plain.clone()), &student, &pairs());
    assert_eq!(number(same.hidden.as_ref().unwrap()), 0.0);
    let (total, tokens) = (number(&same.total), number(&same.tokens));
    assert!((total - tokens).abs() < 1e-5, "{total} {tokens}");
    let sharp = Settings { temperature: 0.5, ..plain };
    let sharpened = losses(&objective(teacher, sharp), &student, &pairs());
    assert!(
        number(&sharpened.total) > number(&sharpened.tokens),
        "a sharpened teacher differs from its copy"
    );
}

#[test]
fn targets_are_not_used_if_the_teacher_has_a_text() {
    let (student, _ema, teacher) = imputers();
    let dims = objective(teacher, settings(Mask::Full, 2, 0.0));
    let other: Vec<Pair> =
        pairs().into_iter().map(|pair| Pair { source: pair.source, target: vec![1, 17, 2] }).collect();
    assert_eq!(
        number(&losses(&dims, &student, &pairs()).total),
        number(&losses(&dims, &student, &other).total)
    );
    let refs: Vec<&Pair> = other.iter().collect();
    let kept = dims.with_texts(&refs, dims.texts_of_slots(&refs, &[dims.specials.blank(); 99]));
    assert!(kept.iter().all(|pair| pair.target == [1, 17, 2]), "an empty text of the teacher is not learned");
}

/// A language model that prefers one token.
fn lm_for(favourite: u32, vocab: usize) -> Arc<LanguageModel> {
    let prob = |token: u32| if token == favourite { 0.5 } else { 0.5 / vocab as f64 };
    let unigrams = (0..vocab as u32).map(|t| Gram { tokens: [t], prob: prob(t), backoff: 1.0 });
    let fusion = Fusion { weight: 1.0, bonus: 1.0, penalty: f32::INFINITY };
    Arc::new(LanguageModel::new(fusion, &unigrams.collect::<Vec<_>>(), &[], &[]).unwrap())
}

#[test]
fn a_language_model_changes_the_text_that_is_learned() {
    let (student, ema, teacher) = imputers();
    let vocab = teacher.shape().vocab;
    let sources: Vec<Vec<u32>> = pairs().into_iter().map(|pair| pair.source).collect();
    let plain = objective(teacher.clone(), settings(Mask::Full, 3, 0.0));
    let options = plain.decoding(3).unwrap();
    let texts = |lm: Option<&Arc<LanguageModel>>| plain.teacher.translate(&sources, &options, lm).unwrap();
    let lm = (5..vocab as u32).map(|token| lm_for(token, vocab)).find(|lm| texts(Some(lm)) != texts(None));
    assert!(lm.is_some(), "no language model changes a text");
    for (mask, agree) in [(Mask::Full, 0.0), (Mask::Mixed, 0.5)] {
        for eight_bit in [false, true] {
            let teacher = || match eight_bit {
                true => Teacher::eight_bit(teacher.clone(), ema.tensors(), false),
                false => Teacher::exact(teacher.clone()),
            };
            let scored = Dims { lm: lm.clone(), ..with_teacher(teacher(), settings(mask, 3, agree)) };
            let texts = scored.teacher.translate(&sources, &options, lm.as_ref()).unwrap();

            let of_scored = losses(&scored, &student, &pairs());
            assert_eq!(of_scored.hidden.is_some(), agree > 0.0);
            assert!(number(&of_scored.total).is_finite());
            if mask == Mask::Full {
                // The loss of an Imputer that learns these texts.
                let pairs = pairs().into_iter().zip(&texts);
                let pairs: Vec<Pair> =
                    pairs.map(|(pair, text)| Pair { target: scored.enclose(text), ..pair }).collect();
                let (specials, mask) = (scored.specials, SlotMask::Full);
                let imputer = Imputer { specials, mask, dropout: 0.0, products: scored.products };
                let expected = losses(&imputer, &student, &pairs);
                assert!((number(&of_scored.tokens) - number(&expected.tokens)).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn a_student_learns_to_write_in_one_pass_what_its_teacher_writes_in_several() {
    let (student, _ema, teacher) = imputers();
    let teacher = Teacher::exact(teacher);
    let dims = with_teacher(teacher, settings(Mask::Full, 4, 0.0));
    let pairs = pairs();
    let refs: Vec<&Pair> = pairs.iter().collect();
    let one_pass = |steps: usize, of: &Dims| -> Vec<Vec<u32>> {
        let teacher_mode = Mode::inference();
        let source = of.teacher.encode(&refs, &teacher_mode).unwrap();
        let blank: Vec<Masked> =
            refs.iter().map(|pair| Spelling::of(pair, &of.specials).masks(&of.specials)).collect();
        let written = of.teacher.targets(&source, &blank, steps, &teacher_mode).unwrap().tokens;
        of.with_texts(&refs, of.texts_of_slots(&refs, &written))
            .into_iter()
            .map(|pair| pair.target.clone())
            .collect()
    };
    let wanted = one_pass(4, &dims);
    let before = number(&losses(&dims, &student, &pairs).total);
    for _ in 0..300 {
        let gradients = losses(&dims, &student, &pairs).total.backward().unwrap();
        for var in student.vars.values() {
            let step = (gradients.get(var).unwrap() * 0.3).unwrap();
            var.set(&(var.as_detached_tensor() - step).unwrap()).unwrap();
        }
    }
    let after = number(&losses(&dims, &student, &pairs).total);
    assert!(after < 0.2 * before, "{before} {after}");
    let learnt = with_teacher(Teacher::exact(student.network.clone()), settings(Mask::Full, 1, 0.0));
    assert_eq!(one_pass(1, &learnt), wanted);
}
