//! `obscura serve` as a process of its own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A node that listens on loopback, with the demo model and simulated evidence. Ends with the test that
/// started it, however that ends.
pub(crate) struct Program {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
}

impl Program {
    /// Starts it, and waits until it listens.
    pub(crate) fn serve(words: &[&str], errors: impl Into<Stdio>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_obscura"))
            .args(["serve", "--model", "demo", "--tee", "simulated", "--device", "cpu"])
            .args(["--listen", "127.0.0.1:0"])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("obscura listens on ").unwrap().to_owned();
        Self { child, url }
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
