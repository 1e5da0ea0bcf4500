//! Writes the inputs that each target starts from: `seeds CORPUS_FOLDER`.

use std::{env, fs, path::PathBuf};

use obscura_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(env::args_os().nth(1).expect("seeds CORPUS_FOLDER"));
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"));
    for target in TARGETS {
        let folder = out.join(target.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (target.seeds)(&fixtures).iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
