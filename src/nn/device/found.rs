//! Decides whether the GPUs and the driver that were found can be used, and if not, why. A pure function, so that
//! each message is tested without the machine that causes it.

/// What was found on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the driver's format: 13000 is CUDA 13.0.
    pub driver: i32,
    pub gpus: Vec<Gpu>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    /// Compute capability, such as (9, 0) for an H100.
    pub capability: (i32, i32),
}

/// What a program was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// CUDA version, in the driver's format.
    pub cuda: i32,
    /// Lowest compute capability that its kernels support.
    pub capability: (i32, i32),
}

impl Found {
    /// The GPU with this number.
    ///
    /// # Errors
    /// What was found instead, and what to do.
    pub fn gpu(&self, number: usize, built: Built) -> Result<&Gpu, String> {
        if self.driver < built.cuda {
            return Err(format!(
                "the driver supports CUDA {}, but this program was built for CUDA {}: update the driver, or build \
                 tutti with an older CUDA toolkit",
                version(self.driver),
                version(built.cuda)
            ));
        }
        let Some(gpu) = self.gpus.get(number) else {
            let names: Vec<String> =
                self.gpus.iter().enumerate().map(|(i, gpu)| format!("cuda:{i} {}", gpu.name)).collect();
            let found = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(format!(
                "there is no cuda:{number}; found: {found}. In a container, is the GPU passed in (--gpus all)? \
                 Does CUDA_VISIBLE_DEVICES hide it?"
            ));
        };
        if gpu.capability < built.capability {
            let ((major, minor), (own_major, own_minor)) = (gpu.capability, built.capability);
            return Err(format!(
                "cuda:{number} ({}) has compute capability {major}.{minor}, but this program was built for \
                 {own_major}.{own_minor} and later: build it with CUDA_COMPUTE_CAP={major}{minor}",
                gpu.name
            ));
        }
        Ok(gpu)
    }
}

/// 13000 is 13.0.
fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

#[cfg(test)]
mod tests;
