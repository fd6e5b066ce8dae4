//! What uploads that were cut have brought, for the next one to go on from. A restart forgets it.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use orchestra_types::Digest;

use super::{Blobs, write::Part};

/// How long the rest is waited for.
const KEEP: Duration = Duration::from_secs(3600);
/// Most of them; the ones that were cut first go first.
const MAX: usize = 64;

/// All of them. One that is dropped leaves nothing on the disk.
#[derive(Debug, Default)]
pub(super) struct Partials {
    all: BTreeMap<Digest, (Instant, Part)>,
}

impl Partials {
    pub fn keep(&mut self, digest: Digest, part: Part) {
        self.forget_old(Instant::now());
        if self.all.len() >= MAX {
            let oldest = self.all.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.all.remove(&oldest);
            }
        }
        self.all.insert(digest, (Instant::now(), part));
    }

    pub fn take(&mut self, digest: &Digest) -> Option<Part> {
        self.all.remove(digest).map(|(_, part)| part)
    }

    fn forget_old(&mut self, now: Instant) {
        self.all
            .retain(|_, (since, _)| now.duration_since(*since) < KEEP);
    }
}

impl Blobs {
    /// How many bytes an upload that was cut has left.
    #[must_use]
    pub fn partial(&self, digest: &Digest) -> u64 {
        let partials = self.partials();
        partials.all.get(digest).map_or(0, |(_, part)| part.written)
    }

    /// Drops what nobody has gone on with.
    pub fn forget_old_partials(&self) {
        self.partials().forget_old(Instant::now());
    }

    pub(super) fn partials(&self) -> MutexGuard<'_, Partials> {
        let partials = self.inner.partials.lock();
        partials.unwrap_or_else(PoisonError::into_inner)
    }
}
