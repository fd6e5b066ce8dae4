//! The one place that makes a `tonic::Status`: a code means one thing, and a message says what to
//! do next.

use std::time::Duration;

use orchestra_core::{
    CancelRefused, NotFound, PriorityRefused, RaiseRefused, ReleaseRefused, Reply, RetryRefused,
    SubmitRefused,
};
use orchestra_proto::{RUNNER, Refused, TASK};
use orchestra_types::{
    AccountName, AttemptId, ProjectId, RunnerName, ScheduleId, TaskId, TaskStatus, shell,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    blobs, context, disk,
    engine::{AskError, ReadError, Stopped},
    events, manifest, store,
};

mod credentials;
mod workers;
pub(super) use credentials::{credentials, no_token, token};
pub(super) use workers::{
    no_worker, remove_refused, twin, worker_away, worker_busy, worker_done, worker_failed,
    worker_left, worker_old, worker_silent,
};

/// What a call gives.
pub(super) type Result<T> = std::result::Result<T, Status>;

/// How alike a name must be to be suggested.
const SIMILARITY_MIN: f64 = 0.6;

/// A field that is not accepted.
pub(super) fn refused(refused: &Refused) -> Status {
    Status::invalid_argument(refused.to_string())
}

/// The head is about to end.
pub(super) fn stopped(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
}

/// The head is about to end, or its disk is full.
pub(super) fn asked(error: AskError) -> Status {
    match error {
        AskError::Stopped(error) => stopped(error),
        AskError::Full(error) => full(&error),
    }
}

/// There is no room on the head's disk.
pub(super) fn full(full: &disk::Full) -> Status {
    Status::resource_exhausted(full.to_string())
}

/// The head ends.
pub(super) fn stopping() -> Status {
    stopped(Stopped)
}

/// A list of files that cannot be read. It was stored before its task had a result, so that one that is not
/// there is lost.
pub(super) fn manifest(error: &manifest::Error) -> Status {
    match error {
        manifest::Error::Blobs(
            lost @ (blobs::Error::Unknown(_) | blobs::Error::Damaged { .. }),
        ) => {
            let text = chain(lost);
            Status::data_loss(format!("the list of changed files cannot be read: {text}"))
        }
        manifest::Error::Blobs(error) => blobs(error),
        manifest::Error::Decode(_) | manifest::Error::Refused(_) => Status::data_loss(chain(error)),
    }
}

/// A context that cannot be read or changed.
pub(super) fn context(error: &context::Error) -> Status {
    let text = chain(error);
    match error {
        context::Error::Files { .. } => Status::internal(text),
        context::Error::Damaged { .. } => Status::data_loss(text),
        context::Error::NotEditable { .. } | context::Error::TooLarge { .. } => {
            Status::invalid_argument(text)
        }
        context::Error::Unknown { .. } => Status::not_found(text),
    }
}

/// Something that has its reasons in it.
pub(super) fn failed(doing: &str, error: &anyhow::Error) -> Status {
    let text = format!("{doing}: {error:#}");
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    match causes.any(store::Error::is_damage) {
        true => Status::data_loss(text),
        false => Status::internal(text),
    }
}

/// The head is about to end, or a row is damaged.
pub(super) fn read(error: ReadError) -> Status {
    match error {
        ReadError::Stopped(error) => stopped(error),
        ReadError::Store(store::Error::Full(error)) => full(&error),
        ReadError::Store(error) => {
            tracing::error!(error = %chain(&error), "a row cannot be read");
            let text = format!("failed to read the head's store: {}", chain(&error));
            match error {
                store::Error::Row { .. } => {
                    Status::data_loss(format!("{text}; see `ctl check`, or restore a backup"))
                }
                error if error.is_damage() => Status::data_loss(text),
                _ => Status::internal(text),
            }
        }
    }
}

/// Events that cannot be stored or read.
pub(super) fn events(error: &events::Error) -> Status {
    match error {
        events::Error::Stopped => Status::unavailable(error.to_string()),
        events::Error::Full { .. } => Status::resource_exhausted(error.to_string()),
        events::Error::Missing { .. } => Status::data_loss(error.to_string()),
        events::Error::Io { .. } => Status::internal(chain(error)),
    }
}

