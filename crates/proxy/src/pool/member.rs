//! One node: what its evidence said, and when it is asked for more.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use attest::{
    Policy,
    verify::{Appraisal, Verdict},
};
use client::{AttestedNode, Client, ClientError, Evidence};
use printable::Printable;
use tokio::{sync::Notify, time};

use super::trusted::{MIN_INTERVAL, Trusted};
use crate::audit::{Audit, Entry};

/// Between two questions at most, after several failures.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A node of the pool.
pub(crate) struct Member {
    url: Printable,
    client: Client,
    /// Where its evidence comes from, where that is elsewhere.
    evidence: Option<Client>,
    judge: Arc<Judge>,
    state: Mutex<State>,
    /// Held by the one who asks for evidence.
    asking: tokio::sync::Mutex<()>,
    /// Told when a connection failed, after which evidence is due at once.
    failed: Notify,
}

/// By what evidence is judged, and where it is kept.
pub(crate) struct Judge {
    pub(crate) policy: Policy,
    pub(crate) audit: Option<Audit>,
}

/// What is known of a node.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// There as long as requests may go to it.
    pub(crate) trusted: Option<Arc<Trusted>>,
    /// The last evidence that came, whatever came of it.
    pub(crate) judged: Option<Arc<Judged>>,
    /// Why the last question had no good answer, in words; and that it was the evidence.
    pub(crate) failure: Option<(Unusable, Printable)>,
    /// Why the last connection for a request did not come about. Gone with the next one that does.
    pub(crate) away: Option<Printable>,
    /// How many questions were answered, one way or the other.
    asked: u64,
    failures: u32,
    /// Not before then is it asked again.
    next: Option<Instant>,
}

/// Evidence, and what came of it.
pub(crate) struct Judged {
    pub(crate) appraisal: Appraisal,
    pub(crate) evidence: Evidence,
    /// Its number in the audit log.
    pub(crate) number: Option<u64>,
}

/// Why requests do not go to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Its evidence was refused, or could not be kept.
    Untrusted,
    /// It gave none.
    Unreachable,
}

impl Member {
    pub(crate) fn new(
        url: &str,
        client: Client,
        evidence: Option<Client>,
        judge: Arc<Judge>,
    ) -> Self {
        let (state, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        let url = Printable::new(url);
        Self { url, client, evidence, judge, state, asking, failed: Notify::new() }
    }

    pub(crate) fn url(&self) -> &Printable {
        &self.url
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether requests go to another address than evidence comes from.
    pub(crate) fn is_behind_gateway(&self) -> bool {
        self.evidence.is_some()
    }

    pub(crate) fn state(&self) -> State {
        self.lock().clone()
    }

    /// The node, where requests may go to it now.
    pub(crate) fn usable(&self) -> Option<Arc<Trusted>> {
        let mut state = self.lock();
        if state.trusted.as_ref().is_some_and(|trusted| !trusted.counts()) {
            state.trusted = None;
        }
        state.trusted.clone()
    }

    /// The node, where a request would most likely get there as well.
    pub(crate) fn reachable(&self) -> Option<Arc<Trusted>> {
        self.usable().filter(|_| self.lock().away.is_none())
    }

    /// The node has answered, whatever it said.
    pub(crate) fn reached(&self) {
        let mut state = self.lock();
        let was_away = state.away.take().is_some();
        let is_silent = matches!(state.failure, Some((Unusable::Unreachable, _)));
        // Behind a gateway, that requests get there says nothing of where evidence comes from.
        if is_silent && (was_away || !self.is_behind_gateway()) {
            (state.failures, state.next) = (0, None);
        }
    }

    /// A connection for a request did not come about. The node is asked for evidence at once, and again like
    /// after every failure, so that it is known when it is back though nobody sends a request meanwhile.
    pub(crate) fn unreached(&self, error: &ClientError) {
        let reason = Printable::of(&Chain(error));
        tracing::warn!(node = %self.url, %reason, "no connection");
        self.lock().away = Some(reason);
        self.failed.notify_one();
    }

    /// The node, asked for evidence if need be.
    ///
    /// # Errors
    /// Where it cannot be trusted now.
    pub(crate) async fn ready(&self) -> Result<Arc<Trusted>, Unusable> {
        match self.usable() {
            Some(trusted) => Ok(trusted),
            None => self.ask(self.asked()).await,
        }
    }

    /// The node by newer evidence than this, which it does not stand by any more.
    ///
    /// # Errors
    /// Where it cannot be trusted now.
    pub(crate) async fn renew(&self, stale: &Trusted) -> Result<Arc<Trusted>, Unusable> {
        self.ask(stale.asked).await
    }

    /// Sends nothing more to a node by this evidence.
    pub(crate) fn distrust(&self, trusted: &Trusted) {
        let mut state = self.lock();
        if state.trusted.as_ref().is_some_and(|it| it.asked == trusted.asked) {
            state.trusted = None;
        }
    }

    /// Asks for evidence whenever it is due, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        loop {
            let (asked, due) = {
                let state = self.lock();
                let due = match &state.trusted {
                    Some(trusted) if state.away.is_none() => trusted.due(),
                    _ => state.next,
                };
                // After a failure no sooner than the backoff says, whatever was trusted before.
                (state.asked, due.max(state.next.filter(|_| state.failures > 0)))
            };
            tokio::select! {
                () = time::sleep_until(due.unwrap_or_else(Instant::now).into()) => {
                    let _ = self.ask(asked).await;
                }
                () = self.failed.notified() => {}
            }
        }
    }

