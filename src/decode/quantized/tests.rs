use candle_core::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::decode::{DecodeOptions, Steps, translate as decoded};
use crate::model::{
    Backend, DecoderAttention, Lengths, Network, NormPlace, Positions, Shape, Shortlist, Spec,
};

fn small() -> Shape {
    "enc=2,dec=2,d=64,ffn=160,heads=4,vocab=700,positions=64".parse().unwrap()
}

/// A plain network, two with all other variants, and an Imputer.
fn kinds() -> [Shape; 4] {
    let causal = Shape { decoder_attention: DecoderAttention::WholeThenCausal, ..small() };
    let imported = Shape {
        norm: NormPlace::Post,
        positions: Positions::Unscaled,
        lengths: Lengths::Absolute,
        ..causal.clone()
    };
    [small(), Shape { positions: Positions::Concat, ..causal }, imported, imputer()]
}

fn imputer() -> Shape {
    Shape { lengths: Lengths::Ctc, length_classes: 0, ..small() }
}

/// The same random weights in f32 and in 8 bits.
fn networks(shape: &Shape) -> (Network, QuantizedNetwork) {
    let tensors = Spec::initial(shape, 7, &Device::Cpu).unwrap();
    (Network::random(shape, 7, &Backend::cpu()).unwrap(), QuantizedNetwork::new(shape, &tensors).unwrap())
}

/// `bos, random words, eos` with these lengths.
fn sentences(lengths: &[usize], vocab: usize) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut sentence = |len: usize| -> Vec<u32> {
        let words = (2..len).map(|_| rng.random_range(5..vocab as u32));
        std::iter::once(1).chain(words).chain([2]).collect()
    };
    lengths.iter().map(|&len| sentence(len)).collect()
}

