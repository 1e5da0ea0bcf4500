//! Whose share of the queue a request counts towards.

use std::{convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use engine::{ClientId, Sharers};

use crate::{
    address::Peer,
    client_id::{of_key, of_peer},
    node::Node,
};

/// The client of a request: whom a trusted forwarder names, by an extension of type [`ClientId`] that
/// [`crate::requests::bounded`] puts there; otherwise the holder of an accepted bearer key; otherwise
/// the peer's address. Where there are several keys, whom a forwarder names is one of those who use
/// theirs, or a key's holder would be as many clients as it has addresses.
pub(super) struct Client(pub(super) Sharers);

impl FromRequestParts<Arc<Node>> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Infallible> {
        let named = parts.extensions.get::<ClientId>().copied();
        let credentials = node.credentials();
        // A key that is not accepted is any text, and would make a new client with every request.
        let key = credentials.accepted_key(&parts.headers).map(of_key);
        let peer = || parts.extensions.get::<Peer>().map(|peer| of_peer(peer.0));
        if let (Some(named), Some(key)) = (named, key)
            && credentials.are_several()
        {
            return Ok(Self(Sharers::in_group(key, named)));
        }
        let client = named.or(key).or_else(peer);
        Ok(Self(client.unwrap_or(ClientId::ANONYMOUS).into()))
    }
}
