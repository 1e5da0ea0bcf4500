//! Connections to a node, and how long they may take.

use std::{net::IpAddr, sync::Arc, time::Duration};

use attest::verify::Channel;
use reqwest::{RequestBuilder, Url, redirect};

use crate::{
    answer::HttpAnswer,
    error::{HttpError, connection},
    tls::{Accept, Peers, SpkiDigest},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An image on a slow machine, behind a full queue.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// Connections with those whom [`Accept`] lets in, all of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) client: reqwest::Client,
    /// `None` where the URL is no `https://`.
    peers: Option<Arc<Peers>>,
}

impl Transport {
    pub(crate) fn new(base: &Url, accept: Accept) -> Result<Self, HttpError> {
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A node has no reason to send a sealed request, or whoever has a key, elsewhere.
            .redirect(redirect::Policy::none());
        if is_loopback(base) {
            // A proxy of the environment would be told what was meant for this machine alone.
            client = client.no_proxy();
        }
        let is_tls = base.scheme() == "https";
        // In plain HTTP too: what the library would make itself wants this machine to have certificate roots.
        let peers = Peers::new(if is_tls { accept } else { Accept::Public });
        client = client.tls_backend_preconfigured(peers.config().map_err(HttpError::Tls)?);
        let client = client.build().map_err(|error| HttpError::Connection(error.without_url()))?;
        Ok(Self { client, peers: is_tls.then_some(peers) })
    }

    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        max_bytes: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let response = request.send().await.map_err(|error| match self.mismatch() {
            Some((attested, found)) => HttpError::OtherTlsKey {
                attested: hex::encode(attested),
                found: hex::encode(found),
            },
            None if self.lacked_roots() => HttpError::NoRoots,
            None => connection(error),
        })?;
        Ok(HttpAnswer::new(response, max_bytes))
    }

    /// Whether they are TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.peers.is_some()
    }

    /// Whom the connections were with.
    ///
    /// # Errors
    /// Where they were not all with one peer.
    pub(crate) fn channel(&self) -> Result<Channel, HttpError> {
        let peers = self.peers.as_ref();
        peers.map_or(Ok(Channel::Plain), |peers| peers.channel().ok_or(HttpError::SeveralPeers))
    }

    /// The attested key, and the other one that turned up in its place.
    fn mismatch(&self) -> Option<(SpkiDigest, SpkiDigest)> {
        self.peers.as_ref()?.mismatch()
    }

    /// Whether somebody was refused for want of roots alone.
    fn lacked_roots(&self) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.lacked_roots())
    }
}

/// Whether a URL names this very machine: an address of loopback, or `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
