//! Two pages for a person's browser: the routes, and a place to try them. They load nothing from
//! elsewhere, and their policies let them load nothing.

#[cfg(feature = "docs")]
mod viewer;

use axum::{
    http::{
        HeaderName,
        header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{Html, IntoResponse, Response},
};

#[cfg(feature = "docs")]
pub(super) use self::viewer::{docs, file};
#[cfg(not(feature = "docs"))]
use crate::error::ApiError;

/// Scripts and styles of the page itself, images out of answers, and this node.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `GET /`: a prompt, and the image as it comes to be.
pub(super) async fn playground() -> Response {
    page(POLICY, include_str!("pages/playground.html"))
}

/// `GET /docs` where the build has no viewer.
#[cfg(not(feature = "docs"))]
pub(super) async fn docs() -> ApiError {
    ApiError::NoViewer
}

/// `GET /docs/{file}` there.
#[cfg(not(feature = "docs"))]
pub(super) async fn file() -> ApiError {
    ApiError::NoViewer
}

fn page(policy: &'static str, html: &'static str) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(html)).into_response()
}
