//! Room on the disks that the worker writes to.
//!
//! A full disk costs no work. What must be written down waits until there is room again, agents run
//! on meanwhile (one that prints waits), and no runner is ready, so that nothing new comes and a
//! person reads why.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orchestra_types::{
    AttemptId,
    runner::{Readiness, RunnerInfo},
};
use tokio::sync::watch;

use crate::{ballast::Ballast, clock, frames, ground::Ground};

/// 64 MiB, or a tenth of a small disk.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// How often the disks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait before writing again to a disk that was full.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Free bytes are told again when they have changed by this part of the disk.
const TOLD_PARTS: u64 = 50;

/// The fullest of the disks that the worker writes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// A directory on it.
    pub dir: PathBuf,
    /// Its size in bytes; zero where the system does not say.
    pub total: u64,
    /// What the worker may still write.
    pub free: u64,
    /// Attempts whose result cannot be gathered for want of room.
    pub waiting: BTreeMap<AttemptId, Waiting>,
}

/// A result that waits for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where its agent's files are.
    pub dir: PathBuf,
    /// So many bytes were not enough for it; zero where nothing is known.
    pub had: u64,
}

/// What a failed write says of the disk.
pub trait Full {
    /// Whether it failed because the disk or the quota is full, so that it can be done later.
    fn is_full(&self) -> bool;
}

