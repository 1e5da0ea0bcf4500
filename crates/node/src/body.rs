//! A request's body: bounded, of JSON, read within a time and within a budget of memory for all.

mod budget;

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body as Incoming, Bytes, HttpBody},
    extract::{FromRef, FromRequest, Request},
};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::{sync::OwnedSemaphorePermit, time};
use web::media_type::is_json;

use self::budget::{Arrival, BodyBudget};
use crate::{error::ApiError, limits::MAX_BODY_BYTES};

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
        Self { budget: Arc::new(BodyBudget::new(memory_bytes)), timeout }
    }
}

/// A bounded body of JSON, read whole.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body
where
    BodyReader: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::NotJson);
        }
        // What is declared too long is not even begun to be read.
        if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(ApiError::TooLarge);
        }
        let BodyReader { budget, timeout } = BodyReader::from_ref(state);
        let arrival = budget.arrives();
        let read = read(request.into_body(), &arrival);
        tokio::select! {
            biased;
            read = time::timeout(timeout, read) => {
                read.map_err(|_| ApiError::TooSlow)?.map(|held| Self(Bytes::from_owner(held)))
            }
            () = arrival.makes_way() => Err(ApiError::BodiesBusy),
        }
    }
}

impl Body {
    /// Reads one JSON object.
    pub(crate) fn object<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        // A JSON array would also fill a struct; serde takes either.
        if self.0.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ApiError::Malformed);
        }
        serde_json::from_slice(&self.0).map_err(|_| ApiError::Malformed)
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

impl Held {
    /// Makes room for so many more bytes, twice as much as before at least.
    async fn grow(&mut self, more: usize, arrival: &Arrival<'_>) -> Result<(), ApiError> {
        let needed = self.bytes.len() + more;
        if needed > MAX_BODY_BYTES {
            return Err(ApiError::TooLarge);
        }
        let held = self.share.num_permits();
        if needed > held {
            let target = needed.max(2 * held).clamp(STEP_BYTES, MAX_BODY_BYTES);
            self.share.merge(arrival.reserve(target - held).await?);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        Ok(())
    }
}

async fn read(mut body: Incoming, arrival: &Arrival<'_>) -> Result<Held, ApiError> {
    let mut held = Held { bytes: Vec::new(), share: arrival.nothing()? };
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::Malformed)?.into_data() else { continue };
        held.grow(data.len(), arrival).await?;
        held.bytes.extend_from_slice(&data);
    }
    Ok(held)
}
