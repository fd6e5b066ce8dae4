//! A worker as a world plays it: what is on its disk, what its process knows, its agents.

use std::collections::VecDeque;

use orchestra_core::{Held, Welcome};
use orchestra_types::AttemptId;

use crate::{
    cast::{Result, Said},
    event::Look,
};

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The order is on disk.
    Accepted,
    /// The agent runs.
    Running,
    /// It is over; its report has this number.
    Reported(u64),
}

/// An attempt on a worker's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub attempt: AttemptId,
    /// How far.
    pub phase: Phase,
    /// How it is to end by an order.
    pub stop: Option<Result>,
}

/// A report on a worker's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Its number.
    pub seq: u64,
    /// About which attempt.
    pub attempt: AttemptId,
    /// What.
    pub said: Said,
}

/// One worker process with its disk.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Which.
    pub number: u8,
    /// As it describes itself.
    pub look: Look,
    /// Its stream's number in the world.
    pub stream: Option<u64>,
    /// Whether the head has answered on it.
    pub welcomed: bool,
    /// The last report that was sent on it.
    pub sent: u64,
    /// Reports that are not acknowledged.
    pub spool: VecDeque<Spooled>,
    /// The last report.
    pub last: u64,
    /// The last acknowledged report.
    pub acked: u64,
    /// What it holds.
    pub entries: Vec<Entry>,
    /// It never comes back.
    pub gone: bool,
}

impl Worker {
    /// A worker that has never been seen.
    #[must_use]
    pub fn new(number: u8, look: Look) -> Self {
        Self {
            number,
            look,
            stream: None,
            welcomed: false,
            sent: 0,
            spool: VecDeque::new(),
            last: 0,
            acked: 0,
            entries: Vec::new(),
            gone: false,
        }
    }

    /// What its hello says that it holds.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let held = self.entries.iter().map(|entry| Held {
            attempt: entry.attempt,
            started: entry.phase != Phase::Accepted,
        });
        held.collect()
    }

    /// The head's answer to its hello. Gives back what was acknowledged by it.
    pub fn welcome(&mut self, welcome: &Welcome) {
        self.welcomed = true;
        self.acknowledged(welcome.acked_up_to);
        self.sent = self.acked;
        for attempt in &welcome.kill {
            self.stop(*attempt, Result::GivenUp);
        }
    }

    /// An order to start. The same order twice is an ordinary thing. True when it is new.
    pub fn start(&mut self, attempt: AttemptId) -> bool {
        if self.entries.iter().any(|entry| entry.attempt == attempt) {
            return false;
        }
        self.entries.push(Entry {
            attempt,
            phase: Phase::Accepted,
            stop: None,
        });
        self.say(attempt, Said::Accepted);
        true
    }

    /// An order to end an attempt. The first one counts.
    pub fn stop(&mut self, attempt: AttemptId, how: Result) {
        let mut entries = self.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.attempt == attempt) {
            entry.stop.get_or_insert(how);
        }
    }

    /// Reports up to here are durable at the head: attempts whose end is among them are removed.
    /// Numbers that the head knows and this disk does not are used up.
    pub fn acknowledged(&mut self, up_to: u64) {
        self.acked = self.acked.max(up_to);
        self.last = self.last.max(up_to);
        while let Some(first) = self.spool.front()
            && first.seq <= up_to
        {
            self.spool.pop_front();
        }
        self.entries.retain(|entry| match entry.phase {
            Phase::Reported(seq) => seq > up_to,
            Phase::Accepted | Phase::Running => true,
        });
    }

    /// Puts a report on disk; its number.
    pub fn say(&mut self, attempt: AttemptId, said: Said) -> u64 {
        self.last += 1;
        let seq = self.last;
        self.spool.push_back(Spooled { seq, attempt, said });
        seq
    }

    /// An agent takes its next step; `by_itself` is how it ends when nobody stops it. True when
    /// it did something.
    pub fn progress(&mut self, place: usize, by_itself: Result, starts: bool) -> bool {
        let Some(entry) = self.entries.get(place).copied() else {
            return false;
        };
        let end = match (entry.phase, entry.stop) {
            (Phase::Reported(_), _) => return false,
            (_, Some(stop)) => stop,
            (Phase::Accepted, None) if starts => {
                self.entries[place].phase = Phase::Running;
                self.say(entry.attempt, Said::Started);
                return true;
            }
            (Phase::Accepted | Phase::Running, None) => by_itself,
        };
        let seq = self.say(entry.attempt, Said::Finished(end));
        self.entries[place].phase = Phase::Reported(seq);
        true
    }

    /// The process is gone: what it knew of its stream is too.
    pub fn forget_stream(&mut self) {
        self.stream = None;
        self.welcomed = false;
    }

    /// The machine was restarted: no agent lives.
    pub fn reboot(&mut self) {
        self.look.boot += 1;
        self.forget_stream();
        for entry in &mut self.entries {
            if entry.phase == Phase::Running {
                entry.stop.get_or_insert(Result::Bad);
            }
        }
    }
}
