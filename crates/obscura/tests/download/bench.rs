//! The program as it downloads, and what it leaves.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use flux::Manifest;
use tempfile::TempDir;
use tests::golden::model_directory;

use crate::hub::{COMMIT, REPOSITORY, TestHub};

/// A small model as a hub may publish it, its manifest, and room to download it to.
pub(crate) struct Bench {
    root: TempDir,
    published: TempDir,
    pub(crate) manifest: Manifest,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let published = model_directory("schnell-1x1");
        let files = Manifest::of_directory(published.path(), &mut |_| {}).unwrap().files;
        let manifest = Manifest {
            repository: Some(REPOSITORY.to_owned()),
            revision: Some(COMMIT.to_owned()),
            licence: Some("Apache-2.0".to_owned()),
            files,
            loras: Vec::new(),
        };
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("hf")).unwrap();
        Self { root, published, manifest }
    }

    pub(crate) fn published(&self) -> PathBuf {
        self.published.path().to_owned()
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.root.path().join("models/small")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.path().join("models/small.download")
    }

    pub(crate) fn part(&self, path: &str) -> PathBuf {
        self.staging().join(COMMIT).join("parts").join(path)
    }

    pub(crate) fn installed(&self) -> Manifest {
        let text = fs::read_to_string(self.model().join("obscura.toml")).unwrap();
        Manifest::parse(&text).unwrap()
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.bytes.unwrap()).sum()
    }

    pub(crate) fn download(&self, hub: &TestHub) -> Run {
        self.download_of(hub, &self.manifest)
    }

    pub(crate) fn download_of(&self, hub: &TestHub, manifest: &Manifest) -> Run {
        self.run(&hub.url, manifest)
    }

    /// The program, with nothing of this machine's environment.
    pub(crate) fn run(&self, endpoint: &str, manifest: &Manifest) -> Run {
        let path = self.root.path().join("manifest.toml");
        fs::write(&path, manifest.to_toml()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_obscura"));
        command.env_clear().env("HF_ENDPOINT", endpoint).env("HF_HOME", self.home());
        command.args(["models", "download", "--manifest"]).arg(path);
        command.arg("--dir").arg(self.model());
        Run(command)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("hf")
    }
}

pub(crate) struct Run(Command);

impl Run {
    pub(crate) fn arg(mut self, value: &str) -> Self {
        self.0.arg(value);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// What it says on standard output.
    pub(crate) fn succeeds(self) -> String {
        let (output, stdout, stderr) = self.output();
        assert!(output.status.success(), "{stdout}{stderr}");
        stdout
    }

    /// What it says on standard error.
    pub(crate) fn fails(self) -> String {
        let (output, stdout, stderr) = self.output();
        assert!(!output.status.success(), "{stdout}");
        stderr
    }

    fn output(mut self) -> (Output, String, String) {
        let output = self.0.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        (output, stdout, stderr)
    }
}
