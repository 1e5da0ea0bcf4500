//! Listens, serves, stops.

mod places;

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};
use tokio_io_timeout::TimeoutStream;
use tower::{ServiceExt, service_fn};

use self::places::{Places, Seat};
use crate::{
    config::Config,
    delivery::{FlushTimeout, StreamExecutor, Transport},
    node::Node,
    routes::app,
};

/// How often the keys' age is looked at, and the pictures that wait to be fetched.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long to wait where the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first line of HTTP/2, RFC 9113 §3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a connection is looked at that has begun to say which HTTP it speaks.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);

/// Serves `node` on `listener` until `shutdown` is over; then finishes what runs, within the
/// configured bound.
///
/// An accept loop of our own, since axum's sets no bound on how long a client may take to send its
/// headers or to read its answer, or on how many connections there are.
pub async fn serve(listener: TcpListener, node: Arc<Node>, shutdown: impl Future<Output = ()>) {
    let config = node.config();
    let connections = Connections::new(&node);
    // Every connection holds a receiver, until it is over.
    let (stop, stopping) = watch::channel(false);
    let places = Places::new(config.max_connections);
    let mut housekeeping = time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    tokio::pin!(shutdown);

    loop {
        let accept = async {
            let place = places.take().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = housekeeping.tick() => keep_house(&node),
            (place, accepted) = accept => match accepted {
                Ok((socket, _)) => {
                    let serving = connections.clone().serve(socket, place.seat(), stopping.clone());
                    let connected = node.traffic().connected();
                    tokio::spawn(async move {
                        Transport::carry(serving).await;
                        drop(connected);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    drop((listener, stopping));
    stop.send_replace(true);
    node.drain();
    tracing::info!("stopping: finishing what runs");
    if time::timeout(config.drain(), stop.closed()).await.is_err() {
        tracing::warn!("stopped with requests unfinished");
    }
}

fn keep_house(node: &Node) {
    let now = std::time::Instant::now();
    node.image_store().forget_old(now);
    node.deliveries().end_overdue(now);
    if let Ok(service) = node.service()
        && let Err(error) = service.rotate_keys_if_due()
    {
        tracing::error!(%error, "the keys stay as they are");
    }
}

/// How a connection is served.
#[derive(Clone)]
struct Connections {
    router: Router,
    http: auto::Builder<StreamExecutor>,
    header_timeout: Duration,
    write_timeout: Duration,
    delivery_timeout: Duration,
}

impl Connections {
    fn new(node: &Arc<Node>) -> Self {
        let config: &Config = node.config();
        let mut http = auto::Builder::new(StreamExecutor);
        http.http1().timer(TokioTimer::new()).header_read_timeout(config.header_timeout());
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(64)
            // Finds those who are gone without a word.
            .keep_alive_interval(config.write_timeout() / 2)
            .keep_alive_timeout(config.write_timeout() / 2);
        Self {
            router: app(node.clone()),
            http,
            header_timeout: config.header_timeout(),
            write_timeout: config.write_timeout(),
            delivery_timeout: config.delivery_timeout(),
        }
    }

    /// Serves one connection to its end. How it ends is the client's affair.
    async fn serve(self, socket: TcpStream, seat: Arc<Seat>, mut stop: watch::Receiver<bool>) {
        // Answers are one write each; waiting to fill a packet only delays them.
        let _ = socket.set_nodelay(true);
        // The server below sets no bound on the first bytes, by which it tells HTTP/1 from HTTP/2.
        tokio::select! {
            () = says_which_http(&socket) => {}
            () = time::sleep(self.header_timeout) => return,
            () = seat.dismissed() => return,
            _ = stop.changed() => return,
        }
        let peer = socket.peer_addr().ok().map(ConnectInfo);
        let mut socket = TimeoutStream::new(socket);
        socket.set_write_timeout(Some(self.write_timeout));
        let socket = FlushTimeout::new(Box::pin(socket), self.delivery_timeout);
        let (router, asking) = (self.router, seat.clone());
        let service = TowerToHyperService::new(service_fn(move |mut request: Request<_>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let running = asking.request();
            let answer = router.clone().oneshot(request);
            async move {
                // Held by the answer's body, until the last of it is sent.
                Ok::<_, std::convert::Infallible>(answer.await?.map(|body: Body| {
                    body.map_frame(move |frame| {
                        let _ = &running;
                        frame
                    })
                }))
            }
        }));
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(socket), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stop.changed() => {}
            // Who never asked is owed nothing.
            () = seat.dismissed() => if !seat.was_asked() { return },
        }
        // What is being answered is still sent to its end.
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Waits until the first bytes are there that tell HTTP/1 from HTTP/2, or the connection is over.
async fn says_which_http(socket: &TcpStream) {
    let mut first = [0; HTTP2_PREFACE.len()];
    while let Ok(length) = socket.peek(&mut first).await {
        let undecided = HTTP2_PREFACE.starts_with(&first[..length]);
        if length == 0 || !undecided || length == HTTP2_PREFACE.len() {
            return;
        }
        // What was peeked at stays readable: looking again at once would only burn time.
        time::sleep(PREFACE_PAUSE).await;
    }
}
