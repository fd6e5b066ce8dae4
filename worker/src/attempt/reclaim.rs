//! An attempt whose agent has ended on a full disk: what makes room for its result, and who is told.

use orchestra_types::Place;

use super::run::{Attempt, Error, chain};
use crate::{
    blocking::blocking,
    room::{self, Waiting},
};

impl Attempt {
    /// Takes back what no result has. For a full disk and an agent that has ended: what it built may be what
    /// filled the disk.
    pub(super) async fn reclaim(&mut self) -> Result<(), Error> {
        if !matches!(self.order.spec.place, Place::Repository { .. }) {
            return Ok(());
        }
        let job = self.job();
        let reclaimed = blocking(move || job.workspace()?.reclaim()).await;
        match reclaimed {
            Ok(0) => Ok(()),
            Ok(files) => {
                let what = match files {
                    1 => "1 file that git ignores was removed, it is".to_owned(),
                    files => format!("{files} files that git ignores were removed, they are"),
                };
                self.tell(
                    "collecting",
                    format!("the disk is full: {what} in no result"),
                )
            }
            Err(error) => {
                tracing::warn!(attempt = %self.id, error = chain(&error), "nothing of it makes room");
                Ok(())
            }
        }
    }

    /// Has a person told of it: so many bytes were not enough, where that is known.
    pub(super) fn waits_for_room(&self, had: u64) {
        let waiting = Waiting {
            dir: self.directory(),
            had,
        };
        room::note_waiting(&self.shared.room, self.id, Some(waiting));
    }

    /// It has what it waited for.
    pub(super) fn waits_no_longer(&self) {
        room::note_waiting(&self.shared.room, self.id, None);
    }
}
