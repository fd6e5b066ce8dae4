//! From what a person asks for to tasks in the head's queue.
//!
//! ```text
//! arguments or a file -> Draft -> checked spec -> place (snapshot) -> uploads -> one Submit
//! ```

mod chain;
mod directory;
pub mod draft;
pub mod file;
pub mod misnamed;
pub mod moment;
mod order;
mod place;
mod set_up;
mod source;
mod twin;
mod upload;

use std::path::Path;

use futures::stream;
use orchestra_proto::{RUNNER, TASK, convert::recurrence_to_wire, v1};
use orchestra_types::{ContextFile, Place, ScheduleId, TaskId, TaskSpec, limits};
use prost::Message;
use uuid::Uuid;

use crate::{
    app::App,
    changing,
    client::Client,
    error::{Error, OrFailed, Result},
    exit::Exit,
    writing::Begin,
};
use draft::Draft;
use moment::Start;
use place::Places;
use upload::Uploads;

/// Tasks that the head has acknowledged: they survive whatever comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The ids of the tasks, in the order of the drafts.
    pub ids: Vec<TaskId>,
    /// The ids of the recurring tasks, in the order of the drafts.
    pub schedules: Vec<ScheduleId>,
    /// The head is stopping: it begins none of them before its next start.
    pub stopping: bool,
    /// A recurring task is among them that works on a repository as it is now.
    pub frozen: bool,
    /// The key was used before: they are what was submitted then, and nothing new is queued.
    pub known: bool,
}

/// Checks the drafts, uploads what they need and submits them all in one call. However often a `key` is
/// used, they are submitted once; without one, each call is a submission of its own.
pub async fn submit(
    app: &App,
    client: &Client,
    drafts: Vec<Draft>,
    base: &Path,
    key: Option<String>,
) -> Result<Submitted> {
    let config = app.config()?;
    let afters = order::resolve(&drafts)?;
    let mut specs = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        specs.push(draft.spec(&config).map_err(|e| draft.blame(e))?);
    }
    let mut uploads = Uploads::default();
    let mut places = Places::new(app, client, config.context.directory.clone())?;
    for (draft, spec) in drafts.iter().zip(&mut specs) {
        let prepared = async {
            add_context(&mut uploads, draft, base, spec).await?;
            places.locate(&mut uploads, draft, base, spec).await
        };
        prepared.await.map_err(|e| draft.blame(e))?;
    }
    uploads.send(client).await?;
    places.remember();
    let frozen = drafts.iter().zip(&specs).any(|(d, s)| is_frozen(d, s));
    let all = drafts.iter().zip(specs).zip(afters);
    let (mut tasks, mut schedules) = (Vec::new(), Vec::new());
    for ((draft, mut spec), after) in all {
        let start_in_ms = draft.start_at.and_then(Start::in_ms);
        if let Some(every) = draft.every {
            schedules.push(v1::NewSchedule {
                first_ms: spec.start_at.map(|at| at.0),
                spec: Some(spec.into()),
                every: Some(recurrence_to_wire(every)),
                first_in_ms: start_in_ms,
            });
        } else {
            spec.after = after.ids;
            tasks.push(v1::NewTask {
                spec: Some(spec.into()),
                after_index: after.indexes,
                start_in_ms,
            });
        }
    }
    let key = key.unwrap_or_else(|| Uuid::new_v4().to_string());
    match app.submitting.begin() {
        Begin::Now => {}
        Begin::Never => {
            return Err(Error::new(
                Exit::Interrupted,
                "interrupted; nothing was queued",
            ));
        }
    }
    let told = |error| unanswered(blame_missing(&drafts, error), &key);
    let tasks = send_tasks(client, &key, tasks).await.map_err(told)?;
    let schedules = send_schedules(client, &key, schedules).await;
    let schedules = schedules.map_err(told)?;
    Ok(Submitted {
        ids: tasks.ids.into_iter().map(TaskId).collect(),
        schedules: schedules.ids.into_iter().map(ScheduleId).collect(),
        stopping: tasks.stopping,
        frozen,
        known: tasks.duplicate || schedules.duplicate,
    })
}

