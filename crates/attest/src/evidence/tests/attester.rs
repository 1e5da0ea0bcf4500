//! Many verifiers, slow hardware, hardware that stops.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    Platform, Report,
    binding::{Digest32, Keyset, KeysetBody, Nonce, SignedKeyset},
    event_log::EventLog,
    evidence::{Attester, EvidenceError, GpuSource, Limits, NoGpus, Quoted, Sources, Subject, Tee},
    gpu_evidence::GpuEvidence,
};

/// Hardware that takes its time.
struct Slow {
    takes: Duration,
    quotes: Arc<AtomicUsize>,
    at_once: Arc<Mutex<()>>,
}

impl Tee for Slow {
    fn platform(&self) -> Platform {
        Platform::Tdx
    }

    fn measure_model(&mut self, _: Digest32) -> Result<Option<EventLog>, EvidenceError> {
        Ok(None)
    }

    fn quote(&mut self, report_data: &[u8; 64], _: u64) -> Result<Quoted, EvidenceError> {
        let _one = self.at_once.try_lock().expect("quotes come one at a time");
        thread::sleep(self.takes);
        self.quotes.fetch_add(1, Ordering::SeqCst);
        Ok(Quoted { quote: report_data.to_vec(), collateral: Vec::new() })
    }
}

fn slow(takes: Duration, limits: Limits) -> (Arc<Attester>, Arc<AtomicUsize>) {
    let quotes = Arc::new(AtomicUsize::new(0));
    let tee = Slow { takes, quotes: quotes.clone(), at_once: Arc::default() };
    let manifest = b"manifest".to_vec();
    let sources = Sources { tee: Box::new(tee), gpus: Box::new(NoGpus) };
    let attester = Attester::start(sources, manifest, limits).unwrap();
    (Arc::new(attester), quotes)
}

fn subject(nonce: Nonce) -> Subject {
    let body = KeysetBody {
        x25519: "11".repeat(32),
        ed25519: "22".repeat(32),
        key_id: String::new(),
        epoch: 0,
        not_before: 0,
        not_after: 1,
        build_id: String::new(),
    };
    let keyset = Arc::new(SignedKeyset { keyset: Keyset::new(&body), possession: [0; 64] });
    Subject { nonce, keyset, now_secs: 0 }
}

fn nonce(n: usize) -> Nonce {
    Nonce::new([u8::try_from(n + 1).unwrap(); 32]).unwrap()
}

fn crowd(
    attester: &Arc<Attester>,
    nonces: impl Fn(usize) -> Nonce,
) -> Vec<Result<(), EvidenceError>> {
    let verifiers: Vec<_> = (0..50)
        .map(|n| {
            let (attester, nonce) = (attester.clone(), nonces(n));
            thread::spawn(move || {
                let report = Report::parse(&attester.report(subject(nonce))?).unwrap();
                assert_eq!(report.nonce, nonce);
                Ok(())
            })
        })
        .collect();
    verifiers.into_iter().map(|verifier| verifier.join().unwrap()).collect()
}

#[test]
fn fifty_verifiers_are_served_one_after_the_other() {
    let limits = Limits { waiting: 64, ..Limits::default() };
    let (attester, quotes) = slow(Duration::from_millis(5), limits);
    assert!(crowd(&attester, nonce).iter().all(Result::is_ok));
    assert_eq!(quotes.load(Ordering::SeqCst), 50);
    // Every nonce its own quote; the same nonce the same.
    assert!(crowd(&attester, |_| nonce(49)).iter().all(Result::is_ok));
    assert_eq!(quotes.load(Ordering::SeqCst), 50);
}

#[test]
fn without_a_nonce_one_quote_serves_all() {
    let limits = Limits { waiting: 64, ..Limits::default() };
    let (attester, quotes) = slow(Duration::from_millis(20), limits);
    assert!(crowd(&attester, |_| Nonce::ABSENT).iter().all(Result::is_ok));
    assert_eq!(quotes.load(Ordering::SeqCst), 1);
}

#[test]
fn the_queue_is_bounded() {
    let limits = Limits { waiting: 4, ..Limits::default() };
    let (attester, _) = slow(Duration::from_millis(300), limits);
    let answers = crowd(&attester, nonce);
    let busy = answers.iter().filter(|one| matches!(one, Err(EvidenceError::Busy))).count();
    assert!((40..50).contains(&busy), "{busy} were turned away");
}

#[test]
fn the_pace_is_bounded() {
    let limits = Limits { per_minute: 3, ..Limits::default() };
    let (attester, quotes) = slow(Duration::ZERO, limits);
    let answers: Vec<_> = (0..5).map(|n| attester.report(subject(nonce(n)))).collect();
    assert!(answers[..3].iter().all(Result::is_ok));
    assert!(answers[3..].iter().all(|one| matches!(one, Err(EvidenceError::RateLimited { .. }))));
    assert_eq!(quotes.load(Ordering::SeqCst), 3);
}

#[test]
fn nobody_waits_for_ever() {
    let limits = Limits { patience: Duration::from_millis(50), ..Limits::default() };
    let (attester, quotes) = slow(Duration::from_secs(2), limits);
    let started = Instant::now();
    for n in 0..3 {
        let refusal = attester.report(subject(nonce(n))).unwrap_err();
        assert!(matches!(refusal, EvidenceError::TimedOut), "{refusal}");
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    // Those who gave up while they waited cost no quote.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(quotes.load(Ordering::SeqCst), 1);
}

/// A library that panics.
struct Panics;

impl GpuSource for Panics {
    fn evidence(&mut self, _: Digest32) -> Result<Vec<GpuEvidence>, EvidenceError> {
        panic!("range end index 9000 out of range for slice of length 8192");
    }
}

#[test]
fn a_library_that_panics_takes_nothing_with_it() {
    let tee = Slow { takes: Duration::ZERO, quotes: Arc::default(), at_once: Arc::default() };
    let sources = Sources { tee: Box::new(tee), gpus: Box::new(Panics) };
    let attester = Attester::start(sources, Vec::new(), Limits::default()).unwrap();
    for n in 0..2 {
        let refusal = attester.report(subject(nonce(n))).unwrap_err();
        assert!(matches!(refusal, EvidenceError::GpuPanicked), "{refusal}");
    }
}
