//! Requests to the node.

use std::{sync::Once, time::Duration};

use attest::verify::Channel;
use reqwest::{RequestBuilder, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    answer::HttpAnswer,
    error::HttpError,
    tls::{Accept, SpkiDigest},
    trace::TraceParent,
    transport::{Transport, is_loopback},
};

/// A quote, behind others that are made first.
const GET_TIMEOUT: Duration = Duration::from_secs(90);

/// The longest bearer key.
pub const MAX_KEY_BYTES: usize = 4096;

/// Whether a header can carry it (RFC 6750, 2.1, and what people use besides): visible ASCII. The end of a file's
/// line, which people paste with a key, is none.
#[must_use]
pub fn is_bearer_key(key: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The bearer key that a node or proxy asks for. Wiped when dropped, never printed.
pub struct ApiKey {
    key: Option<Zeroizing<String>>,
    insecure_http: bool,
}

impl ApiKey {
    /// For nodes that ask for none.
    #[must_use]
    pub fn none() -> Self {
        Self { key: None, insecure_http: false }
    }

    /// A key. It is sent through TLS, and in clear text to this very machine alone.
    #[must_use]
    pub fn new(key: impl Into<Zeroizing<String>>) -> Self {
        Self { key: Some(key.into()), insecure_http: false }
    }

    /// Sends the key over plain `http://` too, wherever the node is: everyone on the way can read it.
    #[must_use]
    pub fn over_insecure_http(self) -> Self {
        Self { insecure_http: true, ..self }
    }
}

/// What a request carries beside its body.
#[derive(Default)]
pub(crate) struct Headers {
    /// Instead of the client's own.
    pub(crate) key: Option<ApiKey>,
    pub(crate) traceparent: Option<TraceParent>,
}

/// Says for the whole process that TLS computes with `ring`. Clients call it themselves; programs do that make
/// other connections with rustls, which panics where nobody has said what it computes with.
pub fn install_crypto_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Whoever was first is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

pub(crate) struct Http {
    base: Url,
    key: ApiKey,
    transport: Transport,
}

impl Http {
    pub(crate) fn new(base_url: &str, key: ApiKey) -> Result<Self, HttpError> {
        install_crypto_provider();
        let base = parse(base_url)?;
        let has_user = !base.username().is_empty() || base.password().is_some();
        if has_user || base.query().is_some() || base.fragment().is_some() {
            return Err(HttpError::Url);
        }
        if base.path().trim_end_matches('/').ends_with("/v1") {
            return Err(HttpError::Versioned);
        }
        may_carry(&base, &key)?;
        let transport = Transport::new(&base, Accept::Public)?;
        Ok(Self { base, key, transport })
    }

    /// Connections to whoever the operating system's roots vouch for, or, with `http://`, to anybody.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Connections to the node with this key, and to nobody else.
    pub(crate) fn pinned(&self, key: SpkiDigest) -> Result<Transport, HttpError> {
        Transport::new(&self.base, Accept::Key(key))
    }

    /// Whether a key may be sent to this node.
    pub(crate) fn may_carry(&self, key: &ApiKey) -> Result<(), HttpError> {
        may_carry(&self.base, key)
    }

    /// Posts JSON, with the bearer key; gives the answer, whatever its status is.
    pub(crate) async fn post<T: Serialize + Sync>(
        &self,
        transport: &Transport,
        (path, headers): (&str, &Headers),
        body: &T,
        max_bytes: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let request = transport.client.post(self.url(path)?).json(body);
        transport.send(self.with(request, headers), max_bytes).await
    }

    /// Gets something, with the bearer key; gives the answer, whatever its status is.
    pub(crate) async fn get(
        &self,
        transport: &Transport,
        path: &str,
        headers: &Headers,
        max_bytes: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let request = self.getting(transport, path)?;
        transport.send(self.with(request, headers), max_bytes).await
    }

    /// Gets what is no secret, from whoever answers, and tells who that was. Over TLS it asks without the
    /// bearer key, since nobody is known yet.
    pub(crate) async fn get_public(
        &self,
        path: &str,
        max_bytes: usize,
    ) -> Result<(HttpAnswer, Channel), HttpError> {
        if !self.transport.is_tls() {
            let request = self.with(self.getting(&self.transport, path)?, &Headers::default());
            return Ok((self.transport.send(request, max_bytes).await?, Channel::Plain));
        }
        let anybody = Transport::new(&self.base, Accept::Any)?;
        let answer = anybody.send(self.getting(&anybody, path)?, max_bytes).await?;
        let channel = anybody.channel()?;
        Ok((answer, channel))
    }

    fn getting(&self, transport: &Transport, path: &str) -> Result<RequestBuilder, HttpError> {
        Ok(transport.client.get(self.url(path)?).timeout(GET_TIMEOUT))
    }

    /// Below the node's own URL, which may have a path (`https://host/obscura`).
    fn url(&self, path: &str) -> Result<Url, HttpError> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}")).map_err(|_| HttpError::Url)
    }

    fn with(&self, request: RequestBuilder, headers: &Headers) -> RequestBuilder {
        let request = match &headers.key.as_ref().unwrap_or(&self.key).key {
            Some(key) => request.bearer_auth(key.as_str()),
            None => request,
        };
        match &headers.traceparent {
            Some(parent) => request.header("traceparent", parent.as_str()),
            None => request,
        }
    }
}

