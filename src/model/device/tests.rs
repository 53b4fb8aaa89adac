use candle_core::Device as Cpu;
use candle_core::{D, DType};
use candle_nn::VarBuilder;
use proptest::prelude::*;

use super::*;
use crate::model::{Network, Padded};
use crate::nn::Mode;
use crate::nn::device::testing::emulated::Emulated;

fn shape() -> Shape {
    "enc=2,dec=2,d=48,ffn=72,heads=3,vocab=131,positions=70".parse().unwrap()
}

fn on<D: Device>(device: D, element: Element, rows: usize) -> DeviceNetwork<D> {
    let tensors = Spec::initial(&shape(), 3, &Cpu::Cpu).unwrap();
    DeviceNetwork::with_rows(device, &shape(), &tensors, element, rows).unwrap()
}

fn emulated(element: Element, rows: usize) -> DeviceNetwork<Emulated> {
    on(Emulated::default(), element, rows)
}

fn framed(len: usize, seed: usize) -> Vec<u32> {
    let inner = (2..len).map(|i| 5 + ((i * 37 + seed * 11) % 126) as u32);
    std::iter::once(1).chain(inner).chain([2]).collect()
}

type Answers = (Vec<Vec<f32>>, Vec<(u32, f32)>);

/// Length classes of sources, and predictions for every position of canvases three tokens longer.
fn answers<D: Device>(network: &DeviceNetwork<D>, lengths: &[usize]) -> Answers {
    let sources: Vec<Vec<u32>> = lengths.iter().map(|&len| framed(len, 1)).collect();
    let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
    let (keys, classes): (Vec<_>, Vec<_>) = network.encode_sentences(&sources).unwrap().into_iter().unzip();
    let ids: Vec<Vec<u32>> = lengths.iter().map(|&len| framed(len + 3, 2)).collect();
    let wanted: Vec<Vec<usize>> = ids.iter().map(|ids| (0..ids.len()).collect()).collect();
    let canvases: Vec<_> =
        (0..keys.len()).map(|i| DeviceCanvas { ids: &ids[i], wanted: &wanted[i], keys: &keys[i] }).collect();
    (classes, network.predict(&canvases).unwrap())
}

/// The results of the CPU, each sentence alone: length classes, and log-probabilities of all tokens at every
/// position.
fn expected(lengths: &[usize]) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let shape = shape();
    let tensors = Spec::initial(&shape, 3, &Cpu::Cpu).unwrap();
    let network = Network::load(&shape, &VarBuilder::from_tensors(tensors, DType::F32, &Cpu::Cpu)).unwrap();
    let mode = Mode::inference();
    let (mut classes, mut places) = (Vec::new(), Vec::new());
    for &len in lengths {
        let (source, canvas) = (framed(len, 1), framed(len + 3, 2));
        let source = Padded::new([&source[..]].into_iter(), 0, &Cpu::Cpu).unwrap();
        let canvas = Padded::new([&canvas[..]].into_iter(), 0, &Cpu::Cpu).unwrap();
        let states = network.encode(&source, &mode).unwrap();
        classes.extend(network.length_log_probs(&states, &source.lengths, &mode).unwrap());
        let memory = network.memory(&states, &source.lengths, &mode).unwrap();
        let states = network.decode(&canvas, &memory, &mode).unwrap();
        let logits = network.logits(&states.flatten_to(1).unwrap(), &mode).unwrap();
        let allowed = logits.narrow(1, 5, shape.vocab - 5).unwrap();
        let log_probs = candle_nn::ops::log_softmax(&allowed, D::Minus1).unwrap();
        places.extend(log_probs.to_vec2::<f32>().unwrap());
    }
    (classes, places)
}

/// The largest difference of any log-probability, and the share of positions with another token.
fn difference((classes, best): &Answers, lengths: &[usize]) -> (f32, f32) {
    let (expected_classes, places) = expected(lengths);
    assert_eq!((classes.len(), best.len()), (expected_classes.len(), places.len()));
    let of_classes = classes.concat().into_iter().zip(expected_classes.concat());
    let mut worst = of_classes.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let mut others = 0;
    for (&(token, log_prob), all) in best.iter().zip(&places) {
        worst = worst.max((log_prob - all[token as usize - 5]).abs());
        let top = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        others += usize::from(all[token as usize - 5] < top);
    }
    (worst, others as f32 / places.len() as f32)
}

