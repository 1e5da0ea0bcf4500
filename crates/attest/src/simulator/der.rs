//! A writer of DER (X.690), as far as a test PKI needs it.

use std::time::Duration;

use x509_cert::der::{
    DateTime, Encode,
    asn1::{GeneralizedTime, UtcTime},
    oid::ObjectIdentifier,
};

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

pub(super) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x31, &parts.concat())
}

pub(super) fn integer(value: u8) -> Vec<u8> {
    // A first byte with the high bit set would make it negative.
    if value < 0x80 { tagged(0x02, &[value]) } else { tagged(0x02, &[0, value]) }
}

pub(super) fn octets(value: &[u8]) -> Vec<u8> {
    tagged(0x04, value)
}

/// A bit string without unused bits.
pub(super) fn bits(value: &[u8]) -> Vec<u8> {
    tagged(0x03, &[&[0], value].concat())
}

pub(super) fn text(value: &str) -> Vec<u8> {
    tagged(0x0C, value.as_bytes())
}

pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let oid = ObjectIdentifier::new(dotted).expect("every id here is well formed");
    oid.to_der().expect("an id fits")
}

/// Seconds since 1970; UTCTime until 2049, as RFC 5280 §4.1.2.5 has it.
pub(super) fn time(secs: u64) -> Vec<u8> {
    let since = Duration::from_secs(secs);
    let der = match UtcTime::from_unix_duration(since) {
        Ok(time) => time.to_der(),
        Err(_) => GeneralizedTime::from_unix_duration(since).and_then(|time| time.to_der()),
    };
    der.expect("a time before the year 9999")
}

/// The same, as Intel's JSON has it.
pub(super) fn rfc3339(secs: u64) -> String {
    let time = DateTime::from_unix_duration(Duration::from_secs(secs));
    time.expect("a time before the year 9999").to_string()
}

pub(super) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("nothing here is longer than 64 KiB");
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..0x80 => &[tag, low],
        0x80..0x100 => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}
