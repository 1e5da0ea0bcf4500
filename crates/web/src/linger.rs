//! Closing a connection without cutting off what was said last.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::{self, Sleep},
};

/// What is read and thrown away of a body that was refused.
const MAX_BYTES: usize = 16 << 20;
/// For how long.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Read at once.
const BUFFER_BYTES: usize = 8 * 1024;

/// Reads and forgets what a peer still sends once this side has said its last: closing a socket that
/// holds unread bytes destroys what was written to it (RFC 9112, 9.6).
#[derive(Default)]
pub struct Linger(Option<Lingering>);

struct Lingering {
    left_bytes: usize,
    deadline: Pin<Box<Sleep>>,
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
        let lingering = self.0.get_or_insert_with(|| Lingering {
            left_bytes: MAX_BYTES,
            deadline: Box::pin(time::sleep(TIMEOUT)),
        });
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    match lingering.left_bytes.checked_sub(buffer.filled().len()) {
                        Some(left) => lingering.left_bytes = left,
                        None => return Poll::Ready(Ok(())),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                // Everything that was sent had been read.
                Poll::Pending if !more_expected && lingering.left_bytes == MAX_BYTES => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return lingering.deadline.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
