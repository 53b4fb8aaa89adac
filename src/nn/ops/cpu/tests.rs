use super::*;

#[test]
fn exp_agrees_with_the_standard_library() {
    for i in -8700..8800 {
        let x = i as f32 / 100.0;
        let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
        assert!(((got - want) / want).abs() < 3e-7, "exp({x}) = {got}, not {want}");
    }
    assert!(exp(f32::NAN).is_nan());
    assert!(exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn sums_and_products_use_every_value_once() {
    let x: Vec<f32> = (0..37).map(|i| i as f32).collect();
    assert_eq!(sum_by(&x, |v| v), 666.0);
    assert_eq!(dot(&x, &x), 16_206.0);
    assert_eq!(max(&x), 36.0);
}
