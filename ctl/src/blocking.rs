//! Work that takes long, away from the thread that talks to the head.

use crate::error::{Error, Result};

/// Runs `work` on another thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|e| Error::failed("a part of ctl broke").because(e))?
}
