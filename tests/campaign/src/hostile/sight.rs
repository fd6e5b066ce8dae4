//! Looks at all processes, again and again, and knows those of hostile trees by their command
//! lines: by nothing that they could leave, change or forget.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Every token begins so.
pub const TOKEN: &str = "hostile-tree-";
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(4);

/// The living processes of each tree, at one moment.
pub type Living = BTreeMap<String, BTreeSet<i32>>;

/// What was seen of one tree.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The first process.
    pub main: Option<i32>,
    /// When a look began in which the first process was dead, for the first time.
    pub main_dead: Option<Instant>,
    /// When the last look began that saw a living process.
    pub last_living: Option<Instant>,
    /// When the head said that the attempt has ended.
    pub reported: Option<Instant>,
    /// What was alive in a look that began after that.
    pub survivors: BTreeSet<i32>,
    /// Numbers of dead processes of it.
    pub dead: BTreeSet<i32>,
    living: BTreeSet<i32>,
}

impl Seen {
    /// How long something was alive after the first process was dead.
    pub fn outlived(&self) -> Option<Duration> {
        let dead = self.main_dead?;
        Some(self.last_living.map_or(Duration::ZERO, |living| {
            living.saturating_duration_since(dead)
        }))
    }
}

/// What was seen of all trees, and who looks.
#[derive(Debug)]
pub struct Sight {
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    stop: Arc<AtomicBool>,
    looks: Option<JoinHandle<u64>>,
}

impl Sight {
    /// Begins to look.
    pub fn start() -> Self {
        let seen = Arc::<Mutex<BTreeMap<String, Seen>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (table, ended) = (Arc::clone(&seen), Arc::clone(&stop));
        let looks = thread::spawn(move || {
            let mut looks = 0;
            while !ended.load(Ordering::Relaxed) {
                let at = Instant::now();
                note(&mut lock(&table), at, living());
                looks += 1;
                thread::sleep(PAUSE);
            }
            looks
        });
        Self {
            seen,
            stop,
            looks: Some(looks),
        }
    }

    /// What was seen so far.
    pub fn table(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        lock(&self.seen)
    }

    /// Whether `pid` was the number of a process of a tree whose attempt has not been reported yet.
    pub fn is_of_the_dead(&self, pid: i32) -> bool {
        let table = self.table();
        let mut open = table.values().filter(|seen| seen.reported.is_none());
        open.any(|seen| seen.dead.contains(&pid))
    }

    /// Ends; how often it has looked.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looks.take().map(JoinHandle::join);
        looks.and_then(Result::ok).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(table: &mut BTreeMap<String, Seen>, at: Instant, living: Living) {
    for (token, seen) in table.iter_mut() {
        let now = living.get(token).cloned().unwrap_or_default();
        if !now.is_empty() {
            seen.last_living = Some(at);
        }
        if seen.main.is_some_and(|main| !now.contains(&main)) {
            seen.main_dead.get_or_insert(at);
        }
        if seen.reported.is_some_and(|reported| at > reported) {
            seen.survivors.extend(&now);
        }
        let died = seen.living.difference(&now);
        seen.dead.extend(died);
        seen.dead.retain(|pid| !now.contains(pid));
        seen.living = now;
    }
}

/// The living processes of all trees.
pub fn living() -> Living {
    let mut found = Living::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(token) = token_of(pid).filter(|_| lives(pid)) {
            found.entry(token).or_default().insert(pid);
        }
    }
    found
}

fn token_of(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    let word = words.find(|word| word.starts_with(TOKEN.as_bytes()))?;
    Some(String::from_utf8_lossy(word).into_owned())
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