/// Whether each of many runs begins with the files of one moment.
fn is_frozen(draft: &Draft, spec: &TaskSpec) -> bool {
    let on_snapshot = match &spec.place {
        // A directory that is in no repository is a project by its place.
        Place::Repository { .. } => {
            let project = spec.project.as_ref();
            project.is_some_and(|project| project.id.as_str().starts_with("git-"))
        }
        Place::InPlace { .. } | Place::Empty => false,
    };
    draft.every.is_some() && on_snapshot
}

/// The head's answer that a runner or a task is unknown, with the place of the first task that names it.
fn blame_missing(drafts: &[Draft], error: Error) -> Error {
    let runner = error.missing(RUNNER);
    let task = error.missing(TASK).and_then(|id| id.parse().ok());
    let of_it = drafts.iter().find(|draft| {
        runner.is_some_and(|name| draft.names_runner(name))
            || task.is_some_and(|id| draft.names_task(id))
    });
    match of_it {
        Some(draft) => draft.blame(error),
        None => error,
    }
}

/// Says of a submission that was not answered how it is said again: the key is told also where nobody
/// gave one.
fn unanswered(error: Error, key: &str) -> Error {
    match error.exit() {
        Exit::Unanswered => error
            .saying("the head went away before it answered; the tasks may be queued")
            .hint(format!(
                "when it is back, the same command with `--key {key}` prints their ids, and queues only what is \
                 not queued; without that key look at `ctl tasks` first"
            )),
        _ => error,
    }
}

/// All of them in one call: all are queued, or none.
async fn send_tasks(
    client: &Client,
    key: &str,
    tasks: Vec<v1::NewTask>,
) -> Result<v1::SubmitResponse> {
    if tasks.is_empty() {
        return Ok(v1::SubmitResponse::default());
    }
    let parts = parts(key, tasks);
    let answer = changing::patiently(async || {
        let parts = stream::iter(parts.clone());
        client.admin().submit_many(parts).await
    });
    answer.await
}

/// The tasks in messages of about `SUBMIT_PART_BYTES`.
fn parts(key: &str, tasks: Vec<v1::NewTask>) -> Vec<v1::SubmitPart> {
    let mut parts = vec![v1::SubmitPart {
        idempotency_key: key.to_owned(),
        tasks: Vec::new(),
    }];
    let mut bytes = 0;
    for task in tasks {
        let more = task.encoded_len();
        if bytes > 0 && bytes + more > limits::SUBMIT_PART_BYTES {
            parts.push(v1::SubmitPart::default());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.tasks.push(task);
        }
    }
    parts
}

async fn send_schedules(
    client: &Client,
    key: &str,
    schedules: Vec<v1::NewSchedule>,
) -> Result<v1::AddSchedulesResponse> {
    if schedules.is_empty() {
        return Ok(v1::AddSchedulesResponse::default());
    }
    let request = v1::AddSchedulesRequest {
        idempotency_key: key.to_owned(),
        schedules,
    };
    changing::patiently(async || client.admin().add_schedules(request.clone()).await).await
}