    /// Asks for evidence, unless somebody else did since question number `seen`.
    async fn ask(&self, seen: u64) -> Result<Arc<Trusted>, Unusable> {
        let _one = self.asking.lock().await;
        let state = self.state();
        // Unless that question failed, and what is trusted is still what the caller has and cannot use.
        let is_same = state.trusted.as_ref().is_some_and(|trusted| trusted.asked == seen);
        if state.asked != seen && !is_same {
            return self.usable().ok_or(state.why());
        }
        match state.next.map(|next| next.saturating_duration_since(Instant::now())) {
            // The backoff's word: no question, no other answer.
            Some(wait) if wait > MIN_INTERVAL => return Err(state.why()),
            Some(wait) => time::sleep(wait).await,
            None => {}
        }
        let outcome = self.question().await;
        self.note(outcome)
    }

    async fn question(&self) -> Result<AttestedNode, ClientError> {
        match &self.evidence {
            Some(evidence) => self.client.attest_at(evidence, &self.judge.policy).await,
            None => self.client.attest(&self.judge.policy).await,
        }
    }

    /// Keeps what came of a question: on disk first, so that nothing is trusted that is not on record.
    fn note(&self, outcome: Result<AttestedNode, ClientError>) -> Result<Arc<Trusted>, Unusable> {
        let judged = match &outcome {
            Ok(node) => Some((node.appraisal().clone(), node.evidence().clone())),
            Err(ClientError::Untrusted { appraisal, evidence }) => {
                Some(((**appraisal).clone(), (**evidence).clone()))
            }
            Err(_) => None,
        };
        let recorded = judged.map(|(appraisal, evidence)| {
            let entry = Entry { node: &self.url, appraisal: &appraisal, evidence: &evidence };
            let number = self.judge.audit.as_ref().map(|audit| {
                audit.record(&entry, &self.judge.policy).map_err(|error| Printable::of(&error))
            });
            number.transpose().map(|number| Judged { appraisal, evidence, number })
        });
        let mut state = self.lock();
        state.asked += 1;
        let outcome = match recorded.transpose() {
            Err(error) => Err((Unusable::Untrusted, error)),
            Ok(judged) => {
                if let Some(judged) = judged {
                    state.judged = Some(Arc::new(judged));
                }
                outcome.map_err(|error| match error {
                    ClientError::Untrusted { appraisal, .. } => {
                        (Unusable::Untrusted, words(&appraisal))
                    }
                    error @ ClientError::UnattestedTls => {
                        (Unusable::Untrusted, Printable::of(&Chain(&error)))
                    }
                    error => (Unusable::Unreachable, Printable::of(&Chain(&error))),
                })
            }
        };
        let now = Instant::now();
        match outcome {
            Ok(node) => {
                tracing::info!(node = %self.url, "evidence accepted");
                let trusted = Arc::new(Trusted::new(node, now, state.asked));
                state.trusted = Some(trusted.clone());
                (state.failure, state.failures, state.next) = (None, 0, Some(now + MIN_INTERVAL));
                // Of a gateway this says nothing; the next request will.
                state.away = None;
                Ok(trusted)
            }
            Err((unusable, words)) => {
                tracing::warn!(node = %self.url, reason = %words, "no good evidence");
                // Refused evidence ends what was trusted before; silence does not, for a while.
                if unusable == Unusable::Untrusted {
                    state.trusted = None;
                }
                state.failures = state.failures.saturating_add(1);
                state.next = Some(now + backoff(state.failures));
                state.failure = Some((unusable, words));
                Err(unusable)
            }
        }
    }

    fn asked(&self) -> u64 {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn why(&self) -> Unusable {
        // Without a failure: what was trusted a moment ago turned out not to hold.
        self.failure.as_ref().map_or(Unusable::Untrusted, |(unusable, _)| *unusable)
    }
}

/// 1, 2, 4, … seconds.
fn backoff(failures: u32) -> Duration {
    let doubled = MIN_INTERVAL.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACKOFF)
}

fn words(appraisal: &Appraisal) -> Printable {
    let failed: Vec<_> = appraisal.ids(attest::verify::Outcome::Fail).collect();
    let verdict = match appraisal.verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected => "the evidence was rejected",
        Verdict::Unsupported => "the evidence is of a kind that is not known",
        Verdict::Malformed => "what was sent is no evidence",
    };
    Printable::new(&format!("{verdict}; failed: {}", failed.join(", ")))
}

/// An error and its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_asked_about_ever_more_seldom() {
        let secs: Vec<u64> = [1, 2, 3, 6, 7, 8, 1000].map(|n| backoff(n).as_secs()).to_vec();
        assert_eq!(secs, [1, 2, 4, 32, 60, 60, 60]);
    }
}