fn bits((classes, best): &Answers) -> (Vec<u32>, Vec<(u32, u32)>) {
    (
        classes.concat().iter().map(|v| v.to_bits()).collect(),
        best.iter().map(|&(token, log_prob)| (token, log_prob.to_bits())).collect(),
    )
}

#[test]
fn a_device_predicts_the_same_as_the_cpu() {
    let lengths = [2, 9, 40, 1, 14];
    for (element, error, share) in TOLERANCES {
        let (worst, others) = difference(&answers(&emulated(element, 128), &lengths), &lengths);
        assert!(worst < error && others <= share, "{element:?}: {worst} {others}");
    }
}

#[test]
fn small_passes_are_replayed_and_large_ones_are_split() {
    let network = emulated(Element::F32, 96);
    let lengths = [30; 7];
    answers(&network, &lengths);
    // Three sources of 30 fill 90 of 96 rows, as do two canvases of 33: 3 and 4 parts, all in sizes.
    let counts = network.counts();
    assert_eq!(counts.recordings + counts.replays, 3 + 4);
    assert!(counts.recordings < 7, "sizes are reused: {counts:?}");
    answers(&network, &lengths);
    assert_eq!(network.counts().recordings, counts.recordings);
}

#[test]
fn warming_up_records_every_size_that_fits() {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=16,heads=1,vocab=40,positions=64".parse().unwrap();
    let tensors = Spec::initial(&shape, 3, &Cpu::Cpu).unwrap();
    let network = DeviceNetwork::with_rows(Emulated::default(), &shape, &tensors, Element::F32, 64).unwrap();
    network.warm_up().unwrap();
    let counts = network.counts();
    assert_eq!(counts.recordings, 2 * 4, "16, 32, 48 and 64 rows");
    network.encode_sentences(&[&[1, 9, 2]]).unwrap();
    assert_eq!(network.counts().recordings, counts.recordings);
}

#[test]
fn dropping_a_sentence_frees_its_device_memory() {
    let network = emulated(Element::F32, 128);
    let source = framed(10, 1);
    let before = network.device().allocated();
    let mut sentences = network.encode_sentences(&[&source, &source]).unwrap();
    assert_eq!(network.device().allocated(), before + 1);
    sentences.pop();
    assert_eq!(network.device().allocated(), before + 1, "the other sentence is still in memory");
    sentences.pop();
    assert_eq!(network.device().allocated(), before);
}

#[test]
fn a_device_with_little_memory_takes_smaller_passes() {
    let tensors = Spec::initial(&shape(), 3, &Cpu::Cpu).unwrap();
    let with = |bytes| {
        DeviceNetwork::with_rows(Emulated::with_memory(bytes), &shape(), &tensors, Element::F32, 1 << 12)
    };
    let most = with(usize::MAX).unwrap();
    assert_eq!((most.pass_rows(), most.halvings()), (1 << 12, 0));
    let weights = most.weights.bytes;
    let kept = HELD_PASSES * (1 << 10) * most.weights.keys_values.outputs * Element::F32.size();
    let little = with(weights + kept + Work::<()>::bytes(&shape(), Element::F32, 1 << 10)).unwrap();
    assert_eq!((little.pass_rows(), little.halvings()), (1 << 10, 2));
    let refused = with(weights + 1000).unwrap_err();
    assert!(matches!(refused, Error::DeviceMemory { .. }), "{refused}");
}

#[test]
fn unsupported_shapes_are_an_error() {
    for text in ["d=144,heads=1,enc=1,dec=1", "ffn=1021,enc=1,dec=1", "d=12288,heads=96,ffn=8,enc=1,dec=1"] {
        let refused = fitting(&text.parse().unwrap()).unwrap_err();
        assert!(refused.to_string().contains("--device cpu"), "{refused}");
    }
    let post = Shape { norm: NormPlace::Post, ..Shape::default() };
    assert!(fitting(&post).unwrap_err().to_string().contains("Post"));
    assert!(fitting(&Shape::default()).is_ok());
}

