//! Streams between workers and the head. Within one, order holds and a break loses what comes
//! behind some place; nothing is said of two of them.

use std::collections::VecDeque;

use orchestra_core::{Held, StopReason, Welcome};
use orchestra_types::{AttemptId, Timestamp};

use crate::{cast::Said, event::Look};

/// From a worker to the head.
#[derive(Clone, Debug)]
pub enum Up {
    /// Who it is, and what it holds.
    Hello {
        /// As it describes itself.
        look: Look,
        /// What it holds.
        held: Vec<Held>,
        /// Its first report that is not acknowledged; 0 when none waits.
        first_unacked: u64,
    },
    /// A report.
    Report {
        /// Its number.
        seq: u64,
        /// About which attempt.
        attempt: AttemptId,
        /// What.
        said: Said,
        /// How many tokens its agent has used.
        used: u64,
        /// The worker's clock.
        clock: Timestamp,
    },
    /// What a running attempt has used so far.
    Meter(AttemptId, u64),
    /// A sign of life.
    Beat,
    /// As it describes itself now.
    Capacity(Look),
}

/// From the head to a worker.
#[derive(Clone, Debug)]
pub enum Down {
    /// The answer to its hello.
    Welcome(Welcome),
    /// Start an attempt with a runner.
    Start(AttemptId, u8),
    /// Give an attempt back if it waits.
    Retract(AttemptId),
    /// End an attempt, for this reason.
    Stop(AttemptId, StopReason),
    /// Reports up to here are durable.
    Ack(u64),
    /// The stream has ended.
    End,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Its number in the world.
    pub id: u64,
    /// Whose.
    pub worker: u8,
    /// Which of the worker's processes: 1 is a twin.
    pub process: usize,
    /// The number that the head gave it, once its hello was read.
    pub connection: Option<u64>,
    /// On the way to the head.
    pub up: VecDeque<Up>,
    /// On the way to the worker.
    pub down: VecDeque<Down>,
    /// What the worker sends from here on never comes.
    pub up_dead: bool,
    /// What the head sends from here on never comes.
    pub down_dead: bool,
    /// The worker has let go of it.
    pub left: bool,
    /// The head has let go of it.
    pub ended: bool,
}

impl Stream {
    /// A new stream of a worker.
    #[must_use]
    pub fn new(id: u64, worker: u8, process: usize) -> Self {
        Self {
            id,
            worker,
            process,
            connection: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_dead: false,
            down_dead: false,
            left: false,
            ended: false,
        }
    }

    /// The worker sends.
    pub fn say(&mut self, message: Up) {
        if !self.up_dead && !self.ended {
            self.up.push_back(message);
        }
    }

    /// The head sends.
    pub fn tell(&mut self, message: Down) {
        if !self.down_dead && !self.left {
            self.down.push_back(message);
        }
    }

    /// The worker lets go: `kept` of what it sent still comes.
    pub fn leave(&mut self, kept: usize) {
        self.left = true;
        self.up.truncate(kept);
        self.down.clear();
    }

    /// The head lets go: `kept` of what it sent still comes, then the end.
    pub fn end(&mut self, kept: usize) {
        self.ended = true;
        self.up.clear();
        self.down.truncate(kept);
        if !self.left && !self.down_dead {
            self.down.push_back(Down::End);
        }
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left && self.ended
    }
}
