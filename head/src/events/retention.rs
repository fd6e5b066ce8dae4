//! Lets go of events: of tasks that are forgotten, of what is too old, and of what is too much.
//!
//! Nothing goes silently: before events of a task that is still known go, a gap is made durable in
//! the newest segment, and readers see it. Full segments go whole, the oldest first; one of which
//! half is dead is written anew without that.

use std::{io, sync::Arc, time::Duration};

use orchestra_config::{
    EventsConfig,
    durable::{self, Access},
};
use orchestra_types::{AttemptId, TaskId, Timestamp};

use super::{
    Error, Gap, GapReason,
    catalog::Sealed,
    frame::{Header, Kind, MAGIC},
    index::{Place, Places, Summary},
    io_error,
    owner::Files,
    recover,
    segment::Name,
};

/// When more forgotten tasks are remembered than this, those of which nothing is left are let go.
const FORGOTTEN_MAX: usize = 64 * 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long.
    pub max_age: Duration,
    /// Most bytes of all attempts together.
    pub max_bytes: u64,
    /// Most bytes of one attempt.
    pub max_attempt_bytes: u64,
}

impl From<&EventsConfig> for Limits {
    fn from(config: &EventsConfig) -> Self {
        Self {
            max_age: config.max_age,
            max_bytes: config.max_bytes,
            max_attempt_bytes: config.max_attempt_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&EventsConfig::default())
    }
}

