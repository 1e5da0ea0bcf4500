//! A request's body: bounded, of a type that its route takes, read within a time and within a budget of memory for
//! all.

mod budget;

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body as Incoming, Bytes, HttpBody},
    extract::{FromRef, FromRequest, Request},
    http::Extensions,
};
use engine::ClientId;
use http_body_util::BodyExt;
use protocol::{MAX_EDIT_FORM_BYTES, MAX_EDIT_JSON_BYTES};
use serde::de::DeserializeOwned;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};
use web::{body_error::BodyError, body_rate::earned, media_type::is_json, multipart};

use self::budget::{Arrival, BodyBudget};
use crate::{
    address::Peer,
    client_id::of_peer,
    error::ApiError,
    limits::{MAX_BODY_BYTES, MAX_SEALED_EDIT_BYTES},
};

/// A body grows by at least so much: so a client that sends one byte costs no more.
const STEP_BYTES: usize = 8 * 1024;

/// What all bodies share: the memory that they may take, and the time that each may.
#[derive(Clone)]
pub(crate) struct BodyReader {
    budget: Arc<BodyBudget>,
    timeout: Duration,
}

impl BodyReader {
    pub(crate) fn new(memory_bytes: usize, timeout: Duration) -> Self {
        Self { budget: BodyBudget::new(memory_bytes), timeout }
    }

    async fn read(&self, request: Request, max_bytes: usize) -> Result<(Bytes, Arrival), ApiError> {
        // What is declared too long is not even begun to be read.
        if request.body().size_hint().lower() > max_bytes as u64 {
            return Err(BodyError::TooLarge { max_bytes }.into());
        }
        let arrival = self.budget.arrives(whose(request.extensions()));
        let read = read(request.into_body(), &arrival, Bounds { max_bytes, timeout: self.timeout });
        let body = tokio::select! {
            biased;
            read = read => Bytes::from_owner(read?),
            () = arrival.evicted() => return Err(ApiError::BodiesBusy),
        };
        Ok((body, arrival))
    }
}

/// Whose share of the memory a body counts towards: by its address, as its key was not looked at everywhere.
fn whose(request: &Extensions) -> ClientId {
    let peer = || request.get().map(|Peer(peer)| of_peer(*peer));
    request.get().copied().or_else(peer).unwrap_or(ClientId::ANONYMOUS)
}

/// A body that is whole, and waits for its turn to be worked on.
pub(crate) struct Waiting<T> {
    body: T,
    arrival: Arrival,
}

impl<T> Waiting<T> {
    fn new(body: T, arrival: Arrival) -> Self {
        arrival.is_whole();
        Self { body, arrival }
    }

    /// The body, when its turn has come.
    ///
    /// # Errors
    /// `turn`'s, and [`ApiError::BodiesBusy`] where others need its memory before.
    pub(crate) async fn until<U>(
        self,
        turn: impl Future<Output = Result<U, ApiError>>,
    ) -> Result<(T, U), ApiError> {
        let Self { body, arrival } = self;
        tokio::select! {
            biased;
            turn = turn => Ok((body, turn?)),
            () = arrival.evicted() => Err(ApiError::BodiesBusy),
        }
    }
}

/// A body of JSON, read whole, of at most so many bytes.
pub(crate) struct Bounded<const MAX_BYTES: usize>(pub(crate) Bytes);

/// What most routes take.
pub(crate) type Body = Bounded<MAX_BODY_BYTES>;
/// What the route for sealed edits takes.
pub(crate) type SealedEdit = Bounded<MAX_SEALED_EDIT_BYTES>;

impl<S: Send + Sync, const MAX_BYTES: usize> FromRequest<S> for Bounded<MAX_BYTES>
where
    BodyReader: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Waiting::<Self>::from_request(request, state).await.map(|waiting| waiting.body)
    }
}

impl<S: Send + Sync, const MAX_BYTES: usize> FromRequest<S> for Waiting<Bounded<MAX_BYTES>>
where
    BodyReader: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(BodyError::NotJson.into());
        }
        let (body, arrival) = BodyReader::from_ref(state).read(request, MAX_BYTES).await?;
        Ok(Self::new(Bounded(body), arrival))
    }
}

impl<const MAX_BYTES: usize> Bounded<MAX_BYTES> {
    /// Reads one JSON object.
    pub(crate) fn object<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        // A JSON array would also fill a struct; serde takes either.
        if self.0.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ApiError::Malformed);
        }
        serde_json::from_slice(&self.0).map_err(|_| ApiError::Malformed)
    }
}

/// The body of an edit in clear text, read whole.
pub(crate) enum ClearEdit {
    Json(Bytes),
    Form { boundary: String, body: Bytes },
}

impl<S: Send + Sync> FromRequest<S> for Waiting<ClearEdit>
where
    BodyReader: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let reader = BodyReader::from_ref(state);
        if is_json(request.headers()) {
            let (body, arrival) = reader.read(request, MAX_EDIT_JSON_BYTES).await?;
            return Ok(Self::new(ClearEdit::Json(body), arrival));
        }
        let boundary = multipart::boundary(request.headers()).ok_or(BodyError::NotJsonOrForm)?;
        let (body, arrival) = reader.read(request, MAX_EDIT_FORM_BYTES).await?;
        Ok(Self::new(ClearEdit::Form { boundary, body }, arrival))
    }
}

/// A body, and its share of the budget until it is dropped.
struct Held {
    bytes: Vec<u8>,
    share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Of one body.
#[derive(Clone, Copy)]
struct Bounds {
    max_bytes: usize,
    timeout: Duration,
}

impl Held {
    /// Makes room for so many more bytes, twice as much as before at least, while it is no more than `most`.
    async fn grow(&mut self, more: usize, most: usize, arrival: &Arrival) -> Result<(), ApiError> {
        let needed = self.bytes.len() + more;
        if needed > most {
            return Err(BodyError::TooLarge { max_bytes: most }.into());
        }
        let held = self.share.num_permits();
        if needed > held {
            let target = needed.max(2 * held).max(STEP_BYTES).min(most);
            self.share.merge(arrival.reserve(target - held).await?);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        Ok(())
    }
}

async fn read(
    mut body: Incoming,
    arrival: &Arrival,
    Bounds { max_bytes, timeout }: Bounds,
) -> Result<Held, ApiError> {
    let begun = Instant::now();
    // Not even all memory for bodies has room for more.
    let most = max_bytes.min(arrival.budget_bytes());
    let mut held = Held { bytes: Vec::new(), share: arrival.nothing()? };
    loop {
        let deadline = begun + timeout + earned(held.bytes.len());
        let frame = async {
            let Some(frame) = body.frame().await else { return Ok(false) };
            if let Ok(data) = frame.map_err(|_| ApiError::Malformed)?.into_data() {
                held.grow(data.len(), most, arrival).await?;
                held.bytes.extend_from_slice(&data);
                arrival.brought(data.len());
            }
            Ok::<_, ApiError>(true)
        };
        let more = time::timeout_at(deadline, frame).await;
        if !more.map_err(|_| BodyError::TooSlow)?? {
            return Ok(held);
        }
    }
}
