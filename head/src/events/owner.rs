//! The one thread that writes events: takes what waits, writes it with one write and one sync,
//! lets readers see it, then acknowledges.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use bytes::Bytes;
use orchestra_core::{Doubt, doubt};
use orchestra_types::{AttemptId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Command, Error, Gap, Newest, Stored, Tail,
    catalog::{Catalog, Open, Sealed},
    frame::{self, Header, Kind},
    index::{Place, Summary},
    io_error,
    listed::{self, Listed},
    recover::unless_full,
    retention::Limits,
    segment::{Name, Writer},
};
use crate::engine::Clock;

/// Most commands that share one write and one sync.
pub(super) const TURN_COMMANDS_MAX: usize = 1024;
/// A turn ends when it has this many bytes.
pub(super) const TURN_BYTES: usize = 4 * 1024 * 1024;
/// A segment is full when it has this many bytes, or frames.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
const SEGMENT_FRAMES: usize = 32 * 1024;
/// Attempts that are kept at hand; others are looked up in the segments when they are asked for.
const ATTEMPTS_MAX: usize = 16 * 1024;
/// Newest events of an attempt that are kept in memory for those who follow it.
const NEWEST_BYTES_MAX: usize = 128 * 1024;

pub(super) struct Files {
    pub(super) catalog: Arc<Catalog>,
    pub(super) writer: Writer,
    pub(super) listed: Listed,
    pub(super) attempts: BTreeMap<AttemptId, Attempt>,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    /// The clock of the start is not believed.
    pub(super) doubt: Option<Doubt>,
    /// Segments that may have become half dead.
    pub(super) suspects: BTreeSet<u64>,
    turn: u64,
    buffer: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Attempt {
    pub(super) last: u64,
    pub(super) dropped: Option<Gap>,
    /// What its events take on disk.
    pub(super) bytes: u64,
    /// Who follows. Made when somebody asks.
    tail: Option<watch::Sender<Tail>>,
    used_in_turn: u64,
}

/// What a turn appends to one attempt.
#[derive(Default)]
struct Fresh {
    first: u64,
    events: Vec<Bytes>,
}

#[derive(Default)]
pub(super) struct Turn {
    fresh: BTreeMap<AttemptId, Fresh>,
    pub(super) bytes: usize,
    waiting: Vec<Waiting>,
    /// It is the last one.
    stops: bool,
}

/// Who waits until what it appended is durable.
struct Waiting {
    attempt: AttemptId,
    /// How many of its events were not there before.
    new: u64,
    done: oneshot::Sender<Result<Stored, Error>>,
}

/// Runs until it is told to stop or all senders are gone, or until the first error that cannot be told to the sender.
pub(super) fn run(mut files: Files, mut inbox: mpsc::Receiver<Command>) -> Result<(), Error> {
    files.import_former()?;
    files.keep_limits()?;
    while let Some(first) = inbox.blocking_recv() {
        let mut turn = Turn::default();
        files.take(first, &mut turn)?;
        let mut taken = 1;
        while taken < TURN_COMMANDS_MAX
            && turn.bytes < TURN_BYTES
            && !turn.stops
            && let Ok(command) = inbox.try_recv()
        {
            files.take(command, &mut turn)?;
            taken += 1;
        }
        let stops = turn.stops;
        files.finish(turn)?;
        if stops {
            break;
        }
        while inbox.is_empty() && files.may_reclaim() {
            files.reclaim_one()?;
        }
    }
    files.close()
}

impl Files {
    pub fn new(
        catalog: Arc<Catalog>,
        writer: Writer,
        listed: Listed,
        limits: Limits,
        clock: Clock,
    ) -> Self {
        Self {
            limits,
            listed,
            doubt: doubt(catalog.newest(), clock.now()),
            suspects: BTreeSet::new(),
            catalog,
            writer,
            attempts: BTreeMap::new(),
            clock,
            turn: 0,
            buffer: Vec::new(),
        }
    }

    fn take(&mut self, command: Command, turn: &mut Turn) -> Result<(), Error> {
        match command {
            Command::Append {
                attempt,
                first,
                events,
                done,
            } => {
                let last = self.attempt(attempt)?.last;
                let new = turn.add(attempt, last, first, events);
                turn.waiting.push(Waiting { attempt, new, done });
            }
            Command::Tail { attempt, done } => {
                let tail = self.subscribe(attempt)?;
                // Who asked may be gone.
                let _ = done.send(tail);
            }
            Command::Forget { last, done } => {
                self.forget(last);
                let _ = done.send(());
            }
            Command::KeepLimits => self.keep_limits()?,
            Command::Settle { done } => {
                let _ = done.send(());
            }
            Command::Stop => turn.stops = true,
        }
        Ok(())
    }