/// Encodes, then predicts every inner position of canvases `shift` tokens longer than their sources. Half of each
/// canvas is masked. Sentences whose length is in `top_k` get several predictions for each position.
fn translate<T: Translator>(
    network: &T,
    sources: &[Vec<u32>],
    shift: usize,
    top_k: fn(usize) -> bool,
) -> Vec<(Vec<f32>, Vec<Prediction>)> {
    let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
    let encoded = network.encode(&sources).unwrap();
    let canvases: Vec<Vec<u32>> = sources
        .iter()
        .map(|source| {
            let inner = 0..source.len() + shift - 2;
            let words = inner.map(|i| if i % 2 == 0 { 4 } else { source[i % source.len()] });
            std::iter::once(1).chain(words).chain([2]).collect()
        })
        .collect();
    let wanted: Vec<Vec<usize>> = canvases.iter().map(|c| (1..c.len() - 1).collect()).collect();
    let rows: Vec<Row<T::Memory>> = (0..sources.len())
        .map(|i| Row {
            memory: &encoded[i].memory,
            canvas: &canvases[i],
            wanted: &wanted[i],
            top_k: top_k(sources[i].len()),
        })
        .collect();
    let predictions = network.decode(&rows).unwrap();
    encoded.iter().map(|e| e.length_prediction.clone().into_length_log_probs()).zip(predictions).collect()
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn eight_bits_agree_with_f32_up_to_rounding() {
    for shape in kinds() {
        let (exact, rounded) = networks(&shape);
        let sources = sentences(&[3, 9, 14, 17, 25, 33, 40], shape.vocab);
        let (exact, rounded) =
            (translate(&exact, &sources, 2, |_| false), translate(&rounded, &sources, 2, |_| false));
        let (mut places, mut agreed) = (0, 0);
        for ((exact_lengths, exact), (lengths, rounded)) in exact.iter().zip(&rounded) {
            for (a, b) in exact_lengths.iter().zip(lengths).filter(|(a, _)| a.is_finite()) {
                assert!((a - b).abs() < 0.1, "length log-probability {b}, in f32 {a}");
            }
            for (a, b) in exact.iter().zip(rounded) {
                places += 1;
                agreed += usize::from(a.token == b.token);
                assert!((a.log_prob - b.log_prob).abs() < 0.15, "{b:?}, in f32 {a:?}");
            }
        }
        assert!(agreed * 10 >= places * 9, "{agreed} of {places} tokens agree");
    }
}

#[test]
fn a_sentence_has_the_same_bits_in_any_batch_on_one_thread_or_three() {
    for shape in kinds() {
        let (exact, network) = networks(&shape);
        let lengths: Vec<usize> = (0..40).map(|i| 2 + i * 17 % 37).collect();
        let sources = sentences(&lengths, shape.vocab);
        let translate_exact = |sources: &[Vec<u32>]| translate(&exact, sources, 1, |len| len % 2 == 1);
        let alone: Vec<_> =
            sources[..9].iter().flat_map(|s| translate_exact(std::slice::from_ref(s))).collect();
        assert_eq!(translate_exact(&sources[..9]), alone, "in f32");
        let translate = |sources: &[Vec<u32>]| translate(&network, sources, 1, |len| len % 2 == 1);
        let alone: Vec<_> =
            sources.iter().flat_map(|s| on_threads(1, || translate(std::slice::from_ref(s)))).collect();
        for count in [1, 2, 3, 5, 8, 13, 21, 40] {
            for threads in [1, 3] {
                let among = on_threads(threads, || translate(&sources[..count]));
                assert_eq!(among, alone[..count], "{count} sentences on {threads} threads");
            }
        }
    }
}

#[test]
fn invalid_input_is_an_error_and_an_empty_call_returns_nothing() {
    let shape = small();
    let network = networks(&shape).1;
    assert!(network.encode(&[]).unwrap().is_empty());
    assert!(network.decode(&[]).unwrap().is_empty());
    assert!(network.encode(&[&[]]).is_err());
    assert!(network.encode(&[&[700]]).is_err());
    assert!(network.encode(&[&[5; 65]]).is_err());
    let encoded = network.encode(&[&[1, 9, 2]]).unwrap();
    let row = |wanted| Row { memory: &encoded[0].memory, canvas: &[1, 4, 2], wanted, top_k: false };
    assert!(network.decode(&[row(&[3])]).is_err());
    assert_eq!(network.decode(&[row(&[]), row(&[1])]).unwrap().iter().map(Vec::len).sum::<usize>(), 1);
}

#[test]
fn a_missing_tensor_is_an_error_that_names_it() {
    let shape = small();
    let mut tensors = Spec::initial(&shape, 7, &Device::Cpu).unwrap();
    tensors.remove("decoder.norm.bias");
    let refused = QuantizedNetwork::new(&shape, &tensors).unwrap_err();
    assert!(refused.to_string().contains("decoder.norm.bias"), "{refused}");
}

/// Slots without bos and eos, the cached first pass included.
#[test]
fn an_imputer_translates_as_in_f32_and_equally_in_any_batch() {
    let (exact, rounded) = networks(&imputer());
    let sources = sentences(&[3, 9, 14, 17, 25, 32], imputer().vocab);
    let limit = rounded.limits().source_tokens;
    assert_eq!(limit, 32);
    for steps in [1, 3, 20] {
        let options = DecodeOptions::new(Steps::new(steps).unwrap());
        let together = decoded(&rounded, &sources, &options).unwrap();
        for ((source, rounded_answer), exact) in
            sources.iter().zip(&together).zip(decoded(&exact, &sources, &options).unwrap())
        {
            let alone = decoded(&rounded, std::slice::from_ref(source), &options).unwrap();
            assert_eq!(&alone[0], rounded_answer);
            let (got, want) = (rounded_answer[0].score, exact[0].score);
            assert!((got - want).abs() < 0.1, "{got}, in f32 {want}");
        }
    }
    let long = sentences(&[limit + 1], imputer().vocab);
    assert!(decoded(&rounded, &long, &DecodeOptions::new(Steps::ONE)).is_err());
}

#[test]
fn an_imputer_with_a_shortlist_may_leave_slots_blank() {
    let tensors = {
        let mut tensors = Spec::initial(&imputer(), 7, &Device::Cpu).unwrap();
        let mut bias = vec![0f32; imputer().vocab];
        bias[3] = 50.0; // the blank
        bias[4] = -1e4;
        tensors.insert("output.bias".into(), candle_core::Tensor::new(bias, &Device::Cpu).unwrap());
        tensors
    };
    let lists = vec![vec![9]; imputer().vocab];
    let shortlist = std::sync::Arc::new(Shortlist::new(&[10], &lists).unwrap());
    let network = QuantizedNetwork::new(&imputer(), &tensors).unwrap().with_shortlist(shortlist).unwrap();
    let sources = sentences(&[7], imputer().vocab);
    let answer = decoded(&network, &sources, &DecodeOptions::new(Steps::ONE)).unwrap();
    assert_eq!(answer[0][0].tokens, [0u32; 0]);
    assert!(answer[0][0].score > -1e-3, "certain that all slots are blank: {}", answer[0][0].score);
}
