//! A disk that takes no more: nothing that was there is lost, and a node goes on.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs::{self, File},
    io::pipe,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use program::Program;
use tests::http;

const OBSCURA: &str = env!("CARGO_BIN_EXE_obscura");

/// The shell's limit on the length of files stands in for the disk: writing fails half way.
#[test]
fn an_image_that_has_no_room_leaves_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fox.png");
    fs::write(&path, "the older image").unwrap();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" generate 'a red circle' \
                  --steps 1 --device cpu --force --output \"$1\"";
    let output = Command::new("sh").arg("-c").arg(script).arg(OBSCURA).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("cannot write"), "{said}");
    assert!(said.contains("fox.png") && !said.contains("a red circle"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "the older image");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// What a command has to say, and cannot, is an error of its own and no panic.
#[tokio::test]
async fn what_cannot_be_said_is_an_error() {
    let node = Program::serve(&[], Stdio::null());
    node.ready().await;
    for words in [
        &["verify", &node.url, "--accept-simulated"][..],
        &["verify", &node.url, "--accept-simulated", "--json"],
        &["config", "print"],
        &["config", "evidence"],
        &["models", "list"],
        &["completions", "bash"],
        &["completions", "zsh"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let done = Command::new(OBSCURA).args(words).stdout(full).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("cannot write to standard output"), "{words:?}: {said}");
    }
    node.stop();
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let node = Program::serve(&[], full);
    for _ in 0..3 {
        // Of a probe that succeeds there is no line.
        let answer = tests::http().get(format!("{}/none", node.url)).send().await.unwrap();
        assert_eq!(answer.status(), 404);
    }
    node.stop();
}

/// A process that is to go on, whatever it cannot write. Ends with its test.
struct Silenced(Child);

impl Silenced {
    fn start(command: &mut Command, [out, errors]: [Stdio; 2]) -> Self {
        Self(command.stdout(out).stderr(errors).spawn().unwrap())
    }

    /// Waits until it answers there.
    async fn answers(&mut self, url: &str) {
        let answered = async {
            while http().get(url).send().await.is_err() {
                assert_eq!(self.0.try_wait().unwrap(), None, "it ended");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap();
        assert_eq!(self.0.try_wait().unwrap(), None, "it ended");
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Standard output and error that take nothing: of a full disk, and of pipes that nobody reads.
fn unwritable() -> [[Stdio; 2]; 2] {
    let full = || File::options().write(true).open("/dev/full").unwrap().into();
    let closed = || pipe().unwrap().1.into();
    [[full(), full()], [closed(), closed()]]
}

/// An address that nothing listens on, for those whose own words cannot be read.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What they say first is the line that a script waits for. Nobody reads it, and they serve all the same.
#[tokio::test]
async fn what_serves_goes_on_where_nobody_reads_what_it_says() {
    for streams in unwritable() {
        let at = free_address();
        let mut command = Command::new(OBSCURA);
        command.args(["serve", "--model", "demo", "--tee", "simulated", "--device", "cpu"]);
        let mut node = Silenced::start(command.args(["--listen", &at]), streams);
        node.answers(&format!("http://{at}/healthz")).await;
    }
    let node = Program::serve(&[], Stdio::null());
    node.ready().await;
    for streams in unwritable() {
        let at = free_address();
        let mut command = Command::new(OBSCURA);
        command.args(["proxy", "--node", &node.url, "--accept-simulated", "--listen", &at]);
        let mut proxy = Silenced::start(&mut command, streams);
        proxy.answers(&format!("http://{at}/healthz")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    for (number, streams) in unwritable().into_iter().enumerate() {
        let at = free_address();
        let image = folder.path().join(format!("{number}.png"));
        let mut command = Command::new(OBSCURA);
        command.args(["demo", "--listen", &at, "--output"]).arg(&image);
        let mut demo = Silenced::start(&mut command, streams);
        demo.answers(&format!("http://{at}/healthz")).await;
        let drawn = async {
            while !image.exists() {
                assert_eq!(demo.0.try_wait().unwrap(), None, "it ended");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), drawn).await.unwrap();
        demo.answers(&format!("http://{at}/healthz")).await;
    }
}