    /// Durable first, told second.
    pub(super) fn finish(&mut self, mut turn: Turn) -> Result<(), Error> {
        self.turn += 1;
        if !turn.fresh.is_empty() {
            match self.write(&turn) {
                Ok(()) => self.publish(std::mem::take(&mut turn.fresh))?,
                Err(Error::Full { path }) => {
                    for waiting in turn.waiting.drain(..) {
                        let _ = waiting.done.send(Err(Error::Full { path: path.clone() }));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        for Waiting { attempt, new, done } in turn.waiting {
            let up_to = self.attempts.get(&attempt).map_or(0, |known| known.last);
            let _ = done.send(Ok(Stored { up_to, new }));
        }
        self.forget_unused();
        self.roll_when_full()
    }

    fn write(&mut self, turn: &Turn) -> Result<(), Error> {
        let (start, now) = (self.writer.bytes(), self.clock.now());
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut places = Vec::new();
        for (attempt, fresh) in &turn.fresh {
            fresh.put(*attempt, now, start, &mut buffer, &mut places);
        }
        let written = self.append(&buffer);
        buffer.shrink_to(TURN_BYTES);
        self.buffer = buffer;
        written?;
        for (attempt, place) in &places {
            let attempt = self.attempts.entry(*attempt).or_default();
            attempt.bytes += u64::from(place.length);
        }
        let mut inner = self.catalog.write();
        inner.open.add(places, self.writer.bytes(), now);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let path = || {
            let name = self.catalog.read().open.name;
            name.segment(self.catalog.root())
        };
        match self.writer.append(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(Error::Full { path: path() });
            }
            Err(error) => return Err(io_error("write", &path(), error)),
        }
        let synced = self.writer.sync();
        synced.map_err(|error| io_error("sync", &path(), error))?;
        let sealed = self.writer.seal(self.clock.now());
        sealed.map_err(|error| io_error("seal", &path(), error))
    }

    fn publish(&mut self, fresh: BTreeMap<AttemptId, Fresh>) -> Result<(), Error> {
        let mut too_large = Vec::new();
        for (id, fresh) in fresh {
            let attempt = self.attempts.entry(id).or_default();
            attempt.last = fresh.first + fresh.events.len() as u64 - 1;
            if attempt.is_followed() {
                attempt.tell(fresh.newest());
            }
            if attempt.bytes > self.limits.max_attempt_bytes {
                too_large.push(id);
            }
        }
        too_large.into_iter().try_for_each(|id| self.trim(id))
    }

    fn subscribe(&mut self, id: AttemptId) -> Result<watch::Receiver<Tail>, Error> {
        let attempt = self.attempt(id)?;
        let now = Tail {
            last: attempt.last,
            dropped: attempt.dropped,
            newest: None,
        };
        let tail = attempt
            .tail
            .get_or_insert_with(|| watch::Sender::new(now.clone()));
        if tail.receiver_count() == 0 {
            tail.send_replace(now);
        }
        Ok(tail.subscribe())
    }

    /// An attempt as it stands, from the segments when it is not at hand.
    pub(super) fn attempt(&mut self, id: AttemptId) -> Result<&mut Attempt, Error> {
        let turn = self.turn;
        let attempt = match self.attempts.entry(id) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(Attempt::found(&self.catalog.places_of(id)?))
            }
        };
        attempt.used_in_turn = turn;
        Ok(attempt)
    }

    /// Attempts that are followed stay: their readers wait for what comes next.
    fn forget_unused(&mut self) {
        if self.attempts.len() <= ATTEMPTS_MAX {
            return;
        }
        let mut used: Vec<u64> = self.attempts.values().map(|a| a.used_in_turn).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let limit = (*median).min(self.turn.saturating_sub(1));
        self.attempts
            .retain(|_, attempt| attempt.used_in_turn > limit || attempt.is_followed());
    }

    fn roll_when_full(&mut self) -> Result<(), Error> {
        let full = {
            let open = &self.catalog.read().open;
            open.bytes >= SEGMENT_BYTES || open.frames >= SEGMENT_FRAMES
        };
        match full {
            true => {
                self.roll()?;
                self.reclaim_one()?;
                self.keep_limits()
            }
            false => Ok(()),
        }
    }

    /// Begins a new segment. Where the disk has no room for it, the old one goes on.
    pub(super) fn roll(&mut self) -> Result<(), Error> {
        let root = self.catalog.root().to_owned();
        let name = self.catalog.read().open.name;
        let next = Name {
            number: name.number + 1,
            generation: 0,
        };
        let path = next.segment(&root);
        let writer = match Writer::create(&path) {
            Ok(writer) => writer,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(io_error("make", &path, error)),
        };
        let summary = {
            let open = &self.catalog.read().open;
            let path = name.index(&root);
            let bytes = self.writer.file_bytes();
            Summary::write(&path, bytes, open.newest, &open.places)
        };
        let open = Open::new(next, writer.bytes());
        self.writer = writer;
        let mut inner = self.catalog.write();
        let full = std::mem::replace(&mut inner.open, open);
        let sealed = Sealed { name, summary };
        inner.sealed.insert(name.number, Arc::new(sealed));
        drop(inner);
        self.catalog.keep_at_hand(name, Arc::new(full.places));
        self.suspects.insert(name.number);
        self.listed.present.insert(next.number);
        self.write_list().map(drop)
    }

    /// False when there is no room on the disk.
    pub(super) fn write_list(&self) -> Result<bool, Error> {
        let root = self.catalog.root();
        let written = unless_full(self.listed.write(root));
        written.map_err(|error| io_error("write", &listed::path(root), error))
    }

    /// Makes the seal durable, so that the next start knows all of the segment as durable.
    fn close(&mut self) -> Result<(), Error> {
        let closed = self.writer.close(self.clock.now());
        closed.map_err(|error| {
            let name = self.catalog.read().open.name;
            io_error("seal", &name.segment(self.catalog.root()), error)
        })?;
        // A seal says nothing where the end is missing with it. Without this the next start is less
        // sharp-eyed, and that is all.
        let number = self.catalog.read().open.name.number;
        self.listed.end = Some((number, self.writer.bytes()));
        if let Err(error) = self.write_list() {
            let error = error.to_string();
            tracing::warn!(error, "how much of the events is durable cannot be noted");
        }
        Ok(())
    }
}

impl Turn {
    /// Takes those events that come next, and says how many; behind a gap nothing is taken.
    pub(super) fn add(
        &mut self,
        attempt: AttemptId,
        durable: u64,
        first: u64,
        events: Vec<Bytes>,
    ) -> u64 {
        let known = self.fresh.get(&attempt);
        let last = known.map_or(durable, |fresh| fresh.first + fresh.events.len() as u64 - 1);
        let Some(doubled) = (last + 1).checked_sub(first) else {
            return 0; // A gap: the worker sends again from the acknowledged number on.
        };
        let doubled = usize::try_from(doubled).unwrap_or(usize::MAX);
        let taken = events.len().saturating_sub(doubled);
        if taken == 0 {
            return 0;
        }
        let fresh = self.fresh.entry(attempt).or_insert_with(|| Fresh {
            first: last + 1,
            events: Vec::new(),
        });
        let new = events.into_iter().skip(doubled);
        for event in new {
            self.bytes += event.len();
            fresh.events.push(event);
        }
        taken as u64
    }
}

impl Fresh {
    /// Writes frames, and where they will lie.
    fn put(
        &self,
        attempt: AttemptId,
        now: Timestamp,
        start: u32,
        buffer: &mut Vec<u8>,
        places: &mut Vec<(AttemptId, Place)>,
    ) {
        let (mut first, mut rest) = (self.first, self.events.as_slice());
        while !rest.is_empty() {
            let (now_in, later) = rest.split_at(frame::fill(rest));
            let header = Header {
                kind: Kind::Events,
                attempt,
                first,
                last: first + now_in.len() as u64 - 1,
                time: now,
                synced: start,
            };
            let offset = start + u32::try_from(buffer.len()).expect("a turn is small");
            let length = header.put(now_in, buffer);
            let place = Place {
                gap: None,
                first,
                last: header.last,
                offset,
                length: u32::try_from(length).expect("a frame is small"),
            };
            places.push((attempt, place));
            (first, rest) = (header.last + 1, later);
        }
    }

