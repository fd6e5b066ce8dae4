//! One seeded world: a head with its store, workers, clients, and the network between them.

mod acts;
mod client;
mod faults;
mod head;
mod heal;
mod net;
mod send;
mod worker;

use orchestra_core::Core;
use orchestra_types::{AttemptId, Timestamp};

use crate::{
    cast::{Cast, Result as Ended, Said},
    cover::Coverage,
    disk::Disk,
    event::{Event, Look},
    judge::Judge,
    plan::{Limits, Plan, Switch},
    random::Random,
    rule::Checked,
    shadow::bit,
    trace::Trace,
};
use client::Clients;
use net::Stream;
use worker::Worker;

/// The head's process and what only it knows.
#[derive(Debug)]
struct Head {
    core: Core,
    /// What waits for it, each with the time of its coming.
    inbox: std::collections::VecDeque<(u64, Event)>,
    /// Results to be put in place.
    closes: Vec<AttemptId>,
    /// Its latest time: it never goes back within one life.
    now: Timestamp,
    next_connection: u64,
}

/// A world.
#[derive(Debug)]
pub struct World<'a> {
    cast: &'a Cast,
    plan: Plan,
    random: Random,
    judge: Judge,
    disk: Disk,
    head: Head,
    workers: Vec<Worker>,
    /// A second process with a copy of the last worker's directory.
    twin: Option<Worker>,
    streams: Vec<Stream>,
    next_stream: u64,
    clients: Clients,
    /// Results that the head has acknowledged to their workers.
    acked: Vec<(AttemptId, Ended)>,
    /// The true time.
    clock: u64,
    /// What the head's clock shows more than the true time.
    ahead: i64,
    /// What the wall clock shows more than the head's, since somebody set it.
    set: i64,
    /// How many results were put in place, or not.
    closed: u32,
    trace: Trace,
    /// A number for all that the core ever said.
    digest: Option<u64>,
}

impl<'a> World<'a> {
    /// Draws a world from its seed.
    #[must_use]
    pub fn new(seed: u64, limits: &Limits, cast: &'a Cast, cover: Coverage, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random, limits, &cast.config);
        let look = Look {
            slots: plan.slots,
            ready: 0b111,
            prefetch: plan.prefetch,
            boot: 1,
        };
        let workers = (0..plan.workers).filter_map(|n| u8::try_from(n).ok());
        let head = Head {
            core: Core::new(plan.config.clone()),
            inbox: std::collections::VecDeque::new(),
            closes: Vec::new(),
            now: Timestamp(plan.begin),
            next_connection: 1,
        };
        Self {
            cast,
            judge: Judge::new(&plan.config, cover),
            disk: Disk::default(),
            head,
            workers: workers.map(|n| Worker::new(n, look)).collect(),
            twin: None,
            streams: Vec::new(),
            next_stream: 1,
            clients: Clients::default(),
            acked: Vec::new(),
            clock: plan.begin,
            ahead: 0,
            set: 0,
            closed: 0,
            trace,
            digest: None,
            random,
            plan,
        }
    }

    /// Keeps a number for all that the core says, to compare two runs of a seed.
    pub fn keep_digest(&mut self) {
        self.digest = Some(0);
    }

    /// That number.
    #[must_use]
    pub fn digest(&self) -> Option<u64> {
        self.digest
    }

    /// What worlds went through so far; the world has none from here on.
    pub fn take_cover(&mut self) -> Coverage {
        std::mem::take(&mut self.judge.cover)
    }

    /// What happened, line by line, where it was written down.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take()
    }

    /// Lives through all steps, heals, and ends.
    pub fn run(&mut self) -> Checked {
        let plan = &self.plan;
        self.trace.line(self.clock, || {
            let on: Vec<&str> = plan.on.iter().map(Switch::name).collect();
            format!(
                "{} workers with {} slots; on: {}",
                plan.workers,
                plan.slots,
                on.join(" ")
            )
        });
        self.begin()?;
        for _ in 0..self.plan.steps {
            self.act()?;
        }
        self.heal()
    }

    /// Most workers are there when a world begins.
    fn begin(&mut self) -> Checked {
        for worker in (0..self.plan.workers).filter_map(|n| u8::try_from(n).ok()) {
            if !self.random.once_in(8) {
                self.dial(worker, 0);
            }
        }
        self.flow()
    }

    fn has(&self, switch: Switch) -> bool {
        self.plan.on.has(switch)
    }

    /// The head's clock.
    fn head_time(&self) -> Timestamp {
        Timestamp(self.clock.saturating_add_signed(self.ahead))
    }

    /// The wall clock of the head's machine.
    fn head_wall(&self) -> Timestamp {
        Timestamp(self.head_time().0.saturating_add_signed(self.set))
    }

    /// A worker's process; 1 is the twin.
    fn process(&mut self, worker: u8, process: usize) -> Option<&mut Worker> {
        if process == 1 {
            return self.twin.as_mut();
        }
        self.workers.get_mut(usize::from(worker))
    }

    fn stream(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// A result was acknowledged to the worker that has it: it must be recorded for ever.
    fn result_acked(&mut self, up_to: u64, worker: u8) -> Checked {
        let Some(process) = self.workers.get(usize::from(worker)) else {
            return Ok(());
        };
        for report in process.spool.iter().take_while(|r| r.seq <= up_to) {
            if let Said::Finished(result) = report.said {
                self.judge.cover.hit(crate::cover::Point::ResultAcked);
                self.acked.push((report.attempt, result));
            }
        }
        self.results_stay()
    }

    /// Every acknowledged result is recorded, and is the one that was acknowledged.
    fn results_stay(&self) -> Checked {
        use crate::rule::hold;
        for (attempt, result) in &self.acked {
            if self.disk.shadow.forgotten & bit(attempt.task) != 0 {
                continue;
            }
            let end = self.disk.shadow.outcome(*attempt);
            let kept = end.is_some_and(|end| end.result && end.code == result.code());
            hold!(
                Durable,
                kept,
                "{attempt} was acknowledged as {result:?}, recorded is {end:?}"
            );
        }
        Ok(())
    }
}
