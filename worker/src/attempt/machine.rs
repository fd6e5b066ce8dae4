//! What happens next to a running attempt: when to stop it, how hard, and what its end means.
//!
//! Pure: time is a duration since the CLI's start, passed in.
//!
//! ```text
//! running -- turn ended --> closing -- grace --> asked -- grace --> interrupted -- grace --> …
//!    `------ stop, timeout -----------------------^        … --> terminated -- grace --> killed
//! ```

use std::time::Duration;

use orchestra_types::{Exit, Failure, FailureCode, TaskSpec, limits, time::Words};
use serde::{Deserialize, Serialize};

/// How long a CLI may take to end by itself after its last turn.
pub const CLOSING_GRACE: Duration = Duration::from_secs(10);

/// Why an attempt is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A person cancelled the task.
    Cancelled,
    /// A budget is used up.
    Budget,
    /// It ran longer than it may.
    Timeout,
    /// Nothing was heard of its agent for longer than it may be silent.
    Stalled,
    /// The head has given it up; it is no longer ours.
    Lost,
    /// The worker stops.
    Shutdown,
    /// The worker was revoked: it is shut out, and ends.
    Revoked,
    /// The worker's directories are gone, and with them all that could be kept of it.
    Groundless,
}

impl StopReason {
    /// Whether a later stop for `other` is told too. A limit may have come too late to be heeded.
    #[must_use]
    pub fn yields_to(self, other: Self) -> bool {
        self.is_limit() && !other.is_limit()
    }

    /// Whether it bounds what the agent does, and is no matter once the agent has done it.
    fn is_limit(self) -> bool {
        match self {
            Self::Budget | Self::Stalled => true,
            Self::Cancelled
            | Self::Timeout
            | Self::Lost
            | Self::Shutdown
            | Self::Revoked
            | Self::Groundless => false,
        }
    }
}

/// What the shell shall do to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Say in the CLI's own protocol that it shall stop.
    AskAdapter,
    /// Close its standard input.
    CloseStdin,
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// End everything that it started.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The agent is done; its CLI may take until then to end.
    Closing {
        until: Duration,
    },
    Stopping {
        rung: Rung,
        until: Duration,
    },
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Asked,
    Interrupted,
    Terminated,
}

/// How long a run may take, and how long it may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// For the whole run.
    pub timeout: Duration,
    /// Between two signs of life; none is for ever.
    pub stall_timeout: Option<Duration>,
}

impl Times {
    /// Those of a task.
    #[must_use]
    pub fn of(spec: &TaskSpec) -> Self {
        Self {
            timeout: spec.timeout,
            stall_timeout: spec.stall_timeout,
        }
    }
}

/// Decides for one run of a CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    timeout: Duration,
    grace: Duration,
    reason: Option<StopReason>,
    turn_ended: bool,
    state: State,
}

