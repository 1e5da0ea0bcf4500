//! Many verifiers, slow hardware, hardware that stops.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{
    Platform, Report,
    binding::{Bound, Digest32, Keyset, KeysetBody, Nonce, SignedKeyset, sha256},
    event_log::EventLog,
    evidence::{
        Answer, Attester, EvidenceError, GpuSource, Limits, NoGpus, PendingReport, Quoted, Source,
        Sources, Subject, Tee,
    },
    gpu_evidence::GpuEvidence,
    nonces::NoncePath,
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

fn body() -> KeysetBody {
    KeysetBody {
        x25519: "11".repeat(32),
        ed25519: "22".repeat(32),
        key_id: String::new(),
        epoch: 0,
        not_before: 0,
        not_after: 1,
        build_id: String::new(),
        tls_spki_sha256: None,
        configuration_sha256: None,
        c2pa_spki_sha256: None,
    }
}

fn subject(nonce: Nonce) -> Subject {
    let keyset = Arc::new(SignedKeyset { keyset: Keyset::new(&body()), possession: [0; 64] });
    Subject { nonce, keyset, now_secs: 0, source: None }
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
                assert!(is_bound(&report));
                Ok(())
            })
        })
        .collect();
    verifiers.into_iter().map(|verifier| verifier.join().unwrap()).collect()
}

/// The quote's report data is the root over this verifier's nonce and the others'.
fn is_bound(report: &Report) -> bool {
    let root = report.nonce_path.root(report.nonce).unwrap();
    let bound = Bound {
        nonce_root: root,
        keyset: sha256(&report.keyset),
        model_manifest: sha256(&report.model_manifest),
        device_evidence: &report.device_evidence,
    };
    report.quote == bound.report_data()
}

#[test]
fn fifty_verifiers_share_quotes() {
    let (attester, quotes) = slow(Duration::from_millis(50), Limits::default());
    assert!(crowd(&attester, nonce).iter().all(Result::is_ok));
    let made = quotes.load(Ordering::SeqCst);
    assert!(made < 50, "{made} quotes");
    // The same nonce has the same answer.
    assert!(crowd(&attester, |_| nonce(49)).iter().all(Result::is_ok));
    assert_eq!(quotes.load(Ordering::SeqCst), made);
}

#[test]
fn without_a_nonce_one_quote_serves_all() {
    let (attester, quotes) = slow(Duration::from_millis(20), Limits::default());
    assert!(crowd(&attester, |_| Nonce::ABSENT).iter().all(Result::is_ok));
    assert_eq!(quotes.load(Ordering::SeqCst), 1);
}

/// Hardware that waits until it is told to go on, and says when it has begun.
struct Held {
    begun: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Tee for Held {
    fn platform(&self) -> Platform {
        Platform::Tdx
    }

    fn measure_model(&mut self, _: Digest32) -> Result<Option<EventLog>, EvidenceError> {
        Ok(None)
    }

    fn quote(&mut self, report_data: &[u8; 64], _: u64) -> Result<Quoted, EvidenceError> {
        self.begun.send(()).unwrap();
        self.go_on.recv().map_err(|_| EvidenceError::Raced)?;
        Ok(Quoted { quote: report_data.to_vec(), collateral: Vec::new() })
    }
}

/// An attester whose first quote, for nobody else, is under way; each `()` lets one quote be made.
struct Busy {
    attester: Attester,
    begun: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
    first: (PendingReport, mpsc::Receiver<Answer>),
}

impl Busy {
    fn start(limits: Limits) -> Self {
        let ((begin, begun), (go_on, going)) = (mpsc::channel(), mpsc::channel());
        let tee = Box::new(Held { begun: begin, go_on: going });
        let sources = Sources { tee, gpus: Box::new(NoGpus) };
        let attester = Attester::start(sources, b"manifest".to_vec(), limits).unwrap();
        let first = ask(&attester, subject(nonce(200))).unwrap();
        begun.recv().unwrap();
        Self { attester, begun, go_on, first }
    }

