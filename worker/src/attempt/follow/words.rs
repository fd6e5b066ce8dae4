//! What is said of how a CLI ended, or why it was stopped.

use orchestra_types::{Failure, FailureCode};

use crate::{
    attempt::StopReason,
    process::{Reattach, Silence},
};

pub(super) fn supervisor_lost() -> Failure {
    Failure::new(
        FailureCode::WorkerLost,
        "the agent's supervisor is gone: the machine was restarted, or it was killed",
    )
}

pub(super) fn survivors(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let which = match pids.is_empty() {
        true => String::new(),
        false => format!(": process {}", pids.join(", ")),
    };
    format!("some processes of this attempt could not be ended{which}")
}

pub(super) fn silent(silence: Silence) -> &'static str {
    match silence {
        Silence::Stopped => {
            "the agent's supervisor was stopped (SIGSTOP) again and again when it should end the agent; the \
             worker ended both, and the last output may be missing"
        }
        Silence::Hung => {
            "the agent's supervisor did not end the agent when it was told to; the worker ended both, and the \
             last output may be missing"
        }
    }
}

pub(super) fn words_of(found: &Reattach) -> &'static str {
    match found {
        Reattach::Running(_) => "running",
        Reattach::Ended(_) => "ended",
        Reattach::Lost(_) => "lost",
    }
}

pub(super) fn words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cancelled => "cancelled by a person",
        StopReason::Budget => "its budget is used up",
        StopReason::Timeout => "its time is over",
        StopReason::Stalled => "nothing was heard of it for too long",
        StopReason::Lost => "the head has given this attempt up",
        StopReason::Shutdown => "the worker stops",
        StopReason::Revoked => "the worker was revoked, and ends",
        StopReason::Groundless => "the worker's directories are gone",
    }
}
