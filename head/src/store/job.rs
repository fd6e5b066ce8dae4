//! Disk work that need not hold the engine up: it touches files, never sled.

use std::{io, path::Path, thread::JoinHandle};

use super::{Result, error::io_error};

/// Work on a thread of its own. Dropped, it is waited for: nothing outlives the store.
#[derive(Debug)]
pub(super) struct Job<T>(Option<JoinHandle<Result<T>>>);

impl<T: Send + 'static> Job<T> {
    /// Starts work on what lies at `path`.
    pub fn start(path: &Path, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Self> {
        let builder = std::thread::Builder::new().name("store".to_owned());
        let thread = builder.spawn(work);
        let thread = thread.map_err(|source| io_error("start work on", path, source))?;
        Ok(Self(Some(thread)))
    }

    /// Whether `finish` would not wait.
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the result.
    pub fn finish(mut self, path: &Path) -> Result<T> {
        let thread = self.0.take().expect("a job is finished once");
        let panicked = || io_error("work on", path, io::Error::other("the work panicked"));
        thread.join().map_err(|_| panicked())?
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // Who drops it does not want the result.
            let _ = thread.join();
        }
    }
}
