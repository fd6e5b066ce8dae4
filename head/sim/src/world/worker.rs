//! A worker as a world plays it: what is on its disk, what its process knows, its agents.

use std::{collections::VecDeque, time::Duration};

use orchestra_core::{Held, Welcome};
use orchestra_types::AttemptId;

use crate::{
    cast::{RUNNER_SLOTS, Result, Said},
    event::Look,
};

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The order waits for a slot, and is in memory only.
    Waiting,
    /// The order is on disk.
    Accepted,
    /// The agent runs.
    Running,
    /// It is over, or was given back; its report has this number.
    Reported(u64),
}

/// An attempt of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub attempt: AttemptId,
    /// With which runner.
    pub runner: u8,
    /// How far.
    pub phase: Phase,
    /// How many tokens its agent has used.
    pub used: u64,
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
    /// How many tokens its agent had used.
    pub used: u64,
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

/// How long it says that an agent has run which goes on.
const RUNS: Duration = Duration::from_secs(5);

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
            started: match entry.phase {
                Phase::Waiting | Phase::Accepted => false,
                Phase::Running | Phase::Reported(_) => true,
            },
            running: (entry.phase == Phase::Running).then_some(RUNS),
        });
        held.collect()
    }

    /// The head's answer to its hello. Gives back what was acknowledged by it.
    pub fn welcome(&mut self, welcome: &Welcome) {
        self.welcomed = true;
        self.acknowledged(welcome.acked_up_to);
        self.sent = self.acked;
        let waits = |entry: &Entry| entry.phase == Phase::Waiting;
        self.entries
            .retain(|entry| !(waits(entry) && welcome.kill.contains(&entry.attempt)));
        for attempt in &welcome.kill {
            self.stop(*attempt, Result::GivenUp);
        }
    }

    /// An order to start. The same order twice is an ordinary thing.
    pub fn start(&mut self, attempt: AttemptId, runner: u8) {
        if self.entries.iter().any(|entry| entry.attempt == attempt) {
            return;
        }
        self.entries.push(Entry {
            attempt,
            runner,
            phase: Phase::Waiting,
            used: 0,
            stop: None,
        });
        self.begin(self.entries.len() - 1);
    }

    /// Begins an attempt that waits, if it has a slot. The head counts slots alone for runners
    /// that let none wait.
    fn begin(&mut self, place: usize) -> bool {
        let entry = self.entries[place];
        let busy = |entry: &&Entry| matches!(entry.phase, Phase::Accepted | Phase::Running);
        let all = self.entries.iter().filter(busy);
        let of_runner = all.clone().filter(|other| other.runner == entry.runner);
        let full =
            of_runner.count() >= RUNNER_SLOTS as usize || all.count() >= self.look.slots as usize;
        let waits = self.look.prefetch[usize::from(entry.runner)] > 0 && full;
        if !waits {
            self.accept(place);
        }
        !waits
    }

    fn accept(&mut self, place: usize) {
        self.entries[place].phase = Phase::Accepted;
        self.say(self.entries[place].attempt, Said::Accepted);
    }

    /// Gives an attempt back that waits; whether it does. It is held until that is acknowledged:
    /// what a worker does not hold is ordered from it again.
    pub fn give_back(&mut self, attempt: AttemptId) -> bool {
        let mut entries = self.entries.iter();
        let waits = |entry: &Entry| entry.attempt == attempt && entry.phase == Phase::Waiting;
        let Some(place) = entries.position(waits) else {
            return false;
        };
        let seq = self.say(attempt, Said::GivenBack);
        self.entries[place].phase = Phase::Reported(seq);
        true
    }

    /// An order to end an attempt. The first one counts. What waits ends as any other does.
    pub fn stop(&mut self, attempt: AttemptId, how: Result) {
        let mut entries = self.entries.iter();
        let Some(place) = entries.position(|entry| entry.attempt == attempt) else {
            return;
        };
        self.entries[place].stop.get_or_insert(how);
        if self.entries[place].phase == Phase::Waiting {
            self.accept(place);
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
            Phase::Waiting | Phase::Accepted | Phase::Running => true,
        });
    }

    /// Puts a report on disk; its number.
    pub fn say(&mut self, attempt: AttemptId, said: Said) -> u64 {
        self.last += 1;
        let seq = self.last;
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.attempt == attempt);
        self.spool.push_back(Spooled {
            seq,
            attempt,
            said,
            used: entry.map_or(0, |entry| entry.used),
        });
        seq
    }

    /// A running agent uses tokens; which attempt, and how many in all.
    pub fn spend(&mut self, place: usize, more: u64) -> Option<(AttemptId, u64)> {
        let entry = self.entries.get_mut(place)?;
        if entry.phase != Phase::Running {
            return None;
        }
        entry.used += more;
        Some((entry.attempt, entry.used))
    }

    /// An agent takes its next step; `by_itself` is how it ends when nobody stops it. True when
    /// it did something.
    pub fn progress(&mut self, place: usize, by_itself: Result, starts: bool) -> bool {
        let Some(entry) = self.entries.get(place).copied() else {
            return false;
        };
        let end = match (entry.phase, entry.stop) {
            (Phase::Reported(_), _) => return false,
            (Phase::Waiting, _) => return self.begin(place),
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

    /// The process is gone, and what was in its memory only.
    pub fn die(&mut self) {
        self.forget_stream();
        self.entries.retain(|entry| entry.phase != Phase::Waiting);
    }

    /// What the process knew of its stream is gone.
    pub fn forget_stream(&mut self) {
        self.stream = None;
        self.welcomed = false;
    }

    /// The machine was restarted: no agent lives.
    pub fn reboot(&mut self) {
        self.look.boot += 1;
        self.die();
        for entry in &mut self.entries {
            if entry.phase == Phase::Running {
                entry.stop.get_or_insert(Result::Down);
            }
        }
    }
}
