use super::*;

fn tiny() -> Weights {
    let shape: Shape = "enc=1,dec=1,d=16,ffn=32,heads=2,vocab=32,positions=16".parse().expect("shape");
    Weights::initial(&shape, 3, &Backend::cpu()).expect("weights")
}

#[test]
fn a_seed_gives_the_same_weights() {
    let (a, b) = (tiny().tensors(), tiny().tensors());
    for (name, tensor) in a {
        let (x, y): (Vec<f32>, Vec<f32>) = (
            tensor.flatten_all().unwrap().to_vec1().unwrap(),
            b[&name].flatten_all().unwrap().to_vec1().unwrap(),
        );
        assert_eq!(x, y, "{name}");
    }
}
