//! A listener for probes and metrics alone, which nothing on the other one can fill or delay.

use std::{convert::Infallible, io, net, sync::Arc, thread, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, runtime, sync::watch};
use web::connection::{ConnectionLimiter, LeastRate};

use super::{
    Acceptor,
    connection::{Connections, Timeouts},
};
use crate::{node::Node, routes};

/// Connections at once, and of one source: probes come from few.
const CONNECTIONS: usize = 64;
const CONNECTIONS_PER_SOURCE: usize = 16;
/// A probe that takes longer than this for its head or its answer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES_PER_SEC: u64 = 64 * 1024;

/// Answers `/health`, `/healthz`, `/readyz` and `/metrics` on a thread and a runtime of its own,
/// until it is dropped: while the node loads, serves and stops.
pub struct Probes {
    /// The thread ends when this is gone.
    _stop: watch::Sender<bool>,
}

impl Probes {
    /// Answers on `listener`.
    ///
    /// # Errors
    /// Where the system has no thread to give, or cannot watch the socket or tell its address.
    pub fn start(listener: net::TcpListener, node: Arc<Node>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let is_on_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
        let app = routes::probes(node.clone(), is_on_loopback);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = watch::channel(false);
        thread::Builder::new().name("probes".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    error = run(listener, app, node) => {
                        let Err(error) = error;
                        tracing::error!(%error, "probes are not answered");
                    }
                    // An error: the sender is gone.
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        })?;
        Ok(Self { _stop: stop })
    }
}

async fn run(listener: net::TcpListener, app: Router, node: Arc<Node>) -> io::Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    let read = LeastRate { timeout: TIMEOUT, bytes_per_sec: BYTES_PER_SEC };
    let acceptor = Acceptor {
        connections: Connections::new(
            app,
            // Whoever probes is beside the node, and has no certificate to hold its own against.
            None,
            Timeouts { header: TIMEOUT, read, idle: TIMEOUT },
        ),
        limiter: ConnectionLimiter::new(CONNECTIONS, CONNECTIONS_PER_SOURCE),
        node,
        stop: watch::channel(false).0,
    };
    Ok(acceptor.run(&listener).await)
}
