use candle_core::{Device, Var};

use super::*;
use crate::nn::gemm::Precision;
use crate::nn::ops::{Activation, KernelPath, linear, with_path};

#[test]
fn each_gradient_counts_as_one_more_product() {
    let (rows, input, out) = (6, 4, 5);
    let x = Tensor::ones((2, 3, input), candle_core::DType::F32, &Device::Cpu).unwrap();
    let weight = Var::ones((out, input), candle_core::DType::F32, &Device::Cpu).unwrap();
    let bias = Tensor::zeros(out, candle_core::DType::F32, &Device::Cpu).unwrap();
    let once = 2 * (rows * input * out) as u64;
    let counted = |x: &Tensor, weight: &Tensor, path| {
        let before = operations();
        with_path(path, || linear(x, weight, &bias, Activation::Relu, Precision::F32)).unwrap();
        operations() - before
    };
    for path in [KernelPath::Cpu, KernelPath::Stock] {
        assert_eq!(counted(&x, &weight.as_tensor().detach(), path), once);
        assert_eq!(counted(&x, weight.as_tensor(), path), 2 * once, "x is not tracked");
        let x = Var::from_tensor(&x).unwrap();
        assert_eq!(counted(x.as_tensor(), weight.as_tensor(), path), 3 * once);
        let guess = || counted(x.as_tensor(), weight.as_tensor(), path);
        assert_eq!(without_gradients(guess), once);
    }
    let elsewhere = std::thread::spawn(operations).join().unwrap();
    assert_eq!(elsewhere, 0, "of this thread");
}
