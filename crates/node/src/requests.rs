//! How many requests one client may have open.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use engine::ClientId;
use http_body_util::BodyExt;

use crate::{
    address::{Forwarders, Peer, Source},
    client_id::of_peer,
    error::ApiError,
};

/// Notes whose request it is, and refuses it where its client has as many as it may. A request is
/// open until the last of its answer is handed over.
pub(crate) async fn bounded(
    State(limiter): State<Arc<RequestLimiter>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // None where no server set it: then nobody is on the other side.
    let Some(Peer(peer)) = request.extensions().get().copied() else {
        return Ok(next.run(request).await);
    };
    let client = limiter.forwarders.client_address(request.headers(), peer);
    if let Some(named) = named(client, peer) {
        request.extensions_mut().insert(named);
    }
    let open = limiter.open(Source::of(client)).ok_or(ApiError::TooManyRequests)?;
    let answer = next.run(request).await;
    // Dropped with the body.
    let holding_open = move |_: &_| _ = &open;
    Ok(answer.map(|body| Body::new(body.inspect_frame(holding_open))))
}

/// Whom a forwarder names; nobody where its peer asks for itself.
fn named(client: IpAddr, peer: IpAddr) -> Option<ClientId> {
    // A listener on `[::]` sees peers of IPv4 as `::ffff:a.b.c.d`.
    (client != peer.to_canonical()).then(|| of_peer(client))
}

/// Open requests, by their clients.
pub(crate) struct RequestLimiter {
    forwarders: Forwarders,
    per_source: usize,
    open: Mutex<HashMap<Source, usize>>,
}

impl RequestLimiter {
    /// At most `per_source` of each client; `forwarders` are believed when they name theirs.
    pub(crate) fn new(per_source: usize, forwarders: Forwarders) -> Arc<Self> {
        Arc::new(Self { forwarders, per_source, open: Mutex::default() })
    }

    /// The reverse proxies that are believed.
    pub(crate) fn forwarders(&self) -> &Forwarders {
        &self.forwarders
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
    use crate::address::ForwardedHeader;

    #[test]
    fn only_forwarders_name_clients() {
        let named =
            |client: &str, peer: &str| named(client.parse().unwrap(), peer.parse().unwrap());
        assert!(named("192.0.2.1", "192.0.2.1").is_none());
        assert!(named("192.0.2.1", "::ffff:192.0.2.1").is_none());
        assert!(named("192.0.2.1", "::ffff:192.0.2.2") == Some(of_peer([192, 0, 2, 1].into())));
    }

    #[test]
    fn a_source_has_its_share_and_leaves_nothing_behind() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        let nobody = Forwarders { trusted: Vec::new(), header: ForwardedHeader::XForwardedFor };
        let limiter = RequestLimiter::new(2, nobody);
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
