//! Writes a small model of FLUX.2-klein's kind with random weights: `cargo run -p tests --example klein_model -- DIR`.
//!
//! It draws noise. What it is good for is to try what takes input images, `obscura generate --image` and
//! `POST /v1/images/edits`, without a checkpoint:
//!
//! ```console
//! $ cargo run -p tests --example klein_model -- klein-noise
//! $ obscura generate "a red fox" --model klein-noise --image photo.jpg
//! $ obscura serve --model klein-noise --tee simulated --allow-plaintext
//! ```

use std::{env, fs, path::PathBuf, process::ExitCode};

/// Both kinds of blocks are in it.
const CASE: &str = "klein-1x1";

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("klein_model DIR");
        return ExitCode::from(2);
    };
    if let Err(error) = fs::create_dir_all(&directory) {
        eprintln!("{}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    tests::klein::write_model(CASE, &directory);
    println!("{}: random weights, which draw noise", directory.display());
    ExitCode::SUCCESS
}