#[test]
fn invalid_ids_and_positions_are_an_error() {
    let network = emulated(Element::F32, 80);
    let source = framed(10, 1);
    for wrong in [&[][..], &[1, 131, 2], &[1; 71]] {
        assert!(matches!(network.encode_sentences(&[&source, wrong]), Err(Error::Model(_))));
    }
    let (keys, _) = network.encode_sentences(&[&source]).unwrap().remove(0);
    for wanted in [&[10][..], &[3, 3], &[4, 2]] {
        let canvas = DeviceCanvas { ids: &source, wanted, keys: &keys };
        assert!(matches!(network.predict(&[canvas]), Err(Error::Model(_))), "{wanted:?}");
    }
    let nothing = DeviceCanvas { ids: &source, wanted: &[], keys: &keys };
    assert_eq!(network.predict(&[nothing]).unwrap(), []);
}

/// The allowed difference of each type from f32 on the CPU: of log-probabilities, and the share of other tokens.
const TOLERANCES: [(Element, f32, f32); 3] =
    [(Element::F32, 1e-4, 0.0), (Element::F16, 1e-2, 0.1), (Element::Bf16, 6e-2, 0.1)];

#[cfg(feature = "cuda")]
mod gpu {
    use super::*;
    use crate::nn::device::cuda::Cuda;

    #[test]
    #[ignore = "needs a GPU"]
    fn the_network_on_a_gpu_agrees_with_the_cpu() {
        let lengths = [2, 9, 40, 1, 14];
        for (element, error, share) in TOLERANCES {
            let network = on(Cuda::open(0, element).unwrap(), element, 128);
            // Plain, recorded and replayed.
            for _ in 0..3 {
                let (worst, others) = difference(&answers(&network, &lengths), &lengths);
                assert!(worst < error && others <= share, "{element:?}: {worst} {others}");
            }
        }
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn neighbours_parts_and_sizes_change_no_bit_on_a_gpu() {
        let lengths = [30, 2, 49, 17, 1, 8, 33, 12, 45, 20];
        for (element, ..) in TOLERANCES {
            let open = |rows| on(Cuda::open(0, element).unwrap(), element, rows);
            let (alone, expected) = (open(1 << 11), bits(&answers(&open(1 << 14), &lengths)));
            for rows in [70, 150, 1 << 12] {
                assert_eq!(
                    bits(&answers(&open(rows), &lengths)),
                    expected,
                    "{element:?} in passes of {rows}"
                );
            }
            let (mut classes, mut best) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                (classes, best) = (Vec::new(), Vec::new());
                for &len in &lengths {
                    let one = bits(&answers(&alone, &[len]));
                    classes.extend(one.0);
                    best.extend(one.1);
                }
            }
            assert_eq!((classes, best), expected, "{element:?} alone");
        }
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn graphs_save_launches_on_a_gpu() {
        let network = on(Cuda::open(0, Element::Bf16).unwrap(), Element::Bf16, 128);
        network.warm_up().unwrap();
        let before = network.counts();
        answers(&network, &[14]);
        let after = network.counts();
        assert_eq!((after.launches, after.replays), (before.launches, before.replays + 2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn neighbours_parts_and_sizes_change_no_bit(
        lengths in proptest::collection::vec(1usize..50, 1..6),
        rows in 70usize..200,
    ) {
        for element in [Element::F32, Element::Bf16] {
            let together = bits(&answers(&emulated(element, rows), &lengths));
            let alone = emulated(element, 1 << 11);
            let alone: Vec<_> = lengths.iter().map(|&len| bits(&answers(&alone, &[len]))).collect();
            let classes: Vec<u32> = alone.iter().flat_map(|(classes, _)| classes.clone()).collect();
            let best: Vec<(u32, u32)> = alone.iter().flat_map(|(_, best)| best.clone()).collect();
            prop_assert_eq!(together, (classes, best));
        }
    }
}
