//! Bystanders: short processes that get the numbers of the dead. Whoever signals one of them
//! signals a process that is not his.

use std::{
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::sight::Sight;

/// How many of them there are at once.
const AT_ONCE: usize = 24;
/// How many threads start them.
const THREADS: usize = 2;
/// How long each lives.
const LIVES: &str = "0.03";
/// Who lives so much longer was stopped.
const STOPPED_AFTER: Duration = Duration::from_secs(20);

/// What became of them.
#[derive(Debug, Default)]
pub struct Told {
    /// How many there were.
    pub count: AtomicU64,
    /// How many had the number of a process of an attempt that had not ended yet.
    pub reused: AtomicU64,
    /// Who was signalled, in words.
    pub hit: Mutex<Vec<String>>,
}

/// A crowd that comes and goes.
#[derive(Debug)]
pub struct Crowd {
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Lets them come.
    pub fn start(sight: &Arc<Sight>) -> Self {
        let (told, stop) = (Arc::<Told>::default(), Arc::new(AtomicBool::new(false)));
        let threads = (0..THREADS).map(|_| {
            let (told, stop, sight) = (Arc::clone(&told), Arc::clone(&stop), Arc::clone(sight));
            thread::spawn(move || {
                let mut here = Vec::new();
                while !stop.load(Ordering::Relaxed) || !here.is_empty() {
                    here.retain_mut(|bystander| !has_gone(bystander, &told));
                    if here.len() < AT_ONCE / THREADS && !stop.load(Ordering::Relaxed) {
                        here.extend(come(&told, &sight));
                    } else {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        });
        Self {
            threads: threads.collect(),
            told,
            stop,
        }
    }

    /// What became of them so far.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Waits until all have gone.
    pub fn stop(self) -> Arc<Told> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // What it has noted is there, whatever became of it.
            drop(thread.join());
        }
        self.told
    }
}

type Bystander = (Child, Instant);

/// Each leads a group of its own: a group's number comes again too.
fn come(told: &Told, sight: &Sight) -> Option<Bystander> {
    let child = Command::new("sleep").arg(LIVES).process_group(0).spawn();
    // For a moment there may be no number left.
    let child = child.ok()?;
    told.count.fetch_add(1, Ordering::Relaxed);
    let pid = i32::try_from(child.id()).unwrap_or_default();
    if sight.is_of_the_dead(pid) {
        told.reused.fetch_add(1, Ordering::Relaxed);
    }
    Some((child, Instant::now()))
}

fn has_gone((child, since): &mut Bystander, told: &Told) -> bool {
    let hit = match child.try_wait() {
        Ok(Some(status)) => hit_by(status),
        Ok(None) if since.elapsed() < STOPPED_AFTER => return false,
        Ok(None) => Some("was stopped".to_owned()),
        Err(error) => Some(format!("cannot be waited for: {error}")),
    };
    if let Some(how) = hit {
        let text = format!("a process that is not ours, {}, {how}", child.id());
        told.hit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }
    true
}

fn hit_by(status: ExitStatus) -> Option<String> {
    let signal = status.signal()?;
    Some(format!("got signal {signal}"))
}
