//! A node that draws, and what the command line says of what it drew.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::program::{self, Program};

pub(crate) const PROMPT: &str = "a small yellow star above a red house";
pub(crate) const NONCE: &str = "4242424242424242424242424242424242424242424242424242424242424242";

/// A node that signs manifests, what it drew, and its evidence.
pub(crate) struct Shown {
    pub(crate) node: Program,
    pub(crate) folder: tempfile::TempDir,
}

impl Shown {
    /// With every protection that a node puts on before it serves.
    pub(crate) async fn start() -> Self {
        let words = ["--set", "provenance=c2pa", "--allow-plaintext", "--set", "sandbox=on"];
        Self::of(Program::serve(&words, Stdio::null())).await
    }

    pub(crate) async fn of(node: Program) -> Self {
        node.ready().await;
        let shown = Self { node, folder: tempfile::tempdir().unwrap() };
        fs::write(shown.at("prompt"), format!("{PROMPT}\n")).unwrap();
        let save = shown.path("report");
        shown.says(0, &["verify", &shown.node.url, "--nonce", NONCE, "--save", &save]);
        shown
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Draws privately.
    pub(crate) fn draw(&self, name: &str, more: &[&str]) {
        self.drawn(0, name, &[&["--size", "64x64"], more].concat());
    }

    pub(crate) fn drawn(&self, code: i32, name: &str, more: &[&str]) -> String {
        let file = self.path(name);
        let words = ["generate", PROMPT, "--node", &self.node.url, "--steps", "1"];
        let seed: &[&str] = if more.contains(&"--seed") { &[] } else { &["--seed", "5"] };
        self.says(code, &[&words[..], seed, &["--output", &file], more].concat())
    }

    /// What the command line says, and that it ends so.
    pub(crate) fn says(&self, code: i32, words: &[&str]) -> String {
        let mut command = Command::new(program::path());
        let Output { status, stdout, stderr } =
            command.args(words).arg("--accept-simulated").output().unwrap();
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        assert_eq!(status.code(), Some(code), "{words:?}\n{said}");
        said
    }

    pub(crate) fn verify(&self, code: i32, image: &str, more: &[&str]) -> String {
        let (image, report) = (self.path(image), self.path("report"));
        let words = ["verify", "--image", &image, "--report", &report, "--nonce", NONCE];
        self.says(code, &[&words[..], more].concat())
    }

    pub(crate) fn disclosed(&self, code: i32, told: &str, prompt: &str) -> String {
        let (told, prompt) = (self.path(told), self.path(prompt));
        self.verify(code, "star.png", &["--disclose", &told, "--prompt-file", &prompt])
    }

    pub(crate) fn replay(&self, code: i32, told: &str, more: &[&str]) -> String {
        let (told, prompt) = (self.path(told), self.path("prompt"));
        let words = ["replay", &told, "--prompt-file", &prompt, "--device", "cpu"];
        self.says(code, &[&words[..], more].concat())
    }

    pub(crate) fn told(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(name)).unwrap()).unwrap()
    }

    /// What came with the image, changed.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut told = self.told("star.png.provenance.json");
        change(&mut told);
        fs::write(self.at(name), told.to_string()).unwrap();
    }
}

pub(crate) fn holds_manifest(file: &[u8]) -> bool {
    file.windows(8).any(|bytes| bytes == b"obscura.")
}
