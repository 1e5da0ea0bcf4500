//! Ending a connection, or a stream of one, without cutting off what was said last.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::{self, Instant, Sleep},
};

use crate::body_rate::LEAST_BYTES_PER_SEC;

/// What is read and thrown away of a body that was refused: the longest that any route takes fits in, so that a
/// client that writes to the end before it reads sees why a body was refused that is none too long.
const MAX_BYTES: usize = 48 << 20;
/// For how long in all: those bytes at 13 Mbit/s.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For how long where nothing comes.
const SILENCE: Duration = Duration::from_secs(2);
/// Whoever sends more slowly on average drips: no client that writes all of a body first does, and a refusal would
/// hold its place for longer than a body may take.
const MIN_BYTES_A_SEC: f64 = LEAST_BYTES_PER_SEC as f64;
/// Read at once.
const BUFFER_BYTES: usize = 8 * 1024;

/// Reads and forgets what a peer still sends once this side has said its last: closing a socket that
/// holds unread bytes destroys what was written to it (RFC 9112, 9.6).
#[derive(Default)]
pub struct Linger(Option<Lingering>);

struct Lingering {
    bounds: Bounds,
    /// Until when to wait for the next bytes.
    timer: Pin<Box<Sleep>>,
}

/// How much is still read, and until when.
struct Bounds {
    begun: Instant,
    left_bytes: usize,
}

impl Bounds {
    fn new() -> Self {
        Self { begun: Instant::now(), left_bytes: MAX_BYTES }
    }

    /// Counts what came; `false` where that is enough.
    fn count(&mut self, bytes: usize) -> bool {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.unwrap_or(0);
        left.is_some() && Instant::now() < self.until()
    }

    /// When the next bytes have to be there.
    fn until(&self) -> Instant {
        let earned = (MAX_BYTES - self.left_bytes) as f64 / MIN_BYTES_A_SEC;
        let in_all = (SILENCE + Duration::from_secs_f64(earned)).min(TIMEOUT);
        (self.begun + in_all).min(Instant::now() + SILENCE)
    }
}

impl Linger {
    /// Ready once the peer has said its last too, enough has come, or it took too long; and, unless
    /// `more_expected`, where nothing comes.
    pub fn poll(
        &mut self,
        socket: &mut TcpStream,
        more_expected: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let lingering = self.0.get_or_insert_with(|| {
            let bounds = Bounds::new();
            Lingering { timer: Box::pin(time::sleep_until(bounds.until())), bounds }
        });
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if !lingering.bounds.count(buffer.filled().len()) {
                        return Poll::Ready(Ok(()));
                    }
                    lingering.timer.as_mut().reset(lingering.bounds.until());
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                // Everything that was sent had been read.
                Poll::Pending if !more_expected && lingering.bounds.left_bytes == MAX_BYTES => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return lingering.timer.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

/// Reads and forgets the rest of a body within the same bounds, where its connection goes on. HTTP/2 would have it reset
/// at once (RFC 9113, 8.1), and some clients then lose the answer that came before: curl 7.88 is one.
pub async fn drain(mut body: impl HttpBody<Data = Bytes> + Unpin) {
    let mut bounds = Bounds::new();
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let Ok(Some(Ok(frame))) = time::timeout_at(bounds.until(), frame).await else { return };
        if !bounds.count(frame.data_ref().map_or(0, Bytes::len)) {
            return;
        }
    }
}
