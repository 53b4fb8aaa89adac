use candle_core::Device;
use tempfile::TempDir;

use super::*;
use crate::model::{Config, Network, NormPlace, Padded};
use crate::nn::Mode;

const LINES: [&str; 4] = [
    "Where is the train station?",
    "Wo ist der Bahnhof?",
    "The weather is nice today, isn't it?",
    "Das Wetter ist heute schön, nicht wahr?",
];

fn tokenizer(vocab: usize, reserved: usize) -> Tokenizer {
    Tokenizer::train_with_reserved(LINES.iter(), vocab, reserved).unwrap()
}

fn shape(layers: &str, tokenizer: &Tokenizer) -> Shape {
    let shape: Shape = format!("{layers},d=16,ffn=32,heads=2,positions=16").parse().unwrap();
    Shape { vocab: tokenizer.vocab_size(), length_classes: 8, ..shape }
}

fn saved(shape: &Shape, tokenizer: &Tokenizer) -> (TempDir, Tensors) {
    let folder = tempfile::tempdir().unwrap();
    let tensors = Spec::initial(shape, 1, &Device::Cpu).unwrap();
    let config = Config::new(shape.clone(), "en", "de");
    Bundle::save(&folder.path().join("bundle"), &config, tokenizer, &tensors, "# A model\n").unwrap();
    (folder, tensors)
}

fn begun(folder: &TempDir, shape: &Shape, tokenizer: &Tokenizer) -> Result<Tensors> {
    initial(Some(&folder.path().join("bundle")), shape, tokenizer, 2, &Backend::cpu())
}

#[test]
fn added_layers_change_no_state() {
    let tokenizer = tokenizer(288, 0);
    for decoder_attention in [DecoderAttention::Whole, DecoderAttention::WholeThenCausal] {
        let of = |layers| Shape { decoder_attention, ..shape(layers, &tokenizer) };
        assert_same_states(&of("enc=1,dec=1"), &of("enc=3,dec=2"), &tokenizer);
    }
}

#[track_caller]
fn assert_same_states(few: &Shape, many: &Shape, tokenizer: &Tokenizer) {
    let (folder, own) = saved(few, tokenizer);
    let grown = begun(&folder, many, tokenizer).unwrap();
    let states = |shape: &Shape, tensors: &Tensors| -> Vec<f32> {
        let vb = candle_nn::VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
        let network = Network::load(shape, &vb).unwrap();
        let mode = Mode::inference();
        let padded = |ids: &[u32]| Padded::new([ids].into_iter(), 0, &Device::Cpu).unwrap();
        let source = padded(&[1, 9, 10, 11, 2]);
        let encoded = network.encode(&source, &mode).unwrap();
        let memory = network.memory(&encoded, &source.lengths, &mode).unwrap();
        let decoded = network.decode(&padded(&[1, 4, 4, 2]), &memory, &mode).unwrap();
        decoded.flatten_all().unwrap().to_vec1().unwrap()
    };
    let (short, long) = (states(few, &own), states(many, &grown));
    assert!(short.iter().zip(&long).all(|(a, b)| (a - b).abs() < 1e-2), "{short:?} {long:?}");
    let weight = |tensors: &Tensors, name: &str| -> f32 {
        tensors[name].abs().unwrap().sum_all().unwrap().to_scalar().unwrap()
    };
    assert_eq!(weight(&grown, "encoder.layers.2.feed_forward.outer.weight"), 0.0);
    assert!(weight(&grown, "encoder.layers.2.feed_forward.inner.weight") > 0.0, "it could not learn");
}

