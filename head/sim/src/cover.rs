//! What worlds went through: counts that show that they are not empty.

macro_rules! points {
    ($($name:ident = $text:literal,)+) => {
        /// Something that a world can go through.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each has its words beside it")]
        pub enum Point { $($name,)+ }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its words.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

points! {
    Steps = "inputs decided",
    Commits = "commits",
    NewQueued = "new -> queued",
    NewBlocked = "new -> blocked",
    BlockedQueued = "blocked -> queued",
    NewCancelled = "new -> cancelled, for the one before it",
    BlockedCancelled = "blocked -> cancelled, for the one before it",
    BlockedEnded = "blocked -> cancelled, by a person",
    RunsAnyway = "runs although one before it failed",
    Scheduled = "started at its time",
    Recurs = "schedule made",
    RecursAgain = "schedule answered by its key",
    RecurRefused = "schedule refused",
    RecurChanged = "schedule paused, resumed or deleted",
    NoSchedule = "no such schedule",
    Run = "run of a schedule",
    DailyRun = "run of a daily schedule",
    RunLate = "run of a schedule after its time",
    ScheduleFromStart = "start by an earlier clock: a schedule goes on by that",
    RunWaits = "run of a schedule waits for the last one",
    RunPaused = "run of a schedule finds the queue full",
    FallsBack = "a task falls back on another runner",
    FallsBackAgain = "a task falls back on the second of two",
    Forgotten = "task forgotten",
    ForgottenEarly = "task forgotten, for there are too many",
    KeyForgotten = "key forgotten",
    MovedOn = "its worker could not begin it; it goes on to another one",
    LimitMet = "an account met its limit",
    Cordoned = "worker cordoned",
    Uncordoned = "worker uncordoned",
    NoWorker = "no such worker",
    Removed = "worker removed",
    RemoveRefused = "removal of a worker refused",
    BackAgain = "removed worker comes back",
    WaitsAhead = "attempt given beyond the slots",
    CalledBack = "attempt called back for an idle worker",
    CalledBackCordoned = "attempt called back from a cordoned worker",
    Passed = "another one began before a high one",
    CalledBackLower = "attempt called back for a higher level",
    CalledBackLate = "attempt called back that has waited too long",
    CalledBackAgain = "attempt called back again on a new stream",
    CalledBackTooLate = "attempt called back that has begun",
    GivenBack = "attempt given back",
    GivenBackQueued = "given back -> queued",
    GivenBackCancelled = "given back -> cancelled",
    Metered = "use of a running attempt read",
    BudgetStop = "attempt told to end for a budget",
    BudgetStopAgain = "attempt told so again",
    BudgetAsks = "budget used up -> needs_review",
    BudgetRaisedMeanwhile = "budget raised while it was stopped",
    BudgetRaised = "budget set or raised",
    LimitChanged = "limit of a task changed",
    LimitedLate = "limit of a task that had used something",
    DayLimitedLate = "limit of a day on which something was used",
    RaiseRefused = "raise of a limit that is not there refused",
    DaySet = "project's budget set or raised",
    NoProject = "budget for a project that nobody knows",
    DayBegins = "a new day begins",
    DayBeginsInRun = "a new day begins while an attempt runs",
    DayUsedUp = "project's budget used up -> queued",
    DayFrees = "what waited for the next day is started",
    BudgetGoesOn = "raised -> queued",
    QueueTimeout = "waited too long -> failed",
    QueueTimeoutAhead = "waited too long, given back -> failed",
    TimedOut = "attempt told to end: it ran too long",
    RunTimeHeard = "a worker says how long its agent has run before this start of the head",
    Stalled = "attempt told to end: it was silent",
    LateStopAgain = "attempt that takes too long told to end again",
    GivenUp = "attempt given up: its worker did not end it",
    CordonTold = "worker told that it is cordoned",
    StopAgain = "worker told again to end an attempt",
    Reprioritised = "another priority",
    PriorityRefused = "another priority refused",
    QueuedAssigned = "queued -> assigned",
    RetryElsewhere = "tried again on another worker",
    RetryAlone = "tried again on the same worker: there was no other",
    RetryBack = "tried again on the same worker: it had waited for another",
    QueuedEnded = "queued -> ended",
    AssignedRunning = "assigned -> running",
    HeldClosing = "held -> closing",
    HeldSucceeded = "held -> succeeded",
    HeldFailed = "held -> failed",
    HeldStopped = "held -> cancelled",
    HeldExhausted = "held -> needs_review",
    HeldAgain = "held -> queued",
    LostQueued = "lost -> queued",
    LostAhead = "lost before it had a slot -> queued",
    LostCancelled = "lost -> cancelled",
    LostReview = "lost -> needs_review",
    ClosingSucceeded = "closing -> succeeded",
    ClosingFailed = "closing -> failed",
    ClosingCancelled = "closing -> cancelled",
    ClosingReview = "closing -> needs_review",
    ClosingQueued = "closing -> queued",
    ClosingReplanned = "cancelled while closing",
    EndedQueued = "ended -> queued",
    EndedBlocked = "ended -> blocked",
    EndedSucceeded = "needs_review -> succeeded",
    ReviewCancelled = "needs_review -> cancelled",
    CancelWished = "cancel of what is held",
    LateKept = "late result kept",
    SubmitDone = "submit acknowledged",
    SubmitAgain = "submit answered by its key",
    SubmitRefused = "submit refused",
    CancelDone = "cancel acknowledged",
    CancelRefused = "cancel refused",
    CancelTooLate = "cancel refused: the agent has ended",
    RetryDone = "retry acknowledged",
    RetryRefused = "retry refused",
    Released = "release acknowledged",
    ReleasedGoes = "blocked -> queued: let go by a person",
    ReleaseRefused = "release refused",
    NotFound = "no such task",
    StaleStream = "message of a replaced stream",
    DoubledReport = "report that was known",
    ReportGap = "gap between reports",
    StaleReport = "report of an attempt not held",
    LeaseEnded = "lease ended",
    LeaseRenewed = "leases renewed: the head was away",
    KilledBeforeCommit = "head killed before commit",
    KilledInCommit = "head killed in commit",
    KilledBeforeSend = "head killed between commit and send",
    KilledInSend = "head killed while it sent",
    KilledIdle = "head killed between turns",
    Restarts = "head restarts",
    ClockBack = "clock earlier after a start",
    SetForward = "wall clock set forward",
    SetBack = "wall clock set back",
    SetBackMoves = "what waits goes back with the wall clock",
    Suspended = "head asleep beyond a deadline",
    HeadStopped = "head stopped in order",
    StreamCut = "stream cut",
    StreamHalfDead = "stream dead in one direction",
    StreamEndedByHead = "stream ended by the head",
    StreamReplaced = "stream replaced by another",
    ReportVanished = "report vanished",
    WorkerKilled = "worker killed",
    WorkerRebooted = "machine rebooted",
    WorkerGone = "worker gone for ever",
    Twin = "twin process",
    OrderAgain = "order repeated",
    WelcomeKeep = "attempt kept at a welcome",
    WelcomeKill = "attempt killed at a welcome",
    ToldToEndBefore = "lost and back, but told to end before: not taken back",
    TakenBack = "lost -> running: its worker is back and nobody else had it",
    TakenBackLost = "attempt that was taken back lost again",
    TakenBackEnded = "attempt that was taken back has ended",
    LateUse = "late result used more than was counted",
    ReplyLost = "answer lost",
    CallAgain = "client asked again",
    CloseAgain = "result put in place twice",
    ResultAcked = "result acknowledged to its worker",
    RestoreCompared = "restored core compared",
    Healed = "worlds that ended after healing",
}

/// Each point is gone through at least once in so many worlds.
const SEEN_ONCE_IN: u64 = 10_000;

/// How often each was gone through.
#[derive(Clone, Debug)]
pub struct Coverage(Vec<u64>);

impl Default for Coverage {
    fn default() -> Self {
        Self(vec![0; Point::ALL.len()])
    }
}

impl Coverage {
    /// Counts one.
    pub fn hit(&mut self, point: Point) {
        self.0[point as usize] += 1;
    }

    /// How often it was gone through.
    #[must_use]
    pub fn count(&self, point: Point) -> u64 {
        self.0[point as usize]
    }

    /// What so many worlds should have gone through and did not, or hardly.
    #[must_use]
    pub fn missing(&self, worlds: u64) -> Vec<&'static str> {
        let least = worlds / SEEN_ONCE_IN;
        let missing = Point::ALL.iter().filter(|p| self.count(**p) < least);
        missing.map(|point| point.name()).collect()
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}