/// Bytes that cannot be stored or read.
pub(super) fn blobs(error: &blobs::Error) -> Status {
    let text = chain(error);
    match error {
        blobs::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Status::resource_exhausted(format!("{text}; free space on the head's disk"))
        }
        blobs::Error::Io { .. } => Status::internal(text),
        blobs::Error::WrongHash { .. }
        | blobs::Error::WrongSize { .. }
        | blobs::Error::Damaged { .. } => Status::data_loss(text),
        blobs::Error::NoPartial { .. } => Status::aborted(text),
        blobs::Error::Unknown(_) => Status::not_found(text),
        blobs::Error::TooLarge { .. } => Status::out_of_range(text),
    }
}

/// An upload that went on from an earlier one has brought wrong bytes.
pub(super) fn start_over(error: &blobs::Error) -> Status {
    Status::aborted(format!(
        "{}; they will be taken from the beginning",
        chain(error)
    ))
}

/// There is no such task.
pub(super) fn no_task(id: TaskId) -> Status {
    Status::not_found(format!("there is no {id}; `ctl tasks` lists all tasks"))
}

/// There is no such attempt.
pub(super) fn no_attempt(id: AttemptId) -> Status {
    let AttemptId { task, number } = id;
    Status::not_found(format!(
        "{task} has no attempt {number}; see `ctl show {task}`"
    ))
}

/// The task has not been started yet.
pub(super) fn not_started(id: TaskId, status: TaskStatus) -> Status {
    let why = format!("{id} is {status} and has not been started yet; see `ctl show {id}`");
    Status::failed_precondition(why)
}

/// The attempt runs, or left no list of files.
pub(super) fn no_manifest(id: AttemptId) -> Status {
    let why = format!(
        "{id} has no list of changed files yet; ask again in some seconds, or wait for its end with `ctl wait {}`",
        id.task
    );
    Status::failed_precondition(why)
}

/// An attempt has ended without one.
pub(super) fn left_no_manifest(id: AttemptId) -> Status {
    let why = format!(
        "{id} left no list of changed files; `ctl show {}` says how it ended",
        id.task
    );
    Status::failed_precondition(why)
}

/// The first message of a worker's stream did not come, or was another one.
pub(super) fn no_hello(why: &str) -> Status {
    Status::failed_precondition(format!(
        "{why}; the first message must be Hello, within 10 s"
    ))
}

/// A reader did not read.
pub(super) fn slow_reader() -> Status {
    Status::resource_exhausted(
        "the head ended this stream: nothing was read from it for 5 minutes; open it again to go on",
    )
}

/// Too much of submissions is in the head at once.
pub(super) fn flood() -> Status {
    Status::resource_exhausted(
        "the head takes in as much as it can; nothing was submitted, try again in a moment",
    )
}

/// The head ended a worker's stream, which may come back.
pub(super) fn cut_off(why: &str) -> Status {
    Status::aborted(format!("{why}; attach again"))
}

/// Only workers may call this.
pub(super) fn not_a_worker() -> Status {
    Status::permission_denied("only a worker may push events")
}

/// Something of ours went wrong that the caller cannot help.
pub(super) fn internal(what: &str) -> Status {
    Status::internal(format!("{what}; see the head's log"))
}

/// More streams are watched than the head has room for.
pub(super) fn too_many_watches(limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "{limit} streams are watched already, the limit of this head; end some `ctl watch` or `ctl logs -f`"
    ))
}

/// A caller has as many uploads open as it may.
pub(super) fn too_many_uploads(limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "{limit} uploads of yours are open already; try again when some have ended"
    ))
}

/// An upload that went silent.
pub(super) fn silent_upload(within: Duration) -> Status {
    Status::unavailable(format!(
        "nothing came for {} s; what came is kept for a while: go on from there",
        within.as_secs()
    ))
}

