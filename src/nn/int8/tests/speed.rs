use super::*;

/// `cargo test --release --lib int8 -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: prints what share of an instruction a cycle the products reach"]
fn speed() {
    for (count, outputs, inputs) in [
        (7, 768, 256),
        (14, 768, 256),
        (14, 256, 1024),
        (14, 8000, 256),
        (112, 768, 256),
        (112, 256, 1024),
        (896, 768, 256),
    ] {
        let (weight, bias) = (random(outputs * inputs, 1), random(outputs, 2));
        let x = random(count * inputs, 3);
        let mut out = vec![0.0; count * outputs];
        print!("{count:>4} x {outputs:>4} x {inputs:>4}");
        for path in Path::available() {
            let linear = PackedLinear::on_path(path, &weight, &bias, inputs, Input::Signed).unwrap();
            let rows = filled_on(path, &x, inputs, Input::Signed);
            let mut seconds = [(); 31].map(|()| {
                let start = std::time::Instant::now();
                linear.forward(&rows, StoreMode::Store, &mut out);
                start.elapsed().as_secs_f64()
            });
            seconds.sort_by(f64::total_cmp);
            let (best, median) = (seconds[0], seconds[15]);
            let rate = |s: f64| (count * outputs * inputs) as f64 / s / 1e9;
            print!("  {path:?} {:.1} us, {:.0} G/s (best {:.0})", median * 1e6, rate(median), rate(best));
        }
        println!();
    }
}
