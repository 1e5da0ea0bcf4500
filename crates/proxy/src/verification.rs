//! What was checked, when, and by which policy: for programs in JSON, for people as pages that load
//! nothing and run nothing.

mod html;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use attest::verify::{Appraisal, Outcome};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{Html, IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use printable::Printable;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    audit::channel,
    pool::{Member, Unusable},
    proxy::Proxy,
};

/// `GET /verification`: JSON, or a page where that is what is asked for.
pub(crate) async fn verdicts(State(proxy): State<Arc<Proxy>>, headers: HeaderMap) -> Response {
    let verification = Verification::of(&proxy);
    let mut response = match wants_html(&headers) {
        true => page(html::verdicts(&verification)),
        false => ([(CACHE_CONTROL, "no-store")], Json(&verification)).into_response(),
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /`: the verdict, and how to point a program at this proxy.
pub(crate) async fn start(State(proxy): State<Arc<Proxy>>) -> Response {
    page(html::start(&Verification::of(&proxy)))
}

/// The page that verifies and seals by itself, as it is released.
const SEALING_PAGE: &str = include_str!("../../../sdk/page/obscura.html");

/// `GET /page`: people draw there. It speaks to nodes itself, and to this proxy not at all.
pub(crate) async fn sealing_page() -> Response {
    let policy = SEALING_PAGE
        .split_once("Content-Security-Policy\" content=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(policy, _)| policy)
        .expect("the page names its policy");
    page_under(policy, SEALING_PAGE)
}

/// A page where its one style is the only thing that applies.
fn page(html: String) -> Response {
    let style = BASE64_STANDARD.encode(Sha256::digest(html::STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    );
    page_under(&policy, html)
}

/// A page under a content security policy, which no other page may frame.
fn page_under(policy: &str, html: impl Into<Body>) -> Response {
    let policy = HeaderValue::from_str(&format!("{policy}; frame-ancestors 'none'"))
        .expect("a policy is a header's text");
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Html(html.into())).into_response()
}

/// Browsers name `text/html` before anything else; programs say `*/*`, or nothing.
fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut kinds =
        accepted.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kinds.find(|kind| matches!(*kind, "text/html" | "application/json")) == Some("text/html")
}

/// The verdicts on all nodes.
#[derive(Serialize)]
struct Verification {
    format: &'static str,
    /// This program's version.
    version: &'static str,
    listen: String,
    policy: PolicyView,
    /// Seconds since 1970.
    now: u64,
    /// Whether a request would be sent to some node now.
    ready: bool,
    nodes: Vec<NodeView>,
}

#[derive(Serialize)]
struct PolicyView {
    name: String,
    sha256: String,
    accepts_simulated: bool,
}

#[derive(Serialize)]
struct NodeView {
    url: Printable,
    /// `verified`, `untrusted` or `unreachable`.
    state: &'static str,
    /// Why no request goes there, or why no newer evidence came.
    reason: Option<Printable>,
    /// Seconds since 1970 until which the keys may be relied on.
    valid_until: Option<u64>,
    /// SHA-256 of the manifest of the model's files.
    model_manifest_sha256: Option<String>,
    /// X25519, that requests are sealed to.
    encryption_key: Option<String>,
    /// The last evidence that came, whatever came of it.
    evidence: Option<EvidenceView>,
}

#[derive(Serialize)]
struct EvidenceView {
    appraised_at: u64,
    nonce: String,
    report_sha256: String,
    /// What it came over.
    channel: Value,
    exit_code: u8,
    /// In the audit log, where one is kept.
    number: Option<u64>,
    appraisal: Appraisal,
}

impl Verification {
    fn of(proxy: &Proxy) -> Self {
        let judge = proxy.judge();
        let nodes: Vec<_> = proxy.pool().members().iter().map(|it| NodeView::of(it)).collect();
        Self {
            format: "obscura/proxy-verification/v1",
            version: env!("CARGO_PKG_VERSION"),
            listen: proxy.listen().to_string(),
            policy: PolicyView {
                name: Printable::new(proxy.policy_name()).into_string(),
                sha256: hex::encode(judge.policy.digest()),
                accepts_simulated: judge.policy.accepts_simulated(),
            },
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            ready: nodes.iter().any(|node| node.state == "verified"),
            nodes,
        }
    }
}

impl NodeView {
    fn of(member: &Member) -> Self {
        let trusted = member.usable();
        let state = member.state();
        let node = trusted.as_ref().map(|trusted| &trusted.node);
        Self {
            url: member.url().clone(),
            state: match (node, &state.away, &state.failure) {
                (Some(_), None, _) => "verified",
                (Some(_), Some(_), _) | (None, _, Some((Unusable::Unreachable, _))) => {
                    "unreachable"
                }
                (None, ..) => "untrusted",
            },
            reason: state.away.or(state.failure.map(|(_, reason)| reason)),
            valid_until: node.map(client::AttestedNode::not_after_secs),
            model_manifest_sha256: node.map(|node| hex::encode(node.model_manifest())),
            encryption_key: node.map(|node| hex::encode(node.key().encryption_key)),
            evidence: state.judged.map(|judged| EvidenceView {
                appraised_at: judged.evidence.challenge.now_secs,
                nonce: judged.evidence.challenge.nonce.to_string(),
                report_sha256: hex::encode(Sha256::digest(&judged.evidence.report)),
                channel: channel(&judged.evidence.channel),
                exit_code: judged.appraisal.verdict.exit_code(),
                number: judged.number,
                appraisal: judged.appraisal.clone(),
            }),
        }
    }

    /// Checks that came out so, of the last evidence.
    fn checks(&self, outcome: Outcome) -> usize {
        let evidence = self.evidence.iter();
        evidence.flat_map(|it| &it.appraisal.checks).filter(|it| it.outcome == outcome).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_pages_and_programs_json() {
        let html = |accept: &str| {
            let value = HeaderValue::from_str(accept).unwrap();
            wants_html(&HeaderMap::from_iter([(ACCEPT, value)]))
        };
        assert!(html("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        for program in ["*/*", "", "application/json", "application/json, text/html", "image/png"] {
            assert!(!html(program), "{program}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }
}
