//! A device for tests: `kernels.cu` compiled by the machine's C++ compiler and run on the CPU, with products in plain
//! loops. It also detects what a GPU would not: access to memory that is not allocated.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use crate::nn::device::{
    Address, Argument, Counts, Device, Element, Epilogue, Grid, Kernel, Product, Training,
};
use crate::{Error, Result};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Entry = extern "C" fn(*mut *mut c_void);
type Launch = extern "C" fn(Entry, c_uint, c_uint, c_uint, c_uint, *mut *mut c_void, c_int) -> c_int;

/// The kernels as a shared library, built once per test process and never unloaded.
struct Library {
    launch: Launch,
    entries: HashMap<Kernel, Entry>,
}

impl Library {
    fn get() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(|| Self::build().expect("kernels.cu as C++"))
    }

    fn build() -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/device/kernels/kernels.cu");
        let library = folder.path().join("kernels.so");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let built = Command::new(&compiler)
            .args(["-O2", "-std=c++17", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-Wall", "-Werror"])
            .args(["-x", "c++"])
            .arg(&source)
            .arg("-o")
            .arg(&library)
            .output()
            .map_err(|e| {
                std::io::Error::other(format!("{compiler}: {e}; these tests need a C++ compiler"))
            })?;
        if !built.status.success() {
            return Err(std::io::Error::other(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        fs::metadata(&library)?;
        let path = CString::new(library.to_string_lossy().as_bytes())?;
        const NOW: c_int = 2;
        // SAFETY: the library was built above from this crate's own source, and runs nothing when loaded.
        let handle = unsafe { dlopen(path.as_ptr(), NOW) };
        let symbol = |name: &str| {
            let name = CString::new(name)?;
            // SAFETY: the handle is null or comes from dlopen.
            let found = if handle.is_null() { handle } else { unsafe { dlsym(handle, name.as_ptr()) } };
            if found.is_null() {
                Err(std::io::Error::other(format!("symbol {name:?} is missing")))
            } else {
                Ok(found)
            }
        };
        let mut entries = HashMap::new();
        let inference = [Element::F32, Element::Bf16, Element::F16].into_iter().flat_map(Kernel::all);
        for kernel in inference.chain(Training::ALL.map(Kernel::Training)) {
            let entry = symbol(&format!("{}_entry", kernel.name()))?;
            // SAFETY: emulated.h declares all of these functions with this type.
            entries.insert(kernel, unsafe { std::mem::transmute::<*mut c_void, Entry>(entry) });
        }
        // SAFETY: emulated.h declares it with this type.
        let launch = unsafe { std::mem::transmute::<*mut c_void, Launch>(symbol("emulated_launch")?) };
        Ok(Self { launch, entries })
    }
}

/// The CPU as a device.
#[derive(Clone, Debug, Default)]
pub struct Emulated {
    /// Whether the threads of a block run from the last to the first.
    backwards: bool,
    /// Total memory in bytes, if limited.
    limit: Option<usize>,
    /// Start and end of all allocated memory.
    memory: Arc<Mutex<HashMap<Address, Address>>>,
    counts: Arc<Mutex<Counts>>,
    /// The launches of each recorded sequence.
    recorded: Arc<Mutex<HashMap<u64, Vec<String>>>>,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
pub struct Memory {
    /// In words of 16 bytes, the alignment of a device.
    _words: Box<[u128]>,
    from: Address,
    memory: Arc<Mutex<HashMap<Address, Address>>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.memory.lock().unwrap().remove(&self.from);
    }
}

impl Emulated {
    pub fn backwards() -> Self {
        Self { backwards: true, ..Self::default() }
    }

    /// A device with `bytes` of memory.
    pub fn with_memory(bytes: usize) -> Self {
        Self { limit: Some(bytes), ..Self::default() }
    }

    /// Number of allocations that are alive.
    pub fn allocated(&self) -> usize {
        self.memory.lock().unwrap().len()
    }

    fn check(&self, address: Address, bytes: usize) -> Result<()> {
        let memory = self.memory.lock().unwrap();
        let inside = memory.iter().any(|(&from, &to)| from <= address && address + bytes as u64 <= to);
        if inside {
            Ok(())
        } else {
            Err(Error::Device(format!("{bytes} bytes at {address:#x} are not allocated")))
        }
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
        self.counts.lock().unwrap().launches += 1;
    }

    fn read(&self, element: Element, from: Address, count: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; count * element.size()];
        self.download(from, &mut bytes)?;
        Ok(element.decode(&bytes))
    }
}

/// Runs a kernel on the CPU. Addresses must be valid.
pub fn run(kernel: Kernel, grid: Grid, arguments: &[Argument], backwards: bool) -> Result<()> {
    let mut values: Vec<u64> = arguments
        .iter()
        .map(|argument| match *argument {
            Argument::Address(address) => address,
            Argument::U32(value) => u64::from(value),
            Argument::F32(value) => u64::from(value.to_bits()),
        })
        .collect();
    let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
    let library = Library::get();
    let shared = u32::try_from(grid.shared_floats * 4).unwrap();
    let status = (library.launch)(
        library.entries[&kernel],
        grid.width,
        grid.height,
        grid.threads,
        shared,
        pointers.as_mut_ptr(),
        c_int::from(backwards),
    );
    if status == 0 { Ok(()) } else { Err(Error::Device(format!("{}: a block is deadlocked", kernel.name()))) }
}

impl Device for Emulated {
    type Buffer = Memory;

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        let taken: u64 = self.memory.lock().unwrap().iter().map(|(from, to)| to - from).sum();
        let free = self.limit.unwrap_or(usize::MAX).saturating_sub(taken as usize);
        if bytes > free {
            return Err(Error::DeviceMemory { bytes, free });
        }
        let mut words = vec![0u128; bytes.div_ceil(16).max(1)].into_boxed_slice();
        let from = words.as_mut_ptr() as Address;
        self.memory.lock().unwrap().insert(from, from + bytes as u64);
        Ok(Memory { _words: words, from, memory: self.memory.clone() })
    }

    fn address(&self, buffer: &Memory) -> Address {
        buffer.from
    }

    fn upload(&self, from: &[u8], to: Address) -> Result<()> {
        self.check(to, from.len())?;
        // SAFETY: checked to be allocated.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    fn download(&self, from: Address, to: &mut [u8]) -> Result<()> {
        self.check(from, to.len())?;
        // SAFETY: checked to be allocated.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        let mut between = vec![0; bytes];
        self.download(from, &mut between)?;
        self.upload(&between, to)
    }

    fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.note(format!("{} {grid:?} {arguments:?}", kernel.name()));
        for argument in arguments {
            match argument {
                Argument::Address(0) => {}
                Argument::Address(address) => self.check(*address, 4)?,
                _ => {}
            }
        }
        run(kernel, grid, arguments, self.backwards)
    }

    fn product(&self, p: &Product) -> Result<()> {
        self.note(format!("{p:?}"));
        let x = self.read(p.element, p.x, p.rows * p.inputs)?;
        let weight = self.read(p.element, p.weight, p.outputs * p.inputs)?;
        let to = match p.epilogue {
            Epilogue::Store | Epilogue::Relu => p.element,
            Epilogue::Add | Epilogue::Wide => Element::F32,
        };
        let bias = self.read(to, p.bias, p.outputs)?;
        let mut y = match p.epilogue {
            Epilogue::Add => self.read(to, p.y, p.rows * p.outputs)?,
            _ => vec![0.0; p.rows * p.outputs],
        };
        for (x, y) in x.chunks_exact(p.inputs).zip(y.chunks_exact_mut(p.outputs)) {
            for ((y, weight), bias) in y.iter_mut().zip(weight.chunks_exact(p.inputs)).zip(&bias) {
                *y += x.iter().zip(weight).map(|(x, w)| x * w).sum::<f32>() + bias;
                if p.epilogue == Epilogue::Relu {
                    *y = y.max(0.0);
                }
            }
        }
        self.upload(&to.encode(&y), p.y)
    }

    /// Records the sequence; fails if it differs from an earlier one with the same key.
    fn replay(&self, key: u64, record: &dyn Fn() -> Result<()>) -> Result<()> {
        self.log.lock().unwrap().clear();
        record()?;
        let sequence = std::mem::take(&mut *self.log.lock().unwrap());
        let mut counts = self.counts.lock().unwrap();
        match self.recorded.lock().unwrap().entry(key) {
            std::collections::hash_map::Entry::Occupied(known) if *known.get() != sequence => {
                return Err(Error::Device(format!("two different sequences have the key {key}")));
            }
            std::collections::hash_map::Entry::Occupied(_) => counts.replays += 1,
            std::collections::hash_map::Entry::Vacant(free) => {
                counts.recordings += 1;
                free.insert(sequence);
            }
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }
}
