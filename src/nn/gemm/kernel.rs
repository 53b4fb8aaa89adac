//! Selects the instructions that compute a product.

use std::sync::OnceLock;
use std::time::Instant;

use super::{Operand, single};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    F32,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Amx,
}

/// The instructions that multiply bf16 on this CPU; `None` if f32 is used instead.
pub fn bf16_kernel() -> Option<&'static str> {
    match Kernel::for_bf16() {
        Kernel::F32 => None,
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => Some("AVX512-BF16"),
        #[cfg(target_arch = "x86_64")]
        Kernel::Amx => Some("AMX-BF16"),
    }
}

/// Whether bf16 products use the tiles of AMX on this CPU.
#[cfg(target_arch = "x86_64")]
pub(in crate::nn) fn amx_selected() -> bool {
    Kernel::for_bf16() == Kernel::Amx
}

impl Kernel {
    /// The kernels that this CPU supports.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        let known = [
            Self::F32,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Amx,
        ];
        known.into_iter().filter(|kernel| match kernel {
            Self::F32 => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => super::avx512::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => super::amx::available(),
        })
    }

    /// The fastest bf16 kernel, or `F32` if that is faster than all of them: a `vdpbf16ps` takes one cycle on a Zen 4
    /// and several on Intel's CPUs. The first call measures for a few milliseconds. The kernels differ by factors, so
    /// every run on one CPU makes the same choice.
    pub(super) fn for_bf16() -> Self {
        static CHOSEN: OnceLock<Kernel> = OnceLock::new();
        *CHOSEN.get_or_init(|| measure_fastest().unwrap_or(Self::F32))
    }

    /// The shortest of several measured times of one product.
    fn seconds(self) -> f64 {
        const SIDE: usize = 256;
        const TIMES: usize = 7;
        let values: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 17) as f32 - 8.0).collect();
        let operand = |transposed| Operand { data: &values, columns: SIDE, transposed };
        let mut c = vec![0.0; SIDE * SIDE];
        let once = |_| {
            let begin = Instant::now();
            self.gemm(SIDE, SIDE, SIDE, operand(false), operand(true), &mut c, false);
            begin.elapsed().as_secs_f64()
        };
        (0..TIMES).map(once).fold(f64::INFINITY, f64::min)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn gemm(
        self,
        m: usize,
        n: usize,
        k: usize,
        a: Operand,
        b: Operand,
        c: &mut [f32],
        accumulate: bool,
    ) {
        match self {
            Self::F32 => single::gemm(m, n, k, a, b, c, accumulate),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => super::avx512::gemm(m, n, k, a, b, c, accumulate),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => super::amx::gemm(m, n, k, a, b, c, accumulate),
        }
    }
}

/// Measures the fastest kernel on a separate thread with its own pool. A thread of another pool could, while it waits
/// for its product, start work that needs this measurement, which would deadlock.
fn measure_fastest() -> Option<Kernel> {
    let measure = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?;
        let seconds = pool.install(|| Kernel::available().map(|k| (k, k.seconds())).collect::<Vec<_>>());
        seconds.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(kernel, _)| kernel)
    };
    std::thread::spawn(measure).join().ok().flatten()
}