    /// A copy for those who follow, so that a few events do not hold a large message in memory.
    fn newest(&self) -> Option<Newest> {
        let bytes: usize = self.events.iter().map(Bytes::len).sum();
        (bytes <= NEWEST_BYTES_MAX).then(|| {
            let mut all = Vec::with_capacity(bytes);
            self.events.iter().for_each(|event| all.extend(event));
            let mut all = Bytes::from(all);
            let events = self.events.iter().map(|event| all.split_to(event.len()));
            Newest {
                first: self.first,
                events: events.collect(),
            }
        })
    }
}

impl Attempt {
    fn found(places: &[Place]) -> Self {
        let gap = |place: &Place| {
            place.gap.map(|why| Gap {
                from: place.first,
                to: place.last,
                why,
            })
        };
        let dropped = places.iter().filter_map(gap).max_by_key(|gap| gap.to);
        let up_to = dropped.map_or(0, |gap| gap.to);
        let events = places.iter().filter(|place| place.gap.is_none());
        let there = events.filter(|place| place.last > up_to);
        Self {
            last: places.iter().map(|place| place.last).max().unwrap_or(0),
            dropped,
            bytes: there.map(|place| u64::from(place.length)).sum(),
            tail: None,
            used_in_turn: 0,
        }
    }

    /// Notes that events are gone, and tells who follows.
    pub(super) fn drop_up_to(&mut self, gap: Gap) {
        if self.dropped.is_none_or(|known| known.to < gap.to) {
            self.dropped = Some(gap);
        }
        self.last = self.last.max(gap.to);
        if self.is_followed() {
            self.tell(None);
        }
    }

    fn tell(&self, newest: Option<Newest>) {
        if let Some(tail) = &self.tail {
            tail.send_replace(Tail {
                last: self.last,
                dropped: self.dropped,
                newest,
            });
        }
    }

    fn is_followed(&self) -> bool {
        let tail = self.tail.as_ref();
        tail.is_some_and(|tail| tail.receiver_count() > 0)
    }
}
