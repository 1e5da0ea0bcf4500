//! Listens, serves, stops; and keeps the nodes' evidence fresh meanwhile.

use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};
use web::{
    connection::{ConnectionLimiter, LeastRate, Slot, Socket, answer},
    source::Source,
};

use crate::{proxy::Proxy, routes::app};

/// For a request's head, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Of an answer: all of it within a minute, or as much longer as it lasts at this rate.
const LEAST_RATE: LeastRate =
    LeastRate { timeout: Duration::from_secs(60), bytes_per_sec: 8 * 1024 };
/// A request's head, and what waits to be written, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long what runs may take to finish once the proxy stops.
const DRAIN: Duration = Duration::from_secs(30);
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How many connections there are at once. Callers need a key beyond loopback, and may connect without one:
/// so that nobody keeps them out, whoever makes no progress makes way for who comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connections {
    pub(crate) in_all: usize,
    /// From one address of another machine. Programs on this one share theirs, and are not counted so.
    pub(crate) of_source: usize,
}

impl Connections {
    pub(crate) const DEFAULT: Self = Self { in_all: 512, of_source: 128 };
}

/// Serves `proxy` on `listener` until `shutdown` is over; then finishes what runs, within a bound.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, shutdown: impl Future<Output = ()>) {
    serve_at_most(Connections::DEFAULT, listener, proxy, shutdown).await;
}

/// The same, with so many connections at once.
pub(crate) async fn serve_at_most(
    connections: Connections,
    listener: TcpListener,
    proxy: Arc<Proxy>,
    shutdown: impl Future<Output = ()>,
) {
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
    let limiter = ConnectionLimiter::new(connections.in_all, connections.of_source);
    tokio::select! {
        () = shutdown => {}
        () = accept(&listener, &limiter, app(proxy), stopping) => {}
    }
    tracing::info!("stopping: finishing what runs");
    stop.send_replace(true);
    if time::timeout(DRAIN, stop.closed()).await.is_err() {
        tracing::warn!("stopped with requests unfinished");
    }
}

async fn accept(
    listener: &TcpListener,
    limiter: &ConnectionLimiter,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    loop {
        let failed =
            |error: &std::io::Error| tracing::warn!(%error, "a connection was not accepted");
        let (socket, _, slot) = limiter.accept(listener, source, failed).await;
        tokio::spawn(connection(socket, slot, router.clone(), stopping.clone()));
    }
}

/// Whose share a connection counts towards: nobody's, where it comes from this machine.
fn source(peer: IpAddr) -> Option<Source> {
    (!peer.to_canonical().is_loopback()).then(|| Source::of(peer))
}

async fn connection(
    socket: TcpStream,
    slot: Arc<Slot>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let service =
        service_fn(|request: Request<Incoming>| answer(router.clone(), request, slot.clone()));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Socket::new(socket, slot.clone(), LEAST_RATE)), service);
    let mut serving = pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = slot.evicted() => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        _ = serving => {}
        () = slot.evicted() => {}
    }
}
