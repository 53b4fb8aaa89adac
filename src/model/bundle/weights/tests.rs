use std::collections::BTreeSet;

use super::*;
use crate::model::{DecoderAttention, Lengths, NormPlace, Positions};

/// A plain network, one with all other variants, and an Imputer.
fn shapes() -> [Shape; 3] {
    let plain: Shape = "enc=1,dec=1,d=24,ffn=20,heads=3,vocab=40,positions=16".parse().unwrap();
    let other = Shape {
        norm: NormPlace::Post,
        positions: Positions::Concat,
        decoder_attention: DecoderAttention::WholeThenCausal,
        ..plain.clone()
    };
    let imputer = Shape { lengths: Lengths::Ctc, length_classes: 0, ..plain.clone() };
    [plain, other, imputer]
}

fn types(bytes: &[u8]) -> BTreeMap<String, Dtype> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.dtype())).collect()
}

#[test]
fn no_tensor_of_a_network_has_the_name_of_a_scale() {
    for shape in shapes() {
        assert!(Spec::of(&shape).unwrap().keys().all(|name| !name.ends_with(SCALE)));
    }
}

#[test]
fn only_the_matrices_of_layers_are_stored_in_eight_bits() {
    let [plain, ..] = shapes();
    let bytes = serialize(&Spec::initial(&plain, 1, &Device::Cpu).unwrap(), Stored::Q8).unwrap();
    let types = types(&bytes);
    let found: BTreeSet<&str> =
        types.iter().filter(|&(_, &dtype)| dtype == Dtype::I8).map(|(name, _)| name.as_str()).collect();
    let expected = [
        "decoder.layers.0.attention.output.weight",
        "decoder.layers.0.attention.qkv.weight",
        "decoder.layers.0.cross.key_value.weight",
        "decoder.layers.0.cross.output.weight",
        "decoder.layers.0.cross.query.weight",
        "decoder.layers.0.feed_forward.inner.weight",
        "decoder.layers.0.feed_forward.outer.weight",
        "encoder.layers.0.attention.output.weight",
        "encoder.layers.0.attention.qkv.weight",
        "encoder.layers.0.feed_forward.inner.weight",
        "encoder.layers.0.feed_forward.outer.weight",
    ];
    assert_eq!(found, BTreeSet::from(expected));
    for (name, dtype) in &types {
        let matrix = name.strip_suffix(SCALE);
        let expected = if matrix.is_some() { Dtype::F32 } else { Dtype::F16 };
        assert!(found.contains(name.as_str()) || *dtype == expected, "{name}: {dtype:?}");
        assert!(matrix.is_none_or(|matrix| found.contains(matrix)), "{name}");
    }
}

#[test]
fn what_was_read_is_stored_as_the_same_bytes() {
    for shape in shapes() {
        let tensors = Spec::initial(&shape, 2, &Device::Cpu).unwrap();
        for stored in [Stored::F16, Stored::Q8] {
            let bytes = serialize(&tensors, stored).unwrap();
            let (read, found) = read(&bytes, &shape).unwrap();
            assert_eq!(found, stored);
            assert!(serialize(&read, stored).unwrap() == bytes, "{stored:?}");
        }
    }
}
