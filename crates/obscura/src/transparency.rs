//! `obscura tlog`, and what `obscura verify` asks of the log: that a policy is one that everybody was shown.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, ensure};
use attest::verify::Verdict;
use clap::{Subcommand, ValueEnum};
use tlog::{
    Algorithm, Entry, Included, Kind, Log, MAX_PROOF_BYTES, Proof, SecretKey, Seen, TlogError,
    Trust, VerifierKey, Witness, Writer,
};

use crate::output::{self, Existing, print, say};

/// What is logged has some kilobytes.
const MAX_LOGGED_BYTES: usize = 1024 * 1024;

#[derive(Subcommand)]
pub(crate) enum TlogCommand {
    /// Make a key for a log or a witness; its public half is printed
    Key {
        /// Such as log.example/obscura
        name: String,
        /// Where the secret half goes; the file must not be there
        file: PathBuf,
        /// For a witness instead of a log
        #[arg(long)]
        witness: bool,
    },
    /// Add files to a log, and sign it
    Append {
        #[command(flatten)]
        log: LogArgs,
        /// What the files are
        #[arg(long)]
        kind: KindChoice,
        /// Each is an entry under its own name
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Sign a log as a witness, where it continues what was seen of it
    Witness {
        /// The log's directory
        #[arg(long, value_name = "DIR")]
        log: PathBuf,
        /// The log's public key
        #[arg(long, value_name = "KEY")]
        log_key: VerifierKey,
        /// The witness's secret key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What was seen; made where it is not there. Whoever loses it can be shown a fork
        #[arg(long, value_name = "FILE")]
        seen: PathBuf,
    },
    /// Print the proof that a file is in a log
    Prove {
        /// The log's directory
        #[arg(long, value_name = "DIR")]
        log: PathBuf,
        /// The log's public key
        #[arg(long, value_name = "KEY")]
        log_key: VerifierKey,
        /// What the file is
        #[arg(long)]
        kind: KindChoice,
        /// The file
        file: PathBuf,
    },
    /// Check such a proof, offline. Exits 10 where it does not hold
    Check {
        #[command(flatten)]
        logged: LoggedArgs,
        /// What the file is
        #[arg(long)]
        kind: KindChoice,
        /// The file
        file: PathBuf,
    },
}

#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// The log's directory
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// The log's secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct LoggedArgs {
    /// Whose logs are believed: lines of `log KEY`, `witness KEY`, `quorum N`
    #[arg(long, value_name = "FILE")]
    pub(crate) log_trust: PathBuf,
    /// The proof, as `obscura tlog prove` prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) log_proof: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KindChoice {
    Release,
    ModelManifest,
    Policy,
}

impl From<KindChoice> for Kind {
    fn from(choice: KindChoice) -> Self {
        match choice {
            KindChoice::Release => Self::Release,
            KindChoice::ModelManifest => Self::ModelManifest,
            KindChoice::Policy => Self::Policy,
        }
    }
}

