use super::*;

#[test]
fn an_imputer_has_two_slots_for_each_source_token_and_no_length_head() {
    let shape: Shape = "positions=65,imputer=1".parse().unwrap();
    assert!("imputer=2".parse::<Shape>().is_err() && "positions=5,imputer=1".parse::<Shape>().is_err());
    assert_eq!(shape.source_limit(), 32);
    assert_eq!(shape.predict_length(&[], 32), LengthPrediction::Slots { count: 64, max: 65 });
    assert_eq!(shape.forbidden(), 3);
    assert!(Shape { length_classes: 128, ..shape.clone() }.validate().is_err());
    assert!(Shape { refresh: Refresh::All, ..shape }.validate().is_err());
    assert!(Shape { length_classes: 0, ..Shape::default() }.validate().is_err());
}

#[test]
fn default_values_are_left_out_and_an_unknown_value_is_an_error() {
    let plain = serde_json::to_string(&Shape::default()).unwrap();
    assert!(plain.ends_with("\"length_classes\":128}"), "{plain}");
    assert_eq!(serde_json::from_str::<Shape>(&plain).unwrap(), Shape::default());

    let shape = Shape {
        norm: NormPlace::Post,
        positions: Positions::Concat,
        decoder_attention: DecoderAttention::WholeThenCausal,
        refresh: Refresh::All,
        lengths: Lengths::Absolute,
        ..Shape::default()
    };
    let written = serde_json::to_string(&shape).unwrap();
    assert_eq!(serde_json::from_str::<Shape>(&written).unwrap(), shape);
    let wrong = written.replace("whole_then_causal", "sideways");
    let error = serde_json::from_str::<Shape>(&wrong).unwrap_err().to_string();
    assert!(error.contains("sideways") && error.contains("whole_then_causal"), "{error}");
}
