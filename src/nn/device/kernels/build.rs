//! With the feature `cuda`, compiles kernels.cu to PTX, which the driver compiles for its GPU. Without the feature it
//! does nothing and needs no CUDA toolkit.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const KERNELS: &str = "src/nn/device/kernels/kernels.cu";
/// Included by [`KERNELS`].
const TRAINING: &str = "src/nn/device/kernels/training.cuh";
/// Compute capability of an A100, the first GPU with bf16.
const MIN_CAPABILITY: &str = "80";

fn main() {
    println!("cargo::rerun-if-changed={KERNELS}");
    println!("cargo::rerun-if-changed={TRAINING}");
    println!("cargo::rerun-if-changed=src/nn/device/kernels/build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Err(reason) = compile() {
        println!("cargo::error={reason}");
        exit(1);
    }
}

fn compile() -> Result<(), String> {
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| MIN_CAPABILITY.into());
    let nvcc = nvcc();
    let run = |arguments: &[&str]| -> Result<String, String> {
        let output = Command::new(&nvcc).args(arguments).output().map_err(|error| {
            format!(
                "{}: {error}; the feature cuda needs the CUDA toolkit (src/nn/device/README.md)",
                nvcc.display()
            )
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => {
                Err(format!("nvcc: {} {}", text(&output.stdout), text(&output.stderr)).replace('\n', " "))
            }
        }
    };
    let version = cuda_version(&run(&["--version"])?)?;
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or("no OUT_DIR")?.join("kernels.ptx");
    let architecture = format!("-arch=compute_{capability}");
    run(&["-ptx", "-O3", "-std=c++17", &architecture, KERNELS, "-o", &out.to_string_lossy()])?;
    // With lazy binding, a driver that lacks a newer function fails with an error that names it.
    println!("cargo::rustc-link-arg=-Wl,-z,lazy");
    println!("cargo::rustc-env=TUTTI_CUDA_VERSION={version}");
    println!("cargo::rustc-env=TUTTI_CUDA_CAPABILITY={}", capability.trim_end_matches(char::is_alphabetic));
    Ok(())
}

fn nvcc() -> PathBuf {
    let in_home = |name| env::var_os(name).map(|home| Path::new(&home).join("bin/nvcc"));
    let default_paths = [in_home("CUDA_HOME"), in_home("CUDA_PATH"), Some("/usr/local/cuda/bin/nvcc".into())];
    let named = env::var_os("NVCC").map(PathBuf::from);
    let found = default_paths.into_iter().flatten().find(|path| path.exists());
    named.or(found).unwrap_or_else(|| "nvcc".into())
}

/// "release 13.0, V13.0.88" is 13000, the driver's format.
fn cuda_version(output: &str) -> Result<i32, String> {
    let release = output.split("release ").nth(1).and_then(|rest| rest.split(',').next());
    let number = release.and_then(|release| {
        let (major, minor) = release.trim().split_once('.')?;
        Some(major.parse::<i32>().ok()? * 1000 + minor.parse::<i32>().ok()? * 10)
    });
    number.ok_or_else(|| format!("cannot find the release in the output of nvcc: {output}"))
}
