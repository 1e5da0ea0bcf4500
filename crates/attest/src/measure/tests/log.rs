//! Logs in both forms.

use super::kernel;
use crate::measure::{FirmwareLog, Image, MeasuredEvent};

/// A log in TCG's form: register (0 is MRTD), kind, SHA-384, data.
fn log(events: &[(u32, u32, [u8; 48])]) -> Vec<u8> {
    let spec = [&b"Spec ID Event03\0"[..], &[0; 20]].concat();
    let mut log = [&0_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &[0; 20]].concat();
    log.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    log.extend(spec);
    for (register, kind, digest) in events {
        log.extend(register.to_le_bytes());
        log.extend(kind.to_le_bytes());
        log.extend(1_u32.to_le_bytes());
        log.extend(0xc_u16.to_le_bytes());
        log.extend(digest);
        log.extend(4_u32.to_le_bytes());
        log.extend(b"data");
    }
    log
}

fn image() -> Image {
    Image::new(&kernel(), b"initrd", &"line".parse().unwrap()).unwrap()
}

fn events() -> Vec<(u32, u32, [u8; 48])> {
    let of = |register, events: Vec<MeasuredEvent>| {
        events.into_iter().map(move |event| (register, 6, event.digest))
    };
    of(2, image().rtmr1_events()).chain(of(3, image().rtmr2_events())).collect()
}

fn said(events: &[(u32, u32, [u8; 48])]) -> Vec<String> {
    let log = FirmwareLog::parse(&log(events)).unwrap();
    let rtmr1 = log.differences(1, &image().rtmr1_events());
    let rtmr2 = log.differences(2, &image().rtmr2_events());
    rtmr1.iter().chain(&rtmr2).map(ToString::to_string).collect()
}

#[test]
fn a_log_of_the_expected_events_replays_to_the_expected_registers() {
    let log = log(&events());
    for padding in [&[][..], &[0; 64], &[0xff; 64]] {
        let log = FirmwareLog::parse(&[&log, padding].concat()).unwrap();
        let registers = log.replay();
        assert_eq!(registers[1], image().rtmr1());
        assert_eq!(registers[2], image().rtmr2());
    }
    assert_eq!(said(&events()), [""; 0]);
}

#[test]
fn each_difference_is_named() {
    let mut other = events();
    other[6].2 = [7; 48];
    let [line] = &said(&other)[..] else { panic!("{:?}", said(&other)) };
    assert!(line.starts_with("RTMR2 event 1, initrd: expected "), "{line}");

    let mut missing = events();
    missing.remove(2);
    let [line] = &said(&missing)[..] else { panic!("{:?}", said(&missing)) };
    assert!(
        line.starts_with("RTMR1, separator: expected ") && line.ends_with("missing in the log")
    );

    let mut more = events();
    more.insert(1, (2, 0x8000_0003, [8; 48]));
    let [line] = &said(&more)[..] else { panic!("{:?}", said(&more)) };
    assert!(line.starts_with("RTMR1 event 1: not expected, 0808"), "{line}");
    assert!(line.ends_with("(application started)"), "{line}");

    assert_eq!(said(&[]).len(), 7);
}

#[test]
fn what_is_no_log_is_refused() {
    let good = log(&events());
    for (bytes, says) in [
        (vec![], "empty"),
        (vec![0; 8], "crypto-agile"),
        (b"{}".to_vec(), "crypto-agile"),
        (b"[{}]".to_vec(), "array of events"),
        (b"[{\"imr\":4,\"digest\":\"\"}]".to_vec(), "register"),
        (b"[{\"imr\":0,\"digest\":\"AA\"}]".to_vec(), "event 0 of the log: its digest"),
        (log(&[(5, 4, [0; 48])]), "register"),
        (log(&[(0, 4, [0; 48])]), "register"),
        (vec![b'['; 2 << 20], "longer"),
        (good[..good.len() - 1].to_vec(), "event 7 of the log: it ends behind"),
    ] {
        let refusal = FirmwareLog::parse(&bytes).unwrap_err().to_string();
        assert!(refusal.contains(says), "{refusal}");
    }
    // Whatever is cut or changed, there is an answer.
    for length in 0..good.len() {
        drop(FirmwareLog::parse(&good[..length]));
        let mut other = good.clone();
        other[length] ^= 0xff;
        drop(FirmwareLog::parse(&other));
    }
}
