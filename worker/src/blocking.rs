//! Work that takes long, on threads of its own: the one that follows all attempts must not wait.

use std::{future::pending, panic::resume_unwind};

/// Does disk or processor work where it may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match blocking_unless_stopping(work).await {
        Some(value) => value,
        // The runtime is shutting down, and this task with it.
        None => pending().await,
    }
}

/// The same; none when the worker is stopping.
pub async fn blocking_unless_stopping<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Some(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => None,
        },
    }
}
