//! Listens, serves, stops; and keeps the nodes' evidence fresh meanwhile.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};
use tower::ServiceExt;

use crate::{proxy::Proxy, routes::app, socket::Socket};

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// For a request's head, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// A request's head, and what waits to be written, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long what runs may take to finish once the proxy stops.
const DRAIN: Duration = Duration::from_secs(30);
/// How long to wait where the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Serves `proxy` on `listener` until `shutdown` is over; then finishes what runs, within a bound.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, shutdown: impl Future<Output = ()>) {
    if let Ok(listen) = listener.local_addr() {
        proxy.listens_at(listen);
    }
    // Ends with this function.
    let mut background = JoinSet::new();
    for member in proxy.pool().members() {
        background.spawn(member.clone().keep_fresh());
    }
    let kept = proxy.clone();
    background.spawn(async move {
        let mut ticks = time::interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            kept.housekeeping(std::time::Instant::now());
        }
    });
    let (stop, stopping) = watch::channel(false);
    tokio::select! {
        () = shutdown => {}
        () = accept(&listener, app(proxy), stopping) => {}
    }
    tracing::info!("stopping: finishing what runs");
    stop.send_replace(true);
    if time::timeout(DRAIN, stop.closed()).await.is_err() {
        tracing::warn!("stopped with requests unfinished");
    }
}

async fn accept(listener: &TcpListener, router: Router, stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let serving = connection(socket, router.clone(), stopping.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Answers are one write each; waiting to fill a packet only delays them.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = router.clone().oneshot(request.map(Body::new));
        async move { answering.await.map_err(|never: Infallible| never) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Socket::new(socket)), service);
    let mut serving = pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}
