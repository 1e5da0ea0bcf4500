//! Compiles `cuda/*.cu` with nvcc, where the crate is built with its `cuda` feature.

use std::{env, path::Path, process::Command};

/// The compute capability that the kernels are written for and, where CUDA_COMPUTE_CAP does not say
/// otherwise, compiled for.
const HOPPER: &str = "90";

fn main() {
    // Without the feature nothing here depends on a toolkit: one that comes into the environment is no
    // reason to build everything again.
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        println!("cargo::rerun-if-changed=build.rs");
        return;
    }
    println!("cargo::rerun-if-changed=cuda");
    for name in ["CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| HOPPER.to_owned());
    let sources = std::fs::read_dir("cuda").expect("the crate holds its kernels");
    for source in sources.map(|entry| entry.expect("a readable folder").path()) {
        if source.extension().is_some_and(|ending| ending == "cu") {
            compile(&source, Path::new(&out), &capability);
        }
    }
}

/// One file → machine code for one capability, and PTX that a driver can compile for later ones.
fn compile(source: &Path, out: &Path, capability: &str) {
    let nvcc =
        env::var("CUDA_HOME").map_or("nvcc".into(), |home| Path::new(&home).join("bin/nvcc"));
    let image = out.join(source.with_extension("fatbin").file_name().expect("a file has a name"));
    let status = Command::new(&nvcc)
        .args(["-O3", "-std=c++17", "-fatbin"])
        .arg(format!("-gencode=arch=compute_{capability},code=sm_{capability}"))
        .arg(format!("-gencode=arch=compute_{capability},code=compute_{capability}"))
        .args([Path::new("-o"), &image, source])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} on {}: {status}", nvcc.display(), source.display()),
        Err(error) => panic!(
            "{}: {error}; the feature `cuda` needs a CUDA toolkit: eval \"$(tools/cuda-toolkit)\"",
            nvcc.display()
        ),
    }
}
