//! What a seed makes of its world: sizes, and which faults and features are on in it.
//!
//! Swarm testing: each world has a random half of them. A world in which everything happens at
//! once hides what a world with few things shows.

use std::time::Duration;

use orchestra_core::{Config, Retention};

use crate::{
    cast::{PROJECT, RUNNERS, tokens},
    random::Random,
};

macro_rules! switches {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A fault or a feature that is on in some worlds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Switch { $($(#[doc = $doc])+ $name,)+ }

        impl Switch {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name, as `--without` takes it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

switches! {
    /// The head is killed between any two of: decide, commit, send.
    HeadKilled = "head-killed",
    /// The head's machine sleeps: deadlines pass and nobody looks.
    HeadSuspended = "head-suspended",
    /// The wall clock is another one after a start, also an earlier one.
    ClockJumps = "clock-jumps",
    /// The head is told to start nothing more, and is started anew.
    HeadStopped = "head-stopped",
    /// Streams break; what was on the way is lost from some place on.
    Cuts = "cuts",
    /// A stream is dead in one direction, and its ends do not know.
    OneWay = "one-way",
    /// The head ends streams by itself.
    HeadCuts = "head-cuts",
    /// A report vanishes out of the middle of a stream.
    LostReports = "lost-reports",
    /// The worker's process is killed; its agents live on.
    WorkerKilled = "worker-killed",
    /// The worker's machine is restarted; its agents are gone.
    WorkerRebooted = "worker-rebooted",
    /// A worker goes away and never comes back.
    WorkerGone = "worker-gone",
    /// A second process runs with a copy of a worker's directory.
    Twins = "twins",
    /// Runners become ready and not ready, slots more and fewer.
    Capacity = "capacity",
    /// Answers to clients are lost.
    LostReplies = "lost-replies",
    /// Clients ask again although the first call is still on its way.
    DoubledCalls = "doubled-calls",
    /// Results are put in place twice.
    DoubledCloses = "doubled-closes",
    /// Time passes by leases and promotions, not only by moments.
    LongWaits = "long-waits",
    /// Tasks come after each other.
    Dependencies = "dependencies",
    /// Priorities.
    Priorities = "priorities",
    /// Attempts fail, and some are tried again.
    Failures = "failures",
    /// People cancel.
    Cancels = "cancels",
    /// People try again.
    Retries = "retries",
    /// Tasks of a project, whose results are put in place, or conflict.
    Projects = "projects",
    /// Tasks that are cancelled, or run anyway, when one that they come after fails.
    Policies = "policies",
    /// Tasks with a time to start at.
    Schedules = "schedules",
    /// Tasks that come again and again.
    Recurring = "recurring",
    /// People give other priorities.
    Reprioritise = "reprioritise",
    /// Accounts meet limits.
    Limits = "limits",
    /// Tasks that fall back on another runner while the account of theirs is parked.
    Fallbacks = "fallbacks",
    /// People cordon and drain workers.
    Cordons = "cordons",
    /// Tasks of two people.
    Shares = "shares",
    /// Many tasks for few slots.
    Crowds = "crowds",
    /// What is over is soon forgotten.
    Retention = "retention",
    /// Reports come twice on a stream.
    DoubledReports = "doubled-reports",
    /// Tasks that name a runner, a machine or a label.
    Requirements = "requirements",
    /// Submissions of several tasks.
    Bulk = "bulk",
    /// Workers that let attempts wait beyond their slots.
    Prefetch = "prefetch",
    /// Tasks with budgets, and tasks that are a part of those.
    Budgets = "budgets",
    /// What a project may use in a day, with midnight soon.
    DailyBudgets = "daily-budgets",
    /// Tasks that may wait, run or be silent only for so long.
    Timeouts = "timeouts",
    /// People remove workers that are not connected.
    Removals = "removals",
    /// Workers that cannot begin what they are given.
    BadWorkers = "bad-workers",
    /// Somebody sets the wall clock while the head runs, forward or back.
    ClockSet = "clock-set",
}

/// A set of switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches(u64);

impl Switches {
    /// Whether one is on.
    #[must_use]
    pub fn has(self, switch: Switch) -> bool {
        self.0 & (1 << switch as u32) != 0
    }

    /// The same without some.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// A set of these.
    #[must_use]
    pub fn of(switches: &[Switch]) -> Self {
        Self(switches.iter().fold(0, |set, one| set | 1 << *one as u32))
    }

    /// Those that are on.
    pub fn iter(self) -> impl Iterator<Item = Switch> {
        Switch::ALL.iter().copied().filter(move |s| self.has(*s))
    }
}

/// What a caller changes about the worlds that it runs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most this many steps before a world heals.
    pub steps: u32,
    /// Off in every world.
    pub without: Switches,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: u32::MAX,
            without: Switches(0),
        }
    }
}

/// When most worlds begin: some day in 2026, by every clock.
const BEGIN_MS: u64 = 1_780_000_000_000;
/// A day, by which projects have budgets.
pub const DAY_MS: u64 = 24 * 3600 * 1000;
/// A minute in milliseconds.
pub const MINUTE_MS: u64 = 60 * 1000;
/// One world in this many of those that may have a crowd has one.
const CROWD_ONE_IN: u64 = 5;
/// Most tasks of a crowd.
const CROWD_MAX: u64 = 20;

/// One world's sizes and switches.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is on.
    pub on: Switches,
    /// How many workers.
    pub workers: usize,
    /// How many attempts each may run at once.
    pub slots: u32,
    /// How many attempts of each runner may wait there beyond that.
    pub prefetch: [u8; RUNNERS.len()],
    /// How many tasks clients submit at most.
    pub tasks: usize,
    /// How many clients ask.
    pub clients: usize,
    /// Steps before it heals.
    pub steps: u32,
    /// The moment at which it begins, in milliseconds since the Unix epoch.
    pub begin: u64,
    /// The core's numbers.
    pub config: Config,
}

impl Plan {
    /// Draws a world.
    pub fn draw(random: &mut Random, limits: &Limits, base: &Config) -> Self {
        let all = random.once_in(32);
        let mask = random.bits();
        let on = Switches(if all { u64::MAX } else { mask }).without(limits.without);
        let lease = Duration::from_secs(random.between(5, 30));
        let mut plan = Self {
            on,
            begin: BEGIN_MS,
            workers: usize::try_from(random.between(1, 3)).unwrap_or(1),
            slots: u32::try_from(random.between(1, 3)).unwrap_or(1),
            prefetch: prefetch(on, random),
            tasks: usize::try_from(random.between(1, 8)).unwrap_or(1),
            clients: usize::try_from(random.between(1, 2)).unwrap_or(1),
            steps: u32::try_from(random.between(40, 120))
                .unwrap_or(30)
                .min(limits.steps),
            config: Config {
                promote_after: Duration::from_secs(random.between(1, 60)),
                retry_delay: Duration::from_secs(random.between(1, 10)),
                retry_delay_max: Duration::from_secs(60),
                lease,
                lease_grace: lease / 4,
                losses_max: u32::try_from(random.between(1, 3)).unwrap_or(1),
                queue_max: random.between(3, 12),
                timeout_margin: Duration::from_secs(2),
                give_up_after: Duration::from_secs(random.between(5, 20)),
                stall_notice: Duration::from_secs(random.between(5, 20)),
                retention: retention(on, random),
                ..base.clone()
            },
        };
        if on.has(Switch::DailyBudgets) {
            plan.before_midnight(random);
        }
        if on.has(Switch::BadWorkers) {
            plan.config.moved_max = u32::try_from(random.between(1, 2)).unwrap_or(1);
            plan.config.moved_for = Duration::from_secs(random.between(5, 60));
        }
        if on.has(Switch::Crowds) && random.once_in(CROWD_ONE_IN) {
            plan.crowded(random)
        } else {
            plan
        }
    }

    /// A new day comes soon, and the project may have a budget for each.
    fn before_midnight(&mut self, random: &mut Random) {
        self.begin = self.begin.next_multiple_of(DAY_MS) - random.between(1, 40_000);
        if random.once_in(2) {
            let budget = tokens(random.between(1, 80));
            self.config.budgets.insert(PROJECT.to_owned(), budget);
        }
    }

    /// Many tasks for few slots: mostly for one on each of two workers, between which they are moved.
    fn crowded(mut self, random: &mut Random) -> Self {
        self.workers = if random.once_in(4) { 1 } else { 2 };
        self.slots = if random.once_in(4) { 2 } else { 1 };
        self.tasks = usize::try_from(random.between(8, CROWD_MAX)).unwrap_or(8);
        self.config.queue_max = CROWD_MAX;
        self
    }
}

/// How long what is over is kept: hardly, or longer than any world lasts.
fn retention(on: Switches, random: &mut Random) -> Retention {
    if !on.has(Switch::Retention) {
        return Retention::default();
    }
    let mut seconds = |most| Duration::from_secs(random.between(1, most));
    Retention {
        finished_for: seconds(120),
        keys_for: seconds(60),
        finished_max: random.between(1, 8),
    }
}

/// The runner that takes only tasks which name it, and in some worlds one that takes any.
fn prefetch(on: Switches, random: &mut Random) -> [u8; RUNNERS.len()] {
    if !on.has(Switch::Prefetch) {
        return [0; RUNNERS.len()];
    }
    let mut some = || u8::try_from(random.between(1, 2)).unwrap_or(1);
    let (first, last) = (some(), some());
    let agents = random.once_in(2);
    [if agents { first } else { 0 }, 0, last]
}