impl Machine {
    /// For a CLI that may run for `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            grace: limits::STOP_GRACE,
            reason: None,
            turn_ended: false,
            state: State::Running,
        }
    }

    /// Somebody wants it to end. The first reason stays.
    pub fn on_stop(&mut self, now: Duration, reason: StopReason) -> Vec<Act> {
        if !self.heeds(reason) {
            return vec![];
        }
        self.reason.get_or_insert(reason);
        match self.state {
            State::Running | State::Closing { .. } => self.ask(now),
            State::Stopping { .. } | State::Killed => vec![],
        }
    }

    /// Whether a stop for `reason` changes anything. What bounds the agent's work comes too late once the
    /// agent has done it: only its process lingers, and has its own grace.
    #[must_use]
    pub fn heeds(&self, reason: StopReason) -> bool {
        !(self.turn_ended && reason.is_limit())
    }

    /// From now on each rung of the ladder may take so long.
    pub fn on_grace(&mut self, now: Duration, grace: Duration) {
        self.grace = grace;
        match &mut self.state {
            State::Closing { until } | State::Stopping { until, .. } => {
                *until = (*until).min(now + grace);
            }
            State::Running | State::Killed => {}
        }
    }

    /// The CLI has no protocol by which it could be asked: a signal must do.
    pub fn on_cannot_ask(&mut self, now: Duration) -> Vec<Act> {
        self.climb(now, Rung::Interrupted)
    }

    /// The agent has said its last word.
    pub fn on_turn_ended(&mut self, now: Duration) -> Vec<Act> {
        match self.state {
            State::Running => {
                self.turn_ended = true;
                self.state = State::Closing {
                    until: now + CLOSING_GRACE,
                };
                vec![Act::CloseStdin]
            }
            State::Closing { .. } | State::Stopping { .. } | State::Killed => vec![],
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Duration) -> Vec<Act> {
        match self.state {
            State::Running if now >= self.timeout => self.on_stop(now, StopReason::Timeout),
            State::Closing { until } if now >= until => self.climb(now, Rung::Interrupted),
            State::Stopping { rung, until } if now >= until => match rung {
                Rung::Asked => self.climb(now, Rung::Interrupted),
                Rung::Interrupted => self.climb(now, Rung::Terminated),
                Rung::Terminated => {
                    self.state = State::Killed;
                    vec![Act::Kill]
                }
            },
            State::Running | State::Closing { .. } | State::Stopping { .. } | State::Killed => {
                vec![]
            }
        }
    }

    fn ask(&mut self, now: Duration) -> Vec<Act> {
        self.state = State::Stopping {
            rung: Rung::Asked,
            until: now + self.grace,
        };
        vec![Act::AskAdapter]
    }

    fn climb(&mut self, now: Duration, rung: Rung) -> Vec<Act> {
        self.state = State::Stopping {
            rung,
            until: now + self.grace,
        };
        match rung {
            Rung::Asked => vec![Act::AskAdapter],
            Rung::Interrupted => vec![Act::Interrupt],
            Rung::Terminated => vec![Act::Terminate],
        }
    }

    /// When `on_tick` has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Running => Some(self.timeout),
            State::Closing { until } | State::Stopping { until, .. } => Some(until),
            State::Killed => None,
        }
    }

    /// Why it was stopped, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.reason
    }

    /// How the process ended, in the words of an outcome: a process that we stopped did not
    /// choose its end.
    #[must_use]
    pub fn exit(&self, exit: Exit) -> Exit {
        match self.state {
            State::Running | State::Closing { .. } => exit,
            State::Stopping { .. } | State::Killed if self.turn_ended && self.reason.is_none() => {
                // It was done and only its process lingered.
                Exit::Code(0)
            }
            State::Stopping { .. } | State::Killed => Exit::Stopped,
        }
    }
}

