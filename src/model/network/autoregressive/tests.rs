use candle_core::Device;

use super::*;
use crate::model::{Backend, Shape};

fn network() -> Network {
    let shape: Shape = "enc=1,dec=2,d=16,ffn=32,heads=2,vocab=32,positions=16".parse().unwrap();
    Network::random(&shape, 3, &Backend::cpu()).unwrap()
}

fn memory(network: &Network, sources: &[&[u32]]) -> Memory {
    let mode = Mode::inference();
    let source = Padded::new(sources.iter().copied(), 0, &Device::Cpu).unwrap();
    let states = network.encode(&source, &mode).unwrap();
    network.memory(&states, &source.lengths, &mode).unwrap()
}

fn row(states: &Tensor, row: usize) -> Vec<f32> {
    states.get(row).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-4, "{got}, not {want}");
    }
}

#[test]
fn token_by_token_gives_the_states_of_the_whole_target() {
    let (network, mode) = (network(), Mode::inference());
    let memory = memory(&network, &[&[1, 9, 10, 2], &[1, 11, 2]]);
    // Two rows for each sentence.
    let rows: [&[u32]; 4] = [&[1, 20, 21, 22], &[1, 23, 24, 25], &[1, 26, 20, 27], &[1, 22, 22, 22]];
    let whole: Vec<Tensor> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let mut own = memory.clone();
            own.select(&[i as u32 / 2]).unwrap();
            let target = Padded::new([*row].into_iter(), 0, &Device::Cpu).unwrap();
            network.decode_causal(&target, &own, &mode).unwrap().get(0).unwrap()
        })
        .collect();
    let mut past = Past::default();
    for position in 0..4 {
        let tokens: Vec<u32> = rows.iter().map(|row| row[position]).collect();
        let states = network.decode_next(&tokens, &mut past, &memory, &mode).unwrap();
        for (i, whole) in whole.iter().enumerate() {
            assert_near(&row(&states, i), &row(whole, position));
        }
    }
    assert_eq!(past.len(), 4);
}

#[test]
fn a_position_does_not_see_later_ones() {
    let (network, mode) = (network(), Mode::inference());
    let memory = memory(&network, &[&[1, 9, 10, 2]]);
    let states = |target: &[u32]| {
        let target = Padded::new([target].into_iter(), 0, &Device::Cpu).unwrap();
        network.decode_causal(&target, &memory, &mode).unwrap().get(0).unwrap()
    };
    let (a, b) = (states(&[1, 20, 21, 22]), states(&[1, 20, 30, 31]));
    for position in 0..2 {
        assert_eq!(row(&a, position), row(&b, position));
    }
    assert_ne!(row(&a, 2), row(&b, 2));
}

#[test]
fn repeated_rows_continue_from_their_own_past() {
    let (network, mode) = (network(), Mode::inference());
    let memory = memory(&network, &[&[1, 9, 10, 2]]);
    let mut past = Past::default();
    network.decode_next(&[1, 1], &mut past, &memory, &mode).unwrap();
    network.decode_next(&[20, 21], &mut past, &memory, &mode).unwrap();
    past.select(&[1, 1]).unwrap();
    let states = network.decode_next(&[22, 22], &mut past, &memory, &mode).unwrap();
    assert_eq!(row(&states, 0), row(&states, 1));
    let target = Padded::new([&[1u32, 21, 22][..]].into_iter(), 0, &Device::Cpu).unwrap();
    let whole = network.decode_causal(&target, &memory, &mode).unwrap().get(0).unwrap();
    assert_near(&row(&states, 0), &row(&whole, 2));
}

#[test]
fn rows_that_do_not_fit_the_sentences_are_an_error() {
    let network = network();
    let memory = memory(&network, &[&[1, 9, 2], &[1, 8, 2]]);
    let answer = network.decode_next(&[1, 1, 1], &mut Past::default(), &memory, &Mode::inference());
    assert!(answer.unwrap_err().to_string().contains("2 sentences"));
}