impl Files {
    /// Drops the oldest segments until all limits are kept.
    pub(super) fn keep_limits(&mut self) -> Result<(), Error> {
        if self.catalog.is_held() {
            return Ok(()); // The next full segment or hour makes up for it.
        }
        let is_old = {
            let open = &self.catalog.read().open;
            open.frames > 0 && self.is_old(open.newest)
        };
        if is_old {
            self.roll()?;
        }
        while let Some((oldest, why)) = self.one_too_many() {
            if !self.drop_segment(&oldest, why)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether what came then goes for its age, by a clock that is believed.
    fn is_old(&self, at: Timestamp) -> bool {
        let now = self.clock.now();
        let doubted = self.doubt.is_some_and(|doubt| now < doubt.until);
        now.since(at) > self.limits.max_age && !doubted
    }

    fn one_too_many(&self) -> Option<(Arc<Sealed>, GapReason)> {
        let inner = self.catalog.read();
        let oldest = Arc::clone(inner.sealed.values().next()?);
        let sealed = inner.sealed.values().map(|s| u64::from(s.summary.bytes));
        let total = sealed.sum::<u64>() + u64::from(inner.open.bytes);
        if self.is_old(oldest.summary.newest) {
            Some((oldest, GapReason::Age))
        } else if total > self.limits.max_bytes {
            Some((oldest, GapReason::Total))
        } else {
            None
        }
    }

    /// False when there is no room on the disk to say what is gone.
    fn drop_segment(&mut self, sealed: &Sealed, why: GapReason) -> Result<bool, Error> {
        let (name, index) = (sealed.name, self.catalog.index(sealed)?);
        let mut gaps = Vec::new();
        for (id, places) in index.iter() {
            if self.catalog.read().forgotten.contains(&id.task) {
                continue;
            }
            let events = places.iter().filter(|place| place.gap.is_none());
            let newest = places.iter().max_by_key(|place| place.last);
            let Some(newest) = newest else { continue };
            let why = newest.gap.unwrap_or(why);
            let (from, to) = (1, newest.last);
            gaps.push((*id, Gap { from, to, why }));
            if let Some(attempt) = self.attempts.get_mut(id) {
                let bytes: u64 = events.map(|place| u64::from(place.length)).sum();
                attempt.bytes = attempt.bytes.saturating_sub(bytes);
            }
        }
        if !self.put_gaps(&gaps)? {
            return Ok(false);
        }
        tracing::info!(
            segment = sealed.name.number,
            bytes = sealed.summary.bytes,
            why = why.as_str(),
            "dropped old events"
        );
        // What is lost of before it would be gone by now, too.
        self.listed.lost = self.listed.lost.split_off(&name.number);
        self.listed.cut = self.listed.cut.split_off(&(name.number + 1));
        let mut inner = self.catalog.write();
        inner.lost = self.listed.lost.clone();
        inner.cut = self.listed.noted_cuts();
        drop(inner);
        self.remove(name)
    }

    /// False when there is no room on the disk to say that it is gone: it stays then.
    fn remove(&mut self, name: Name) -> Result<bool, Error> {
        self.listed.present.remove(&name.number);
        if !self.write_list()? {
            self.listed.present.insert(name.number);
            return Ok(false);
        }
        self.catalog.write().sealed.remove(&name.number);
        recover::remove(self.catalog.root(), name)?;
        Ok(true)
    }

    /// Makes gaps durable and tells readers. False when the disk has no room for that.
    fn put_gaps(&mut self, gaps: &[(AttemptId, Gap)]) -> Result<bool, Error> {
        if gaps.is_empty() {
            return Ok(true);
        }
        let (start, now) = (self.writer.bytes(), self.clock.now());
        let (mut buffer, mut places) = (Vec::new(), Vec::new());
        for (id, gap) in gaps {
            let header = Header {
                kind: Kind::Gap(gap.why),
                attempt: *id,
                first: gap.from,
                last: gap.to,
                time: now,
                synced: start,
            };
            let offset = start + u32::try_from(buffer.len()).expect("a segment's gaps are few");
            let length = header.put(&[], &mut buffer);
            let place = Place {
                gap: Some(gap.why),
                first: gap.from,
                last: gap.to,
                offset,
                length: u32::try_from(length).expect("a frame is small"),
            };
            places.push((*id, place));
        }
        match self.append(&buffer) {
            Ok(()) => {}
            Err(Error::Full { path }) => {
                tracing::warn!(path = %path.display(), "no room to drop old events; free space on the disk");
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.catalog
            .write()
            .open
            .add(places, self.writer.bytes(), now);
        for (id, gap) in gaps {
            if let Some(attempt) = self.attempts.get_mut(id) {
                attempt.drop_up_to(*gap);
            }
        }
        Ok(true)
    }

    /// Drops the oldest events of an attempt that has too many.
    pub(super) fn trim(&mut self, id: AttemptId) -> Result<(), Error> {
        let places = self.catalog.places_of(id)?;
        let keep = self.limits.max_attempt_bytes / 4 * 3;
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return Ok(());
        };
        let dropped = attempt.dropped.map_or(0, |gap| gap.to);
        let (mut bytes, mut to) = (attempt.bytes, dropped);
        let events = places.iter().filter(|place| place.gap.is_none());
        for place in events.filter(|place| place.last > dropped) {
            if bytes <= keep {
                break;
            }
            bytes = bytes.saturating_sub(u64::from(place.length));
            to = place.last;
        }
        attempt.bytes = bytes;
        let gap = Gap {
            from: 1,
            to,
            why: GapReason::Attempt,
        };
        if to > dropped && self.put_gaps(&[(id, gap)])? {
            let holding = self.catalog.holding(id, 0);
            self.suspects.extend(holding.iter().map(|s| s.name.number));
        }
        Ok(())
    }

    /// Lets go of a task of which `last` is the latest attempt.
    pub(super) fn forget(&mut self, last: AttemptId) {
        for number in 1..=last.number {
            let id = AttemptId { number, ..last };
            self.attempts.remove(&id);
            let holding = self.catalog.holding(id, 0);
            self.suspects.extend(holding.iter().map(|s| s.name.number));
        }
        self.catalog.write().forgotten.insert(last.task);
    }

    /// Whether there is something to look at, and leave to.
    pub(super) fn may_reclaim(&self) -> bool {
        !self.suspects.is_empty() && !self.catalog.is_held()
    }

    /// Looks at one segment that may have become half dead.
    pub(super) fn reclaim_one(&mut self) -> Result<(), Error> {
        if !self.may_reclaim() {
            return Ok(());
        }
        let Some(number) = self.suspects.pop_first() else {
            return Ok(());
        };
        let sealed = self.catalog.read().sealed.get(&number).cloned();
        // The open one is looked at when it is full.
        let Some(sealed) = sealed else { return Ok(()) };
        let index = self.catalog.index(&sealed)?;
        let alive = self.alive(&index);
        let bytes: u64 = alive.values().flatten().map(|p| u64::from(p.length)).sum();
        if alive.is_empty() {
            self.remove(sealed.name)?;
        } else if bytes * 2 <= u64::from(sealed.summary.bytes) {
            self.write_anew(&sealed, &alive)?;
        }
        self.forget_the_forgotten()
    }

    fn alive(&self, index: &Places) -> Places {
        let inner = self.catalog.read();
        let known = index
            .iter()
            .filter(|(id, _)| !inner.forgotten.contains(&id.task));
        let alive = known.map(|(id, places)| {
            let dropped = self.attempts.get(id).and_then(|attempt| attempt.dropped);
            let dropped = dropped.map_or(0, |gap| gap.to);
            let is_alive = |place: &&Place| place.gap.is_some() || place.last > dropped;
            (
                *id,
                places.iter().filter(is_alive).copied().collect::<Vec<_>>(),
            )
        });
        alive.filter(|(_, places)| !places.is_empty()).collect()
    }

    fn write_anew(&mut self, sealed: &Sealed, alive: &Places) -> Result<(), Error> {
        let root = self.catalog.root().to_owned();
        let old = sealed.name.segment(&root);
        let from = std::fs::read(&old).map_err(|e| io_error("read", &old, e))?;
        let name = Name {
            generation: sealed.name.generation + 1,
            ..sealed.name
        };
        let (to, places) = copy(&from, alive);
        let path = name.segment(&root);
        match durable::write(&path, &to, Access::Private) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(io_error("write", &path, error)),
        }
        let bytes = u32::try_from(to.len()).unwrap_or(u32::MAX);
        let summary = Summary::write(&name.index(&root), bytes, sealed.summary.newest, &places);
        let anew = Arc::new(Sealed { name, summary });
        self.catalog.write().sealed.insert(name.number, anew);
        recover::remove(&root, sealed.name)
    }

    /// Only tasks of which something is left need to be remembered.
    fn forget_the_forgotten(&mut self) -> Result<(), Error> {
        if self.suspects.is_empty() && self.catalog.read().forgotten.len() > FORGOTTEN_MAX {
            let left = self.catalog.tasks()?;
            let is_left = |task: &TaskId| left.contains_key(task);
            self.catalog.write().forgotten.retain(is_left);
        }
        Ok(())
    }
}

/// The frames at these places, in the order of their attempts, and where they lie then.
fn copy(from: &[u8], alive: &Places) -> (Vec<u8>, Places) {
    let (mut to, mut places) = (MAGIC.to_vec(), Places::new());
    for (id, old) in alive {
        for place in old {
            let start = place.offset as usize;
            let Some(frame) = from.get(start..start + place.length as usize) else {
                continue; // The segment is shorter than it was: what is not there is damage.
            };
            let offset = u32::try_from(to.len()).unwrap_or(u32::MAX);
            to.extend(frame);
            places
                .entry(*id)
                .or_default()
                .push(Place { offset, ..*place });
        }
    }
    (to, places)
}
