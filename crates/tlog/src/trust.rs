//! A verifier's trusted logs and witnesses, as the text that it keeps.
//!
//! ```text
//! log log.example/obscura+0123abcd+BASE64
//! witness witness.example+4567cdef+BASE64
//! quorum 1
//! ```

use std::str::FromStr;

use crate::{
    checkpoint::{Checkpoint, number},
    error::TlogError,
    note::{Algorithm, Note, VerifierKey},
};

const MAX_WITNESSES: usize = 32;

/// One log, and how many of which witnesses must have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    log: VerifierKey,
    witnesses: Vec<VerifierKey>,
    quorum: usize,
}

/// A checkpoint that was believed.
pub(crate) struct Believed {
    pub(crate) checkpoint: Checkpoint,
    /// Who signed, and when.
    pub(crate) witnesses: Vec<(String, u64)>,
}

impl Trust {
    /// The log's key.
    #[must_use]
    pub fn log(&self) -> &VerifierKey {
        &self.log
    }

    pub(crate) fn believe(&self, note: &Note) -> Result<Believed, TlogError> {
        let (text, _) = note.signed_by(&self.log)?;
        let checkpoint = Checkpoint::parse(text)?;
        if checkpoint.origin != self.log.name() {
            let expected = self.log.name().to_owned();
            return Err(TlogError::OtherLog { found: checkpoint.origin, expected });
        }
        let witnesses = self.witnesses.iter().filter_map(|witness| {
            let (_, time) = note.signed_by(witness).ok()?;
            Some((witness.name().to_owned(), time))
        });
        let witnesses: Vec<_> = witnesses.collect();
        match witnesses.len() >= self.quorum {
            true => Ok(Believed { checkpoint, witnesses }),
            false => {
                Err(TlogError::TooFewWitnesses { found: witnesses.len(), quorum: self.quorum })
            }
        }
    }
}

impl FromStr for Trust {
    type Err = TlogError;

    fn from_str(text: &str) -> Result<Self, TlogError> {
        let (mut log, mut witnesses, mut quorum) = (None, Vec::<VerifierKey>::new(), None);
        for (index, line) in text.lines().enumerate() {
            let wrong = || TlogError::Trust { line: index + 1 };
            let key = |text: &str, algorithm| {
                let key: VerifierKey = text.parse()?;
                if key.algorithm() == algorithm { Ok(key) } else { Err(wrong()) }
            };
            let before = match line.split_once(' ') {
                _ if line.is_empty() || line.starts_with('#') => false,
                Some(("log", text)) => log.replace(key(text, Algorithm::Log)?).is_some(),
                Some(("witness", text)) => {
                    let witness = key(text, Algorithm::Witness)?;
                    // One key under two names is one witness; two keys of one person are not told apart.
                    let known = witnesses.iter().any(|known| known.is_same_key(&witness));
                    witnesses.push(witness);
                    known
                }
                Some(("quorum", text)) => {
                    let count = number(text).and_then(|count| usize::try_from(count).ok());
                    quorum.replace(count.ok_or_else(wrong)?).is_some()
                }
                _ => true,
            };
            if before || witnesses.len() > MAX_WITNESSES {
                return Err(wrong());
            }
        }
        let whole = TlogError::Trust { line: 0 };
        match (log, quorum) {
            (Some(log), Some(quorum)) if quorum <= witnesses.len() => {
                Ok(Self { log, witnesses, quorum })
            }
            _ => Err(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SecretKey;

    #[test]
    fn a_log_and_its_witnesses_are_named_once() {
        let key = |name, algorithm, seed| {
            SecretKey::new(name, algorithm, &[seed; 32]).unwrap().public().to_string()
        };
        let log = key("l", Algorithm::Log, 1);
        let (one, two) = (key("a", Algorithm::Witness, 2), key("b", Algorithm::Witness, 3));
        let good = format!("# ours\n\nlog {log}\nwitness {one}\nwitness {two}\nquorum 2\n");
        assert_eq!(good.parse::<Trust>().unwrap().log().name(), "l");
        let same = key("c", Algorithm::Witness, 2);
        for refused in [
            good.replace("quorum 2", "quorum 3"),
            good.replace("quorum 2", "quorum -1"),
            good.replace("quorum 2", ""),
            good.replace("quorum 2", "quorum 2\nquorum 1"),
            good.replace(&two, &one),
            good.replace(&two, &same),
            good.replace(&two, &log),
            good.replace(&log, &one),
            good.replacen("log", "lag", 1),
            String::new(),
        ] {
            assert!(refused.parse::<Trust>().is_err(), "{refused}");
        }
    }
}
