//! Who may upload, and who writes to the disk meanwhile.
//!
//! An upload that waits for its sender holds no thread: only a few write at a time, and of one caller
//! fewer still, so that nobody takes the disk from the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::status::{self, Result};
use crate::security::Identity;

/// Uploads that write at the same time. Each has a thread of the runtime's 512 meanwhile.
const WRITING_MAX: usize = 64;
/// Those of one caller.
const WRITING_OF_ONE_MAX: usize = 16;
/// Uploads that one caller may have open: each is an open file. A worker has as many only when about a
/// hundred of its attempts end in the same moment, and then tries again.
pub(super) const OPEN_OF_ONE_MAX: usize = 512;

/// All uploads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads {
    writing: Arc<Semaphore>,
    callers: Arc<Mutex<BTreeMap<String, Caller>>>,
}

#[derive(Debug)]
struct Caller {
    open: usize,
    writing: Arc<Semaphore>,
}

/// An open upload.
#[derive(Debug)]
pub(super) struct Upload {
    all: Uploads,
    caller: String,
    writing: Arc<Semaphore>,
}

/// The right to write, as long as it lives.
#[derive(Debug)]
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            writing: Arc::new(Semaphore::new(WRITING_MAX)),
            callers: Arc::default(),
        }
    }
}

impl Uploads {
    /// Opens an upload, or refuses it when its caller has too many.
    pub(super) fn begin(&self, caller: &Identity) -> Result<Upload> {
        let name = caller.to_string();
        let mut callers = self.callers();
        let own = callers.entry(name.clone()).or_insert_with(|| Caller {
            open: 0,
            writing: Arc::new(Semaphore::new(WRITING_OF_ONE_MAX)),
        });
        if own.open >= OPEN_OF_ONE_MAX {
            return Err(status::too_many_uploads(OPEN_OF_ONE_MAX));
        }
        own.open += 1;
        Ok(Upload {
            all: self.clone(),
            caller: name,
            writing: Arc::clone(&own.writing),
        })
    }

    fn callers(&self) -> MutexGuard<'_, BTreeMap<String, Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Waits until this upload may write. Who asked first is first.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let closed = |_| status::stopping();
        let own = Arc::clone(&self.writing).acquire_owned().await;
        let own = own.map_err(closed)?;
        let all = Arc::clone(&self.all.writing).acquire_owned().await;
        Ok(Turn {
            _own: own,
            _all: all.map_err(closed)?,
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut callers = self.all.callers();
        if let Some(own) = callers.get_mut(&self.caller) {
            own.open -= 1;
            // One that is cut may write for a moment longer.
            if own.open == 0 && own.writing.available_permits() == WRITING_OF_ONE_MAX {
                callers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn caller(n: usize) -> Identity {
        Identity::admin(&format!("a{n}"))
    }

    /// A turn that is there at once.
    fn turn(upload: &Upload) -> Option<Turn> {
        upload.turn().now_or_never().map(|turn| turn.unwrap())
    }

    #[test]
    fn one_caller_does_not_take_the_disk_from_the_others() {
        let uploads = Uploads::default();
        let (one, other) = (uploads.begin(&caller(1)), uploads.begin(&caller(2)));
        let (one, other) = (one.unwrap(), other.unwrap());
        let mut turns: Vec<_> = std::iter::from_fn(|| turn(&one)).collect();
        assert_eq!(turns.len(), WRITING_OF_ONE_MAX);
        assert!(turn(&other).is_some());
        turns.pop();
        assert!(turn(&one).is_some());
    }

    #[test]
    fn all_together_have_as_many_threads_as_there_are_for_them() {
        let uploads = Uploads::default();
        let open: Vec<_> = (0..WRITING_MAX)
            .map(|n| uploads.begin(&caller(n)).unwrap())
            .collect();
        let turns: Vec<_> = open
            .iter()
            .flat_map(|open| std::iter::from_fn(|| turn(open)))
            .collect();
        assert_eq!(turns.len(), WRITING_MAX);
    }

    #[test]
    fn a_caller_with_too_many_is_refused_until_one_of_them_ends() {
        let uploads = Uploads::default();
        let mut open: Vec<_> = (0..OPEN_OF_ONE_MAX)
            .map(|_| uploads.begin(&caller(1)).unwrap())
            .collect();
        let refused = uploads.begin(&caller(1)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(uploads.begin(&caller(2)).is_ok());
        open.pop();
        assert!(uploads.begin(&caller(1)).is_ok());
        drop(open);
        assert!(uploads.callers().is_empty());
    }
}
