//! Which segments there are, and where in them an attempt's frames lie. The owner changes it, and
//! readers look things up in it; both only for a moment, and never while they read a file.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use orchestra_types::{AttemptId, TaskId, Timestamp};

use super::{
    Error,
    index::{Place, Places, Summary},
    io_error,
    segment::{self, Durable, Name},
};

/// Indexes of full segments that are kept at hand.
const INDEXES_MAX: usize = 8;

/// A segment that is full.
#[derive(Debug)]
pub(super) struct Sealed {
    pub name: Name,
    pub summary: Summary,
}

/// The segment that is appended to, as far as it is durable.
#[derive(Debug)]
pub(super) struct Open {
    pub name: Name,
    pub bytes: u32,
    pub frames: usize,
    pub newest: Timestamp,
    pub places: Places,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Catalog {
    root: PathBuf,
    inner: RwLock<Inner>,
    indexes: Mutex<VecDeque<(Name, Arc<Places>)>>,
    holds: AtomicUsize,
}

/// Keeps every file where it is, as long as it lives.
#[derive(Debug)]
pub struct Hold {
    catalog: Arc<Catalog>,
}

impl Hold {
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        catalog.holds.fetch_add(1, Ordering::AcqRel);
        Self { catalog }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.catalog.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub sealed: BTreeMap<u64, Arc<Sealed>>,
    pub open: Open,
    /// Tasks whose events nobody may read any more; their frames go with their segments.
    pub forgotten: BTreeSet<TaskId>,
    /// Segments that should be there and were not found, and when that was noted.
    pub lost: BTreeMap<u64, Timestamp>,
    /// Segments of which the end was not found, and when that was noted.
    pub cut: BTreeMap<u64, Timestamp>,
}

impl Catalog {
    /// When the newest event came.
    pub fn newest(&self) -> Option<Timestamp> {
        let inner = self.read();
        let sealed = inner.sealed.values().map(|sealed| sealed.summary.newest);
        let open = (inner.open.frames > 0).then_some(inner.open.newest);
        sealed.chain(open).max()
    }
}

impl Open {
    pub fn new(name: Name, bytes: u32) -> Self {
        Self {
            name,
            bytes,
            frames: 0,
            newest: Timestamp(0),
            places: Places::new(),
        }
    }

    /// Notes frames that are durable.
    pub fn add(
        &mut self,
        places: impl IntoIterator<Item = (AttemptId, Place)>,
        bytes: u32,
        now: Timestamp,
    ) {
        (self.bytes, self.newest) = (bytes, now);
        for (attempt, place) in places {
            self.frames += 1;
            self.places.entry(attempt).or_default().push(place);
        }
    }
}

impl Catalog {
    pub fn new(root: &Path, sealed: BTreeMap<u64, Arc<Sealed>>, open: Open) -> Self {
        Self {
            root: root.to_owned(),
            inner: RwLock::new(Inner {
                sealed,
                open,
                forgotten: BTreeSet::new(),
                lost: BTreeMap::new(),
                cut: BTreeMap::new(),
            }),
            indexes: Mutex::default(),
            holds: AtomicUsize::new(0),
        }
    }

    /// Whether no file may go.
    pub fn is_held(&self) -> bool {
        self.holds.load(Ordering::Acquire) > 0
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments from number `from` on that may hold frames of an attempt.
    pub fn holding(&self, attempt: AttemptId, from: u64) -> Vec<Arc<Sealed>> {
        let inner = self.read();
        let sealed = inner.sealed.range(from..).map(|(_, sealed)| sealed);
        let may = sealed.filter(|sealed| sealed.summary.filter.may_have(attempt));
        may.cloned().collect()
    }

    /// All frames of an attempt, in order.
    pub fn places_of(&self, attempt: AttemptId) -> Result<Vec<Place>, Error> {
        if self.read().forgotten.contains(&attempt.task) {
            return Ok(Vec::new());
        }
        let mut places = Vec::new();
        for sealed in self.holding(attempt, 0) {
            places.extend(self.index(&sealed)?.get(&attempt).into_iter().flatten());
        }
        places.extend(self.read().open.places.get(&attempt).into_iter().flatten());
        Ok(places)
    }

    /// The tasks of which something is stored, each with its latest attempt.
    pub fn tasks(&self) -> Result<BTreeMap<TaskId, u32>, Error> {
        let sealed: Vec<_> = self.read().sealed.values().cloned().collect();
        let mut tasks = BTreeMap::new();
        for sealed in sealed {
            let index = self.index(&sealed)?;
            note(&index, &mut tasks);
        }
        note(&self.read().open.places, &mut tasks);
        Ok(tasks)
    }

    /// The latest attempts of tasks of which something is stored and may be read.
    pub fn stored(&self) -> Result<Vec<AttemptId>, Error> {
        let tasks = self.tasks()?.into_iter();
        let inner = self.read();
        let known = tasks.filter(|(task, _)| !inner.forgotten.contains(task));
        Ok(known
            .map(|(task, number)| AttemptId { task, number })
            .collect())
    }

    /// The index of a full segment, made anew from the segment where it is damaged.
    pub fn index(&self, sealed: &Sealed) -> Result<Arc<Places>, Error> {
        if let Some(places) = self.at_hand(sealed.name) {
            return Ok(places);
        }
        let path = sealed.name.index(&self.root);
        let read = sealed.summary.read_places(&path);
        let places = match read.map_err(|e| io_error("read", &path, e))? {
            Some(places) => places,
            None => {
                tracing::warn!(path = %path.display(), "an index is missing or damaged; its segment is read");
                let path = sealed.name.segment(&self.root);
                let scan =
                    segment::scan(&path, Durable::All).map_err(|e| io_error("read", &path, e))?;
                scan.places
            }
        };
        let places = Arc::new(places);
        self.keep_at_hand(sealed.name, Arc::clone(&places));
        Ok(places)
    }

    fn at_hand(&self, name: Name) -> Option<Arc<Places>> {
        let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = indexes.iter().find(|(known, _)| *known == name);
        found.map(|(_, places)| Arc::clone(places))
    }

    pub fn keep_at_hand(&self, name: Name, places: Arc<Places>) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.push_back((name, places));
        if indexes.len() > INDEXES_MAX {
            indexes.pop_front();
        }
    }
}

/// Notes the latest attempt of each task. The attempts of one stand in their order.
fn note(places: &Places, tasks: &mut BTreeMap<TaskId, u32>) {
    for AttemptId { task, number } in places.keys() {
        let latest = tasks.entry(*task).or_default();
        *latest = (*latest).max(*number);
    }
}
