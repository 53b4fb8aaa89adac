use super::*;

fn with_gpus(device: &str, dtype: &str, gpus: usize) -> Result<Backend> {
    let there = |number| if number < gpus { Ok(()) } else { Err(format!("no cuda:{number}")) };
    decide(device.parse()?, dtype.parse()?, there)
}

#[test]
fn each_valid_choice_gives_one_device_and_one_type() {
    for (device, dtype, gpus, expected) in [
        ("auto", "auto", 1, "bf16 on cuda:0"),
        ("auto", "f16", 1, "f16 on cuda:0"),
        ("auto", "q8", 1, "q8 on cpu"),
        ("auto", "auto", 0, "q8 on cpu"),
        ("auto", "f32", 0, "f32 on cpu"),
        ("cpu", "auto", 1, "q8 on cpu"),
        ("cpu", "f32", 1, "f32 on cpu"),
        ("cuda", "auto", 1, "bf16 on cuda:0"),
        ("cuda:1", "f32", 2, "f32 on cuda:1"),
    ] {
        assert_eq!(with_gpus(device, dtype, gpus).unwrap().to_string(), expected);
    }
}

#[test]
fn a_fallback_reason_is_given_only_if_a_gpu_was_preferred() {
    assert_eq!(with_gpus("auto", "auto", 0).unwrap().cpu_fallback_reason(), Some("no cuda:0"));
    for (device, dtype, gpus) in [("auto", "auto", 1), ("cpu", "auto", 0), ("auto", "q8", 0)] {
        assert_eq!(with_gpus(device, dtype, gpus).unwrap().cpu_fallback_reason(), None);
    }
}

#[test]
fn an_invalid_combination_is_an_error_that_names_valid_ones() {
    for (device, dtype, gpus, hint) in [
        ("cpu", "bf16", 1, "q8 or f32"),
        ("cuda:0", "q8", 1, "bf16, f16 or f32"),
        ("cuda:0", "auto", 0, "--device cpu"),
        ("cuda:2", "f32", 2, "no cuda:2"),
        ("auto", "bf16", 0, "no cuda:0"),
        ("tpu", "auto", 0, "cuda:0"),
        ("cuda:", "auto", 1, "cuda:0"),
        ("cuda:-1", "auto", 1, "cuda:0"),
        ("cpu", "int8", 0, "q8"),
    ] {
        let refused = with_gpus(device, dtype, gpus).unwrap_err().to_string();
        assert!(refused.contains(hint), "{device} {dtype}: {refused}");
    }
}