/// The answer to a change of one task: its id, or why not.
pub(super) fn done(reply: Reply) -> Result<TaskId> {
    match reply {
        Reply::Done(id) => Ok(id),
        Reply::NotFound(NotFound(id)) => Err(no_task(id)),
        Reply::CancelRefused(why) => Err(cancel_refused(why)),
        Reply::RetryRefused(why) => Err(retry_refused(why)),
        Reply::PriorityRefused(why) => Err(priority_refused(why)),
        Reply::ReleaseRefused(why) => Err(release_refused(why)),
        Reply::RaiseRefused(why) => Err(raise_refused(&why)),
        Reply::Submitted { .. }
        | Reply::SubmitRefused(_)
        | Reply::AccountDone(_)
        | Reply::NoAccount(_)
        | Reply::Scheduled { .. }
        | Reply::ScheduleDone(_)
        | Reply::NoSchedule(_)
        | Reply::WorkerDone(_)
        | Reply::NoWorker(_)
        | Reply::RemoveRefused(_)
        | Reply::ProjectDone(_)
        | Reply::SeveralProjects(_)
        | Reply::NoProject(_) => Err(internal("the engine answered another question")),
    }
}

/// There is no such recurring task.
pub(super) fn no_schedule(id: ScheduleId) -> Status {
    Status::not_found(format!(
        "there is no {id}; `ctl schedules` lists all of them"
    ))
}

/// The answer to new recurring tasks: ids, and whether they are earlier ones.
pub(super) fn scheduled(reply: Reply) -> Result<(Vec<ScheduleId>, bool)> {
    match reply {
        Reply::Scheduled { ids, duplicate } => Ok((ids, duplicate)),
        Reply::SubmitRefused(why) => Err(submit_refused(why)),
        _ => Err(internal("the engine answered another question")),
    }
}

/// The answer to a submission: ids, and whether they are earlier ones.
pub(super) fn submitted(reply: Reply) -> Result<(Vec<TaskId>, bool)> {
    match reply {
        Reply::Submitted { ids, duplicate } => Ok((ids, duplicate)),
        Reply::SubmitRefused(why) => Err(submit_refused(why)),
        Reply::Done(_)
        | Reply::NotFound(_)
        | Reply::CancelRefused(_)
        | Reply::RetryRefused(_)
        | Reply::PriorityRefused(_)
        | Reply::ReleaseRefused(_)
        | Reply::RaiseRefused(_)
        | Reply::Scheduled { .. }
        | Reply::ScheduleDone(_)
        | Reply::NoSchedule(_)
        | Reply::WorkerDone(_)
        | Reply::NoWorker(_)
        | Reply::RemoveRefused(_)
        | Reply::AccountDone(_)
        | Reply::NoAccount(_)
        | Reply::ProjectDone(_)
        | Reply::SeveralProjects(_)
        | Reply::NoProject(_) => Err(internal("the engine answered another question")),
    }
}

/// The answer to a change of an account: its name, or why not.
pub(super) fn account_done(reply: Reply) -> Result<AccountName> {
    match reply {
        Reply::AccountDone(name) => Ok(name),
        Reply::NoAccount(name) => Err(Status::not_found(format!(
            "there is no account `{name}`; `ctl accounts` lists all accounts"
        ))),
        _ => Err(internal("the engine answered another question")),
    }
}

/// There is no such project.
pub(super) fn no_project(wanted: &str) -> Status {
    Status::not_found(format!(
        "no task belongs to a project `{wanted}`; `ctl show TASK` names a task's project"
    ))
}

/// A name that several projects have, each with its id and directory.
pub(super) fn several_projects(wanted: &str, projects: &[(ProjectId, String)]) -> Status {
    let each = projects.iter().map(|(id, dir)| format!("{id} ({dir})"));
    let each: Vec<String> = each.collect();
    Status::failed_precondition(format!(
        "`{wanted}` may be any of {} projects; name one by its id, or by the first 8 characters or more \
         of that: {}",
        projects.len(),
        each.join(", ")
    ))
}

/// The answer to a change of a project's budget: its id, or why not.
pub(super) fn project_done(reply: Reply) -> Result<ProjectId> {
    match reply {
        Reply::ProjectDone(id) => Ok(id),
        Reply::NoProject(wanted) => Err(no_project(&wanted)),
        Reply::RaiseRefused(why) => Err(raise_refused(&why)),
        _ => Err(internal("the engine answered another question")),
    }
}

