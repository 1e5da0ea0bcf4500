//! What a guest's firmware says that it measured, held against what was computed.
//!
//! A log proves nothing by itself. Where registers differ from what was expected, it says which input did.
//!
//! Two forms are read: the binary one that Linux gives a TDX guest's root
//! (`/sys/firmware/acpi/tables/data/CCEL`; TCG PC Client Platform Firmware Profile 1.06, §10; register
//! numbers by UEFI 2.10, §38.4.1), and the JSON array that dstack publishes (`imr`, `event_type`, `digest`).

use std::fmt;

use serde::Deserialize;

use super::{
    MeasureError, MeasuredEvent,
    bytes::{array, place_at, slice, u16_at, u32_at},
};
use crate::{
    encoding::{hex, unhex_array},
    event_log::{Rtmr, extend},
};

/// Several times the longest that firmware keeps.
pub const MAX_LOG_BYTES: usize = 1024 * 1024;

const REGISTERS: usize = 4;
const MAX_EVENTS: usize = 4096;
const MAX_DIGESTS: u32 = 8;
const NO_ACTION: u32 = 3;
const SHA384: u16 = 0xc;
/// Digests by TCG's number, and their bytes.
const ALGORITHMS: [(u16, usize); 5] = [(4, 20), (0xb, 32), (SHA384, 48), (0xd, 64), (0x12, 32)];
/// The log's first event has a form of its own: register, kind, 20 bytes of digest, length, data.
const FIRST_BYTES: usize = 32;

/// The events, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirmwareLog {
    events: Vec<LoggedEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LoggedEvent {
    register: usize,
    kind: u32,
    digest: Rtmr,
}

#[derive(Deserialize)]
struct JsonEvent {
    imr: usize,
    #[serde(default)]
    event_type: u32,
    digest: String,
}

impl FirmwareLog {
    /// Reads either form.
    ///
    /// # Errors
    /// Where it is of neither, or longer than any.
    pub fn parse(bytes: &[u8]) -> Result<Self, MeasureError> {
        if bytes.len() > MAX_LOG_BYTES {
            return Err(MeasureError::TooLong { input: "event log", max_bytes: MAX_LOG_BYTES });
        }
        if bytes.is_empty() {
            return Err(MeasureError::Empty { input: "event log" });
        }
        let events = match bytes.trim_ascii_start().first() {
            Some(b'[') => json(bytes)?,
            _ => binary(bytes)?,
        };
        Ok(Self { events })
    }

    /// RTMR0 to RTMR3 after these events; RTMR3 as far as the log tells digests of it.
    #[must_use]
    pub fn replay(&self) -> [Rtmr; REGISTERS] {
        let mut registers = [[0; 48]; REGISTERS];
        for event in &self.events {
            if let Some(register) = registers.get_mut(event.register) {
                *register = extend(register, &event.digest);
            }
        }
        registers
    }

    /// Where a register's events are not those that were expected, in their order.
    #[must_use]
    pub fn differences(&self, register: usize, expected: &[MeasuredEvent]) -> Vec<Difference> {
        let of_register = self.events.iter().filter(|event| event.register == register);
        let mut logged = of_register.enumerate().peekable();
        let mut differences = Vec::new();
        let mut wanted = expected.iter().peekable();
        while let Some(event) = wanted.next() {
            let equal = |(_, found): &(usize, &LoggedEvent)| found.digest == event.digest;
            // What lies before the next equal one was not expected; where there is none, this one differs.
            if logged.clone().any(|found| equal(&found)) {
                while let Some((index, found)) = logged.next_if(|found| !equal(found)) {
                    differences.push(Difference::unexpected(register, index, found));
                }
                logged.next();
                continue;
            }
            let wanted_later = |digest: &Rtmr| wanted.clone().any(|later| later.digest == *digest);
            let found = logged.next_if(|(_, found)| !wanted_later(&found.digest));
            differences.push(Difference {
                register,
                index: found.map(|(index, _)| index),
                expected: Some(*event),
                found: found.map(|(_, found)| (found.kind, found.digest)),
            });
        }
        differences
            .extend(logged.map(|(index, found)| Difference::unexpected(register, index, found)));
        differences
    }
}

/// One event that is not as expected: another, a missing one, or one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Of RTMR0 to RTMR3.
    pub register: usize,
    /// Of the log's events of this register, from 0; `None` where the log has no such event.
    pub index: Option<usize>,
    /// What was computed.
    pub expected: Option<MeasuredEvent>,
    found: Option<(u32, Rtmr)>,
}

impl Difference {
    fn unexpected(register: usize, index: usize, found: &LoggedEvent) -> Self {
        let found = Some((found.kind, found.digest));
        Self { register, index: Some(index), expected: None, found }
    }