#[test]
fn tokens_begin_with_those_that_spell_them() {
    let (old, new) = (tokenizer(272, 0), tokenizer(304, 2));
    let (folder, own) = saved(&shape("enc=1,dec=1", &old), &old);
    let wanted = shape("enc=1,dec=1", &new);
    let seeded = Spec::initial(&wanted, 2, &Device::Cpu).unwrap();
    let grown = begun(&folder, &wanted, &new).unwrap();
    let row = |tensors: &Tensors, id: u32| -> Vec<f32> {
        tensors["embedding.weight"].get(id as usize).unwrap().to_vec1().unwrap()
    };
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    let (mut same, mut spelt) = (0, 0);
    for id in 0..new.vocab_size() as u32 {
        let pieces = old.pieces_of(&new, id).unwrap();
        let found = row(&grown, id);
        match pieces.as_slice() {
            [] => assert!(near(&found, &row(&seeded, id)), "{id} is not as seeded"),
            [one] => {
                assert!(near(&found, &row(&own, *one)), "{id}");
                assert_eq!(old.token(*one), new.token(id));
                same += 1;
            }
            many => {
                let rows: Vec<Vec<f32>> = many.iter().map(|&piece| row(&own, piece)).collect();
                let mean: Vec<f32> =
                    (0..16).map(|i| rows.iter().map(|row| row[i]).sum::<f32>() / rows.len() as f32).collect();
                assert!(near(&found, &mean), "{id}");
                spelt += 1;
            }
        }
    }
    assert!(same > 200 && spelt > 10, "{same} {spelt}");
    let reserved = new.reserved_id(1).unwrap();
    assert!(old.pieces_of(&new, reserved).unwrap().is_empty());
}

#[test]
fn a_bundle_with_more_layers_or_other_sizes_is_refused() {
    let tokenizer = tokenizer(288, 0);
    let (folder, _) = saved(&shape("enc=2,dec=1", &tokenizer), &tokenizer);
    let refused = |shape: Shape| begun(&folder, &shape, &tokenizer).unwrap_err().to_string();
    let fewer = refused(shape("enc=1,dec=1", &tokenizer));
    assert!(fewer.contains("2 encoder and 1 decoder layers") && fewer.contains("not drop"), "{fewer}");
    let wider = refused(Shape { ffn: 64, ..shape("enc=2,dec=1", &tokenizer) });
    assert!(wider.contains("its shape is"), "{wider}");
}

#[test]
fn an_imputer_and_a_model_with_a_length_head_begin_with_each_other() {
    let tokenizer = tokenizer(288, 0);
    let plain = shape("enc=1,dec=1", &tokenizer);
    let imputer = Shape { lengths: Lengths::Ctc, length_classes: 0, max_positions: 32, ..plain.clone() };
    let (folder, own) = saved(&imputer, &tokenizer);
    let begun_plain = begun(&folder, &plain, &tokenizer).unwrap();
    let seeded = Spec::initial(&plain, 2, &Device::Cpu).unwrap();
    let rows = |tensors: &Tensors, name: &str| -> Vec<Vec<f32>> { tensors[name].to_vec2().unwrap() };
    let near = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.len() == b.len() && a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-3)
    };
    let slots = rows(&own, "decoder.positions.weight");
    let first: Vec<Vec<f32>> = slots.iter().step_by(2).cloned().collect();
    assert!(near(&rows(&begun_plain, "decoder.positions.weight"), &first));
    assert!(near(&rows(&begun_plain, "embedding.weight"), &rows(&own, "embedding.weight")));
    assert_eq!(rows(&begun_plain, "length.weight"), rows(&seeded, "length.weight"));

    let (folder, own) = saved(&plain, &tokenizer);
    let begun_imputer = begun(&folder, &imputer, &tokenizer).unwrap();
    assert!(!begun_imputer.contains_key("length.weight"));
    let of_tokens = rows(&own, "decoder.positions.weight");
    let twice: Vec<Vec<f32>> = of_tokens.iter().flat_map(|row| [row.clone(), row.clone()]).collect();
    assert!(near(&rows(&begun_imputer, "decoder.positions.weight"), &twice));
}

#[test]
fn no_layers_are_added_where_norms_follow_sublayers() {
    let tokenizer = tokenizer(288, 0);
    let post = |layers| Shape { norm: NormPlace::Post, ..shape(layers, &tokenizer) };
    let (folder, _) = saved(&post("enc=1,dec=1"), &tokenizer);
    assert!(begun(&folder, &post("enc=1,dec=1"), &tokenizer).is_ok());
    let error = begun(&folder, &post("enc=2,dec=1"), &tokenizer).unwrap_err().to_string();
    assert!(error.contains("norms"), "{error}");
}
