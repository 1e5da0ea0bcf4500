//! The nodes: whose turn it is, and what is tried again.

mod member;
mod trusted;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{Answer, ApiKey, Client, ClientError, EventStream, Refusal, TraceParent};
use printable::Printable;
use protocol::{CreateImageRequest, ModelList, Operation};
use zeroize::Zeroizing;

pub(crate) use self::{
    member::{Judge, Member, Unusable},
    trusted::Trusted,
};

/// How long to wait before all nodes are asked once more.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is waited for here; the caller waits for longer ones.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often all nodes are asked.
const ROUNDS: usize = 2;

/// The nodes of a proxy.
pub(crate) struct Pool {
    members: Vec<Arc<Member>>,
    turn: AtomicUsize,
}

/// A request, to be sealed for whichever node takes it: afresh for each one that is tried.
pub(crate) struct Ask {
    /// A [`CreateImageRequest`] in JSON.
    pub(crate) json: Zeroizing<Vec<u8>>,
    /// The model that it names.
    pub(crate) model: Option<String>,
    /// What it asks for, where it does not say for which model it is. What is sealed always says it.
    pub(crate) unnamed: Option<Operation>,
    /// The caller's own key, where that is passed on.
    pub(crate) key: Option<Zeroizing<String>>,
    pub(crate) trace: Option<TraceParent>,
}

/// What came back.
pub(crate) enum Reply {
    Whole(Box<Answer>),
    Stream(Box<EventStream>),
}

/// Why nothing did.
pub(crate) enum Failure {
    /// No node can be trusted now: nothing was sent.
    Untrusted,
    /// No node can be reached.
    Unreachable,
    /// A node says no; `with_own_key`: to a request that carried the caller's own key.
    Refused { refusal: Box<Refusal>, with_own_key: bool },
    /// The node's answer does not hold up, or broke off. It may have been opened: nothing is tried again.
    Broken(ClientError),
}

impl Pool {
    pub(crate) fn new(members: Vec<Arc<Member>>) -> Self {
        Self { members, turn: AtomicUsize::new(0) }
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// The nodes, each time beginning with another one. Those that do not serve the model come later, then those
    /// that have to be asked for evidence first, and last those that could not be reached.
    fn in_turn(&self, model: Option<&str>) -> Vec<&Arc<Member>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len().max(1);
        let (before, from) = self.members.split_at(first);
        let mut members: Vec<_> = from.iter().chain(before).collect();
        members.sort_by_cached_key(|member| match (member.usable(), member.reachable()) {
            (Some(_), None) => 3,
            (None, _) => 2,
            (_, Some(trusted)) => u8::from(model.is_some_and(|model| trusted.lacks(model))),
        });
        members
    }

    /// A node that can be trusted now.
    pub(crate) async fn any(&self) -> Result<(&Arc<Member>, Arc<Trusted>), Failure> {
        let mut failure = Failure::Untrusted;
        for member in self.in_turn(None) {
            match member.ready().await {
                Ok(trusted) => return Ok((member, trusted)),
                Err(unusable) => failure = failure.or(unusable.into()),
            }
        }
        Err(failure)
    }

    /// Seals the request to a node that can be trusted, and gives its answer.
    ///
    /// Another sealing of it goes to the same node, or to another, only where the first was certainly not
    /// opened: where it was sealed to a key that the node does not hold any more, where the node has no
    /// room or does not serve the model, and where the connection did not come about.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<(Reply, Arc<Trusted>), Failure> {
        let mut failure = Failure::Untrusted;
        for round in 1..=ROUNDS {
            for member in self.in_turn(ask.model.as_deref()) {
                let tried = match member.ready().await {
                    Ok(trusted) => self.send_to(member, trusted, ask).await,
                    Err(unusable) => Err(unusable.into()),
                };
                match tried {
                    Ok(sent) => return Ok(sent),
                    Err(failed) if failed.is_final() => return Err(failed),
                    Err(failed) => failure = failure.or(failed),
                }
            }
            match failure.wait() {
                Some(wait) if round < ROUNDS => tokio::time::sleep(wait).await,
                _ => break,
            }
        }
        Err(failure)
    }

    async fn send_to(
        &self,
        member: &Arc<Member>,
        trusted: Arc<Trusted>,
        ask: &Ask,
    ) -> Result<(Reply, Arc<Trusted>), Failure> {
        let model = ask.first_model(member, &trusted).await?;
        let error = match ask.to(member, &trusted, model).await {
            Ok(reply) => {
                member.reached();
                return Ok((reply, trusted));
            }
            Err(error) => error,
        };
        if !error.is_stale() {
            return Err(judge(member, &trusted, ask, error));
        }
        // It has fresh keys, or has started anew: evidence for them first.
        if matches!(error, ClientError::Refused(_)) {
            member.reached();
        }
        let renewed = member.renew(&trusted).await?;
        let model = ask.first_model(member, &renewed).await?;
        match ask.to(member, &renewed, model).await {
            Ok(reply) => {
                member.reached();
                Ok((reply, renewed))
            }
            // Evidence for keys that it does not hold: another's.
            Err(error) if error.is_stale() => {
                member.distrust(&renewed);
                Err(Failure::Untrusted)
            }
            Err(error) => Err(judge(member, &renewed, ask, error)),
        }
    }

    /// The models that the nodes say they serve, each once.
    pub(crate) async fn models(&self, ask: &Ask) -> Result<ModelList, Failure> {
        let mut failure = Failure::Untrusted;
        let mut models = Vec::new();
        let mut is_told = false;
        for member in &self.members {
            let told = match member.ready().await {
                Ok(trusted) => match ask.call(member.client()).models(&trusted.node).await {
                    Ok(list) => Ok(list),
                    Err(ClientError::Refused(refusal)) => {
                        Err(Failure::Refused { refusal, with_own_key: ask.key.is_some() })
                    }
                    Err(_) => Err(Failure::Unreachable),
                },
                Err(unusable) => Err(unusable.into()),
            };
            match told {
                Ok(list) => {
                    is_told = true;
                    for model in list.data {
                        let is_new = models.iter().all(|it: &protocol::Model| it.id != model.id);
                        if is_new {
                            models.push(model);
                        }
                    }
                }
                Err(other) => failure = failure.or(other),
            }
        }
        if is_told { Ok(ModelList::new(models)) } else { Err(failure) }
    }
}

