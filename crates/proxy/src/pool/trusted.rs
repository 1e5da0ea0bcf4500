//! A node whose evidence was accepted: how long that counts, and which models it has.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use attest::Report;
use client::{AttestedNode, Call, ClientError, now_secs};
use protocol::{Model, Operation};
use tokio::sync::OnceCell;

/// Evidence is asked for anew after this long,
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// and counts no longer than this, where no newer can be had.
const MAX_AGE: Duration = Duration::from_secs(20 * 60);
/// So long before the keys' time is over it is asked for too, or at half their time.
const MARGIN: Duration = Duration::from_secs(60);
/// Between two questions for evidence at least.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Models that a node is remembered not to serve: callers make names up.
const MAX_LACKING: usize = 64;
/// The longest of their names; no node's model has a longer one.
const MAX_NAME_BYTES: usize = 256;

/// A node whose evidence was accepted.
pub(crate) struct Trusted {
    pub(crate) node: AttestedNode,
    since: Instant,
    refresh: Duration,
    /// Which question it was the answer to.
    pub(super) asked: u64,
    /// Its first model, once somebody named none,
    first_model: OnceCell<Option<String>>,
    /// and the first that takes images, once somebody named none for an edit.
    first_for_edits: OnceCell<Option<String>>,
    /// Its models by its evidence, which names them where there are several.
    attested: Vec<String>,
    /// Models that it said it does not serve, since its evidence came.
    lacking: Mutex<BTreeSet<String>>,
}

impl Trusted {
    pub(super) fn new(node: AttestedNode, since: Instant, asked: u64) -> Self {
        let report = Report::parse(&node.evidence().report).ok();
        let models = report.map(|report| report.models()).unwrap_or_default();
        Self {
            refresh: refresh(&node),
            node,
            since,
            asked,
            first_model: OnceCell::new(),
            first_for_edits: OnceCell::new(),
            attested: models.into_iter().filter_map(|model| model.name).collect(),
            lacking: Mutex::default(),
        }
    }

    /// When to ask for evidence again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.checked_add(self.refresh)
    }

    /// Whether it serves other models than this, as far as is known: its evidence names others, or it has said so.
    pub(super) fn lacks(&self, model: &str) -> bool {
        let is_named = self.attested.is_empty() || self.attested.iter().any(|name| name == model);
        !is_named || self.lacking().contains(model)
    }

    /// It says that it does not serve this. Anybody on the way may have, so that it is asked last, and not never.
    pub(super) fn note_lack(&self, model: &str) {
        let mut lacking = self.lacking();
        if model.len() <= MAX_NAME_BYTES && lacking.len() < MAX_LACKING {
            lacking.insert(model.to_owned());
        }
    }

    fn lacking(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests may still go to the node by this evidence. The client looks at the keys' time
    /// once more, right before it sends.
    pub(super) fn counts(&self) -> bool {
        self.since.elapsed() < MAX_AGE && now_secs() <= self.node.not_after_secs()
    }

    /// The name of the first model that can do this. Evidence names the models of a node with several, and not
    /// which of them take images: the node is asked for that, and for the name of a model that is alone. Anybody
    /// on the way can make the answer a name which the node does not serve, and refuses.
    ///
    /// # Errors
    /// Where the node does not tell.
    pub(crate) async fn first_model<'c>(
        &self,
        operation: Operation,
        call: impl FnOnce() -> Call<'c>,
    ) -> Result<Option<String>, ClientError> {
        let known = match operation {
            Operation::Generation => &self.first_model,
            Operation::Edit => &self.first_for_edits,
        };
        let ask = async || {
            if operation == Operation::Generation && !self.attested.is_empty() {
                return Ok(self.attested.first().cloned());
            }
            let list = call().models(&self.node).await?;
            Ok::<_, ClientError>(first_that_can(operation, self.attested.clone(), list.data))
        };
        known.get_or_try_init(ask).await.cloned()
    }
}

/// Of the models that a node tells, and its evidence names where it names any, the first that can do this; where none
/// can, the first, so that the node says why not.
fn first_that_can(operation: Operation, attested: Vec<String>, told: Vec<Model>) -> Option<String> {
    let can = |model: &&Model| operation == Operation::Generation || model.input_images > 0;
    let is_served = |model: &&Model| attested.is_empty() || attested.contains(&model.id);
    let found = told.iter().filter(is_served).find(can).map(|model| model.id.clone());
    found
        .or_else(|| attested.into_iter().next())
        .or_else(|| told.into_iter().next().map(|model| model.id))
}

/// When to ask again, after evidence was accepted just now.
fn refresh(node: &AttestedNode) -> Duration {
    let left = Duration::from_secs(node.not_after_secs().saturating_sub(now_secs()));
    REFRESH.min(left - MARGIN.min(left / 2)).max(MIN_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_for_the_first_model_that_takes_images() {
        let told = || vec![Model::new("a", 7, 0), Model::new("b", 7, 4), Model::new("c", 7, 4)];
        let attested = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (names, told, first, for_edits) in [
            (&[][..], told(), Some("a"), Some("b")),
            (&["a", "b", "c"], told(), Some("a"), Some("b")),
            // What evidence does not name is not believed.
            (&["c", "a"], told(), Some("a"), Some("c")),
            (&["x", "y"], told(), Some("x"), Some("x")),
            (&[], vec![Model::new("a", 7, 0)], Some("a"), Some("a")),
            (&[], Vec::new(), None, None),
        ] {
            let found = |operation| first_that_can(operation, attested(names), told.clone());
            assert_eq!(found(Operation::Generation).as_deref(), first, "{names:?}");
            assert_eq!(found(Operation::Edit).as_deref(), for_edits, "{names:?}");
        }
    }
}
