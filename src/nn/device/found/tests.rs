use super::*;

const BUILT: Built = Built { cuda: 13_000, capability: (9, 0) };

fn found(driver: i32, capability: (i32, i32)) -> Found {
    Found { driver, gpus: vec![Gpu { name: "H100".into(), capability }] }
}

#[test]
fn a_suitable_gpu_is_accepted() {
    assert_eq!(found(13_000, (9, 0)).gpu(0, BUILT).unwrap().name, "H100");
    assert!(found(13_020, (10, 3)).gpu(0, BUILT).is_ok());
}

#[test]
fn an_unsuitable_machine_is_an_error_with_what_was_found_and_what_to_do() {
    let old = found(12_040, (9, 0)).gpu(0, BUILT).unwrap_err();
    assert!(old.contains("CUDA 12.4") && old.contains("13.0") && old.contains("update the driver"), "{old}");
    let none = Found { driver: 13_000, gpus: Vec::new() }.gpu(0, BUILT).unwrap_err();
    assert!(none.contains("no cuda:0") && none.contains("none"), "{none}");
    let other = found(13_000, (9, 0)).gpu(2, BUILT).unwrap_err();
    assert!(other.contains("no cuda:2") && other.contains("cuda:0 H100"), "{other}");
    let weak = found(13_000, (8, 6)).gpu(0, BUILT).unwrap_err();
    assert!(weak.contains("8.6") && weak.contains("CUDA_COMPUTE_CAP=86"), "{weak}");
}
