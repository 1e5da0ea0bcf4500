//! A collector of traces, on loopback.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, routing::post};

/// Everything that was exported to it.
pub(crate) type Received = Arc<Mutex<Vec<u8>>>;

/// Starts one: what it receives, and its address.
pub(crate) async fn start() -> (Received, String) {
    let received = Received::default();
    let app = Router::new()
        .route(
            "/v1/traces",
            post(async |State(received): State<Received>, body: Bytes| {
                received.lock().unwrap().extend_from_slice(&body);
            }),
        )
        .with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    (received, address)
}
