//! What must hold, and how it is said when it does not.

use std::fmt;

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Something that must hold in every world.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        impl Rule {
            /// A few words for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

rules! {
    /// At most one attempt of a task is held, by one worker.
    OneHolder = "one holder",
    /// A stream that was replaced, an old attempt, a stranger: what they say changes nothing.
    Fencing = "stale reports change nothing",
    /// A result is recorded once and stays.
    ResultOnce = "a result is recorded once",
    /// What was acknowledged is there after every crash.
    Durable = "acknowledged is durable",
    /// What is over is forgotten when its time is over and nothing needs it, and not before.
    Retention = "what is needed is kept",
    /// The same key gives the same tasks.
    Keys = "a key gives the same tasks",
    /// Counts are what counting gives.
    Counts = "counts are right",
    /// A worker has never more than its slots.
    Slots = "no slot is overbooked",
    /// A task starts only after those that it comes after.
    Dependencies = "dependencies are kept",
    /// Failures, losses and attempts are counted as they happened.
    Charges = "charges are right",
    /// What a person cancelled does not start again, and ends as that.
    CancelHolds = "a cancel holds",
    /// A retry waits as long as it must.
    Delays = "delays are kept",
    /// The best rank that fits goes first.
    BestFirst = "best rank first",
    /// Shares and runners take turns, so that nobody waits longer than the bound.
    Turns = "shares take turns",
    /// A task goes to the preferred runner, and to another worker than the one it failed on.
    Placement = "the right worker",
    /// No task waits while a slot that fits is free.
    NoIdle = "no idle slot",
    /// What waits at a worker is called back when it could begin elsewhere, and never in vain.
    CallBack = "what waits is called back",
    /// What is used counts everywhere it should, and nothing goes on beyond a budget.
    Budgets = "budgets hold",
    /// Nothing waits or runs longer than it may, and nothing is ended too early.
    Clocks = "timeouts are kept",
    /// Each run of a schedule is made once, when it is due.
    Schedules = "each run once",
    /// A worker is lost when its lease has ended, and only then.
    Leases = "the lease decides loss",
    /// Orders go to the holder, on its open stream.
    Orders = "orders go to the holder",
    /// A worker that attaches is told rightly what is its own.
    Welcome = "welcome is right",
    /// Reports are taken in their order, each once, and acknowledged when they are durable.
    Reports = "reports in order",
    /// Each question has one answer, and it is the right one.
    Answers = "one right answer",
    /// Tasks move only along the known ways.
    Transitions = "only known transitions",
    /// Who watches a task hears of its changes.
    Watchers = "watchers are told",
    /// Memory is what the rows say.
    Memory = "memory is what rows say",
    /// A restored core is the one that was lost.
    Restore = "restore is exact",
    /// The core asks to be woken when something is due.
    Deadlines = "it wakes in time",
    /// The same inputs give the same bytes.
    Deterministic = "deterministic",
    /// Once everything works again, everything ends.
    Ends = "everything ends",
    /// The core never panics.
    NoPanic = "no panic",
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}

/// Whether all is well.
pub type Checked = Result<(), Box<Violation>>;

/// Says how a rule was broken.
pub fn broken(rule: Rule, what: impl Into<String>) -> Box<Violation> {
    let what = what.into();
    Box::new(Violation { rule, what })
}

/// Breaks a rule unless something holds; the words are made only when they are needed.
macro_rules! hold {
    ($rule:ident, $holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::rule::broken($crate::rule::Rule::$rule, format!($($what)+)));
        }
    };
}
pub(crate) use hold;
