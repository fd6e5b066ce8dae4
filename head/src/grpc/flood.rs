//! How much of submissions may be in the head at once. Who finds no room in time is refused, and
//! loses nothing: the same key gives the same tasks.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bytes of the wire of all submissions that are being taken in: 512 MiB.
const BYTES_MAX: usize = 512 * 1024 * 1024;
/// What one permit stands for.
const UNIT: usize = 1024;
/// How long a submission waits for room.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// The room for submissions.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// There is no room.
#[derive(Debug)]
pub(super) struct NoRoom;

/// What a submission holds until it is answered.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Waits for room for so many bytes more.
    pub(super) async fn take(
        &self,
        held: &mut Held,
        bytes: usize,
    ) -> std::result::Result<(), NoRoom> {
        let units = u32::try_from(bytes / UNIT + 1).map_err(|_| NoRoom)?;
        let permit = Arc::clone(&self.0).acquire_many_owned(units);
        match timeout(ROOM_WITHIN, permit).await {
            Ok(Ok(permit)) => held.0.push(permit),
            Ok(Err(_)) | Err(_) => return Err(NoRoom),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_is_refused_and_the_next_one_fits_when_it_is_free() {
        let room = Room::of(10 * UNIT);
        let (mut first, mut second) = (Held::default(), Held::default());
        room.take(&mut first, 4 * UNIT).await.unwrap();
        room.take(&mut first, 4 * UNIT - 1).await.unwrap();
        assert!(room.take(&mut second, 2 * UNIT).await.is_err());
        drop(first);
        room.take(&mut second, 2 * UNIT).await.unwrap();
    }
}
