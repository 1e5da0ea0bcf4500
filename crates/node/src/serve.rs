//! Listens, serves, stops.

mod connection;
mod probes;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time};
use web::{
    connection::{ConnectionLimiter, LeastRate},
    source::Source,
};

use self::connection::{Connections, Timeouts};
pub use self::probes::Probes;
use crate::{config::Config, delivery::Transport, node::Node, routes::app};

/// How often the keys' age is looked at, and the images that wait to be fetched.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Serves `node` on `listener` until `shutdown` is over; then finishes what runs, within the
/// configured bound. New connections are answered 503 meanwhile.
///
/// An accept loop of our own, since axum's sets no bound on how long a client may take to send its
/// request or to read its answer, or on how many connections there are.
pub async fn serve(listener: TcpListener, node: Arc<Node>, shutdown: impl Future<Output = ()>) {
    let config = node.config();
    let (stop, _) = watch::channel(false);
    let acceptor = Acceptor {
        connections: Connections::new(
            app(node.clone()),
            node.tls().map(|tls| tls.acceptor().clone()),
            timeouts(config),
        ),
        limiter: ConnectionLimiter::new(config.max_connections, config.max_connections_per_address),
        node: node.clone(),
        stop,
    };
    let mut accepting = std::pin::pin!(acceptor.run(&listener));
    tokio::select! {
        () = shutdown => {}
        never = &mut accepting => match never {},
        never = housekeeping(&node) => match never {},
    }
    node.drain();
    acceptor.stop.send_replace(true);
    tracing::info!("stopping: finishing what runs");
    tokio::select! {
        finished = time::timeout(config.drain(), acceptor.stop.closed()) => {
            if finished.is_err() {
                tracing::warn!("stopped with requests unfinished");
            }
        }
        never = accepting => match never {},
    }
}

struct Acceptor {
    connections: Connections,
    limiter: ConnectionLimiter,
    node: Arc<Node>,
    /// Every connection from before the node stops holds a receiver, until it is over.
    stop: watch::Sender<bool>,
}

impl Acceptor {
    async fn run(&self, listener: &TcpListener) -> Infallible {
        loop {
            let (socket, peer, slot) = self
                .limiter
                .accept(
                    listener,
                    |peer| self.source(peer),
                    |error| tracing::warn!(%error, "a connection was not accepted"),
                )
                .await;
            let stop = (!*self.stop.borrow()).then(|| self.stop.subscribe());
            // Beside the one that is used up once the node stops.
            let running = stop.clone();
            let serving = self.connections.clone().serve(socket, peer, slot, stop);
            let connected = self.node.traffic().connected();
            tokio::spawn(async move {
                Transport::carry(serving).await;
                drop((connected, running));
            });
        }
    }

    /// Whose share a connection counts towards: nobody's, where it brings many clients' requests.
    fn source(&self, peer: IpAddr) -> Option<Source> {
        (!self.node.requests().forwarders().trusts(peer)).then(|| Source::of(peer))
    }
}

fn timeouts(config: &Config) -> Timeouts {
    Timeouts {
        header: config.header_timeout(),
        read: LeastRate {
            timeout: config.write_timeout().min(config.delivery_timeout()),
            bytes_per_sec: config.min_write_bytes_per_sec,
        },
        idle: config.write_timeout(),
    }
}

async fn housekeeping(node: &Node) -> Infallible {
    let mut ticks = time::interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = std::time::Instant::now();
        node.image_store().forget_old(now);
        node.deliveries().end_overdue(now);
        if let Ok(service) = node.service()
            && let Err(error) = service.rotate_keys_if_due()
        {
            tracing::error!(%error, "the keys stay as they are");
        }
    }
}
