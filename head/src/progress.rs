//! How far something long has come: told to who waits for it, and given up when nobody does.

use std::io::{self, Read};

use tokio::sync::watch;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all, as far as they are known; they can become more.
    pub total: u64,
}

/// Who waited has gone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nobody waits for it any more")]
pub struct Cancelled;

/// The side that works. It gives up when the other side is dropped.
#[derive(Clone, Debug)]
pub struct Progress(Option<watch::Sender<Reached>>);

impl Progress {
    /// Nobody looks, and it is done all the same.
    #[must_use]
    pub fn unwatched() -> Self {
        Self(None)
    }

    /// Somebody looks. Dropping the receiver cancels the work.
    #[must_use]
    pub fn watched() -> (Self, watch::Receiver<Reached>) {
        let (sender, receiver) = watch::channel(Reached::default());
        (Self(Some(sender)), receiver)
    }

    /// So many bytes more are to be done.
    pub fn expect(&self, bytes: u64) {
        if let Some(sender) = &self.0 {
            sender.send_modify(|reached| reached.total += bytes);
        }
    }

    /// So many bytes more are done.
    pub fn passed(&self, bytes: u64) -> Result<(), Cancelled> {
        let Some(sender) = &self.0 else {
            return Ok(());
        };
        if sender.is_closed() {
            return Err(Cancelled);
        }
        sender.send_modify(|reached| {
            reached.done += bytes;
            reached.total = reached.total.max(reached.done);
        });
        Ok(())
    }

    /// Counts what is read. A read fails when nobody waits any more.
    pub fn counting<R: Read>(&self, inner: R) -> Counting<R> {
        Counting {
            inner,
            progress: self.clone(),
        }
    }
}

/// See [`Progress::counting`].
#[derive(Debug)]
pub struct Counting<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let passed = self.progress.passed(read as u64);
        passed.map_err(io::Error::other)?;
        Ok(read)
    }
}

/// Whether an error came from [`Cancelled`].
#[must_use]
pub fn is_cancelled(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        cause.is::<Cancelled>() || io.is_some_and(caused)
    })
}

/// Whether a read failed because of [`Cancelled`].
#[must_use]
pub fn caused(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<Cancelled>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_sees_it_and_who_goes_cancels_it() {
        let (progress, reached) = Progress::watched();
        progress.expect(10);
        let mut bytes = Vec::new();
        progress
            .counting(&b"four"[..])
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(*reached.borrow(), Reached { done: 4, total: 10 });
        progress.passed(20).unwrap();
        assert_eq!(
            *reached.borrow(),
            Reached {
                done: 24,
                total: 24
            }
        );
        drop(reached);
        let read = progress.counting(&b"four"[..]).read_to_end(&mut bytes);
        let error = anyhow::Error::from(read.unwrap_err()).context("failed to read");
        assert!(is_cancelled(&error));
        assert!(!is_cancelled(&anyhow::anyhow!("something else")));
        Progress::unwatched().passed(1).unwrap();
    }
}
