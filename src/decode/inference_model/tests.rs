use super::*;

#[test]
fn a_sentence_encoded_by_another_network_is_an_error() {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=40,positions=16".parse().unwrap();
    let open = |dtype| InferenceModel::random(&shape, 1, &Backend::cpu().with_dtype(dtype)).unwrap();
    let (f32, q8) = (open(Dtype::F32), open(Dtype::Q8));
    let specials = f32.specials();
    let source = [specials.bos, 7, 8, specials.eos];
    let encoded = f32.encode(&[&source]).unwrap();
    let canvas = [specials.bos, specials.mask, specials.eos];
    let row = || [Row { memory: &encoded[0].memory, canvas: &canvas, wanted: &[1], top_k: false }];
    assert_eq!(f32.decode(&row()).unwrap()[0].len(), 1);
    assert!(q8.decode(&row()).unwrap_err().to_string().contains("another network"));
}
