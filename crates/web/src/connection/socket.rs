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
use crate::linger::Linger;

/// The least that a reader must take: everything within `timeout`, and as much longer as the bytes
/// it has taken would last at `bytes_per_sec`. Time in which there is nothing to be taken is not
/// counted. A byte now and then would satisfy a bound on silence for ever.
#[derive(Debug, Clone, Copy)]
pub struct LeastRate {
    /// For everything, and before the rate counts.
    pub timeout: Duration,
    /// What it must take on average after that.
    pub bytes_per_sec: u64,
}

impl LeastRate {
    /// How long a reader may have kept the service waiting in all, after so many bytes.
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
pub struct Socket {
    socket: TcpStream,
    slot: Arc<Slot>,
    rate: LeastRate,
    blocked: Option<Blocked>,
    linger: Linger,
}

/// Since the socket took no bytes, until everything that waited is written.
struct Blocked {
    since: Instant,
    bytes: u64,
    deadline: Pin<Box<Sleep>>,
}

impl Socket {
    /// The socket of the connection that has this slot.
    #[must_use]
    pub fn new(socket: TcpStream, slot: Arc<Slot>, rate: LeastRate) -> Self {
        Self { socket, slot, rate, blocked: None, linger: Linger::default() }
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
        let Self { socket, linger, slot, .. } = &mut *self;
        linger.poll(socket, slot.activity().body_unread(), cx)
    }
}
