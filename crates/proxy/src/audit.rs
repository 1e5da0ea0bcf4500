//! The audit log: every report that was judged, in numbered files that are never written over.
//!
//! `000001.report.json` is a node's report byte for byte, as `obscura verify --report FILE` reads it;
//! `000001.verdict.json` says whose it is, by which policy it was judged and when, with which nonce, and
//! how each check came out. No prompt and no key of anybody's is in either.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use attest::{
    Policy,
    verify::{Appraisal, Channel},
};
use client::Evidence;
use printable::Printable;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A folder of judged reports.
pub(crate) struct Audit {
    folder: PathBuf,
    /// The number of the last one.
    last: Mutex<u64>,
}

/// A report, and what came of it.
pub(crate) struct Entry<'a> {
    pub(crate) node: &'a Printable,
    pub(crate) appraisal: &'a Appraisal,
    pub(crate) evidence: &'a Evidence,
}

impl Audit {
    /// Goes on behind what lies in `folder`, which is made where it is not there.
    ///
    /// # Errors
    /// Where it cannot be made, read or written.
    pub(crate) fn open(folder: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut last = 0;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.split_once('.'));
            let number = number.and_then(|(number, _)| number.parse::<u64>().ok());
            last = last.max(number.unwrap_or(0));
        }
        // Rather now than with the first report.
        let probe = folder.join(".writable");
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), last: Mutex::new(last) })
    }

    /// Keeps a report and its verdict, and gives their number.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(crate) fn record(&self, entry: &Entry<'_>, policy: &Policy) -> Result<u64, AuditError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Used up, whatever comes of it: a report without its verdict would stand in the way of all others.
        *last += 1;
        let number = *last;
        let verdict = verdict(number, entry, policy);
        let verdict = serde_json::to_vec_pretty(&verdict).expect("texts and numbers serialise");
        self.write(number, "report", &entry.evidence.report)?;
        self.write(number, "verdict", &verdict)?;
        Ok(number)
    }

    /// Whole or not at all: under another name first.
    fn write(&self, number: u64, what: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let path = self.folder.join(format!("{number:06}.{what}.json"));
        let partial = self.folder.join(format!(".{number:06}.{what}.partial"));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&partial)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()))
            // A link, unlike a renaming, never writes over what is there.
            .and_then(|()| fs::hard_link(&partial, &path));
        let _ = fs::remove_file(&partial);
        written.map_err(|source| AuditError { path, source })
    }
}

fn verdict(number: u64, entry: &Entry<'_>, policy: &Policy) -> Value {
    let Entry { node, appraisal, evidence } = entry;
    json!({
        "format": "obscura/proxy-audit/v1",
        "number": number,
        "node": node,
        "report_sha256": hex::encode(Sha256::digest(&evidence.report)),
        "nonce": evidence.challenge.nonce.to_string(),
        "appraised_at": evidence.challenge.now_secs,
        "channel": channel(&evidence.channel),
        "policy_sha256": hex::encode(policy.digest()),
        "accepts_simulated": policy.accepts_simulated(),
        "exit_code": appraisal.verdict.exit_code(),
        "appraisal": appraisal,
    })
}

/// What the report came over.
pub(crate) fn channel(channel: &Channel) -> Value {
    match channel {
        Channel::Plain => json!({ "tls": false }),
        Channel::Tls { spki_sha256, is_publicly_valid } => json!({
            "tls": true,
            "spki_sha256": hex::encode(spki_sha256),
            "is_publicly_valid": is_publicly_valid,
        }),
    }
}

/// The audit log cannot be kept, so that no report counts.
#[derive(Debug, Error)]
#[error("the audit log {} cannot be kept", path.display())]
pub struct AuditError {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use attest::{binding::Nonce, verify::Challenge};

    use super::*;

    #[test]
    fn numbers_go_on_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("audit");
        let policy = Policy::production();
        let challenge = Challenge { nonce: Nonce::new([7; 32]).unwrap(), now_secs: 1_800_000_000 };
        let evidence = Evidence { report: b"{}".to_vec(), challenge, channel: Channel::Plain };
        let appraisal = evidence.appraise(&policy);
        let node = Printable::new("http://node.example");
        let entry = Entry { node: &node, appraisal: &appraisal, evidence: &evidence };
        let audit = Audit::open(&at).unwrap();
        assert_eq!(audit.record(&entry, &policy).unwrap(), 1);
        assert_eq!(audit.record(&entry, &policy).unwrap(), 2);
        let again = Audit::open(&at).unwrap();
        assert_eq!(again.record(&entry, &policy).unwrap(), 3);
        assert_eq!(fs::read(at.join("000003.report.json")).unwrap(), b"{}");
        let verdict = fs::read(at.join("000003.verdict.json")).unwrap();
        let verdict: Value = serde_json::from_slice(&verdict).unwrap();
        assert_eq!(verdict["exit_code"], 30);
        assert_eq!(verdict["nonce"], "07".repeat(32));
        // Another writer in the same folder.
        assert!(audit.record(&entry, &policy).is_err());
        assert_eq!(fs::read_dir(&at).unwrap().count(), 6, "no partial file stays");
        assert_eq!(audit.record(&entry, &policy).unwrap(), 4, "one failure is not the last word");
    }
}
