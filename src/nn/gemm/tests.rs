use super::kernel::Kernel;
use super::*;
use half::bf16;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(length: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..length).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn transposed(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| data[i % rows * columns + i / rows]).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// The product in f64 of the rounded operands, and the tolerance for f32 sums.
fn expected(kernel: Kernel, m: usize, n: usize, k: usize, a: &[f32], b: &[f32]) -> Vec<(f64, f64)> {
    let round = |v: f32| match kernel {
        Kernel::F32 => f64::from(v),
        _ => bf16::from_f32(v).to_f64(),
    };
    let mut out = Vec::with_capacity(m * n);
    for row in a.chunks_exact(k.max(1)).take(m) {
        for column in 0..n {
            let terms = row.iter().enumerate().map(|(i, v)| round(*v) * round(b[i * n + column]));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
            out.push((sum, (size + 1.0) * k as f64 * f64::from(f32::EPSILON)));
        }
    }
    out
}

fn check(kernel: Kernel, (m, n, k): (usize, usize, usize), layout: (bool, bool), add: bool, seed: u64) {
    let (a, b) = (random(m * k, seed), random(k * n, seed + 1));
    let before = random(m * n, seed + 2);
    let mut c = before.clone();
    let stored_a = if layout.0 { transposed(&a, m, k) } else { a.clone() };
    let stored_b = if layout.1 { transposed(&b, k, n) } else { b.clone() };
    gemm_with_kernel(kernel, m, n, k, &stored_a, layout.0, &stored_b, layout.1, &mut c, add);
    for (i, (sum, tolerance)) in expected(kernel, m, n, k, &a, &b).into_iter().enumerate() {
        let sum = if add { sum + f64::from(before[i]) } else { sum };
        let off = (f64::from(c[i]) - sum).abs();
        assert!(off <= tolerance, "{kernel:?} {m}x{n}x{k} {layout:?} at {i}: {} for {sum}", c[i]);
    }
}

const LAYOUTS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[test]
fn ragged_sizes_are_summed_to_the_last_element() {
    for size in
        [(1, 1, 1), (3, 17, 63), (17, 3, 100), (63, 100, 17), (100, 63, 3), (97, 129, 513), (5, 65, 1031)]
    {
        for kernel in Kernel::available() {
            for layout in LAYOUTS {
                check(kernel, size, layout, false, 7);
                check(kernel, size, layout, true, 8);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_product_follows_the_definition(
        size in (1usize..130, 1usize..150, 1usize..600), layout in 0usize..4, add: bool, seed: u64,
    ) {
        for kernel in Kernel::available() {
            check(kernel, size, LAYOUTS[layout], add, seed >> 1);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_batch_and_on_any_number_of_threads(
        rows in 2usize..200, n in 1usize..140, k in 1usize..1200, layout in 0usize..4, seed: u64,
    ) {
        for kernel in Kernel::available() {
            let cut = (seed as usize) % rows;
            rows_agree(kernel, rows, cut..cut + 1 + (seed >> 32) as usize % (rows - cut), n, k, LAYOUTS[layout]);
        }
    }
}

/// Checks that the rows `part` alone give the same bits as among all `rows`, on another number of threads.
fn rows_agree(
    kernel: Kernel,
    rows: usize,
    part: std::ops::Range<usize>,
    n: usize,
    k: usize,
    layout: (bool, bool),
) {
    let (a, b) = (random(rows * k, 1), random(k * n, 2));
    let product = |a: &[f32], threads| {
        let m = a.len() / k;
        let a = if layout.0 { transposed(a, m, k) } else { a.to_vec() };
        let mut c = vec![f32::NAN; m * n];
        on_threads(threads, || gemm_with_kernel(kernel, m, n, k, &a, layout.0, &b, layout.1, &mut c, false));
        c
    };
    let all = product(&a, 3);
    let alone = product(&a[part.start * k..part.end * k], 1);
    assert_eq!(
        bits(&all[part.start * n..part.end * n]),
        bits(&alone),
        "{kernel:?} rows {part:?} of {rows}, n {n}, k {k}, {layout:?}"
    );
}

#[test]
fn a_row_has_the_same_bits_where_crate_gemm_changes_its_kernel() {
    for kernel in Kernel::available() {
        for (n, k) in [(1, 600), (2, 64), (16, 64), (64, 600), (65, 600), (100, 3), (256, 1024), (8000, 64)] {
            for m in [1, 2, 3, 4, 16, 17, 64, 65] {
                for layout in [(false, false), (false, true)] {
                    rows_agree(kernel, 130, 60..60 + m, n, k, layout);
                }
            }
        }
    }
}

#[test]
fn an_empty_reduction_gives_zeros_or_keeps_the_old_values() {
    for kernel in Kernel::available() {
        let mut c = [1.0; 6];
        gemm_with_kernel(kernel, 2, 3, 0, &[], false, &[], false, &mut c, true);
        assert_eq!(c, [1.0; 6]);
        gemm_with_kernel(kernel, 2, 3, 0, &[], false, &[], false, &mut c, false);
        assert_eq!(c, [0.0; 6]);
        gemm_with_kernel(kernel, 0, 3, 2, &[], false, &[1.0; 6], false, &mut [], false);
    }
}

#[test]
fn a_product_inside_a_product_has_its_own_buffers() {
    use rayon::prelude::*;
    let (a, b) = (random(40 * 700, 1), random(700 * 90, 2));
    let product = || {
        let mut c = vec![0.0; 40 * 90];
        gemm(Precision::Bf16, 40, 90, 700, &a, false, &b, false, &mut c, false);
        bits(&c)
    };
    let once = product();
    on_threads(2, || (0..16).into_par_iter().for_each(|_| assert_eq!(product(), once)));
}

/// `cargo test --release --lib gemm -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: prints GFLOP/s of the products that training does"]
fn speed() {
    const ROWS: usize = 3000;
    print!("{:<24}", "GFLOP/s, median of 9");
    for kernel in Kernel::available() {
        for threads in [1, 2] {
            print!(" {:>10}", format!("{kernel:?} {threads}t"));
        }
    }
    println!();
    let layers = [(256, 256), (768, 256), (1024, 256), (256, 1024), (8000, 256)];
    for (out, input) in layers {
        let products = [
            ("forward", ROWS, out, input, (false, true)),
            ("dx", ROWS, input, out, (false, false)),
            ("dweight", out, input, ROWS, (true, false)),
        ];
        for (name, m, n, k, layout) in products {
            let (a, b, mut c) = (random(m * k, 1), random(k * n, 2), vec![0.0; m * n]);
            print!("{:<24}", format!("{name} {m}x{n}x{k}"));
            for kernel in Kernel::available() {
                for threads in [1, 2] {
                    let mut seconds = on_threads(threads, || {
                        [(); 9].map(|()| {
                            let start = std::time::Instant::now();
                            gemm_with_kernel(kernel, m, n, k, &a, layout.0, &b, layout.1, &mut c, false);
                            start.elapsed().as_secs_f64()
                        })
                    });
                    seconds.sort_by(f64::total_cmp);
                    print!(" {:>10.1}", 2e-9 * (m * n * k) as f64 / seconds[4]);
                }
            }
            println!();
        }
    }
}
