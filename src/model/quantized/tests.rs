use candle_core::Device;

use super::*;
use crate::model::{DecoderAttention, Lengths, Positions, Shortlist};
use crate::nn::int8::Rows;

fn of_shape(shape: &Shape) -> QuantizedNetwork {
    QuantizedNetwork::new(shape, &Spec::initial(shape, 3, &Device::Cpu).unwrap()).unwrap()
}

fn small() -> QuantizedNetwork {
    of_shape(&"enc=1,dec=3,d=64,ffn=160,heads=4,vocab=700,positions=96".parse().unwrap())
}

/// A plain network, one with all other variants, and an Imputer.
fn kinds() -> [QuantizedNetwork; 3] {
    let plain = small();
    let shape = Shape {
        norm: NormPlace::Post,
        positions: Positions::Concat,
        decoder_attention: DecoderAttention::WholeThenCausal,
        ..plain.shape.clone()
    };
    let imputer = Shape { lengths: Lengths::Ctc, length_classes: 0, ..plain.shape.clone() };
    [plain, of_shape(&shape), of_shape(&imputer)]
}

fn bits(predictions: &[(u32, f32)]) -> Vec<(u32, u32)> {
    predictions.iter().map(|&(token, log_prob)| (token, log_prob.to_bits())).collect()
}

fn framed(len: usize, inner: fn(usize) -> u32) -> Vec<u32> {
    std::iter::once(1).chain((2..len).map(inner)).chain([2]).collect()
}

fn source(len: usize) -> Vec<u32> {
    framed(len, |i| 5 + (i * 37 % 690) as u32)
}

/// Encoded sentences of these lengths, and a canvas of masks for each.
fn sentences(network: &QuantizedNetwork, lengths: &[usize]) -> (Vec<SentenceKeys>, Vec<Vec<u32>>) {
    let sources: Vec<Vec<u32>> = lengths.iter().map(|&len| source(len)).collect();
    let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
    let keys = network.encode_sentences(&sources).unwrap().into_iter().map(|(keys, _)| keys).collect();
    (keys, lengths.iter().map(|&len| framed(len + 1, |_| 4)).collect())
}

#[test]
fn the_first_layer_cache_changes_no_prediction() {
    for network in &kinds() {
        let (keys, canvases) = sentences(network, &[2, 3, 14, 20, 33]);
        let wanted: Vec<Vec<usize>> = canvases.iter().map(|ids| (1..ids.len() - 1).collect()).collect();
        let canvases: Vec<QuantizedCanvas> = (0..keys.len())
            .map(|i| QuantizedCanvas { ids: &canvases[i], wanted: &wanted[i], keys: &keys[i] })
            .collect();
        let canvases: Vec<QuantizedCanvas> = match network.shape.has_blanks() {
            true => canvases
                .iter()
                .map(|c| QuantizedCanvas { ids: &c.ids[1..c.ids.len() - 1], wanted: &[0], ..*c })
                .collect(),
            false => canvases,
        };
        let canvases: Vec<QuantizedCanvas> =
            canvases.into_iter().filter(|canvas| !canvas.ids.is_empty()).collect();
        assert!(canvases.iter().all(|canvas| network.is_first(canvas.ids)));
        let pass = |first| {
            let last = |_: &[QuantizedCanvas], rows: &mut [f32], _: &mut Rows, _| rows.to_vec();
            network.with_buffers(|buffers| network.decoder_pass(&canvases, first, 1, buffers, last))
        };
        assert_eq!(pass(true), pass(false));
    }
}

#[test]
fn predictions_from_states_equal_those_of_a_pass() {
    for network in &kinds() {
        let (keys, mut canvases) = sentences(network, &[9, 4, 25, 14, 70, 7]);
        canvases.iter_mut().step_by(2).for_each(|ids| ids[1] = 77);
        let wanted: Vec<Vec<usize>> =
            canvases.iter().map(|ids| (1..ids.len() - 1).step_by(2).collect()).collect();
        let canvases: Vec<QuantizedCanvas> = (0..keys.len())
            .map(|i| QuantizedCanvas { ids: &canvases[i], wanted: &wanted[i], keys: &keys[i] })
            .collect();
        let states = network.states(&canvases).unwrap();
        let best = network.best_of(&states).unwrap();
        assert_eq!(bits(&best), bits(&network.predict(&canvases).unwrap()));
        assert!(network.best_of(&states[1..]).is_err(), "no whole rows");
    }
}

#[test]
fn only_a_short_canvas_of_masks_uses_the_cache() {
    let network = small();
    assert!(network.is_first(&[1, 4, 4, 2]) && network.is_first(&[1, 2]));
    for other in
        [&[1, 4, 9, 2][..], &[1, 4, 4], &[4, 4, 2], &[1], &[], &[[1].as_slice(), &[4; 130], &[2]].concat()]
    {
        assert!(!network.is_first(other), "{other:?}");
    }
    let imputer = of_shape(&Shape { lengths: Lengths::Ctc, length_classes: 0, ..network.shape.clone() });
    assert!(imputer.is_first(&[4, 4, 4]) && imputer.is_first(&[4; 128]));
    for other in [&[1, 4, 4, 2][..], &[4, 3, 4], &[4; 130]] {
        assert!(!imputer.is_first(other), "{other:?}");
    }
}

