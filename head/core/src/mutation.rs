//! Deliberate bugs, to prove that the simulation finds bugs. Absent without the feature
//! `mutations`; with it, none is on until a thread switches one on for itself.

/// `mutated!(Name)`: whether this deliberate bug is on.
#[cfg(not(feature = "mutations"))]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
}

/// `mutated!(Name)`: whether this deliberate bug is on.
#[cfg(feature = "mutations")]
macro_rules! mutated {
    ($name:ident) => {
        $crate::mutation::is_on($crate::mutation::Mutation::$name)
    };
}

#[cfg(feature = "mutations")]
pub(crate) use on::is_on;
#[cfg(feature = "mutations")]
pub use on::{Mutation, mutate};

#[cfg(feature = "mutations")]
mod on {
    use std::cell::Cell;

    macro_rules! mutations {
        ($($name:ident: $text:literal,)+) => {
            /// A deliberate bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Mutation { $(#[doc = $text] $name,)+ }

            impl Mutation {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$name,)+];

                /// What it does, in words.
                #[must_use]
                pub fn words(self) -> &'static str {
                    match self { $(Self::$name => $text,)+ }
                }
            }
        };
    }

    mutations! {
        AckedNotWritten: "reports are acknowledged and not recorded",
        ReportTakenTwice: "a report that was known is taken again",
        GapTaken: "a report behind a gap is taken",
        OldStreamHeard: "a stream that was replaced is heard",
        OldAttemptHeard: "a report of an old attempt counts for the latest",
        ResultNotWritten: "a result is not written",
        LateResultDropped: "the late result of a lost attempt is dropped",
        ResultOverwritten: "a recorded result is overwritten by a late one",
        LeaseEndsWithStream: "the end of a stream ends the lease",
        LeaseNeverEnds: "a lease never ends",
        LeaseEndsWhileAway: "leases end while the head is away",
        HeartbeatForgotten: "a heartbeat does not renew the lease",
        LossNotCharged: "a lost worker is not counted",
        AheadCharged: "a task that waited for a slot of a lost worker is charged for it",
        OrdersByNumber: "what waits for a slot of its worker is told by numbers, not by the order in which it was given",
        OrderOfHeldIgnored: "a worker that comes back is not heard on the order in which it begins what it has",
        OrderForgottenByStart: "the order in which workers were given their attempts is known until the next start only",
        AheadLostForEver: "a task that is always lost while it waits for a slot is never charged for it",
        ReportedLossNotCounted: "a task whose supervisor is gone each time, as its worker says, is tried again as often as it may be",
        LossChargedAsFailure: "a lost worker is charged as a failure",
        FailureNotCharged: "a failure is not charged",
        RetryNotDelayed: "a retry does not wait",
        DelaysNeverEnd: "nobody wakes when a delay is over",
        FreedByFailure: "a failed task frees those after it",
        NeverFreed: "a success frees nobody",
        DependencyIgnored: "a new task does not wait for those before it",
        LateCancelUnsaid: "a cancel that is too late is answered as done",
        ReleaseTooEarly: "a task that is let go waits for nobody any more",
        ReleaseKeepsWaiting: "a task that is let go waits on",
        ReleaseForgotten: "it is not written that a task was let go",
        CascadeMissing: "a task is not cancelled with the one before it",
        KeyForgotten: "a submission's key is not remembered",
        KeyNotWritten: "a submission's key is not written",
        IdsAgain: "ids are given again after a restart",
        CancelNotWritten: "the cancel of a running task is not written",
        CancelForgottenByStart: "a restart forgets cancels",
        CancelNotRepeated: "a worker that comes back is not told of a cancel",
        CancelledIsRetried: "a cancelled task that failed is tried again",
        CancelTooLate: "a cancel while closing does not prevent the retry",
        StartedTwiceByRestart: "a restart queues what is held",
        CloseForgottenByStart: "a restart forgets results that are not in place",
        RunningIsOrderedAgain: "a running attempt that its worker lost is ordered again",
        SlotLeak: "a finished attempt keeps its slot",
        SlotsOverbooked: "a worker gets one attempt more than it has slots",
        NotReadyIsUsed: "a runner that is not ready is given tasks",
        CordonIgnored: "a cordoned worker is given tasks",
        CapacityUnnoticed: "a worker that gains a slot is not given anything",
        CountsOff: "tasks that leave the queue stay counted",
        PriorityInverted: "low goes before high",
        NoPromotion: "waiting long does not help",
        SharesTakeNoTurns: "the tasks of one go before those of another that came later",
        RunnersTakeNoTurns: "the tasks of one runner go before those of another",
        WaitsOutOfTurn: "tasks that may wait at a worker go before others that may not",
        LastComeFirst: "of a share's tasks the one that came last goes first",
        PriorityStaysInQueue: "another priority does not move a task in the queue",
        StartTimeIgnored: "a task starts before its time",
        BackToTheSameWorker: "a task goes back to the worker that it failed on",
        FailedOnAgain: "a retry does not wait for another worker than the one it failed on",
        AvoidsAlone: "a retry waits for another worker although there is none",
        AvoidsForEver: "nobody wakes when a task has waited long enough for another worker",
        NeverMoves: "a task is charged for an attempt that its worker could not begin",
        MoveCharged: "an attempt that its worker could not begin counts for the task's budget",
        MovesForEver: "a task goes from worker to worker without an end",
        MovesAlone: "a task goes on to another worker although there is none",
        MovesBack: "a task whose worker could not begin it goes back there at once",
        LimitAvoids: "a limit of the account keeps a task from its worker",
        ParkIgnored: "tasks are started on a parked account",
        ParkTooShort: "an account is parked for less than its provider says",
        ParkForgottenByStart: "a restart forgets that an account is parked",
        FallbackIgnored: "no task falls back on another runner",
        FallsBackOnce: "a task falls back on the first of several runners only",
        FallsBackAtOnce: "a task falls back on another runner although the first one may be used",
        FallsBackForEver: "tasks go on to fall back when the account is not parked any more",
        LimitCharged: "a limit of the account is charged to the task",
        WaitsWhileIdle: "a task waits at a worker although a slot is free for it elsewhere",
        NotCalledBack: "what waits at a worker is not called back for an idle one",
        StopKeepsWaiting: "what waits at a worker is not called back when nothing is to be begun any more",
        CordonKeepsWaiting: "what waits at a cordoned worker is not called back",
        CalledBackTooMuch: "more is called back than there is room for",
        FirstCalledBack: "what was given first is called back, and not the latest",
        CalledBackToFailed: "what waits is called back for the worker that it failed on",
        CallNotRepeated: "what was called back on a lost stream is not called back again",
        LateWaitsAhead: "what has waited too long goes on to wait at a worker",
        WaitForgottenByCall: "the wait of a task begins anew when it is called back",
        CallUnanswered: "what was called back has begun, and nothing else is called back",
        LowerGoesFirst: "what waits at a worker stays before what has a higher level",
        EqualCalledBack: "what waits at a worker is called back for what has the same level",
        RefusalForgotten: "what was called back for a higher level has begun, and nothing else is called back",
        GivenBackCharged: "an attempt that is given back is charged",
        GivenBackLost: "an attempt that is given back stays where it was",
        GivenBackCancelForgotten: "a cancelled attempt that is given back is queued",
        BudgetIgnored: "tasks are started although a budget is used up",
        UsedUpTriedAgain: "a task whose own budget is used up is taken for another try",
        BudgetNotEnforced: "what runs is not told that its budget is used up",
        BudgetOfOthersIgnored: "the end of an attempt does not stop others under its budget",
        BacklogGoesLast: "a backlog that was cancelled pushes out what was done before it",
        CancelledTaskGrows: "a task that was cancelled takes new subtasks",
        BudgetOfParentIgnored: "what a subtask uses does not count for the task above it",
        UsedBeforeIgnored: "what a task used before it had a budget does not count",
        UseNotWritten: "what an attempt used is not written",
        UseForgottenByStart: "a restart forgets what was used",
        BudgetStopNotRepeated: "a worker that comes back is not told of a budget",
        OverBudgetCharged: "an attempt that a budget stopped is charged as a failure",
        NewProjectRefused: "a project has no budget before its first task",
        RaiseLimits: "a raise begins a limit where there was none",
        RaiseForgotten: "what stopped at a budget does not go on after a raise",
        HeldForEver: "what a budget held is not released by a raise",
        DayAfterInput: "the first input of a day counts for the day before",
        DayAgain: "a clock that was set back gives a day's budget again",
        DayNeverEnds: "a project's budget is not renewed at midnight",
        FirstBudgetTooLate: "the first budget of a project is not for what runs already",
        ProjectUseIgnored: "what a project's tasks use does not count for it",
        ProjectUseNotWritten: "what a project's tasks used is not written",
        RaiseForEver: "what is added for a day is there on the next one",
        WaitEndsBeforeReturn: "a task has waited too long soon after a start of the head, and fails before a worker is back",
        WaitEndsWhileAway: "a task has waited too long while the head was away, and fails before a worker is back",
        QueueTimeoutIgnored: "a task waits for ever for its first attempt",
        QueueTimeoutOfRetries: "a retry is ended as if it had waited for its first attempt",
        TimeoutIgnored: "an attempt that runs too long is not told to end",
        TimeoutTooEarly: "an attempt is told to end before its time",
        RunByOldClock: "an attempt has run for as long as the clock was set between two starts of the head",
        RunForgottenByStart: "an attempt that runs on over a start of the head has only run since then",
        StallIgnored: "an attempt of which nothing is heard is not told to end",
        StallTooEarly: "a sign of life does not count",
        NeverGivenUp: "an attempt that its worker does not end is waited for for ever",
        GivenUpAfterSleep: "a head that was asleep gives up at once what was to be ended meanwhile",
        GivenUpTooEarly: "an attempt is given up as soon as it is told to end",
        RunsOverlap: "a run comes although the last one has not ended",
        MissedRunsAreMade: "each run that was missed is made",
        RunNotNoted: "a run is made, and its schedule does not know of it after a restart",
        RunWaitsForEver: "a run that waits for the last one never comes",
        FullQueueEndsRuns: "a run that finds the queue full never comes",
        DailyAtOnce: "the first run of a daily schedule comes at once",
        PausedRuns: "a paused schedule makes a run",
        PausedRunsAreMade: "what was left out while it was paused is made up for",
        ScheduleForgottenByStart: "a restart forgets schedules",
        ScheduleIdsAgain: "the id of a schedule that was deleted is given again after a restart",
        ForgetsTooEarly: "a finished task is forgotten before its time",
        KeptForEver: "finished tasks are forgotten only when there are too many",
        NeededForEver: "what others needed once is kept for ever",
        ForgottenNotWritten: "a finished task is forgotten until the next start only",
        KeyForgottenTooEarly: "a key is forgotten before its time",
        ForgetsNeeded: "a finished task is forgotten that others still need",
        EpochAgain: "an epoch is used again",
        StrangersKept: "a worker keeps attempts that are not its own",
        RemovedWithAttempts: "a worker is removed while attempts go on there",
        RemovalNotWritten: "a worker that was removed is back after the next start",
        ComesBackAtOne: "the reports of a worker that was removed and comes back are to begin at one",
        ClockIgnored: "a time to start at does not follow the wall clock",
        DelaysGrow: "the delay of a retry becomes longer when the wall clock is set back",
        WaitsGrow: "how long a task waits for a worker does not begin anew with its time to start",
        DelaysKeptByStart: "the delay of a retry lasts as long as the clock of an earlier head was ahead",
        ParksKeptByStart: "an account is parked for as long as the clock of an earlier head was ahead",
        RunsLagFromStart: "runs wait for a clock from before a start to be there again",
        RunsLag: "runs wait for a clock that was set back to be there again",
        WatchersNotTold: "watchers are not told of changes",
        NeverTakenBack: "an attempt whose worker comes back while its task waits is begun anew",
        TakenBackFromOthers: "an attempt is taken back although another worker has had its task since",
        TakenBackThoughCancelled: "an attempt is taken back although its task was cancelled meanwhile",
        TakenBackUnbegun: "an attempt is taken back whose agent was never started",
        TakenBackAfterBoot: "an attempt is taken back whose machine was started anew",
        TakenBackOverBudget: "an attempt is taken back although a budget is used up",
        TakenBackThoughTold: "an attempt is taken back although its worker was told to end it when it came back before",
        ToldNotWritten: "that a worker was told to end an attempt is known until the next start only",
        TakenBackCharged: "the loss of an attempt that is taken back stays counted",
        TakenBackCountsTwice: "what an attempt used before it was lost and taken back counts twice",
        TakenBackStaysLost: "the loss of an attempt that is taken back stays its result",
        LateUseIgnored: "what an attempt used after it was given up does not count when its result comes",
        RetryForgetsOrder: "a task that runs anyway, and is tried again, does not wait for one before it that is, too",
        LostUseForgotten: "what an attempt had told that it used is not kept when it is given up",
    }

    thread_local! {
        static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Switches one on for this thread, or all off.
    pub fn mutate(mutation: Option<Mutation>) {
        CURRENT.set(mutation);
    }

    pub(crate) fn is_on(mutation: Mutation) -> bool {
        CURRENT.get() == Some(mutation)
    }
}
