//! Two pages for a person's browser: the routes, and a place to try them. They load nothing from
//! elsewhere, and their policy lets them load nothing.

use axum::{
    http::{
        HeaderName,
        header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{Html, IntoResponse, Response},
};

/// Scripts and styles of the page itself, images out of answers, and this node.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `GET /docs`: the OpenAPI document, readable.
pub(super) async fn docs() -> Response {
    page(include_str!("pages/docs.html"))
}

/// `GET /`: a prompt, and the image as it comes to be.
pub(super) async fn playground() -> Response {
    page(include_str!("pages/playground.html"))
}

fn page(html: &'static str) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(html)).into_response()
}
