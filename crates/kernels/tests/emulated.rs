//! The kernels of `cuda/` on the CPU: every block's threads as fibers of the host, compared with the
//! formula in f64. It shows that their indices, sums and barriers are right, and nothing of their
//! speed. Needs a C++20 compiler and CUDA's headers, no GPU.

use std::{env, path::Path, process::Command};

#[test]
#[ignore = "needs CUDA's headers: CUDA_HOME"]
fn kernels_compute_their_formulas_on_an_emulated_device() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = env::var("CUDA_HOME").expect("CUDA_HOME names the toolkit");
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated-kernels");
    let compiled = Command::new(env::var("CXX").unwrap_or_else(|_| "c++".into()))
        // The kernels' own attributes mean nothing here.
        .args(["-std=c++20", "-O1", "-w", "-fopenmp", "-fsanitize=address,undefined"])
        .arg("-fno-sanitize-recover=all")
        .arg("-I")
        .arg(here.join("emulated"))
        .arg("-I")
        .arg(Path::new(&home).join("include"))
        .arg(here.join("tests/emulated/main.cpp"))
        .arg(here.join("emulated/device.cpp"))
        .arg("-o")
        .arg(&binary)
        .status()
        .expect("a C++ compiler");
    assert!(compiled.success());
    let output = Command::new(&binary).output().expect("the program runs");
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}
