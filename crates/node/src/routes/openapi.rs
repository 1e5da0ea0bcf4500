//! The OpenAPI document, out of the types that the routes read and write.

use std::sync::Arc;

use axum::{body::Bytes, extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use protocol::{
    CompletedEvent, CreateImageRequest, EditImageRequest, ErrorBody, ErrorEvent, ImageUrl,
    ModelCapabilities, PartialImageEvent, ProgressEvent,
};
use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Content, OpenApi as Document, Ref, RefOr, Response,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{attestation, confidential, health, images, lock, models, operations};
use crate::node::Node;

/// What any route that takes a body may answer.
const REFUSALS: [(&str, &str); 10] = [
    ("400", "Malformed, or breaks a rule; `param` names the field"),
    ("401", "No valid credentials"),
    ("403", "A page of another site, or a name that is not this machine's"),
    ("404", "Unknown model"),
    ("408", "The body took too long to arrive"),
    ("413", "The body is too large"),
    ("415", "The body does not say that it is JSON, or, of an edit, a form"),
    ("429", "The queue is full or too long, or the client has too many requests: `Retry-After`"),
    ("500", "Generation failed: `x-should-retry: false`"),
    ("503", "Loading, stopping, busy: `Retry-After`; or the request took too long"),
];

/// The routes that are served: the one in clear text only where the operator allows it.
pub(super) async fn document(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let json = match node.measured_service() {
        Some(service) => service.openapi(|| described(&node, Some(service.capabilities()))),
        None => described(&node, None),
    };
    ([(CONTENT_TYPE, "application/json")], json)
}

/// As JSON, with examples for what is offered.
fn described(node: &Node, capabilities: Option<&ModelCapabilities>) -> Bytes {
    let mut document = Api::openapi();
    if node.config().allow_plaintext {
        document.merge(ClearApi::openapi());
    }
    Common.modify(&mut document);
    if let Some(capabilities) = capabilities {
        let model = &capabilities.model;
        let prompt = "a small yellow star above a red house on a green field";
        let image = json!({ "model": model, "prompt": prompt, "size": capabilities.native_size.to_string() });
        example(&mut document, "/v1/images/generations", image);
        example(&mut document, "/v1/nodes/lock", json!({ "model": model }));
    }
    let json = serde_json::to_string(&document).expect("names and texts are JSON");
    without_links(&json).into()
}

/// Links of Rust's documentation (``[`protocol::Usage`]``) as the name alone, for readers of the API.
fn without_links(mut json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    while let Some((before, link)) = json.split_once("[`") {
        plain.push_str(before);
        let Some((path, after)) = link.split_once("`]") else {
            plain.push_str("[`");
            json = link;
            continue;
        };
        let name = path.rsplit("::").next().unwrap_or(path);
        plain.extend(["`", name, "`"]);
        json = after;
    }
    plain.push_str(json);
    plain
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Obscura",
        description = "A node that makes images from prompts its own operator \
        cannot read. Errors are OpenAI's: `{\"error\": {message, type, param, code}}`."
    ),
    // Where the document is, whatever path a gateway gives it.
    servers((url = ".", description = "This node")),
    tags(
        (name = "confidential", description = "Sealed, so that only the node's TEE reads it"),
        (name = "images", description = "In clear text"),
        (name = "models"),
        (name = "operations", description = "For who runs it"),
    ),
    paths(
        confidential::generate,
        confidential::edit,
        attestation::report,
        attestation::configuration,
        lock::lock,
        models::list,
        models::one,
        health::health,
        health::live,
        health::ready,
        operations::metrics,
        operations::info,
    ),
    components(schemas(
        CreateImageRequest,
        EditImageRequest,
        ImageUrl,
        PartialImageEvent,
        CompletedEvent,
        ProgressEvent,
        ErrorEvent,
        ErrorBody,
    ))
)]
struct Api;

#[derive(OpenApi)]
#[openapi(paths(images::generate, images::edit, images::file))]
struct ClearApi;

/// What several routes have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            if let Some(operation) = &mut item.post {
                for (status, description) in REFUSALS {
                    let responses = &mut operation.responses.responses;
                    responses.entry(status.to_owned()).or_insert_with(|| refusal(description));
                }
            }
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                let is_keyed = operation.responses.responses.contains_key("401");
                operation.security = is_keyed.then(|| {
                    vec![
                        SecurityRequirement::default(),
                        SecurityRequirement::new::<_, [&str; 0], &str>("bearer", []),
                    ]
                });
            }
        }
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// A body that this very node would take.
fn example(document: &mut Document, path: &str, body: Value) {
    let item = document.paths.paths.get_mut(path);
    if let Some(RefOr::T(request)) = item.and_then(|item| item.post.as_mut()?.request_body.as_mut())
        && let Some(RefOr::T(content)) = request.content.get_mut("application/json")
    {
        content.example = Some(body);
    }
}

fn refusal(description: &str) -> RefOr<Response> {
    let mut response = Response::new(description);
    let schema = Ref::from_schema_name(ErrorBody::name());
    response.content.insert("application/json".to_owned(), RefOr::T(Content::new(Some(schema))));
    RefOr::T(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Pages, the document itself, and Azure's paths, which stand for two that are listed.
    const UNLISTED: [&str; 3] = ["/docs", "/openapi.json", "/openai/deployments/"];

    #[test]
    fn every_route_is_in_the_document() {
        let path = |rest: &str| {
            Some(rest.trim_start().strip_prefix('"')?.split_once('"')?.0.replace("{*", "{"))
        };
        let is_listed =
            |path: &String| path != "/" && !UNLISTED.iter().any(|prefix| path.starts_with(prefix));
        let routes = include_str!("mod.rs").split(".route(").skip(1).filter_map(path);
        let routes: BTreeSet<_> = routes.filter(is_listed).collect();
        let mut document = Api::openapi();
        document.merge(ClearApi::openapi());
        assert_eq!(routes, document.paths.paths.into_keys().collect());
    }

    /// Generators of clients name functions by it, and viewers find operations.
    #[test]
    fn operations_have_names_of_their_own() {
        let mut document = Api::openapi();
        document.merge(ClearApi::openapi());
        let paths = document.paths.paths.values();
        let operations = paths.flat_map(|item| [&item.get, &item.post]).flatten();
        let mut names: Vec<_> = operations.map(|it| it.operation_id.clone().unwrap()).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }

    #[test]
    fn readers_of_the_api_meet_no_words_of_rust() {
        assert_eq!(without_links("as [`a::B`] and [`C`]. [`"), "as `B` and `C`. [`");
        let mut document = Api::openapi();
        document.merge(ClearApi::openapi());
        let json = without_links(&serde_json::to_string(&document).unwrap());
        for word in
            ["::", "[`", "`Option", "`Vec", "`None`", "`Some", "`u32`", "`u64`", "&str", "#["]
        {
            assert!(!json.contains(word), "{word}");
        }
    }
}
