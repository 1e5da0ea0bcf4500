//! The proxy's configuration.

use std::{net::SocketAddr, path::PathBuf};

use attest::Policy;
use client::{MAX_KEY_BYTES, is_bearer_key};
use thiserror::Error;
use web::origin::is_base_url;
use zeroize::Zeroizing;

/// The longest body that is taken: padded and sealed, it is no longer than a node takes (256 KiB).
pub const MAX_BODY_BYTES: usize = 160 * 1024;
/// The most nodes of one proxy.
const MAX_NODES: usize = 64;

/// What a proxy is told.
pub struct Config {
    /// Where requests go. Any of them may answer any request.
    pub nodes: Vec<NodeAddress>,
    /// Where callers reach the proxy: loopback, unless there is a [`client_key`](Self::client_key).
    pub listen: SocketAddr,
    /// What evidence has to show.
    pub policy: Policy,
    /// What the policy is called, for people.
    pub policy_name: String,
    /// What URLs of images begin with, where callers reach the proxy by another name than they say in `Host`, or
    /// by `https://`: `https://images.example`.
    pub public_url: Option<String>,
    /// The bearer key that the nodes ask for. Without it, and without a `client_key`, each caller's own
    /// key is passed on.
    pub api_key: Option<Zeroizing<String>>,
    /// Whether that key goes over plain `http://` to other machines too, where everyone on the way can
    /// read it.
    pub insecure_http: bool,
    /// The bearer key that callers of this proxy need. It is never passed on.
    pub client_key: Option<Zeroizing<String>>,
    /// Where every report that was judged is kept.
    pub audit: Option<PathBuf>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Where sealed requests go.
    pub url: String,
    /// Where its evidence comes from, where that is elsewhere.
    pub evidence: Option<String>,
}

impl Config {
    /// Refuses what would not be safe, or cannot be meant.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            return Err(ConfigError::Nodes { max: MAX_NODES });
        }
        if !self.listen.ip().to_canonical().is_loopback() && self.client_key.is_none() {
            return Err(ConfigError::OpenToAll { listen: self.listen });
        }
        if self.public_url.as_deref().is_some_and(|url| !is_base_url(url)) {
            return Err(ConfigError::PublicUrl);
        }
        for (key, name) in [(&self.api_key, "API"), (&self.client_key, "client")] {
            if key.as_ref().is_some_and(|key| !is_bearer_key(key)) {
                return Err(ConfigError::Key { name, max_bytes: MAX_KEY_BYTES });
            }
        }
        Ok(())
    }
}

/// Why a proxy does not start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// None, or too many.
    #[error("a proxy needs a node, and has at most {max}")]
    Nodes {
        /// The most.
        max: usize,
    },
    /// Prompts come in clear text, and whoever reaches the proxy spends the key of its owner.
    #[error(
        "{listen} can be reached from other machines: listen on loopback, or ask callers for a key \
         (--client-key-file)"
    )]
    OpenToAll {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// No URL of an image could begin with it.
    #[error("the public URL must be `https://HOST` or `http://HOST`, without query and fragment")]
    PublicUrl,
    /// No header can carry it.
    #[error("the {name} key must be 1 to {max_bytes} visible ASCII characters")]
    Key {
        /// Which.
        name: &'static str,
        /// The longest.
        max_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, client_key: Option<&str>) -> Config {
        Config {
            nodes: vec![NodeAddress { url: "http://127.0.0.1:1".to_owned(), evidence: None }],
            listen: listen.parse().unwrap(),
            policy: Policy::production(),
            policy_name: "production".to_owned(),
            public_url: None,
            api_key: None,
            insecure_http: false,
            client_key: client_key.map(|key| Zeroizing::new(key.to_owned())),
            audit: None,
        }
    }

    #[test]
    fn beyond_loopback_callers_need_a_key() {
        for listen in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            config(listen, None).check().unwrap();
        }
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:0.0.0.0]:0"] {
            let refused = config(listen, None).check();
            assert!(matches!(refused, Err(ConfigError::OpenToAll { .. })), "{listen}");
            config(listen, Some("k")).check().unwrap();
        }
        for key in ["", "two words", "line\n", "ключ", &"k".repeat(MAX_KEY_BYTES + 1)] {
            let refused = config("127.0.0.1:0", Some(key)).check();
            assert!(matches!(refused, Err(ConfigError::Key { name: "client", .. })), "{key}");
        }
        let none = Config { nodes: Vec::new(), ..config("127.0.0.1:0", None) };
        assert!(matches!(none.check(), Err(ConfigError::Nodes { .. })));
    }

    #[test]
    fn urls_of_images_begin_with_a_url() {
        let check = |url: &str| {
            Config { public_url: Some(url.to_owned()), ..config("127.0.0.1:0", None) }.check()
        };
        for url in ["https://images.example", "http://[::1]:8080", "https://a.example:8443/sub/"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in ["", "images.example", "ftp://a.example", "https://a.example?b", "https://u@a"] {
            assert_eq!(check(url), Err(ConfigError::PublicUrl), "{url}");
        }
    }
}