async fn add_context(
    uploads: &mut Uploads,
    draft: &Draft,
    base: &Path,
    spec: &mut TaskSpec,
) -> Result<()> {
    for given in &draft.context {
        let path = base.join(given);
        let meta = std::fs::metadata(&path)
            .or_failed(|| format!("failed to read the context file `{}`", given.display()))?;
        if !meta.is_file() {
            // A pipe may have no end, and is read once.
            return Err(
                Error::failed(format!("the context `{}` is no file", given.display()))
                    .hint("name files; what a command prints has to be written into one first"),
            );
        }
        if meta.len() > limits::CONTEXT_FILE_BYTES_MAX {
            return Err(Error::failed(format!(
                "the context file `{}` is larger than 16 MiB",
                given.display()
            ))
            .hint("give the agent a part of it, or name its path in the description"));
        }
        let content = uploads
            .add(orchestra_types::ArtifactKind::Context, path)
            .await?;
        spec.context_files.push(ContextFile {
            name: given.to_string_lossy().into_owned(),
            content,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;
    use crate::{client::status_error, ui::again::Again};

    #[test]
    fn a_submission_without_an_answer_is_told_with_the_key_that_repeats_it() {
        let refused = unanswered(Error::failed("bad input"), "k1");
        assert_eq!(refused.exit(), Exit::Failed);
        let error = unanswered(Error::new(Exit::Unanswered, "not known"), "k1");
        assert_eq!(error.exit(), Exit::Unanswered);
        assert!(error.to_string().ends_with("the tasks may be queued"));
        let hint = error.next_step(Again::default()).unwrap();
        assert!(
            hint.contains("`--key k1`") && hint.contains("`ctl tasks`"),
            "{hint}"
        );
    }

    #[test]
    fn an_unknown_runner_is_told_with_the_place_of_its_task() {
        let draft = |line, agent: &str| {
            let agent = Some(agent.parse().unwrap());
            let draft = Draft {
                agent,
                ..Draft::default()
            };
            draft.standing_at("t", line)
        };
        let drafts = [draft(1, "claude"), draft(4, "cluade")];
        let unknown = |kind: &str| {
            let details = ErrorDetails::with_resource_info(kind, "cluade", "", "");
            let text = "there is no `cluade`";
            status_error(&Status::with_error_details(Code::NotFound, text, details))
        };
        let error = unknown(RUNNER);
        assert_eq!(error.exit(), Exit::NotFound);
        assert_eq!(
            blame_missing(&drafts, error).to_string(),
            "t:4: there is no `cluade`"
        );
        let other = blame_missing(&drafts, unknown("label"));
        assert_eq!(other.to_string(), "there is no `cluade`");
        let other = blame_missing(&drafts, Error::failed("the disk is full"));
        assert_eq!(other.to_string(), "the disk is full");
    }

    #[test]
    fn an_unknown_task_is_told_with_the_place_of_who_names_it() {
        let draft = |line, after: &[&str], parent| {
            let after = after.iter().map(ToString::to_string).collect();
            let draft = Draft {
                after,
                parent,
                ..Draft::default()
            };
            draft.standing_at("t", line)
        };
        let drafts = [
            draft(1, &["plan"], None),
            draft(4, &["plan", "7"], None),
            draft(9, &[], Some(TaskId(8))),
        ];
        let unknown = |id: TaskId| {
            let details = ErrorDetails::with_resource_info(TASK, id.to_string(), "", "");
            let status = Status::with_error_details(Code::NotFound, "no such task", details);
            blame_missing(&drafts, status_error(&status)).to_string()
        };
        assert_eq!(unknown(TaskId(7)), "t:4: no such task");
        assert_eq!(unknown(TaskId(8)), "t:9: no such task");
        assert_eq!(unknown(TaskId(9)), "no such task");
    }

    #[test]
    fn a_large_submission_goes_in_parts_that_fit_into_messages() {
        let task = v1::NewTask {
            spec: Some(TaskSpec::new("x".repeat(200_000)).into()),
            ..v1::NewTask::default()
        };
        let parts = parts("key", vec![task; 20]);
        assert_eq!(parts[0].idempotency_key, "key");
        assert_eq!(parts.iter().map(|part| part.tasks.len()).sum::<usize>(), 20);
        assert!(parts.len() > 2);
        for part in &parts {
            assert!(part.encoded_len() <= limits::SUBMIT_PART_BYTES + 1024);
        }
    }
}
