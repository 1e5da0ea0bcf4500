//! Says which commit the program is built from: by OBSCURA_COMMIT; without it, a release build asks git. Other
//! builds do not, as each commit would build this crate again.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const VARIABLE: &str = "OBSCURA_COMMIT";
/// What git says of a tree that differs from its commit.
const MODIFIED: &str = "-modified";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let told = env::var(VARIABLE).ok().filter(|told| !told.is_empty());
    if told.as_deref().is_some_and(|told| !is_commit(told)) {
        // Without what it says: it goes into every program's answers, and is nobody's to fill at will.
        println!("cargo::error={VARIABLE} must be a commit: 40 or 64 hex digits in lower case");
        return;
    }
    match told.or_else(|| is_release.then(asked_of_git).flatten()) {
        Some(commit) => {
            println!("cargo::rustc-env={VARIABLE}={commit}");
            println!("cargo::rustc-env=OBSCURA_VERSION={version} ({commit})");
        }
        None => println!("cargo::rustc-env=OBSCURA_VERSION={version}"),
    }
}

fn is_commit(text: &str) -> bool {
    let digits = text.strip_suffix(MODIFIED).unwrap_or(text);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(digits.len(), 40 | 64) && digits.bytes().all(is_hex)
}

/// The commit of the tree that this crate lies in, if it is this project's and not one around it.
fn asked_of_git() -> Option<String> {
    let crate_root = env::var_os("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&crate_root).join("../..").canonicalize().ok()?;
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim_end().to_owned())
    };
    if PathBuf::from(git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root {
        return None;
    }
    // Asked again with each commit, and with each change of what is compiled.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let of_git = ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let of_git = of_git.filter_map(|name| git(&["rev-parse", "--git-path", name]));
    for path in of_git.chain(["crates", "Cargo.toml", "Cargo.lock"].map(str::to_owned)) {
        let path = root.join(path);
        // One that is not there would have every build ask again.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let commit = git(&["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))?;
    let is_modified = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if is_modified { commit + MODIFIED } else { commit })
}
