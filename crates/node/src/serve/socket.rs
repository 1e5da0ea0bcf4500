//! A socket with bounds: an answer that is not taken ends it, and a refused body does not cut the
//! refusal off.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{self, Instant, Sleep},
};

use super::limiter::Slot;

/// What is read and thrown away of a body that was refused, before the connection is closed: closing
/// a socket that holds unread bytes destroys what was written to it (RFC 9112, 9.6).
const LINGER_BYTES: usize = 16 << 20;
/// For how long.
const LINGER: Duration = Duration::from_secs(2);
/// Read at once.
const LINGER_BUFFER: usize = 8 * 1024;

/// The least that a reader must take: everything within `timeout`, and as much longer as the bytes
/// it has taken would last at `bytes_per_sec`. Time in which there is nothing to be taken is not
/// counted. A byte now and then would satisfy a bound on silence for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeastRate {
    pub(super) timeout: Duration,
    pub(super) bytes_per_sec: u64,
}

impl LeastRate {
    /// How long a reader may have kept the node waiting in all, after so many bytes.
    pub(super) fn allowance(self, bytes: u64) -> Duration {
        self.timeout.saturating_add(self.earned(bytes))
    }

    /// How long so many bytes last.
    pub(super) fn earned(self, bytes: u64) -> Duration {
        let secs = bytes as f64 / self.bytes_per_sec.max(1) as f64;
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)
    }
}

/// A connection's socket.
pub(super) struct Socket {
    socket: TcpStream,
    slot: Arc<Slot>,
    rate: LeastRate,
    blocked: Option<Blocked>,
    lingering: Option<Lingering>,
}

/// Since the socket took no bytes, until everything that waited is written.
struct Blocked {
    since: Instant,
    bytes: u64,
    deadline: Pin<Box<Sleep>>,
}

struct Lingering {
    left_bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Socket {
    pub(super) fn new(socket: TcpStream, slot: Arc<Slot>, rate: LeastRate) -> Self {
        Self { socket, slot, rate, blocked: None, lingering: None }
    }

    fn note_write(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(blocked) = &mut self.blocked {
                    blocked.bytes += bytes as u64;
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => {
                let now = Instant::now();
                let blocked = self.blocked.get_or_insert_with(|| Blocked {
                    since: now,
                    bytes: 0,
                    deadline: Box::pin(time::sleep_until(now)),
                });
                // A reader that keeps the rate is not idle, however long its answer takes.
                let behind = blocked.since.checked_add(self.rate.earned(blocked.bytes));
                self.slot.activity().socket_blocked(Some(behind.unwrap_or(now).min(now)));
                // `checked_add`: the rate may allow more time than a clock can tell.
                if let Some(deadline) =
                    blocked.since.checked_add(self.rate.allowance(blocked.bytes))
                {
                    blocked.deadline.as_mut().reset(deadline);
                    ready!(blocked.deadline.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending
            }
        }
    }

    /// Reads and forgets what still comes. Ready where nothing does, or enough has come.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let body_unread = self.slot.activity().body_unread();
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            left_bytes: LINGER_BYTES,
            deadline: Box::pin(time::sleep(LINGER)),
        });
        let mut buffer = [0; LINGER_BUFFER];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    match lingering.left_bytes.checked_sub(buffer.filled().len()) {
                        Some(left) => lingering.left_bytes = left,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // Everything that was sent had been read, and no more is expected.
                Poll::Pending if !body_unread && lingering.left_bytes == LINGER_BYTES => {
                    return Poll::Ready(());
                }
                Poll::Pending => return lingering.deadline.as_mut().poll(cx),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Called once everything that waited is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        if self.blocked.take().is_some() {
            self.slot.activity().socket_blocked(None);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        self.poll_linger(cx).map(Ok)
    }
}
