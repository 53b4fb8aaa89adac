//! Products of u8 rows with packed i8 weights, exact in i32, with a loop for each kind of CPU.
//!
//! All paths compute the same integers, and one piece of code processes them ([`Sink`]), so every CPU gives the same
//! bits. This module does not depend on scales.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::ops::Range;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::nn::tiles::{self, Products};
use crate::{Error, Result};

/// Output channels that are computed together.
pub const PANEL: usize = 32;
/// Neighbouring inputs that one instruction sums.
pub const STEP: usize = 4;
/// Largest number of rows that are computed together: two registers of sums for each leave enough for operands.
pub const TILE: usize = 14;
/// The same with AMX: two tiles of sixteen rows.
const AMX_ROWS: usize = 32;
/// Inputs of a tile of AMX.
const AMX_INPUTS: usize = 64;
/// 64-byte registers of weights across a panel.
pub const LINES: usize = PANEL * STEP / 64;

/// One cache line of weights: four inputs of each of sixteen channels.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line(pub [i8; 64]);

/// The sums of one row over one panel.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Sums(pub [i32; PANEL]);

/// The kinds of CPU that have their own loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AMX-INT8: 16,384 products per instruction, which takes sixteen cycles.
    Amx,
    /// AVX512-VNNI: 64 products per instruction.
    Avx512,
    /// AVX2: widens to i16, since its u8 × i8 instruction saturates.
    Avx2,
    Portable,
}

impl Path {
    /// Fastest first.
    const ALL: [Self; 4] = [Self::Amx, Self::Avx512, Self::Avx2, Self::Portable];

    /// All paths that this CPU supports, fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|path| path.runs_here())
    }

    /// The path of this process: the fastest one, or the one of [`Self::choose`].
    pub fn best() -> Self {
        *BEST.get_or_init(|| Self::available().next().unwrap_or(Self::Portable))
    }

    /// Makes this process compute as a CPU whose best path is this one, also between the products. For measurements;
    /// call it before anything is computed.
    ///
    /// # Errors
    /// [`Error::Config`] if this CPU does not have the path, or the process has used another one.
    pub fn choose(self) -> Result<()> {
        if !self.runs_here() {
            let found = Self::available().map(Self::name).collect::<Vec<_>>().join(", ");
            return Err(Error::Config(format!("this CPU has no {}; it has {found}", self.name())));
        }
        if *BEST.get_or_init(|| self) != self {
            return Err(Error::Config("the instructions must be chosen before anything is computed".into()));
        }
        let _ = CHOSEN.set(self); // set before: to the same path
        Ok(())
    }

    /// As in `tutti bench --instructions`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512 => "avx512-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// If this path wants rows of `width` values row-major, that is, in tiles of height 1: how many of them it computes
    /// together. Values must be there for a multiple of so many rows.
    pub(super) fn row_major(self, width: usize) -> Option<usize> {
        let fits = self == Self::Amx && width > 0 && width.is_multiple_of(AMX_INPUTS);
        fits.then_some(AMX_ROWS)
    }

    /// Number of rows that a product computes together.
    pub fn rows_of_tiles(self) -> usize {
        match self {
            Self::Amx => AMX_ROWS,
            _ => TILE,
        }
    }

    /// Number of rows that should go through a layer together: enough for the arithmetic to take as long as reading the
    /// weights, few enough for the second-level cache.
    pub fn rows_at_once(self) -> usize {
        match self {
            Self::Amx => 3 * AMX_ROWS,
            _ => TILE,
        }
    }

    fn runs_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512.runs_here() && tiles::available(Products::Int8),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Amx | Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }
}

static BEST: OnceLock<Path> = OnceLock::new();
static CHOSEN: OnceLock<Path> = OnceLock::new();

impl FromStr for Path {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|path| path.name() == name);
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// The vector instructions for loops between products: all that this CPU has, or those of the path of
/// [`Path::choose`].
pub fn arch() -> pulp::Arch {
    match CHOSEN.get() {
        #[cfg(target_arch = "x86_64")]
        Some(Path::Avx2) => pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3),
        Some(Path::Portable) => pulp::Arch::Scalar,
        _ => pulp::Arch::new(),
    }
}

/// A product of rows with some panels of a matrix.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// Tile after tile, `[steps, height, STEP]` each: interleaved so that a step reads consecutive bytes.
    pub values: &'a [u8],
    pub count: usize,
    /// Rows of a tile; the last tile may have fewer.
    pub height: usize,
    pub steps: usize,
    /// `[panels, steps, LINES]`, of the whole matrix.
    pub lines: &'a [Line],
    /// Initial value of each channel's sum, `[panels * PANEL]`.
    pub offsets: &'a [i32],
    /// The panels to compute.
    pub panels: Range<usize>,
}

impl<'a> Work<'a> {
    /// The lines and the initial sums of one panel.
    #[inline(always)]
    fn panel(&self, panel: usize) -> (&'a [Line], &'a [i32; PANEL]) {
        let lines = &self.lines[panel * self.steps * LINES..][..self.steps * LINES];
        let offsets = self.offsets[panel * PANEL..].first_chunk().unwrap_or(&[0; PANEL]);
        (lines, offsets)
    }

    #[inline(always)]
    fn tiles(&self) -> impl Iterator<Item = Tile<'a>> + use<'a> {
        let Self { values, count, height, steps, .. } = *self;
        (0..count).step_by(height).map(move |first| {
            let height = height.min(count - first);
            let values = &values[first * steps * STEP..][..height * steps * STEP];
            Tile { first, height, values }
        })
    }
}

/// Rows that are computed together, from row `first` on.
#[derive(Clone, Copy)]
struct Tile<'a> {
    first: usize,
    height: usize,
    values: &'a [u8],
}

/// Writes the weights of up to sixteen channels, each `[steps]`, to every [`LINES`]-th of `lines`, from the first on.
///
/// # Panics
/// If there are more channels or steps than places, or the CPU does not support `path`.
pub fn interleave(path: Path, channels: &[&[[i8; STEP]]], lines: &mut [Line]) {
    let steps = channels.iter().map(|own| own.len()).max().unwrap_or(0);
    assert!(steps == 0 || lines.len() > (steps - 1) * LINES);
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Amx | Path::Avx512 => {
            assert!(path.runs_here());
            // SAFETY: the CPU has the features, as asserted above.
            unsafe { avx512::interleave(channels, lines) }
        }
        _ => portable::interleave(channels, 0, lines),
    }
}

/// Processes sums. Inlined into each path's loop, with that path's instructions.
pub trait Sink {
    /// Takes the sums of rows from `first` on over a panel. Called once for each row and panel.
    fn take(&mut self, first: usize, panel: usize, sums: &[Sums]);
}

/// Passes the sums of every row and panel of `work` to `sink`. Goes panel by panel, so that a panel's weights stay in
/// the first-level cache for all tiles.
///
/// # Panics
/// If a slice of `work` is smaller than its shape, or the CPU does not support `path`.
pub fn product(path: Path, work: &Work, sink: &mut impl Sink) {
    assert!((1..=TILE).contains(&work.height));
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Amx | Path::Avx512 | Path::Avx2 => {
            assert!(path.runs_here());
            // SAFETY: the CPU has the features, as asserted above.
            unsafe {
                match path {
                    Path::Amx => amx::product(work, sink),
                    Path::Avx512 => avx512::product(work, sink),
                    _ => avx2::product(work, sink),
                }
            }
        }
        _ => portable::product(work, sink),
    }
}
