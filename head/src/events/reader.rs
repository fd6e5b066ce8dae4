//! Reads one attempt's events from any number on, and waits for new ones.
//!
//! A reader that keeps up takes the newest events from memory; one that is behind reads the
//! segments. In both cases it holds one batch, however slow it is.

use std::{io, sync::Arc};

use bytes::Bytes;
use orchestra_types::{AttemptId, Timestamp, limits};
use tokio::sync::watch;

use super::{
    Error, Gap, GapReason, Piece, Tail,
    catalog::Catalog,
    frame,
    index::{Place, first_behind},
    io_error,
    segment::{self, Name},
};

/// A batch ends when it has this many bytes: what a slow reader costs.
const BATCH_BYTES: usize = 64 * 1024;
/// How often a reader looks again when a segment went away under it.
const LOOKS_MAX: u32 = 3;

/// A reader's place in an attempt's events.
#[derive(Debug)]
pub struct Reader {
    catalog: Arc<Catalog>,
    attempt: AttemptId,
    tail: watch::Receiver<Tail>,
    place: At,
}

/// `seq` is the last number that was given out; the next is not before segment `number`.
#[derive(Clone, Copy, Debug)]
struct At {
    seq: u64,
    number: u64,
}

impl Reader {
    pub(super) fn new(
        catalog: Arc<Catalog>,
        attempt: AttemptId,
        after: u64,
        tail: watch::Receiver<Tail>,
    ) -> Self {
        let place = At {
            seq: after,
            number: 0,
        };
        Self {
            catalog,
            attempt,
            tail,
            place,
        }
    }

    /// The next durable events, or what is missing of them; none when there are none yet.
    pub async fn next(&mut self) -> Result<Option<Piece>, Error> {
        for _ in 0..LOOKS_MAX {
            let tail = self.tail.borrow_and_update().clone();
            if let Some(gap) = tail.dropped.filter(|gap| gap.to > self.place.seq) {
                return Ok(Some(self.pass(gap)));
            }
            if self.place.seq >= tail.last {
                return Ok(None);
            }
            if let Some(piece) = tail.newest.as_ref().and_then(|newest| self.keep_up(newest)) {
                return Ok(Some(piece));
            }
            let (catalog, attempt, place) = (Arc::clone(&self.catalog), self.attempt, self.place);
            let read =
                tokio::task::spawn_blocking(move || read(&catalog, attempt, place, tail.last));
            if let Some((piece, place)) = read.await.map_err(|_| Error::Stopped)?? {
                self.place = place;
                return Ok(Some(piece));
            }
        }
        // The same places went away again and again: no disk and no retention does that.
        Err(Error::Missing {
            attempt: self.attempt,
            after: self.place.seq,
        })
    }

    /// Waits until there may be more.
    pub async fn more(&mut self) -> Result<(), Error> {
        self.tail.changed().await.map_err(|_| Error::Stopped)
    }

    /// What is missing behind the last event that was read of an attempt that has ended, began at `began`,
    /// and whose end was not among them: how many there were, nobody knows. Not where a segment that
    /// may have had it is there.
    #[must_use]
    pub fn lost_end(&self, began: Timestamp) -> Option<Gap> {
        let At { seq, number } = self.place;
        let inner = self.catalog.read();
        let noted = match (seq, number) {
            (0, _) => inner.lost.values().chain(inner.cut.values()).max(),
            (_, 0) => None, // Nothing was read from a segment.
            (_, number) => {
                let cut = inner.cut.get(&number).max(inner.cut.get(&(number + 1)));
                cut.max(inner.lost.get(&(number + 1)))
            }
        };
        let is_lost = noted.is_some_and(|noted| began < *noted);
        // Whoever asks may begin behind any number.
        let next = seq.saturating_add(1);
        is_lost.then_some(Gap {
            from: next,
            to: next,
            why: GapReason::Damaged,
        })
    }

    fn pass(&mut self, gap: Gap) -> Piece {
        let from = gap.from.max(self.place.seq + 1);
        self.place.seq = gap.to;
        Piece::Gap(Gap { from, ..gap })
    }