fn raise_refused(why: &RaiseRefused) -> Status {
    let (whose, options, lacks) = match why {
        RaiseRefused::Task { id, lacks, .. } => (id.to_string(), id.to_string(), lacks),
        RaiseRefused::Project { name, lacks } => {
            let options = format!("--project {}", shell::word(name));
            (format!("project {name}"), options, lacks)
        }
    };
    let next = match why {
        RaiseRefused::Task {
            used_up: Some(used_up),
            ..
        } => used_up.message.clone(),
        RaiseRefused::Task { used_up: None, .. } | RaiseRefused::Project { .. } => format!(
            "a limit is set without a +, as `ctl budget {options} {}`",
            lacks.set()
        ),
    };
    Status::failed_precondition(format!("{whose} has no limit of {lacks} to add to; {next}"))
}

fn cancel_refused(why: CancelRefused) -> Status {
    Status::failed_precondition(match why {
        CancelRefused::Ended(id, status) => format!("{id} has ended already: it is {status}"),
        CancelRefused::Finishing(id) => format!(
            "{id} is finishing: its agent has ended, and its result is being put in place; it is too late to cancel it"
        ),
    })
}

fn retry_refused(why: RetryRefused) -> Status {
    Status::failed_precondition(match why {
        RetryRefused::NotEnded(id, status) => {
            format!(
                "{id} is {status}; only an ended task can be tried again (`ctl cancel {id}` ends it)"
            )
        }
        RetryRefused::Succeeded(id) => {
            format!("{id} has succeeded; `ctl add` submits it again as a new task")
        }
        RetryRefused::Behind(id, before, status) => format!(
            "{id} is to be cancelled when {before} does not succeed, which is {status}; \
             `ctl retry {before}` first"
        ),
        RetryRefused::UsedUp(id, why) => format!("{id} would not start: {}", why.message),
    })
}

fn priority_refused(why: PriorityRefused) -> Status {
    let PriorityRefused::Ended(id, status) = why;
    Status::failed_precondition(format!(
        "{id} has ended already: it is {status}; only what waits has a place in the queue"
    ))
}

fn release_refused(why: ReleaseRefused) -> Status {
    Status::failed_precondition(match why {
        ReleaseRefused::NotBlocked(id, status) => {
            format!("{id} is {status}; only a task that waits for another one can be let go")
        }
        ReleaseRefused::Waits(id, before, TaskStatus::Blocked) => format!(
            "{id} waits for {before}, which is blocked itself; `ctl show {before}` says by what, and \
             `ctl release {before}` lets it go"
        ),
        ReleaseRefused::Waits(id, before, status) => format!(
            "{id} waits for {before}, which is {status}; a task can be let go once one that it comes after has \
             ended without success"
        ),
    })
}

fn submit_refused(why: SubmitRefused) -> Status {
    match why {
        SubmitRefused::Empty => Status::invalid_argument("there is no task in the submission"),
        SubmitRefused::TooMany { limit } => Status::invalid_argument(format!(
            "one submission may have at most {limit} tasks; send them in parts"
        )),
        SubmitRefused::TooManySchedules { limit } => Status::resource_exhausted(format!(
            "there may be at most {limit} recurring tasks; `ctl schedules delete` ends some"
        )),
        SubmitRefused::QueueFull { limit } => Status::resource_exhausted(format!(
            "there is no room for as many: at most {} may wait (`head.queue_max`); submit fewer, or later, or raise it",
            match limit {
                1 => "1 task".to_owned(),
                _ => format!("{limit} tasks"),
            }
        )),
        SubmitRefused::TooMuchText { limit } => Status::resource_exhausted(format!(
            "labels and names of tasks, or the texts of recurring tasks, would take more than {} MiB; \
             shorten them, or make room with `ctl purge` or `ctl schedules delete`",
            limit / (1024 * 1024)
        )),
        SubmitRefused::TooManyEdges { limit } => Status::resource_exhausted(format!(
            "there would be more than {limit} dependencies between tasks; submit the rest when \
             some have ended and are purged, or let tasks come after fewer others"
        )),
        SubmitRefused::TooManyKinds { limit } => Status::resource_exhausted(format!(
            "tasks would require more than {limit} different combinations of runner, machine and \
             labels of a worker; require fewer different labels, or make room with `ctl purge`"
        )),
        SubmitRefused::UnknownTask { index, after } => {
            let text = format!(
                "task {} of the submission comes after {after}, which does not exist; `ctl tasks` lists all tasks",
                index + 1
            );
            unknown_task(after, text)
        }
        SubmitRefused::UnknownIndex { index, after } => Status::invalid_argument(format!(
            "task {} comes after place {}, which the submission does not have",
            index + 1,
            u64::from(after) + 1
        )),
        SubmitRefused::UnknownParent { index, parent } => {
            let text = format!(
                "task {} is a part of {parent}, which does not exist; `ctl tasks` lists all tasks",
                index + 1
            );
            unknown_task(parent, text)
        }
        SubmitRefused::CancelledParent { index, parent } => Status::failed_precondition(format!(
            "task {} is a part of {parent}, which was cancelled; `ctl retry {parent}` takes that back",
            index + 1
        )),
        SubmitRefused::TooDeep { index, limit } => Status::invalid_argument(format!(
            "more than {limit} tasks stand above task {}; make it a part of one further up",
            index + 1
        )),
        SubmitRefused::Cycle { indices } => Status::invalid_argument(format!(
            "tasks come after each other in a circle: {}",
            circle(&indices)
        )),
        SubmitRefused::UnknownRunner { runner, known, .. } => {
            let text = unknown_runner(&runner, &known);
            let details = ErrorDetails::with_resource_info(RUNNER, runner.as_str(), "", "");
            Status::with_error_details(Code::NotFound, text, details)
        }
    }
}

