//! Who may ask. A side-car without a key does for whoever reaches it whatever it does for its owner, so
//! it looks at what a browser says of where a request comes from.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use web::origin::{is_known_host, is_own_page};

use crate::{error::ApiError, proxy::Proxy};

/// Refuses names that somebody else's DNS may point at this machine (DNS rebinding), where callers need
/// no key; and, always, what a page of another site sends.
pub(crate) async fn origin(
    State(proxy): State<Arc<Proxy>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if proxy.client_key().is_none() && !is_known_host(&request, |_| false) {
        return Err(ApiError::UnknownHost);
    }
    if !is_own_page(&request) {
        return Err(ApiError::ForeignOrigin);
    }
    Ok(next.run(request).await)
}

/// Refuses callers without the key, where there is one; before anything of their bodies is read.
pub(crate) async fn key(
    State(proxy): State<Arc<Proxy>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match proxy.client_key() {
        Some(key) if !key.admits(request.headers()) => Err(ApiError::Unauthorized),
        _ => Ok(next.run(request).await),
    }
}
