//! The next connection of a listener that is given a slot.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time,
};

use super::limiter::{ConnectionLimiter, Slot};
use crate::source::Source;

/// How long to wait where the system has no more sockets to give.
const PAUSE: Duration = Duration::from_millis(50);

impl ConnectionLimiter {
    /// Waits for the next connection that gets a slot: it counts towards the share that `source` names,
    /// or nobody's. `failed` is told of each that could not be accepted, since this crate logs nothing.
    /// Dropping the future takes none.
    pub async fn accept(
        &self,
        listener: &TcpListener,
        source: impl Fn(IpAddr) -> Option<Source>,
        failed: impl Fn(&io::Error),
    ) -> (TcpStream, SocketAddr, Arc<Slot>) {
        loop {
            let permit = self.permit().await;
            match listener.accept().await {
                Ok((socket, peer)) => {
                    // Dropping the socket tells a source that has its share already.
                    let Some(slot) = self.slot(permit, source(peer.ip())) else { continue };
                    // Answers are one write each; waiting to fill a packet only delays them.
                    let _ = socket.set_nodelay(true);
                    return (socket, peer, slot);
                }
                Err(error) => {
                    failed(&error);
                    time::sleep(PAUSE).await;
                }
            }
        }
    }
}
