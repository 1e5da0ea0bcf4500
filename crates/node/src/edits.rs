//! Where edits are read: beside the threads that answer, and few at a time.
//!
//! Reading one takes tens of megabytes of body, of plaintext and of files, and hundreds of megabytes of pixels while an
//! image is decoded. What has been read waits in little: a few megabytes a request, and there are only as many as places in
//! the queue.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::error::ApiError;

/// Edits that are read at once.
const AT_ONCE: usize = 2;

/// Reads edits, in turns.
pub(crate) struct EditReader {
    turns: Arc<Semaphore>,
    /// How long one waits for its turn.
    patience: Duration,
}

impl EditReader {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), patience }
    }

    /// Runs `work` when its turn comes, and wipes the stack that it ran on.
    ///
    /// # Errors
    /// Where its turn does not come, or it panics.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = timeout(self.patience, self.turns.clone().acquire_owned());
        let turn = turn.await.map_err(|_| ApiError::Deadline)?.map_err(|_| ApiError::Internal)?;
        let read = spawn_blocking(move || {
            let read = wipe::deep_stack(work);
            // Here, so that work whose client has gone counts until it ends.
            drop(turn);
            read
        });
        read.await.map_err(|_| {
            tracing::error!("reading an edit panicked");
            ApiError::Internal
        })
    }
}