    fn ask(&self, n: usize, source: &str) -> Asked {
        let source = Some(Source::from(source.parse::<IpAddr>().unwrap()));
        ask(&self.attester, Subject { source, ..subject(nonce(n)) })
    }
}

type Asked = Result<(PendingReport, mpsc::Receiver<Answer>), EvidenceError>;

fn ask(attester: &Attester, subject: Subject) -> Asked {
    let (reply, answer) = mpsc::channel();
    let pending = attester.ask(subject, move |answer| drop(reply.send(answer)))?;
    Ok((pending, answer))
}

#[test]
fn one_quote_answers_all_who_wait_each_by_its_own_path() {
    let Busy { attester, begun, go_on, first } = Busy::start(Limits::default());
    let waiting: Vec<_> = (0..100).map(|n| ask(&attester, subject(nonce(n))).unwrap()).collect();
    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    first.1.recv().unwrap().unwrap();
    let reports: Vec<_> = waiting
        .into_iter()
        .map(|(_, answer)| Report::parse(&answer.recv().unwrap().unwrap()).unwrap())
        .collect();
    assert_eq!(begun.try_iter().count(), 1, "a hundred verifiers, one quote");
    for (n, report) in reports.iter().enumerate() {
        assert_eq!(report.nonce, nonce(n));
        assert!(is_bound(report));
        assert_eq!(report.quote, reports[0].quote);
        assert_eq!(report.nonce_path.siblings.len(), 7);
        // No path names, or lets guess, another's nonce.
        let json = String::from_utf8(report.to_json()).unwrap();
        assert!((0..100).all(|m| m == n || !json.contains(&nonce(m).to_string())));
        let sibling = report.nonce_path.siblings[0];
        assert!((0..100).all(|m| NoncePath::alone([0; 32]).root(nonce(m)) != Some(sibling)));
    }
}

#[test]
fn a_full_queue_makes_room_for_other_sources_and_for_no_more_of_the_same() {
    let busy = Busy::start(Limits { waiting: 4, ..Limits::default() });
    let attacker = "192.0.2.1";
    let crowd: Vec<_> = (0..4).map(|n| busy.ask(n, attacker).unwrap()).collect();
    assert!(matches!(busy.ask(4, attacker), Err(EvidenceError::Busy)));
    // Two others are let in; then nobody has more than a share.
    let others: Vec<_> = ["192.0.2.2", "2001:db8::1"].map(|at| busy.ask(5, at).unwrap()).into();
    assert!(matches!(busy.ask(6, "2001:db8::2"), Err(EvidenceError::Busy)), "the same /64");
    // The newest of the crowd were told; the oldest still wait.
    for (place, (_, answer)) in crowd.iter().enumerate() {
        match answer.try_recv() {
            Ok(Err(EvidenceError::Busy)) => assert!(place >= 2),
            Err(mpsc::TryRecvError::Empty) => assert!(place < 2),
            _ => panic!("{place}"),
        }
    }
    busy.go_on.send(()).unwrap();
    busy.go_on.send(()).unwrap();
    for (_, answer) in others.iter().chain(&crowd[..2]) {
        assert!(is_bound(&Report::parse(&answer.recv().unwrap().unwrap()).unwrap()));
    }
    drop(busy.first);
}

#[test]
fn who_leaves_makes_room_and_costs_no_quote() {
    let busy = Busy::start(Limits { waiting: 1, ..Limits::default() });
    for n in 0..3 {
        drop(busy.ask(n, "192.0.2.1").unwrap());
    }
    busy.go_on.send(()).unwrap();
    busy.first.1.recv().unwrap().unwrap();
    let (_pending, answer) = busy.ask(3, "192.0.2.1").unwrap();
    busy.go_on.send(()).unwrap();
    answer.recv().unwrap().unwrap();
    assert_eq!(busy.begun.try_iter().count(), 1);
}

#[test]
fn keysets_do_not_share_a_quote() {
    let busy = Busy::start(Limits::default());
    let rotated = |n| {
        let body = KeysetBody { epoch: 1, ..body() };
        let keyset = Arc::new(SignedKeyset { keyset: Keyset::new(&body), possession: [0; 64] });
        ask(&busy.attester, Subject { keyset, ..subject(nonce(n)) }).unwrap()
    };
    let asked = [busy.ask(0, "::1").unwrap(), rotated(1), busy.ask(2, "::1").unwrap(), rotated(3)];
    for _ in 0..3 {
        busy.go_on.send(()).unwrap();
    }
    let reports = asked.map(|(_, answer)| Report::parse(&answer.recv().unwrap().unwrap()).unwrap());
    assert!(reports.iter().all(is_bound));
    assert_eq!(reports[0].quote, reports[2].quote);
    assert_eq!(reports[1].quote, reports[3].quote);
    assert_ne!(reports[0].keyset, reports[1].keyset);
    assert_eq!(busy.begun.try_iter().count(), 2);
}

/// Whoever is refused is so because the wait is longer than anyone waits.
#[test]
fn the_pace_is_bounded() {
    let timeout = Duration::from_secs(10);
    let limits = Limits { per_minute: 3, timeout, ..Limits::default() };
    let (attester, quotes) = slow(Duration::ZERO, limits);
    let answers: Vec<_> = (0..5).map(|n| attester.report(subject(nonce(n)))).collect();
    assert!(answers[..3].iter().all(Result::is_ok));
    for answer in &answers[3..] {
        let Err(EvidenceError::RateLimited { retry_after }) = answer else { panic!() };
        assert!(*retry_after > timeout);
    }
    assert_eq!(quotes.load(Ordering::SeqCst), 3);
}

/// A hundred at once are many more than the rate, and wait for it together.
#[test]
fn the_pace_delays_and_does_not_refuse() {
    let limits = Limits { per_minute: 60, ..Limits::default() };
    let (attester, quotes) = slow(Duration::ZERO, limits);
    for n in 0..60 {
        attester.report(subject(nonce(n))).unwrap();
    }
    let late: Vec<_> = (60..160).map(|n| ask(&attester, subject(nonce(n))).unwrap()).collect();
    for (_, answer) in late {
        assert!(is_bound(&Report::parse(&answer.recv().unwrap().unwrap()).unwrap()));
    }
    assert!(quotes.load(Ordering::SeqCst) < 160);
}

#[test]
fn nobody_waits_for_ever() {
    let busy = Busy::start(Limits { timeout: Duration::from_millis(50), ..Limits::default() });
    for n in 0..3 {
        let refusal = busy.attester.report(subject(nonce(n))).unwrap_err();
        assert!(matches!(refusal, EvidenceError::TimedOut), "{refusal}");
    }
    // Those who gave up while they waited cost no quote.
    busy.go_on.send(()).unwrap();
    busy.first.1.recv().unwrap().unwrap();
    let (_pending, answer) = busy.ask(3, "::1").unwrap();
    busy.go_on.send(()).unwrap();
    answer.recv().unwrap().unwrap();
    assert_eq!(busy.begun.try_iter().count(), 1);
}

#[test]
fn all_who_share_a_quote_learn_that_it_failed_and_the_next_ones_are_served() {
    let busy = Busy::start(Limits::default());
    let asked = [busy.ask(0, "::1").unwrap(), busy.ask(1, "::2").unwrap()];
    let Busy { attester, go_on, .. } = busy;
    drop(go_on);
    for (_, answer) in asked {
        let refusal = answer.recv().unwrap().unwrap_err();
        assert!(
            matches!(&refusal, EvidenceError::NotMade(why) if matches!(**why, EvidenceError::Raced))
        );
    }
    assert!(matches!(attester.report(subject(nonce(2))), Err(EvidenceError::NotMade(_))));
}

/// Whoever waits is told when the thread is gone.
#[test]
fn a_tee_that_panics_leaves_nobody_waiting() {
    let ((begin, begun), (go_on, going)) = (mpsc::channel(), mpsc::channel());
    let tee = Box::new(Held { begun: begin, go_on: going });
    let attester =
        Attester::start(Sources { tee, gpus: Box::new(NoGpus) }, Vec::new(), Limits::default());
    let attester = attester.unwrap();
    // It sends to nobody, and unwraps.
    drop((begun, go_on));
    assert!(matches!(attester.report(subject(nonce(0))), Err(EvidenceError::Stopped)));
    assert!(matches!(attester.report(subject(nonce(1))), Err(EvidenceError::Stopped)));
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
        let EvidenceError::NotMade(why) = refusal else { panic!("{refusal}") };
        assert!(matches!(*why, EvidenceError::GpuPanicked), "{why}");
    }
}
