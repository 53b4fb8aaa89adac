//! A kernel of `nn::device` as a candle op, with up to three input tensors, one f32 output and no gradient. On the CPU
//! it runs in emulation, for tests only.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, bail};

use crate::nn::device::{Argument, Grid, Kernel};

/// A parameter of the kernel, in order.
#[derive(Clone, Copy, Debug)]
pub enum Parameter {
    /// The address of this input, a contiguous tensor of f32 or u32.
    Input(usize),
    /// The address of the result.
    Output,
    Null,
    Count(usize),
    Real(f32),
}

/// A launch without the addresses of its tensors.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: Kernel,
    pub grid: Grid,
    pub parameters: Vec<Parameter>,
    /// Shape of the result.
    pub shape: Shape,
}

impl Launch {
    pub fn new(
        kernel: impl Into<Kernel>,
        grid: Grid,
        parameters: &[Parameter],
        shape: impl Into<Shape>,
    ) -> Self {
        Self { kernel: kernel.into(), grid, parameters: parameters.to_vec(), shape: shape.into() }
    }

    /// The arguments of the kernel, for these addresses.
    fn arguments(&self, inputs: &[u64], output: u64) -> Result<Vec<Argument>> {
        let argument = |part: &Parameter| {
            Ok(match *part {
                Parameter::Input(index) => match inputs.get(index) {
                    Some(&address) => Argument::Address(address),
                    None => bail!("{}: tensor {index} is missing", self.kernel.name()),
                },
                Parameter::Output => Argument::Address(output),
                Parameter::Null => Argument::Address(0),
                Parameter::Count(count) => match u32::try_from(count) {
                    Ok(count) => Argument::U32(count),
                    Err(_) => bail!("{}: a count of {count} is too large for one launch", self.kernel.name()),
                },
                Parameter::Real(value) => Argument::F32(value),
            })
        };
        self.parameters.iter().map(argument).collect()
    }

    #[cfg(test)]
    pub fn on_cpu(&self, inputs: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let address = |&(storage, layout): &(&CpuStorage, &Layout)| {
            let Some((start, _)) = layout.contiguous_offsets() else {
                bail!("a kernel needs contiguous input")
            };
            Ok(match storage {
                CpuStorage::F32(values) => values[start..].as_ptr() as u64,
                CpuStorage::U32(values) => values[start..].as_ptr() as u64,
                _ => bail!("a kernel needs f32 or u32"),
            })
        };
        let inputs = inputs.iter().map(address).collect::<Result<Vec<_>>>()?;
        // NaN shows what a kernel does not write.
        let mut output = vec![f32::NAN; self.shape.elem_count()];
        let arguments = self.arguments(&inputs, output.as_mut_ptr() as u64)?;
        let run = |backwards| {
            crate::nn::device::testing::emulated::run(self.kernel, self.grid, &arguments, backwards)
        };
        run(false).map_err(candle_core::Error::wrap)?;
        let forwards = output.clone();
        run(true).map_err(candle_core::Error::wrap)?;
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&forwards), bits(&output), "{} lacks a barrier", self.kernel.name());
        Ok((CpuStorage::F32(output), self.shape.clone()))
    }

    #[cfg(not(test))]
    pub fn on_cpu(&self, _: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        bail!("{} needs a GPU", self.kernel.name())
    }

    #[cfg(feature = "cuda")]
    pub fn on_cuda(&self, inputs: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        use crate::nn::device::cuda::tensors;
        let addresses = inputs.iter().map(|(s, l)| tensors::address(s, l)).collect::<Result<Vec<_>>>()?;
        let Some((first, _)) = inputs.first() else { bail!("{}: no tensor", self.kernel.name()) };
        let (output, at) = tensors::allocate(&first.device, self.shape.elem_count())?;
        if self.shape.elem_count() > 0 {
            tensors::launch(&first.device, self.kernel, self.grid, &self.arguments(&addresses, at)?)?;
        }
        Ok((output, self.shape.clone()))
    }

    #[cfg(not(feature = "cuda"))]
    pub fn on_cuda(&self, _: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        bail!("{}: built without CUDA", self.kernel.name())
    }
}

impl CustomOp1 for Launch {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu(&[(s, l)])
    }

    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda(&[(s, l)])
    }
}

impl CustomOp2 for Launch {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu(&[(s1, l1), (s2, l2)])
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda(&[(s1, l1), (s2, l2)])
    }
}

impl CustomOp3 for Launch {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda(&[(s1, l1), (s2, l2), (s3, l3)])
    }
}
