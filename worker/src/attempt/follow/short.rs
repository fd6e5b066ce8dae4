//! Whether the disk of an agent's workspace was full at some time while the agent ran, as far as the worker has
//! seen it: it looks at its disks every few seconds. A worker that comes back knows only of what it sees itself.

use std::{future::pending, path::PathBuf, slice};

use tokio::{sync::watch, task::JoinSet};

use crate::room::Room;

/// A watch beside an agent. It ends with what is given back.
#[derive(Debug)]
pub struct Short {
    /// It has ended where the disk was full.
    task: JoinSet<()>,
}

impl Short {
    /// Watches the disk of `dir`: it is looked at whenever there is news of the `room`.
    pub fn watch(room: watch::Receiver<Room>, dir: PathBuf) -> Self {
        let mut task = JoinSet::new();
        task.spawn(until_full(room, dir));
        Self { task }
    }

    /// Whether it was full.
    pub fn was_seen(mut self) -> bool {
        match self.task.try_join_next() {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::error!(%error, "watching the disk of an agent failed");
                false
            }
            None => false,
        }
    }
}

/// It is looked at anew: what the worker has noted of its disks may be of before the agent's start.
async fn until_full(mut room: watch::Receiver<Room>, dir: PathBuf) {
    while !Room::look(slice::from_ref(&dir)).is_full() {
        if room.changed().await.is_err() {
            pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_has_room_is_not_remembered_whatever_was_noted_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let full = Room {
            total: 1000,
            ..Room::default()
        };
        assert!(full.is_full());
        let (room, told) = watch::channel(full.clone());
        let mut until = Box::pin(until_full(told, dir.path().to_owned()));
        assert!((&mut until).now_or_never().is_none());
        room.send_replace(full);
        assert!((&mut until).now_or_never().is_none());
        drop(room);
        assert!(until.now_or_never().is_none());
    }
}