/// Why the attempt is not a success: the stop's reason stands above what the CLI says about it.
#[must_use]
pub fn failure(
    reason: Option<StopReason>,
    times: Times,
    verdict: Option<Failure>,
) -> Option<Failure> {
    let Some(reason) = reason else {
        return verdict;
    };
    let (code, message) = match reason {
        StopReason::Cancelled => (FailureCode::Cancelled, "cancelled by a person".to_owned()),
        StopReason::Budget => (
            FailureCode::BudgetExceeded,
            "stopped because a budget is used up; its work is kept".to_owned(),
        ),
        StopReason::Timeout => {
            let timeout = Words(times.timeout);
            let message = format!("ran longer than its timeout of {timeout}");
            (FailureCode::Timeout, message)
        }
        StopReason::Stalled => {
            let message = "nothing was heard of its agent for longer than its `--stall-timeout`";
            let limit = times.stall_timeout;
            let limit = limit.map_or_else(String::new, |limit| format!(" of {}", Words(limit)));
            (FailureCode::Stalled, format!("{message}{limit}"))
        }
        StopReason::Lost => {
            let message = "the head had given this attempt up when the worker came back";
            (FailureCode::WorkerLost, message.to_owned())
        }
        StopReason::Shutdown => (
            FailureCode::WorkerLost,
            "its worker was told to stop while it ran (`ctl stop`, or a signal); what it did so far is kept".to_owned(),
        ),
        StopReason::Revoked => {
            let message = "its worker was shut out while it ran (`ctl workers revoke`); what it did so far is kept";
            (FailureCode::WorkerRevoked, message.to_owned())
        }
        StopReason::Groundless => {
            let message = "the directories of its worker were removed while it ran";
            (FailureCode::WorkerLost, message.to_owned())
        }
    };
    Some(Failure::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const TIMES: Times = Times {
        timeout: Duration::from_secs(100),
        stall_timeout: Some(Duration::from_secs(30)),
    };

    fn machine() -> Machine {
        Machine::new(100 * S)
    }

    #[test]
    fn a_worker_that_stops_soon_climbs_faster_also_where_the_climb_has_begun() {
        let mut begun = machine();
        begun.on_stop(S, StopReason::Cancelled);
        begun.on_grace(2 * S, S);
        let mut new = machine();
        new.on_grace(2 * S, S);
        assert_eq!(new.on_stop(2 * S, StopReason::Shutdown), [Act::AskAdapter]);
        for mut m in [begun, new] {
            assert_eq!(m.on_tick(3 * S), [Act::Interrupt]);
            assert_eq!(m.on_tick(4 * S), [Act::Terminate]);
            assert_eq!(m.on_tick(5 * S), [Act::Kill]);
        }
    }

    #[test]
    fn a_cancel_climbs_the_ladder_rung_by_rung() {
        let mut m = machine();
        assert_eq!(m.on_stop(S, StopReason::Cancelled), [Act::AskAdapter]);
        let mut acts = vec![];
        while let Some(deadline) = m.deadline() {
            assert_eq!(m.on_tick(deadline - Duration::from_millis(1)), []);
            acts.extend(m.on_tick(deadline));
        }
        assert_eq!(acts, [Act::Interrupt, Act::Terminate, Act::Kill]);
        assert_eq!(m.exit(Exit::Signal(9)), Exit::Stopped);
    }

    #[test]
    fn a_cli_that_cannot_be_asked_gets_a_signal_at_once() {
        let mut m = machine();
        m.on_stop(S, StopReason::Cancelled);
        assert_eq!(m.on_cannot_ask(S), [Act::Interrupt]);
        assert_eq!(m.on_tick(S + limits::STOP_GRACE), [Act::Terminate]);
    }

    #[test]
    fn a_second_stop_neither_restarts_the_ladder_nor_changes_the_reason() {
        let mut m = machine();
        m.on_tick(100 * S);
        let before = m.clone();
        assert_eq!(m.on_stop(101 * S, StopReason::Cancelled), []);
        assert_eq!(m, before);
        assert_eq!(m.reason(), Some(StopReason::Timeout));
    }

    #[test]
    fn a_timeout_is_a_failure_of_its_own_whatever_the_cli_says() {
        let mut m = machine();
        assert_eq!(m.on_tick(99 * S), []);
        assert_eq!(m.on_tick(100 * S), [Act::AskAdapter]);
        let said = Some(Failure::new(FailureCode::AgentFailed, "aborted"));
        let failure = failure(m.reason(), TIMES, said).unwrap();
        assert_eq!(failure.code, FailureCode::Timeout);
    }

    #[test]
    fn a_cli_that_lingers_after_its_last_turn_is_stopped_and_still_a_success() {
        let mut m = machine();
        assert_eq!(m.on_turn_ended(S), [Act::CloseStdin]);
        assert_eq!(m.on_turn_ended(S), []);
        assert_eq!(m.on_tick(S + CLOSING_GRACE), [Act::Interrupt]);
        assert_eq!(m.exit(Exit::Signal(2)), Exit::Code(0));
        assert_eq!(failure(m.reason(), TIMES, None), None);
    }

    #[test]
    fn a_cli_that_ends_by_itself_keeps_its_own_exit() {
        let mut m = machine();
        assert_eq!(m.exit(Exit::Code(3)), Exit::Code(3));
        m.on_turn_ended(S);
        assert_eq!(m.exit(Exit::Signal(11)), Exit::Signal(11));
    }

    #[test]
    fn a_limit_that_is_reached_after_the_last_turn_changes_nothing() {
        for reason in [StopReason::Budget, StopReason::Stalled] {
            let mut closing = machine();
            closing.on_turn_ended(S);
            let mut lingering = closing.clone();
            lingering.on_tick(S + CLOSING_GRACE);
            for mut m in [closing, lingering] {
                assert_eq!(m.on_stop(20 * S, reason), []);
                assert_eq!(m.exit(Exit::Code(0)), Exit::Code(0));
                assert_eq!(failure(m.reason(), TIMES, None), None);
                m.on_stop(21 * S, StopReason::Cancelled);
                assert_eq!(
                    m.reason(),
                    Some(StopReason::Cancelled),
                    "a person may still"
                );
            }
        }
    }

    #[test]
    fn who_stops_a_worker_is_told_from_who_shuts_it_out() {
        let of = |reason| failure(Some(reason), TIMES, None).unwrap();
        let (stopped, revoked) = (of(StopReason::Shutdown), of(StopReason::Revoked));
        assert_eq!(stopped.code, FailureCode::WorkerLost);
        assert!(stopped.message.contains("`ctl stop`, or a signal"));
        assert_eq!(revoked.code, FailureCode::WorkerRevoked);
        assert!(revoked.message.contains("`ctl workers revoke`"));
    }

    #[test]
    fn a_silence_that_was_too_long_says_how_long() {
        let failure = failure(Some(StopReason::Stalled), TIMES, None).unwrap();
        assert!(failure.message.ends_with("`--stall-timeout` of 30 s"));
    }

    #[test]
    fn a_cancel_after_the_last_turn_is_a_cancel() {
        let mut m = machine();
        m.on_turn_ended(S);
        assert_eq!(m.on_stop(2 * S, StopReason::Cancelled), [Act::AskAdapter]);
        assert_eq!(m.exit(Exit::Code(0)), Exit::Stopped);
    }
}