pub(crate) fn run(command: TlogCommand) -> anyhow::Result<ExitCode> {
    match command {
        TlogCommand::Key { name, file, witness } => {
            let algorithm = if witness { Algorithm::Witness } else { Algorithm::Log };
            say(make_key(&name, algorithm, &file)?)?;
        }
        TlogCommand::Append { log, kind, files } => {
            let key = secret_key(&log.key)?;
            let mut opened = Writer::open(&log.log, key.public())?;
            for file in &files {
                let index = opened.append(&entry(kind.into(), file)?, &key)?;
                say(format_args!("{index}  {}", file.display()))?;
            }
        }
        TlogCommand::Witness { log, log_key, key, seen } => {
            witness(&log, &log_key, &secret_key(&key)?, &seen)?;
        }
        TlogCommand::Prove { log, log_key, kind, file } => {
            print(Log::open(&log, &log_key)?.prove(&entry(kind.into(), &file)?)?)?;
        }
        TlogCommand::Check { logged, kind, file } => {
            return Ok(match check(&logged, kind.into(), &file)? {
                Ok(included) => {
                    say(format_args!("PASS  {included}"))?;
                    ExitCode::SUCCESS
                }
                Err(problem) => {
                    say(format_args!("FAIL  {problem}"))?;
                    ExitCode::from(Verdict::Rejected.exit_code())
                }
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a file is in a log that is believed.
///
/// # Errors
/// Where a file cannot be read, or trust is not what it should be; what a proof does not show is the answer.
pub(crate) fn check(
    logged: &LoggedArgs,
    kind: Kind,
    file: &Path,
) -> anyhow::Result<Result<Included, TlogError>> {
    let trust = text(&logged.log_trust, MAX_PROOF_BYTES)?;
    let trust: Trust =
        trust.parse().with_context(|| format!("in {}", logged.log_trust.display()))?;
    let proof = text(&logged.log_proof, MAX_PROOF_BYTES)?;
    let entry = entry(kind, file)?;
    Ok(Proof::parse(&proof).and_then(|proof| proof.verify(&entry, &trust)))
}

fn make_key(name: &str, algorithm: Algorithm, file: &Path) -> anyhow::Result<String> {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut()).context("no random bytes")?;
    let key = SecretKey::new(name, algorithm, &seed)?;
    let secret = zeroize::Zeroizing::new(key.reveal());
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(key.public().to_string())
}

/// What is seen is kept before the signature is given away: else a witness that fails in between forgets it.
fn witness(
    directory: &Path,
    log_key: &VerifierKey,
    key: &SecretKey,
    seen_file: &Path,
) -> anyhow::Result<()> {
    // From what was seen to what is kept and published: two at once could sign both sides of a fork.
    let _memory = alone_with(seen_file)?;
    let mut log = Writer::open(directory, log_key)?;
    let checkpoint = log.checkpoint().context("the log has no entry yet")?.clone();
    let seen = match seen_file.symlink_metadata() {
        // Nothing else means that nothing was seen: of a link that leads nowhere, or a folder that cannot be looked
        // into, a witness without memory would sign any fork.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::nothing(log_key),
        _ => text(seen_file, MAX_PROOF_BYTES)?.parse()?,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?;
    let witness = Witness { key, log: log_key };
    let proof = log.continues(&seen);
    let (signed, seen) = witness.cosign(&seen, &checkpoint, &proof, now.as_secs())?;
    output::write_durably(seen_file, seen.to_string().as_bytes(), Existing::Replace)?;
    log.publish(signed)?;
    say(format_args!("signed {} entries of {}", seen.size, seen.log))
}

/// Holds a witness's memory, by a file beside it: the memory itself is replaced.
fn alone_with(seen_file: &Path) -> anyhow::Result<File> {
    let mut name = seen_file.as_os_str().to_owned();
    name.push(".lock");
    let shown = Path::new(&name).display();
    let lock = File::create(&name).with_context(|| format!("cannot write {shown}"))?;
    ensure!(lock.try_lock().is_ok(), "another witness works with {}", seen_file.display());
    Ok(lock)
}

fn secret_key(file: &Path) -> anyhow::Result<SecretKey> {
    let secret = zeroize::Zeroizing::new(text(file, 1024)?);
    SecretKey::parse(&secret).with_context(|| format!("in {}", file.display()))
}

fn entry(kind: Kind, file: &Path) -> anyhow::Result<Entry> {
    let name = file.file_name().and_then(|name| name.to_str()).context("a file has a name")?;
    Ok(Entry::of(kind, name, text(file, MAX_LOGGED_BYTES)?.as_bytes())?)
}

fn text(file: &Path, max_bytes: usize) -> anyhow::Result<String> {
    let shown = file.display();
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(max_bytes as u64 + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(text.len() <= max_bytes, "{shown} has more than {max_bytes} bytes");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two at once could sign both sides of a fork, and remember one of them.
    #[test]
    fn a_witness_has_its_memory_alone() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let first = alone_with(&seen).unwrap();
        let error = alone_with(&seen).unwrap_err();
        assert!(error.to_string().contains("another witness"), "{error}");
        drop(first);
        alone_with(&seen).unwrap();
    }

    #[test]
    fn a_memory_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let (log, seen) = (folder.path().join("log"), folder.path().join("seen"));
        let key = |algorithm, seed| SecretKey::new("some.example/key", algorithm, &[seed; 32]);
        let log_key = key(Algorithm::Log, 1).unwrap();
        let entry = Entry::of(Kind::Release, "0.1.toml", b"1").unwrap();
        Writer::open(&log, log_key.public()).unwrap().append(&entry, &log_key).unwrap();
        let own_key = key(Algorithm::Witness, 2).unwrap();
        let sign = || witness(&log, log_key.public(), &own_key, &seen);
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &seen).unwrap();
        let refused = sign().unwrap_err();
        assert!(refused.to_string().contains("cannot read"), "{refused:#}");
        std::fs::remove_file(&seen).unwrap();
        sign().unwrap();
        // From here on it remembers.
        sign().unwrap();
        assert!(seen.is_file());
    }
}
