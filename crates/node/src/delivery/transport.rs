//! What carries an answer, and how to let go of it: an HTTP/2 stream, or a whole connection.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hyper::rt::Executor;
use tokio::sync::watch;

tokio::task_local! {
    /// What carries the request that this task answers.
    static CURRENT: Transport;
}

/// An HTTP/2 stream, or a connection. A body cannot end one by itself: while a reader takes
/// nothing, nobody asks the body.
#[derive(Clone)]
pub(crate) struct Transport(Arc<Inner>);

struct Inner {
    closed: watch::Sender<bool>,
    /// Its future is over. Of an HTTP/2 stream, the last bytes may still wait in its connection.
    is_over: AtomicBool,
    connection: Option<Transport>,
}

impl Transport {
    /// What carries the request that is answered here.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs what a connection does, until it is done or [closed](Self::close).
    pub(crate) async fn carry<F: Future>(future: F) -> Option<F::Output> {
        Self::run(None, future).await
    }

    /// Whether it is an HTTP/2 stream whose last bytes its connection has: that alone can let go of them.
    pub(super) fn is_taken(&self) -> bool {
        self.0.connection.is_some() && self.0.is_over.load(Ordering::Acquire)
    }

    /// Drops what it carries, which resets the stream or closes the connection.
    pub(crate) fn close(&self) {
        match &self.0.connection {
            Some(connection) if self.is_taken() => connection.close(),
            _ => drop(self.0.closed.send_replace(true)),
        }
    }

    async fn run<F: Future>(connection: Option<Self>, future: F) -> Option<F::Output> {
        let (closed, mut watched) = watch::channel(false);
        let inner = Inner { closed, is_over: AtomicBool::new(false), connection };
        let this = Self(Arc::new(inner));
        let _over = Over(this.clone());
        tokio::select! {
            biased;
            done = CURRENT.scope(this.clone(), future) => Some(done),
            _ = watched.wait_for(|closed| *closed) => None,
        }
    }
}

struct Over(Transport);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.0.is_over.store(true, Ordering::Release);
    }
}

/// Runs each HTTP/2 stream of a connection in a task of its own, so that one can be let go without
/// the others.
#[derive(Clone, Copy)]
pub(crate) struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let connection = Transport::current();
        tokio::spawn(async move {
            Transport::run(connection, stream).await;
        });
    }
}
