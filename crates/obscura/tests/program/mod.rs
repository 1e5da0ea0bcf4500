//! `obscura serve` as a process of its own.

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The program under test: this build's, or the one that `OBSCURA_PROGRAM` names.
pub(crate) fn path() -> OsString {
    let built = || env!("CARGO_BIN_EXE_obscura").into();
    std::env::var_os("OBSCURA_PROGRAM").unwrap_or_else(built)
}

/// A node that listens on loopback, with the demo model and simulated evidence. Ends with the test that
/// started it, however that ends.
pub(crate) struct Program {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
}

#[allow(dead_code, reason = "not every test needs all of it")]
impl Program {
    /// Starts it, and waits until it listens.
    pub(crate) fn serve(words: &[&str], errors: impl Into<Stdio>) -> Self {
        Self::start(Self::command(words).stderr(errors))
    }

    /// What starts it, for a test to change first.
    pub(crate) fn command(words: &[&str]) -> Command {
        Self::command_with_model("demo".as_ref(), words)
    }

    /// The same with another model.
    pub(crate) fn command_with_model(model: &OsStr, words: &[&str]) -> Command {
        let mut command = Command::new(path());
        command
            .args(["serve", "--tee", "simulated", "--device", "cpu", "--listen", "127.0.0.1:0"])
            .arg("--model")
            .arg(model)
            .args(words);
        command
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("obscura listens on ").unwrap().to_owned();
        Self { child, url }
    }

    /// The code with which it has ended, where it has.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&self) {
        let ready = async {
            let ask = || tests::http().get(format!("{}/readyz", self.url)).send();
            while !ask().await.unwrap().status().is_success() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ready).await.unwrap();
    }

    /// Asks it to stop, and waits until it has done so in order.
    pub(crate) fn stop(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Where it has ended already, there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
