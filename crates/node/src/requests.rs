//! How many requests one client may have open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt;

use crate::{
    address::{Peer, Source},
    client_id::of_peer,
    error::ApiError,
    node::Node,
};

/// Notes whose request it is, and refuses it where its client has as many as it may. A request is
/// open until the last of its answer is handed over.
pub(crate) async fn bounded(
    State(node): State<Arc<Node>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // None where no server set it: then nobody is on the other side.
    let Some(Peer(peer)) = request.extensions().get().copied() else {
        return Ok(next.run(request).await);
    };
    let client = node.config().forwarders().client_address(request.headers(), peer);
    if client != peer {
        request.extensions_mut().insert(of_peer(client));
    }
    let open = node.requests().open(Source::of(client)).ok_or(ApiError::TooManyRequests)?;
    let answer = next.run(request).await;
    Ok(answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &open;
            frame
        }))
    }))
}

/// Open requests, by their clients.
pub(crate) struct RequestLimiter {
    per_source: usize,
    open: Mutex<HashMap<Source, usize>>,
}

impl RequestLimiter {
    pub(crate) fn new(per_source: usize) -> Arc<Self> {
        Arc::new(Self { per_source, open: Mutex::default() })
    }

    /// One more request of this source, until what is returned is dropped.
    fn open(self: &Arc<Self>, source: Source) -> Option<Open> {
        let mut open = self.lock();
        let count = open.entry(source).or_default();
        if *count >= self.per_source {
            return None;
        }
        *count += 1;
        Some(Open { limiter: self.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Open {
    limiter: Arc<RequestLimiter>,
    source: Source,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.limiter.lock();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_leaves_nothing_behind() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        let limiter = RequestLimiter::new(2);
        let first = limiter.open(source("192.0.2.1")).unwrap();
        let second = limiter.open(source("192.0.2.1")).unwrap();
        assert!(limiter.open(source("192.0.2.1")).is_none());
        assert!(limiter.open(source("192.0.2.2")).is_some());
        drop(first);
        assert!(limiter.open(source("192.0.2.1")).is_some());
        drop(second);
        assert!(limiter.lock().is_empty());
    }
}