impl Full for io::Error {
    fn is_full(&self) -> bool {
        matches!(
            self.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

impl Full for frames::Error {
    fn is_full(&self) -> bool {
        self.cause().is_full()
    }
}

impl Room {
    /// Looks at the disks of these directories. One that cannot be looked at is passed over.
    #[must_use]
    pub fn look(dirs: &[PathBuf]) -> Self {
        let rooms = dirs.iter().filter_map(|dir| of(dir).ok());
        rooms.min_by_key(|room| room.free).unwrap_or_default()
    }

    /// How much must be freed at least before anything new comes; none while there is room. The largest result that
    /// waits has to find more than it had.
    #[must_use]
    pub fn lacking(&self) -> Option<u64> {
        let had = self.waiting.values().map(|waiting| waiting.had).max();
        let wanted = self.reserve().saturating_add(had.unwrap_or(0));
        (self.free < wanted).then(|| wanted - self.free)
    }

    /// Whether there is no room for anything new, whoever waits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free < self.reserve()
    }

    /// How much housekeeping is to free: nothing while there is room, else what is lacking, and as much
    /// again as must be free, or the next file would fill the disk again.
    #[must_use]
    pub fn wanting(&self) -> u64 {
        self.lacking()
            .map_or(0, |lacking| lacking.saturating_add(self.reserve()))
    }

    /// The disk was looked at again. Who waits is another matter.
    pub fn is_now(&mut self, seen: Self) {
        *self = self.seen_again(seen);
    }

    /// What was seen, with those who wait here.
    #[must_use]
    pub fn seen_again(&self, seen: Self) -> Self {
        let waiting = self.waiting.clone();
        Self { waiting, ..seen }
    }

    /// How much must be free for anything new.
    fn reserve(&self) -> u64 {
        RESERVE_BYTES.min(self.total / 10)
    }

    /// The runners as they are with this room: none is ready on a full disk.
    #[must_use]
    pub fn limit(&self, mut runners: Vec<RunnerInfo>) -> Vec<RunnerInfo> {
        let Some(lacking) = self.lacking() else {
            return runners;
        };
        let reason = format!(
            "the worker's disk is full: make at least {} MB free in `{}`; what runs there goes on and waits for room \
             where it must write{}",
            lacking.div_ceil(1_000_000),
            self.dir.display(),
            self.who_waits()
        );
        for runner in &mut runners {
            if runner.readiness == Readiness::Ready {
                runner.readiness = Readiness::NotReady {
                    reason: reason.clone(),
                };
            }
        }
        runners
    }

    /// What a person may look through who knows what is not needed.
    fn who_waits(&self) -> String {
        let Some((attempt, Waiting { dir, .. })) = self.waiting.first_key_value() else {
            return String::new();
        };
        let more = match self.waiting.len() - 1 {
            0 => String::new(),
            more => format!(", and so do {more} more"),
        };
        let dir = dir.display();
        format!(
            "; {attempt} has ended and its result waits, its agent's files are in `{dir}`{more}"
        )
    }

    /// Whether it differs so much from what was told that it is worth a message.
    fn is_news(&self, told: &Self) -> bool {
        self.lacking().is_some() != told.lacking().is_some()
            || self.total != told.total
            || self.free.abs_diff(told.free) > self.total / TOLD_PARTS
    }
}

fn of(dir: &Path) -> io::Result<Room> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(Room {
        dir: dir.to_owned(),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
        waiting: BTreeMap::new(),
    })
}

/// Keeps `room` true, and the ballast, until the worker has lost its ground, which is looked at too.
pub async fn keep(
    dirs: Vec<PathBuf>,
    ballast: Ballast,
    room: watch::Sender<Room>,
    ground: Arc<Ground>,
) {
    ballast.keep();
    loop {
        clock::beat(LOOK_EVERY).await;
        if !ground.is_there() {
            return;
        }
        ballast.keep();
        let now = Room::look(&dirs);
        room.send_if_modified(|told| {
            let now = told.seen_again(now);
            let news = now.is_news(told);
            if news {
                say(&now);
                *told = now;
            }
            news
        });
    }
}

/// Notes that an attempt waits for room, or no longer.
pub fn note_waiting(room: &watch::Sender<Room>, attempt: AttemptId, waiting: Option<Waiting>) {
    room.send_if_modified(|room| {
        let before = match &waiting {
            Some(waiting) => room.waiting.insert(attempt, waiting.clone()),
            None => room.waiting.remove(&attempt),
        };
        before != waiting
    });
}

fn say(room: &Room) {
    let dir = room.dir.display();
    match room.lacking() {
        Some(lacking) => tracing::warn!(%dir, lacking, "the disk is full; nothing new is taken"),
        None => tracing::debug!(%dir, free = room.free, "room on the disk"),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn room(total: u64, free: u64) -> Room {
        Room {
            dir: PathBuf::from("/w"),
            total,
            free,
            ..Room::default()
        }
    }

    fn runner(readiness: Readiness) -> RunnerInfo {
        RunnerInfo {
            readiness,
            ..RunnerInfo::ready("claude".parse().unwrap())
        }
    }

    #[test]
    fn on_a_full_disk_no_runner_is_ready_and_a_person_reads_what_to_free() {
        let limited = room(10_000_000_000, 50 << 20)
            .limit(vec![runner(Readiness::Ready), runner(Readiness::Missing)]);
        let Readiness::NotReady { reason } = &limited[0].readiness else {
            panic!("{limited:?}");
        };
        assert!(
            reason.contains("make at least 15 MB free in `/w`"),
            "{reason}"
        );
        assert!(reason.ends_with("where it must write"), "{reason}");
        assert_eq!(limited[1].readiness, Readiness::Missing);
        let ready = vec![runner(Readiness::Ready)];
        assert_eq!(room(10_000_000_000, 1 << 30).limit(ready.clone()), ready);
    }

    #[test]
    fn who_waits_for_room_is_named_with_its_files_and_outlasts_a_look_at_the_disk() {
        let mut full = room(1000, 1);
        full.waiting = (1..4)
            .map(|number| {
                let id = format!("task_00{number}.1").parse().unwrap();
                let dir = PathBuf::from(format!("/w/{number}"));
                (id, Waiting { dir, had: 0 })
            })
            .collect();
        full.is_now(room(1000, 2));
        let limited = full.limit(vec![runner(Readiness::Ready)]);
        let Readiness::NotReady { reason } = &limited[0].readiness else {
            panic!("{limited:?}");
        };
        let said = "; task_001.1 has ended and its result waits, its agent's files are in `/w/1`, and so do 2 more";
        assert!(reason.ends_with(said), "{reason}");
        assert_eq!(full.free, 2);
    }

    #[test]
    fn a_small_disk_keeps_a_tenth_and_an_unknown_one_nothing() {
        assert_eq!(room(1000, 100).lacking(), None);
        assert_eq!(room(1000, 99).lacking(), Some(1));
        assert_eq!(Room::default().lacking(), None);
    }

    #[test]
    fn a_result_that_waits_wants_more_than_it_had() {
        let mut waits = room(1000, 400);
        let (channel, _) = watch::channel(waits.clone());
        let waiting = |had| {
            let dir = PathBuf::from("/w/1");
            Some(Waiting { dir, had })
        };
        let [first, second] = ["task_001.1", "task_002.1"].map(|id| id.parse().unwrap());
        note_waiting(&channel, first, waiting(400));
        note_waiting(&channel, second, waiting(200));
        waits.clone_from(&channel.borrow());
        assert_eq!(waits.lacking(), Some(100));
        assert!(!waits.seen_again(room(1000, 405)).is_news(&waits));
        let enough = waits.seen_again(room(1000, 500));
        assert_eq!(enough.lacking(), None);
        assert!(enough.is_news(&waits));
        note_waiting(&channel, first, None);
        assert_eq!(channel.borrow().lacking(), None);
    }

    #[test]
    fn only_what_changes_much_is_told() {
        let told = room(1000, 500);
        assert!(!room(1000, 490).is_news(&told));
        assert!(room(1000, 470).is_news(&told));
        assert!(room(1000, 99).is_news(&room(1000, 101)));
    }

    #[test]
    fn the_disk_of_a_directory_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let here = Room::look(&[dir.path().join("not there"), dir.path().to_owned()]);
        assert!(here.total > 0 && here.free <= here.total && here.dir == dir.path());
    }
}
