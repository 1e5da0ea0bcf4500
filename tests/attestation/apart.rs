//! Evidence that is away for a while, and evidence that comes from elsewhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use attest::{
    Platform,
    event_log::EventLog,
    evidence::{EvidenceError, Quoted, SimulatedGuest, Sources, Tee},
};
use client::{ApiKey, Client, ClientError};
use node::{Config, Service, TlsChoice};
use serde_json::json;
use tests::{Exchange, OneColour, TestNode, demo_policy, error_of, loaded_model};

/// A guest that gives no quotes for as long as it is told so.
struct Moody {
    guest: SimulatedGuest,
    is_silent: Arc<AtomicBool>,
}

impl Tee for Moody {
    fn platform(&self) -> Platform {
        self.guest.platform()
    }

    fn measure_model(&mut self, manifest: [u8; 32]) -> Result<Option<EventLog>, EvidenceError> {
        self.guest.measure_model(manifest)
    }

    fn quote(&mut self, report_data: &[u8; 64], now_secs: u64) -> Result<Quoted, EvidenceError> {
        match self.is_silent.load(Ordering::SeqCst) {
            true => Err(EvidenceError::Raced),
            false => self.guest.quote(report_data, now_secs),
        }
    }
}

/// A request that asks for a receipt is opened before the hardware is asked. Told to come back, its client sends
/// the very same envelope, and is answered once.
#[tokio::test]
async fn a_request_that_no_evidence_was_there_for_is_not_used_up() {
    let is_silent = Arc::new(AtomicBool::new(true));
    let tee = Moody { guest: SimulatedGuest::default(), is_silent: is_silent.clone() };
    let node = TestNode::loading(Config::default()).await;
    let sources = Sources { tee: Box::new(tee), ..Sources::simulated() };
    let service = Service::start(loaded_model(OneColour::instant()), sources, &node.node).unwrap();
    node.node.start(service);

    let fields = json!({ "prompt": "a red fox", "provenance": "receipt" });
    let exchange = Exchange::of(&node.url, fields).await;
    for _ in 0..2 {
        let refused = exchange.request().send().await.unwrap();
        // Nobody asks the hardware more often than it may be asked.
        assert!(matches!(refused.status().as_u16(), 429 | 503), "{}", refused.status());
        assert!(refused.headers().contains_key("retry-after"));
        let code = error_of(&refused.text().await.unwrap()).code.unwrap();
        assert!(["no_evidence", "quotes_busy"].contains(&&*code), "{code}");
    }
    is_silent.store(false, Ordering::SeqCst);
    let answered = async {
        loop {
            match exchange.request().send().await.unwrap().status().as_u16() {
                429 | 503 => tokio::time::sleep(Duration::from_millis(100)).await,
                status => break status,
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), answered).await, Ok(200));
    assert_eq!(exchange.send().await.status, 409, "and no second time");
}

/// What evidence from another address shows is nothing of the connection that requests take.
#[tokio::test]
async fn tls_is_not_attested_from_elsewhere() {
    let config = Config { tls: TlsChoice::SelfSigned, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let url = node.url.replace("http://", "https://");
    // It ends at the very key that the evidence names.
    let source = Client::new(&url, ApiKey::none()).unwrap();
    let strict = demo_policy().require_attested_tls();
    source.attest(&strict).await.unwrap();
    // A gateway would be here. Nobody asks it anything yet.
    let client = Client::new("https://gateway.example", ApiKey::none()).unwrap();
    client.attest_at(&source, &demo_policy()).await.unwrap();
    let refused = client.attest_at(&source, &strict).await.unwrap_err();
    assert!(matches!(refused, ClientError::UnattestedTls), "{refused}");
    assert!(refused.is_unopened());
}
