//! Orchestra's decisions. Give it a time and an input; it says what changes and whom to tell.
//!
//! ```text
//!   input ──► Core::handle(now, input) ──► Step { changes, messages }
//!                                             │          │
//!                              make durable ◄─┘          └─► send, but only afterwards
//! ```
//!
//! What is absent: no clock, no I/O, no randomness, no async. The same inputs give the same bytes.
//! Stale, late and doubled inputs are ordinary and have an answer; nothing here fails or waits.
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

#[macro_use]
mod mutation;

mod account;
mod accounts;
mod attempt;
mod budgets;
mod calendar;
mod cancel;
mod change;
mod config;
mod cordon;
mod core;
mod dependants;
mod dispatch;
mod doubt;
mod elsewhere;
mod facts;
mod free;
mod higher;
mod input;
mod kept;
mod keys;
mod lease;
mod ledger;
mod message;
mod meter;
mod overdue;
mod queue;
mod queue_timeout;
mod remove;
mod restore;
mod retention;
mod retract;
mod room;
mod row;
mod run_time;
mod schedule;
mod seats;
mod session;
mod stuck;
mod submit;
mod table;
mod take_back;
mod task;
mod view;
mod worker;

#[cfg(test)]
mod tests;

#[cfg(feature = "mutations")]
pub use crate::mutation::{Mutation, mutate};
pub use crate::{
    budgets::{ProjectCandidate, ProjectView},
    calendar::Calendar,
    change::Change,
    config::{Config, Price, Retention},
    core::{Core, Step},
    doubt::{Doubt, doubt},
    facts::FactsPool,
    input::{Held, Input, Meter, NewTask, Report, ReportBody, ScheduleChange},
    message::{
        CancelRefused, Message, NotFound, PriorityRefused, RaiseRefused, ReleaseRefused,
        RemoveRefused, Reply, RetryRefused, StopReason, SubmitRefused, Welcome,
    },
    restore::Rows,
    room::Room,
    row::{
        AccountRow, AttemptRow, Availability, Avoids, Counted, EndStatus, Ending, KeyRow, Last,
        LedgerRow, OutcomeRow, ProjectRow, Reading, Slow, State, TaskFacts, TaskRow, Terms, Timing,
        WorkerRow,
    },
    schedule::{NewSchedule, ScheduleRow},
    view::{AccountView, AgentState, AgentView, Counts, Filter, Link, Page, TaskView, WorkerView},
};

/// One connection of a worker, numbered by the shell within one life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One question of a client, numbered by the shell; the answer carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);
