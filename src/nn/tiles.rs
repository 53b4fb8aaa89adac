//! The tile registers of AMX (Intel since Sapphire Rapids): whether this process may use them, and their shapes.
//!
//! The intrinsics are not stable in Rust, so the instructions are written as assembly.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Rows of a tile, of 64 bytes each.
pub(super) const ROWS: usize = 16;

/// Products of tiles. The values are their bits in register EDX of CPUID leaf 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Products {
    Bf16 = 1 << 22,
    Int8 = 1 << 25,
}

/// Whether the CPU has these products and the system lets this process use tiles. The first call requests the
/// permission.
pub(super) fn available(products: Products) -> bool {
    static FEATURES: OnceLock<u32> = OnceLock::new();
    let features = *FEATURES.get_or_init(|| {
        const TILES: u32 = 1 << 24;
        let found = if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx };
        if found & TILES != 0 && permitted() { found } else { 0 }
    });
    features & products as u32 != 0
}

/// Requests the memory for tiles, which Linux gives a process only on request.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes only what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn permitted() -> bool {
    false
}

/// The shapes of the eight tiles, as the CPU reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The tiles of this thread, configured until this is dropped, all of [`ROWS`] rows. Configured tiles make each context
/// switch slower.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    /// Tiles must be [`available`], and this thread must not hold others: the first one dropped releases them.
    pub(super) unsafe fn configure() -> Self {
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].fill(64);
        shapes.rows[..8].fill(ROWS as u8);
        // SAFETY: reads 64 bytes, which are the shapes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly, preserves_flags));
        }
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: no tile is read after this.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}