fn judge(member: &Member, trusted: &Trusted, ask: &Ask, error: ClientError) -> Failure {
    match error {
        ClientError::Refused(refusal) => {
            member.reached();
            if refusal.is_unknown_model()
                && let Some(model) = &ask.model
            {
                trusted.note_lack(model);
            }
            Failure::Refused { refusal, with_own_key: ask.key.is_some() }
        }
        error if error.is_unopened() => {
            member.unreached(&error);
            Failure::Unreachable
        }
        error => {
            tracing::warn!(node = %member.url(), error = %Printable::of(&error), "no sound answer");
            // What breaks off says nothing of a node; what does not hold up does.
            if !matches!(error, ClientError::Http(_) | ClientError::StreamCut) {
                member.distrust(trusted);
            }
            Failure::Broken(error)
        }
    }
}

impl Ask {
    /// The model of a request that names none: the node's first that can do it, as on a route in clear text. Until
    /// it is known, nothing is sent.
    async fn first_model(
        &self,
        member: &Member,
        trusted: &Trusted,
    ) -> Result<Option<String>, Failure> {
        let Some(operation) = self.unnamed else { return Ok(None) };
        let found = trusted.first_model(operation, || self.call(member.client())).await;
        found.map_err(|error| match error {
            ClientError::Refused(refusal) => {
                Failure::Refused { refusal, with_own_key: self.key.is_some() }
            }
            error => {
                if error.is_unopened() && !error.is_stale() {
                    member.unreached(&error);
                }
                Failure::Unreachable
            }
        })
    }

    async fn to(
        &self,
        member: &Member,
        trusted: &Trusted,
        first_model: Option<String>,
    ) -> Result<Reply, ClientError> {
        // What was read once is read again.
        let request = wipe::stack(|| CreateImageRequest::from_json(&self.json));
        let Ok(mut request) = request else { return Err(ClientError::NotUnderstood) };
        let client = member.client();
        request.model = request.model.or(first_model);
        let billed;
        let mut node = &trusted.node;
        if member.is_behind_gateway() {
            // Which of its stacks a gateway bills. Only the model's name is sent for it.
            let lock = self.call(client).lock(request.model.as_deref().unwrap_or_default()).await?;
            billed = node.clone().with_stack(lock.stack_small_id);
            node = &billed;
        }
        let call = self.call(client);
        match request.stream {
            Some(true) => {
                let events = call.generate_stream(request, node).await?;
                Ok(Reply::Stream(Box::new(events)))
            }
            _ => Ok(Reply::Whole(Box::new(call.generate(request, node).await?))),
        }
    }

    fn call<'c>(&self, client: &'c Client) -> client::Call<'c> {
        let mut call = client.call();
        if let Some(key) = &self.key {
            // Where everybody on the way could read it, it stays here, and a node that needs it says so.
            match client.call().with_key(ApiKey::new(key.clone())) {
                Ok(with_key) => call = with_key,
                Err(_) => tracing::debug!("a caller's key is not sent over plain http://"),
            }
        }
        match &self.trace {
            Some(trace) => call.with_trace(trace.clone()),
            None => call,
        }
    }
}

impl Failure {
    /// Which of two failures tells a caller more: a node that is only busy, over one that is away, over one that
    /// does not serve the model, over one that cannot be trusted.
    fn or(self, other: Self) -> Self {
        if other.rank() >= self.rank() { other } else { self }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Untrusted => 0,
            Self::Refused { refusal, .. } if refusal.is_unknown_model() => 1,
            Self::Unreachable => 2,
            Self::Refused { .. } => 3,
            Self::Broken(_) => 4,
        }
    }

    /// Whether another node would say the same, or might do the same work again.
    fn is_final(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => !refusal.is_unopened() && !refusal.is_unknown_model(),
            Self::Broken(_) => true,
            Self::Untrusted | Self::Unreachable => false,
        }
    }

    /// Whether some node may have drawn for it, so that nobody should ask for the same once more: an answer
    /// that broke off or does not hold up, and a node that failed. Who is refused before that is not.
    pub(crate) fn may_have_cost_work(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Refused { refusal, .. } => {
                self.is_final() && !(400..500).contains(&refusal.status)
            }
            Self::Untrusted | Self::Unreachable => false,
        }
    }

    /// How long to wait before trying once more, where that may help.
    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Unreachable => Some(PAUSE),
            Self::Refused { refusal, .. } => refusal.retry_after.filter(|wait| *wait <= MAX_WAIT),
            Self::Untrusted | Self::Broken(_) => None,
        }
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Untrusted => Self::Untrusted,
            Unusable::Unreachable => Self::Unreachable,
        }
    }
}
