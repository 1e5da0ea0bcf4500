//! A log on the disk, from its first entry to a witnessed proof of one.

use std::{fs, path::Path};

use crate::{
    Algorithm, Entry, Kind, Log, Note, Proof, SecretKey, Seen, TlogError, Trust, Witness, Writer,
    layout::{CHECKPOINT, bundle, tile_name},
    root,
};

fn entry(number: usize) -> Entry {
    Entry::of(Kind::Release, &format!("0.{number}.toml"), &number.to_le_bytes()).unwrap()
}

fn log_key() -> SecretKey {
    SecretKey::new("log.example/obscura", Algorithm::Log, &[1; 32]).unwrap()
}

fn witness_key() -> SecretKey {
    SecretKey::new("witness.example", Algorithm::Witness, &[2; 32]).unwrap()
}

fn trust(quorum: usize) -> Trust {
    let (log, witness) = (log_key(), witness_key());
    let text = format!("log {}\nwitness {}\nquorum {quorum}\n", log.public(), witness.public());
    text.parse().unwrap()
}

fn filled(directory: &Path, entries: impl Iterator<Item = usize>) -> Writer {
    let key = log_key();
    let mut log = Writer::open(directory, key.public()).unwrap();
    for number in entries {
        log.append(&entry(number), &key).unwrap();
    }
    log
}

#[test]
fn an_entry_is_proven_offline_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 0..5);
    let log = Log::open(folder.path(), log_key().public()).unwrap();
    let proof = Proof::parse(&log.prove(&entry(3)).unwrap().to_string()).unwrap();
    let included = proof.verify(&entry(3), &trust(0)).unwrap();
    assert_eq!((included.index, included.size), (3, 5));
    assert!(matches!(proof.verify(&entry(4), &trust(0)), Err(TlogError::NotIncluded)));
    assert!(matches!(log.prove(&entry(9)), Err(TlogError::NoEntry)));
    // One witness must have signed, and none did.
    let lonely = proof.verify(&entry(3), &trust(1));
    assert!(matches!(lonely, Err(TlogError::TooFewWitnesses { found: 0, quorum: 1 })));
    let other = SecretKey::new("log.example/obscura", Algorithm::Log, &[9; 32]).unwrap();
    let others: Trust = format!("log {}\nquorum 0", other.public()).parse().unwrap();
    assert!(matches!(proof.verify(&entry(3), &others), Err(TlogError::Unsigned { .. })));
}

#[test]
fn every_byte_of_a_proof_counts() {
    let folder = tempfile::tempdir().unwrap();
    let text = filled(folder.path(), 0..6).prove(&entry(2)).unwrap().to_string();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let proof = String::from_utf8(bytes).ok().and_then(|text| Proof::parse(&text).ok());
        let held = proof.is_some_and(|proof| proof.verify(&entry(2), &trust(0)).is_ok());
        assert!(!held, "byte {at}");
    }
}

/// Two logs that share two entries and then say different things: a witness signs the one that it saw.
#[test]
fn a_forked_log_is_caught() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut shown = filled(one.path(), 0..2);
    let (key, log) = (witness_key(), log_key());
    let witness = Witness { key: &key, log: log.public() };
    let nothing = Seen::nothing(log.public());
    let first = shown.checkpoint().unwrap();
    let (_, seen) = witness.cosign(&nothing, first, &[], 100).unwrap();
    assert_eq!(seen.to_string().parse::<Seen>().unwrap(), seen);

    shown.append(&entry(2), &log).unwrap();
    let hidden = filled(two.path(), [0, 1, 7, 8].into_iter());
    let before = seen.clone();
    let proof = shown.continues(&seen);
    let (signed, seen) = witness.cosign(&seen, shown.checkpoint().unwrap(), &proof, 200).unwrap();
    // The other continues what was seen first, but not what is seen now.
    let proof = hidden.continues(&seen);
    let refused = witness.cosign(&seen, hidden.checkpoint().unwrap(), &proof, 300);
    assert!(matches!(refused, Err(TlogError::Forked { size: 3 })), "{refused:?}");
    let older = Log::open(two.path(), log.public()).unwrap();
    assert_eq!(older.size(), 4);
    let shrunk = witness.cosign(&seen, first_of(&before, &log), &[], 300);
    assert!(matches!(shrunk, Err(TlogError::Shrunk { size: 2, seen: 3 })));

    // A verifier believes the one that was witnessed.
    shown.publish(signed).unwrap();
    let witnessed = shown.prove(&entry(2)).unwrap().verify(&entry(2), &trust(1)).unwrap();
    assert_eq!(witnessed.witnesses, [("witness.example".to_owned(), 200)]);
    let unseen = hidden.prove(&entry(7)).unwrap().verify(&entry(7), &trust(1));
    assert!(matches!(unseen, Err(TlogError::TooFewWitnesses { .. })));
}

