use candle_core::Device;

use super::*;

fn random(count: usize) -> Vec<f32> {
    let mut values = vec![0.0; count];
    crate::train::rng::Rng::from_seed(4).fill_normal(&mut values, 0.3);
    values
}

/// `x · xᵀ` of the shorter side.
fn gram(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |row: usize, column: usize| x[row * columns + column];
    let (side, other) = (rows.min(columns), rows.max(columns));
    let entry = |i: usize, j: usize| -> f32 {
        (0..other).map(|k| if rows > columns { at(k, i) * at(k, j) } else { at(i, k) * at(j, k) }).sum()
    };
    (0..side * side).map(|index| entry(index / side, index % side)).collect()
}

#[test]
fn all_directions_become_about_equally_large() {
    for (rows, columns) in [(24, 24), (16, 64), (64, 16)] {
        let gram = gram(&orthogonal(random(rows * columns), rows, columns), rows, columns);
        let side = rows.min(columns);
        for (index, value) in gram.iter().enumerate() {
            let diagonal = index / side == index % side;
            // Singular values between 0.6 and 1.25: the iteration trades exactness for speed.
            let fits = if diagonal { (0.36..1.56).contains(value) } else { value.abs() < 0.4 };
            assert!(fits, "{rows}x{columns} {index}: {value}");
        }
    }
    assert!(orthogonal(vec![0.0; 16], 4, 4).iter().all(|&value| value == 0.0));
}

#[test]
fn an_update_does_not_depend_on_the_size_of_the_gradient_and_is_as_large_as_one_of_adamw() {
    let c = |gradient| Coefficients {
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        rate: 0.0,
        second_scale: 1.0,
        gradient,
        keep: 1.0,
        learning_rate: 0.1,
    };
    let step = |size| {
        let var = Var::zeros((96, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
        let gradient = Tensor::from_vec(random(96 * 32), (96, 32), &Device::Cpu).unwrap();
        update(&var, &gradient, &mut vec![0.0; 96 * 32], 3, c(size)).unwrap();
        var.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (small, large) = (step(1e-3), step(1e3));
    assert!(
        small.iter().zip(&large).all(|(a, b)| (a - b).abs() < 2e-3),
        "{:?} {:?}",
        &small[..4],
        &large[..4]
    );
    let square: f32 = large.iter().map(|value| value * value).sum::<f32>() / large.len() as f32;
    let size = square.sqrt() / 0.1;
    assert!((0.12..0.24).contains(&size), "{size}");
}

#[test]
fn only_the_matrices_of_layers_take_part() {
    assert_eq!(matrices("encoder.layers.0.attention.qkv.weight", &[96, 32]), 3);
    assert_eq!(matrices("decoder.layers.1.cross.key_value.weight", &[64, 32]), 2);
    assert_eq!(matrices("decoder.layers.1.feed_forward.inner.weight", &[128, 32]), 1);
    assert_eq!(matrices("decoder.layers.1.feed_forward.inner.bias", &[128]), 0);
    assert_eq!(matrices("embedding.weight", &[64, 32]), 0);
}
