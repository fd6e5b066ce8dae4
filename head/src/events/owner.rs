//! The one thread that writes events: takes what waits, writes it, syncs each touched file once,
//! then acknowledges.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use orchestra_types::AttemptId;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Command, Error,
    file::{self, Log, Tail},
};

/// Most appends that share one round of syncs.
const TURN_COMMANDS_MAX: usize = 256;
/// Attempts that are kept at hand; others are read anew from disk when they are asked for.
const ATTEMPTS_MAX: usize = 512;

pub(super) struct Files {
    root: Arc<Path>,
    attempts: BTreeMap<AttemptId, Attempt>,
    turn: u64,
}

struct Attempt {
    /// Open from the first append on.
    log: Option<Log>,
    /// What readers may read: what is durable.
    tail: watch::Sender<Tail>,
    used_in_turn: u64,
}

/// Runs until all senders are gone, or until the first error.
pub(super) fn run(mut files: Files, mut inbox: mpsc::Receiver<Command>) -> Result<(), Error> {
    while let Some(first) = inbox.blocking_recv() {
        let mut commands = vec![first];
        while commands.len() < TURN_COMMANDS_MAX
            && let Ok(command) = inbox.try_recv()
        {
            commands.push(command);
        }
        files.turn(commands)?;
    }
    Ok(())
}

impl Files {
    pub fn new(root: Arc<Path>) -> Self {
        Self {
            root,
            attempts: BTreeMap::new(),
            turn: 0,
        }
    }

    fn turn(&mut self, commands: Vec<Command>) -> Result<(), Error> {
        self.turn += 1;
        let mut touched = BTreeSet::new();
        let mut waiting: Vec<(AttemptId, oneshot::Sender<u64>)> = Vec::new();
        for command in commands {
            match command {
                Command::Append {
                    attempt,
                    events,
                    done,
                } => {
                    self.log(attempt)?.append(&events)?;
                    touched.insert(attempt);
                    waiting.push((attempt, done));
                }
                Command::Forget { last, done } => {
                    self.forget(last);
                    let _ = done.send(());
                }
                Command::Tail { attempt, done } => {
                    // Who asked may be gone.
                    let _ = done.send(self.attempt(attempt)?.tail.subscribe());
                }
            }
        }
        for attempt in touched {
            self.publish(attempt)?;
        }
        for (attempt, done) in waiting {
            let _ = done.send(self.attempt(attempt)?.tail.borrow().last);
        }
        self.forget_unused();
        Ok(())
    }

    fn publish(&mut self, id: AttemptId) -> Result<(), Error> {
        let attempt = self.attempt(id)?;
        if let Some(log) = &attempt.log {
            let tail = log.tail();
            if *attempt.tail.borrow() != tail {
                log.sync()?;
                attempt.tail.send_replace(tail);
            }
        }
        Ok(())
    }

    fn log(&mut self, id: AttemptId) -> Result<&mut Log, Error> {
        let path = file::path(&self.root, id);
        let attempt = self.attempt(id)?;
        let log = match attempt.log.take() {
            Some(log) => log,
            None => Log::open(path, *attempt.tail.borrow())?,
        };
        Ok(attempt.log.insert(log))
    }

    fn attempt(&mut self, id: AttemptId) -> Result<&mut Attempt, Error> {
        let turn = self.turn;
        let attempt = match self.attempts.entry(id) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let tail = file::tail_of(&file::path(&self.root, id))?;
                new.insert(Attempt {
                    log: None,
                    tail: watch::Sender::new(tail),
                    used_in_turn: turn,
                })
            }
        };
        attempt.used_in_turn = turn;
        Ok(attempt)
    }

    /// A file that does not go is only warned of: it is found again by the next look for what
    /// nobody needs.
    fn forget(&mut self, last: AttemptId) {
        for number in 1..=last.number {
            let id = AttemptId {
                task: last.task,
                number,
            };
            self.attempts.remove(&id);
            let path = file::path(&self.root, id);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "events are not removed");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Attempts with readers stay: the readers wait for what comes next.
    fn forget_unused(&mut self) {
        while self.attempts.len() > ATTEMPTS_MAX {
            let unused = self.attempts.iter();
            let unused = unused.filter(|(_, attempt)| attempt.tail.receiver_count() == 0);
            let oldest = unused.min_by_key(|(_, attempt)| attempt.used_in_turn);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            self.attempts.remove(&oldest);
        }
    }
}
