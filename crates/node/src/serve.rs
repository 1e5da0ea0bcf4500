//! Listens, serves, stops.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time};

use crate::{node::Node, routes::app};

/// How often the keys' age is looked at.
const KEY_CHECK: Duration = Duration::from_secs(1);
/// How long to wait where the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `node` on `listener` until `shutdown` is over; then finishes what runs, within the
/// configured bound.
///
/// An accept loop of our own, since axum's sets no bound on how long a client may take to send its
/// headers, or on how many connections there are.
pub async fn serve(listener: TcpListener, node: Arc<Node>, shutdown: impl Future<Output = ()>) {
    let config = node.config();
    let router = app(node.clone());
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(config.header_timeout());
    http.http2().timer(TokioTimer::new()).max_concurrent_streams(64);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(config.max_connections));
    let mut key_check = time::interval(KEY_CHECK);
    key_check.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    tokio::pin!(shutdown);

    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = key_check.tick() => {
                if let Ok(service) = node.service()
                    && let Err(error) = service.rotate_keys_if_due()
                {
                    tracing::error!(%error, "the keys stay as they are");
                }
            }
            (Ok(place), accepted) = accept => match accepted {
                Ok((socket, _)) => {
                    // Answers are one write each; waiting to fill a packet only delays them.
                    let _ = socket.set_nodelay(true);
                    let service = TowerToHyperService::new(router.clone());
                    let connection =
                        http.serve_connection(TokioIo::new(socket), service).into_owned();
                    let connection = graceful.watch(connection);
                    tokio::spawn(async move {
                        // How a connection ends is the client's affair.
                        let _ = connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    drop(listener);
    node.drain();
    tracing::info!("stopping: finishing what runs");
    if time::timeout(config.drain(), graceful.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests unfinished");
    }
}