    fn keep_up(&mut self, newest: &super::Newest) -> Option<Piece> {
        let known = self.place.seq.checked_sub(newest.first - 1)?;
        let events = newest.events.get(usize::try_from(known).ok()?..)?.to_vec();
        let first = self.place.seq + 1;
        self.place.seq += events.len() as u64;
        (!events.is_empty()).then_some(Piece::Events { first, events })
    }
}

/// What comes next on disk; none when it has to be looked up again.
fn read(
    catalog: &Catalog,
    attempt: AttemptId,
    at: At,
    last: u64,
) -> Result<Option<(Piece, At)>, Error> {
    let mut batch = Batch::new(at);
    for sealed in catalog.holding(attempt, at.number) {
        let index = match catalog.index(&sealed) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(batch.finish());
            }
            index => index?,
        };
        let places = index.get(&attempt).map_or(&[][..], Vec::as_slice);
        if batch.add(catalog, attempt, sealed.name, places, last)? == Room::Full {
            return Ok(batch.finish());
        }
    }
    let (name, places) = {
        let inner = catalog.read();
        let places = inner.open.places.get(&attempt).cloned();
        (inner.open.name, places.unwrap_or_default())
    };
    batch.add(catalog, attempt, name, &places, last)?;
    Ok(batch.finish())
}

struct Batch {
    at: At,
    first: u64,
    events: Vec<Bytes>,
    bytes: usize,
    /// In place of events.
    gap: Option<Gap>,
}

#[derive(PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

impl Batch {
    fn new(at: At) -> Self {
        Self {
            at,
            first: at.seq + 1,
            events: Vec::new(),
            bytes: 0,
            gap: None,
        }
    }

    /// Adds what follows from one segment.
    fn add(
        &mut self,
        catalog: &Catalog,
        attempt: AttemptId,
        name: Name,
        places: &[Place],
        last: u64,
    ) -> Result<Room, Error> {
        for place in &places[first_behind(places, self.at.seq)..] {
            if place.gap.is_some() || place.last <= self.at.seq {
                continue; // Told by the tail already.
            }
            if place.first > last {
                break;
            }
            if place.first > self.at.seq + 1 {
                return Ok(self.missing(place.first - 1));
            }
            if self.bytes >= BATCH_BYTES || self.events.len() >= limits::EVENT_BATCH_MAX {
                return Ok(Room::Full);
            }
            let path = name.segment(catalog.root());
            let body = match segment::read(&path, attempt, *place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Room::Full),
                body => body.map_err(|e| io_error("read", &path, e))?,
            };
            let events = body.and_then(|body| frame::events(body).ok());
            let Some(events) = events else {
                let offset = place.offset;
                tracing::error!(%attempt, path = %path.display(), offset, first = place.first, last = place.last, "events are damaged on disk");
                return Ok(self.missing(place.last));
            };
            self.take(events, place);
            self.at.number = name.number;
        }
        Ok(Room::Left)
    }

    fn take(&mut self, events: Vec<Bytes>, place: &Place) {
        let known = usize::try_from(self.at.seq + 1 - place.first).unwrap_or(usize::MAX);
        let room = limits::EVENT_BATCH_MAX - self.events.len();
        let new = events.into_iter().skip(known).take(room);
        let before = self.events.len();
        self.events.extend(new);
        let added = &self.events[before..];
        self.bytes += added.iter().map(Bytes::len).sum::<usize>();
        self.at.seq += added.len() as u64;
    }

    /// What is not there is told as a gap, after what came before it.
    fn missing(&mut self, to: u64) -> Room {
        if self.events.is_empty() {
            self.gap = Some(Gap {
                from: self.at.seq + 1,
                to,
                why: GapReason::Damaged,
            });
            self.at.seq = to;
        }
        Room::Full
    }

    fn finish(self) -> Option<(Piece, At)> {
        let piece = match self.gap {
            Some(gap) => Piece::Gap(gap),
            None if self.events.is_empty() => return None,
            None => Piece::Events {
                first: self.first,
                events: self.events,
            },
        };
        Some((piece, self.at))
    }
}
