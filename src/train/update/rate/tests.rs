use super::*;

#[test]
fn a_product_takes_some_time() {
    for precision in [Precision::F32, Precision::Bf16] {
        let rate = LargeProduct::new(&Device::Cpu, precision).unwrap().rate().unwrap();
        assert!(rate.is_finite() && (1e7..1e13).contains(&rate), "{rate}");
    }
}

#[test]
fn throughput_counts_from_the_last_call() {
    let mut throughput = Throughput::start();
    throughput.add(1_000);
    throughput.add(500);
    LargeProduct::new(&Device::Cpu, Precision::F32).unwrap().rate().unwrap();
    let rates = throughput.take();
    assert!(rates.tokens > 0.0 && rates.operations > 1000.0 * rates.tokens, "a product has more operations");
    let rates = throughput.take();
    assert_eq!((rates.tokens, rates.operations), (0.0, 0.0));
}