fn first_of(seen: &Seen, key: &SecretKey) -> &'static Note {
    let text = seen.to_string();
    Box::leak(Box::new(Note::sign(&text, key, 0).unwrap()))
}

#[test]
fn a_log_that_was_changed_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 0..3);
    let path = folder.path().join("tile/entries/000.p/3");
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let opened = Log::open(folder.path(), log_key().public());
    assert!(matches!(opened, Err(TlogError::Damaged { .. })));
    bytes.push(0);
    fs::write(&path, &bytes).unwrap();
    assert!(Log::open(folder.path(), log_key().public()).is_err());
    fs::remove_file(&path).unwrap();
    assert!(matches!(Log::open(folder.path(), log_key().public()), Err(TlogError::Io { .. })));
}

/// Only where there is no checkpoint does a log begin.
#[test]
fn a_checkpoint_that_cannot_be_read_is_not_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CHECKPOINT);
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &path).unwrap();
    let opened = Writer::open(folder.path(), log_key().public());
    assert!(matches!(opened, Err(TlogError::Io { .. })), "{opened:?}");
    fs::remove_file(&path).unwrap();
    filled(folder.path(), 0..1);
}

/// Whoever comes second would sign a root without what the first one appends.
#[test]
fn one_process_at_a_time_writes() {
    let folder = tempfile::tempdir().unwrap();
    let first = filled(folder.path(), 0..2);
    let second = Writer::open(folder.path(), log_key().public());
    assert!(matches!(second, Err(TlogError::Busy { .. })), "{second:?}");
    // Who only reads is in nobody's way.
    assert_eq!(Log::open(folder.path(), log_key().public()).unwrap().size(), 2);
    drop(first);
    filled(folder.path(), 2..3);
    assert_eq!(Log::open(folder.path(), log_key().public()).unwrap().size(), 3);
}

#[test]
fn more_than_a_tile_is_written_as_others_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Writer::open(folder.path(), log_key().public()).unwrap();
    // Not one by one: each that is appended is waited for until it is on the disk.
    log.log.entries = (0..255).map(|number| entry(number).to_bytes()).collect();
    for number in 255..258 {
        log.append(&entry(number), &log_key()).unwrap();
    }
    assert!(matches!(log.append(&entry(7), &log_key()), Err(TlogError::Again { index: 7 })));
    let leaves = log.leaves();
    let tile = |name: &str| fs::read(folder.path().join("tile").join(name)).unwrap();
    assert_eq!(tile("0/000"), leaves[..256].concat());
    assert_eq!(tile("0/001.p/2"), leaves[256..].concat());
    assert_eq!(tile("1/000.p/1"), root(&leaves[..256]));
    assert_eq!(bundle(&tile("entries/001.p/2"), 2).unwrap()[1], entry(257).to_bytes());
    assert_eq!(Log::open(folder.path(), log_key().public()).unwrap().size(), 258);
    assert_eq!(tile_name(1_234_067, 256), "x001/x234/067");
    assert_eq!(tile_name(70, 8), "070.p/8");
}