/// A URL that is asked over HTTP.
pub(crate) fn parse(url: &str) -> Result<Url, HttpError> {
    let url = Url::parse(url).map_err(|_| HttpError::Url)?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    is_web.then_some(url).ok_or(HttpError::Url)
}

fn may_carry(base: &Url, key: &ApiKey) -> Result<(), HttpError> {
    if key.key.as_ref().is_some_and(|key| !is_bearer_key(key)) {
        return Err(HttpError::InvalidKey);
    }
    if key.key.is_some() && !key.insecure_http && in_clear_text(base) {
        return Err(HttpError::KeyInClearText { host: base.host_str().unwrap_or_default().into() });
    }
    Ok(())
}

/// Whether what is sent to this URL can be read on the way: plain `http://` to another machine.
#[must_use]
pub fn travels_in_clear_text(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| in_clear_text(&url))
}

fn in_clear_text(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_its_path() {
        for (base, expected) in [
            ("https://node.example", "https://node.example/v1/a?b"),
            ("https://node.example/", "https://node.example/v1/a?b"),
            ("https://node.example/obscura", "https://node.example/obscura/v1/a?b"),
            ("https://node.example:8443/a/b/", "https://node.example:8443/a/b/v1/a?b"),
        ] {
            let http = Http::new(base, ApiKey::none()).unwrap();
            assert_eq!(http.url("/v1/a?b").unwrap().as_str(), expected);
        }
        for base in [
            "https://n/?a",
            "https://n/a?",
            "https://n/#a",
            "https://me@n",
            "http://127.0.0.1@node.example",
            "ftp://n",
            "n",
        ] {
            let refused = Http::new(base, ApiKey::none()).map(|_| ());
            assert!(matches!(refused, Err(HttpError::Url)), "{base}");
        }
    }

    #[test]
    fn the_base_of_openais_clients_is_told_apart() {
        for base in ["http://127.0.0.1:8080/v1", "https://node.example/obscura/v1/"] {
            let refused = Http::new(base, ApiKey::none()).map(|_| ());
            assert!(matches!(refused, Err(HttpError::Versioned)), "{base}");
        }
        Http::new("https://node.example/v10", ApiKey::none()).unwrap();
    }

    #[test]
    fn a_key_that_no_header_carries_is_refused_before_there_is_a_connection() {
        let made = |key: &str| Http::new("https://node.example", ApiKey::new(key.to_owned()));
        for key in ["", "k\n", "two words", "é", &"k".repeat(MAX_KEY_BYTES + 1)] {
            assert!(matches!(made(key).err(), Some(HttpError::InvalidKey)), "{key:?}");
        }
        for key in ["k", "sk-~._+/==", &"k".repeat(MAX_KEY_BYTES)] {
            made(key).unwrap();
        }
    }

    #[test]
    fn a_key_goes_to_this_machine_or_through_tls_unless_told_otherwise() {
        let made = |url: &str, key: ApiKey| Http::new(url, key).map(|_| ());
        for url in [
            "https://node.example",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:8080",
            "http://[::ffff:127.0.0.1]",
            "http://localhost:8080",
        ] {
            made(url, ApiKey::new("k".to_owned())).unwrap();
        }
        for url in [
            "http://node.example",
            "http://localhost.example",
            // A resolver may know it.
            "http://node.localhost",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "http://[::ffff:10.0.0.1]",
            "http://0.0.0.0:8080",
        ] {
            let refusal = made(url, ApiKey::new("k".to_owned())).unwrap_err();
            assert!(matches!(refusal, HttpError::KeyInClearText { .. }), "{url}: {refusal}");
            made(url, ApiKey::new("k".to_owned()).over_insecure_http()).unwrap();
            made(url, ApiKey::none()).unwrap();
        }
    }
}