/// A task that another one names, for a client that knows where that one stands.
fn unknown_task(id: TaskId, text: String) -> Status {
    let details = ErrorDetails::with_resource_info(TASK, id.to_string(), "", "");
    Status::with_error_details(Code::NotFound, text, details)
}

fn circle(indices: &[usize]) -> String {
    let places: Vec<String> = indices.iter().map(|i| format!("task {}", i + 1)).collect();
    places.join(" after ")
}

fn unknown_runner(runner: &RunnerName, known: &[RunnerName]) -> String {
    let alike = |name: &&RunnerName| strsim::jaro_winkler(name.as_str(), runner.as_str());
    let nearest = known
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|name| alike(name) >= SIMILARITY_MIN);
    let names: Vec<&str> = known.iter().map(RunnerName::as_str).collect();
    let names = names.join(", ");
    match nearest {
        Some(name) => {
            format!("unknown runner `{runner}`; did you mean `{name}`? Known are: {names}")
        }
        None => format!("unknown runner `{runner}`; known are: {names}"),
    }
}

/// An error with everything that led to it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use orchestra_types::{Failure, FailureCode, Measure};

    use super::*;

    fn runner(name: &str) -> RunnerName {
        name.parse().unwrap()
    }

    #[test]
    fn an_unknown_runner_gets_the_nearest_name() {
        let known = [runner("claude"), runner("codex"), runner("shell")];
        let text = unknown_runner(&runner("cluade"), &known);
        assert!(text.contains("did you mean `claude`?"), "{text}");
        let text = unknown_runner(&runner("zzz"), &known);
        assert!(!text.contains("did you mean"), "{text}");
        assert!(text.contains("claude, codex, shell"), "{text}");
    }

    #[test]
    fn a_raise_of_what_is_not_limited_says_what_to_do() {
        let text = |why: RaiseRefused| raise_refused(&why).message().to_owned();
        let of_project = text(RaiseRefused::Project {
            name: "my site".to_owned(),
            lacks: Measure::Cost,
        });
        let wanted = "project my site has no limit of cost to add to; a limit is set without a +, as \
                      `ctl budget --project 'my site' --usd 5`";
        assert_eq!(of_project, wanted);
        let why = "the budget of task_001 is used up at 5 USD";
        let of_task = text(RaiseRefused::Task {
            id: TaskId(2),
            lacks: Measure::Time,
            used_up: Some(Box::new(Failure::new(FailureCode::BudgetExceeded, why))),
        });
        let wanted = format!("task_002 has no limit of wall time to add to; {why}");
        assert_eq!(of_task, wanted);
    }

    #[test]
    fn a_circle_is_named() {
        let status = submit_refused(SubmitRefused::Cycle {
            indices: vec![0, 2, 0],
        });
        assert!(
            status
                .message()
                .contains("task 1 after task 3 after task 1")
        );
    }
}
