//! What asynchronous commands run on, and how servers listen.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};

/// The runtime that answers. Images are drawn on a thread of their own.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")
}

/// Connections that the kernel keeps until they are taken: of a burst of more, the others would try
/// again after a second. tokio's own `bind` keeps 128.
const BACKLOG: u32 = 4096;

/// Binds a socket, and takes connections from now on. Call it on a runtime.
pub(crate) fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // So that a node can start anew while connections to the older one are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