    /// What the log has there instead.
    #[must_use]
    pub fn found(&self) -> Option<Rtmr> {
        self.found.map(|(_, digest)| digest)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RTMR{}", self.register)?;
        if let Some(index) = self.index {
            write!(f, " event {index}")?;
        }
        match (&self.expected, &self.found) {
            (Some(event), Some((kind, digest))) => {
                write!(f, ", {}: expected {}, ", event.what, hex(&event.digest))?;
                write!(f, "the log has {} ({})", hex(digest), kind_name(*kind))
            }
            (Some(event), None) => {
                write!(f, ", {}: expected {}, missing in the log", event.what, hex(&event.digest))
            }
            (None, Some((kind, digest))) => {
                write!(f, ": not expected, {} ({})", hex(digest), kind_name(*kind))
            }
            (None, None) => Ok(()),
        }
    }
}

fn json(bytes: &[u8]) -> Result<Vec<LoggedEvent>, MeasureError> {
    let problem = |index, problem| MeasureError::Log { index, problem };
    let events: Vec<JsonEvent> = serde_json::from_slice(bytes)
        .map_err(|_| problem(0, "not an array of events with `imr` and `digest`"))?;
    if events.len() > MAX_EVENTS {
        return Err(problem(MAX_EVENTS, "one too many"));
    }
    let mut logged = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        if event.imr >= REGISTERS {
            return Err(problem(index, "of a register that there is not"));
        }
        // What an application extends, such as RTMR3's events, need not say it.
        if event.digest.is_empty() && event.imr == 3 {
            continue;
        }
        let digest = unhex_array(&event.digest);
        let digest =
            digest.ok_or(problem(index, "its digest is not 96 lower-case hexadecimal digits"))?;
        logged.push(LoggedEvent { register: event.imr, kind: event.event_type, digest });
    }
    Ok(logged)
}

fn binary(log: &[u8]) -> Result<Vec<LoggedEvent>, MeasureError> {
    let problem = |index, problem| MeasureError::Log { index, problem };
    let first = place_at(log, FIRST_BYTES - 4).filter(|_| u32_at(log, 4) == Some(NO_ACTION));
    let first = first.and_then(|bytes| slice(log, FIRST_BYTES, bytes));
    let first = first.filter(|data| data.starts_with(b"Spec ID Event03\0"));
    let first = first.ok_or(problem(0, "not the head of a log in TCG's crypto-agile form"))?;
    let mut at = FIRST_BYTES + first.len();
    let mut events = Vec::new();
    for index in 1.. {
        if index > MAX_EVENTS {
            return Err(problem(index, "one too many"));
        }
        // Firmware fills what is left with ones, or with zeros.
        let head = [0, 4, 8].map(|offset| u32_at(log, at + offset));
        let [Some(register), Some(kind), Some(count)] = head else { break };
        if register == u32::MAX || (register, kind, count) == (0, 0, 0) {
            break;
        }
        let (digest, end) =
            digests(log, at + 12, count).ok_or(problem(index, "its digests cannot be read"))?;
        let data = place_at(log, end).and_then(|bytes| slice(log, end + 4, bytes));
        at = end + 4 + data.ok_or(problem(index, "it ends behind the log's end"))?.len();
        if kind == NO_ACTION {
            continue;
        }
        // 0 is MRTD, which nothing extends.
        let register = usize::try_from(register).ok().and_then(|number| number.checked_sub(1));
        let register = register.filter(|register| *register < REGISTERS);
        let register = register.ok_or(problem(index, "of a register that there is not"))?;
        let digest = digest.ok_or(problem(index, "without a digest in SHA-384"))?;
        events.push(LoggedEvent { register, kind, digest });
    }
    Ok(events)
}

/// The digest in SHA-384 among `count`, and where they end.
fn digests(log: &[u8], mut at: usize, count: u32) -> Option<(Option<Rtmr>, usize)> {
    let mut found = None;
    for _ in 0..Some(count).filter(|count| *count <= MAX_DIGESTS)? {
        let algorithm = u16_at(log, at)?;
        let (_, bytes) = ALGORITHMS.iter().find(|(number, _)| *number == algorithm)?;
        if algorithm == SHA384 {
            found = Some(array(log, at + 2)?);
        }
        at += 2 + bytes;
    }
    Some((found, at))
}

/// TCG's names (PC Client Platform Firmware Profile 1.06, table 27), in words.
fn kind_name(kind: u32) -> &'static str {
    match kind {
        0x4 => "separator",
        0x6 => "tag: command line or initrd",
        0x8 => "firmware version",
        0xa => "platform configuration: ACPI",
        0xd => "initial program loader",
        0x8000_0001 => "variable: Secure Boot",
        0x8000_0002 | 0x8000_000c => "variable: boot",
        0x8000_0003 => "application started",
        0x8000_0006 => "GPT",
        0x8000_0007 => "action",
        0x8000_0008 | 0x8000_000a => "firmware volume",
        0x8000_0009 | 0x8000_000b => "handed over: list of memory, tables",
        _ => "of a kind without a name here",
    }
}