#[test]
fn other_wanted_positions_and_sentences_change_no_prediction() {
    for network in &kinds() {
        let (keys, mut canvases) = sentences(network, &[9, 4, 25, 14, 70, 7, 12, 30, 17]);
        // Every second canvas is not of a first pass.
        canvases.iter_mut().step_by(2).for_each(|ids| ids[1] = 33);
        let all: Vec<Vec<usize>> = canvases.iter().map(|ids| (0..ids.len()).collect()).collect();
        let few: Vec<Vec<usize>> = canvases.iter().map(|ids| (0..ids.len()).step_by(3).collect()).collect();
        let predict = |wanted: &[Vec<usize>]| {
            let canvases: Vec<QuantizedCanvas> = (0..keys.len())
                .map(|i| QuantizedCanvas { ids: &canvases[i], wanted: &wanted[i], keys: &keys[i] })
                .collect();
            network.predict(&canvases).unwrap()
        };
        let (of_all, of_few) = (predict(&all), predict(&few));
        let mut starts = 0;
        let mut expected = Vec::new();
        for (all, few) in all.iter().zip(&few) {
            expected.extend(few.iter().map(|&place| of_all[starts + place]));
            starts += all.len();
        }
        assert_eq!(bits(&of_few), bits(&expected));
        assert!(predict(&vec![Vec::new(); keys.len()]).is_empty());
        let alone = QuantizedCanvas { ids: &canvases[3], wanted: &few[3], keys: &keys[3] };
        let before: usize = few[..3].iter().map(Vec::len).sum();
        assert_eq!(bits(&network.predict(&[alone]).unwrap()), bits(&of_few[before..][..few[3].len()]));
    }
}

#[test]
fn with_a_shortlist_a_canvas_gets_the_best_of_its_candidates_in_any_batch() {
    for network in kinds().into_iter().take(2) {
        let (vocab, d) = (network.shape.vocab as u32, network.shape.d_model);
        let lists: Vec<Vec<u32>> =
            (0..vocab).map(|s| (0..20).map(|i| 5 + (s * 31 + i * 53) % (vocab - 5)).collect()).collect();
        let shortlist = Arc::new(Shortlist::new(&[6, 7, 600], &lists).unwrap());
        let lengths = [9, 4, 25, 14, 70, 7];
        let (keys, mut ids) = sentences(&network, &lengths);
        ids.iter_mut().step_by(2).for_each(|ids| ids[1] = 77);
        let wanted: Vec<Vec<usize>> = ids.iter().map(|ids| (0..ids.len()).step_by(3).collect()).collect();
        let canvas = |i: usize| QuantizedCanvas { ids: &ids[i], wanted: &wanted[i], keys: &keys[i] };
        let of_all: Vec<_> = (0..6).flat_map(|i| network.predict(&[canvas(i)]).unwrap()).collect();
        let network = network.with_shortlist(shortlist.clone()).unwrap();
        let (keys, _) = sentences(&network, &lengths);
        let canvas = |i: usize| QuantizedCanvas { ids: &ids[i], wanted: &wanted[i], keys: &keys[i] };
        let of_candidates = |i: usize| -> Vec<(u32, f32)> {
            let mut rows = Rows::default();
            rows.quantize(&network.states(&[canvas(i)]).unwrap(), d, Input::Signed);
            let candidates = shortlist.candidates(&source(lengths[i]));
            let output = network.output.select(&network.output.channelwise(), &candidates);
            let best = output.best_tokens(&rows, 0, 1);
            best.into_iter().map(|(place, log_prob)| (candidates[place as usize], log_prob)).collect()
        };
        let canvases: Vec<QuantizedCanvas> = (0..6).map(canvas).collect();
        let expected: Vec<_> = (0..6).flat_map(of_candidates).collect();
        assert_eq!(bits(&network.predict(&canvases).unwrap()), bits(&expected));
        let alone: Vec<_> = canvases.iter().flat_map(|&c| network.predict(&[c]).unwrap()).collect();
        assert_eq!(bits(&alone), bits(&expected));
        let top = network.predict_top::<4>(&canvases).unwrap();
        assert_eq!(bits(&top.iter().map(|top| top[0]).collect::<Vec<_>>()), bits(&expected));
        let in_order =
            |top: &[(u32, f32)]| top.windows(2).all(|pair| pair[0].1 >= pair[1].1 && pair[0].0 != pair[1].0);
        assert!(top.iter().all(|top| in_order(top)));
        assert_ne!(bits(&expected), bits(&of_all), "the shortlist changes something");
    }
}

#[test]
fn a_shortlist_of_another_vocabulary_is_an_error() {
    let shortlist = Arc::new(Shortlist::new(&[6], &vec![Vec::new(); 701]).unwrap());
    assert!(
        small()
            .with_shortlist(shortlist)
            .unwrap_err()
            .to_string()
            .contains("701 tokens, but the model has 700")
    );
}
