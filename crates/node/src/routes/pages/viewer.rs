//! `GET /docs`: Swagger UI, which is in the program. `swagger-ui/README.md` says where it is from.

use axum::{
    http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use web::path::PathName;

use super::page;
use crate::error::ApiError;

/// Its own files, this node's answers, and images out of them. It writes no script and no style into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /docs`: the OpenAPI document, readable, and its routes to be tried.
pub(in crate::routes) async fn docs() -> Response {
    page(POLICY, include_str!("docs.html"))
}

/// `GET /docs/{file}`: what the page is made of.
pub(in crate::routes) async fn file(PathName(name): PathName) -> Response {
    match &*name {
        "docs.js" => own("text/javascript", include_str!("docs.js")),
        "docs.css" => own("text/css", include_str!("docs.css")),
        "swagger-ui-5.35.0.js" => {
            packed("text/javascript", include_bytes!("swagger-ui/swagger-ui-bundle.js.gz"))
        }
        "swagger-ui-5.35.0.css" => {
            packed("text/css", include_bytes!("swagger-ui/swagger-ui.css.gz"))
        }
        _ => ApiError::NotFound.into_response(),
    }
}

fn own(media_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-cache")], text).into_response()
}

/// As gzip alone: every browser reads it, and who says nothing of encodings takes any (RFC 9110, 12.5.3). Another
/// version has another name.
fn packed(media_type: &'static str, bytes: &'static [u8]) -> Response {
    let headers = [
        (CONTENT_TYPE, media_type),
        (CONTENT_ENCODING, "gzip"),
        (CACHE_CONTROL, "max-age=31536000, immutable"),
    ];
    (headers, bytes).into_response()
}
