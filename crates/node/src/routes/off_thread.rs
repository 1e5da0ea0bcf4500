//! Work that would hold up the threads that answer.

use crate::error::ApiError;

/// Runs what takes milliseconds beside the threads that answer, and wipes the stack that it ran on.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(|| wipe::stack(work)).await.map_err(|_| {
        tracing::error!("work beside the engine panicked");
        ApiError::Internal
    })
}
