//! One connection, from its first byte to its last.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use web::connection::{LeastRate, Slot, Socket, answer};

use crate::{address::Peer, delivery::StreamExecutor, tls};

/// The first line of HTTP/2, RFC 9113 §3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a connection is looked at that has begun to say which HTTP it speaks.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);
/// How long a stopping node waits for a connection that makes no progress.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A request's head, and what waits to be written, in bytes.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 64;
/// Of a body that nobody has read yet, in bytes: what a stream may send ahead, and a connection.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 128 * 1024;
/// Of an answer that the reader has no window for, in bytes.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Of a request's head, names and values together, in bytes. It bounds CONTINUATION frames too.
const HTTP2_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that a client may open and reset before their requests are taken up; beyond, the
/// connection ends (CVE-2023-44487).
const HTTP2_PENDING_RESETS: usize = 20;
/// Streams that may be reset for errors of the client's; beyond, the connection ends.
const HTTP2_ERROR_RESETS: usize = 64;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// For a request's head; and, together, for a TLS handshake and the first byte after it.
    pub(super) header: Duration,
    /// For an answer.
    pub(super) read: LeastRate,
    /// Without making any progress.
    pub(super) idle: Duration,
}

/// How connections are served.
#[derive(Clone)]
pub(super) struct Connections {
    router: Router,
    http: auto::Builder<StreamExecutor>,
    /// Where connections begin with a handshake.
    tls: Option<TlsAcceptor>,
    timeouts: Timeouts,
}

impl Connections {
    pub(super) fn new(router: Router, tls: Option<TlsAcceptor>, timeouts: Timeouts) -> Self {
        let mut http = auto::Builder::new(StreamExecutor);
        http.http1()
            .timer(TokioTimer::new())
            .max_buf_size(HTTP1_BUFFER_BYTES)
            .header_read_timeout(timeouts.header);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
            .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
            // Finds clients that are gone without a word, or stop in the middle of a head.
            .keep_alive_interval(timeouts.header)
            .keep_alive_timeout(timeouts.header);
        Self { router, http, tls, timeouts }
    }

    /// What is there before the first request: a client that has said which HTTP it speaks, through TLS
    /// where that ends here.
    async fn open(
        &self,
        socket: TcpStream,
        slot: &Arc<Slot>,
    ) -> Option<(auto::Builder<StreamExecutor>, Box<dyn Stream>)> {
        let bounded = |socket| Socket::new(socket, slot.clone(), self.timeouts.read);
        let http = self.http.clone();
        match &self.tls {
            None => {
                says_which_http(&socket).await;
                Some((http, Box::new(bounded(socket))))
            }
            Some(tls) => {
                let stream = secured(tls, bounded(socket)).await?;
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2);
                let http = if is_http2 { http.http2_only() } else { http.http1_only() };
                Some((http, Box::new(stream)))
            }
        }
    }

    /// Serves one connection to its end: its own, an eviction, or `stop`.
    pub(super) async fn serve(
        self,
        socket: TcpStream,
        peer: SocketAddr,
        slot: Arc<Slot>,
        stop: Option<watch::Receiver<bool>>,
    ) {
        let mut stopping = pin!(stopped(stop));
        // Neither TLS nor the server below sets a bound on what comes before a request. Until then the
        // connection has no request and is idle, so that whoever comes next may take its place.
        let opened = tokio::select! {
            opened = self.open(socket, &slot) => opened,
            () = time::sleep(self.timeouts.header) => return,
            () = slot.evicted() => return,
            () = &mut stopping => return,
        };
        // A handshake that failed is its client's affair: a line for each would be a stranger's to write.
        let Some((http, stream)) = opened else { return };
        let router = self.router;
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            answer(router.clone(), request, slot.clone())
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = slot.evicted() => return,
            () = slot.idle(self.timeouts.idle) => return,
            () = stopping => {}
        }
        // What is being answered is sent to its end, to those who take it.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = slot.evicted() => {}
            () = slot.idle(STOP_GRACE) => {}
        }
    }
}

/// A socket, or TLS over one.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Handshakes, and waits for the first byte of what the client says then. `None` where the client speaks
/// no TLS that is spoken here, or leaves.
async fn secured(tls: &TlsAcceptor, socket: Socket) -> Option<TlsStream<Socket>> {
    let mut stream = tls.accept(socket).await.ok()?;
    stream.fill_buf().await.ok()?;
    Some(stream)
}

/// Resolves when the node stops.
async fn stopped(stop: Option<watch::Receiver<bool>>) {
    match stop {
        // An error: whoever could stop the node is gone.
        Some(mut stop) => {
            let _ = stop.wait_for(|stop| *stop).await;
        }
        None => std::future::pending().await,
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
