//! `ctl tasks`.

pub mod filter;
pub mod projects;
pub mod unknown;

use std::{collections::BTreeMap, str::FromStr};

use orchestra_proto::v1;
use orchestra_types::{ScheduleId, TaskId, TaskStatus};
use serde::Serialize;

use self::filter::Filter;
use crate::{
    app::App,
    client::{Client, patiently},
    error::Result,
    exit::Exit,
    json::task::Task,
    ui::{queued, reason::hints, suggest::did_you_mean, task::task_table, time::counted},
    values::Named,
};

/// Most tasks that one answer of the head has.
pub const LIMIT_MAX: u32 = 1000;

/// List tasks, the latest ones last
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl tasks --status active                     what is being worked on
  ctl tasks --status open                       with it what waits by itself; needs_review waits for a person
  ctl tasks --status failed,needs_review        what wants a look
  ctl tasks --label area=auth --runner claude
  ctl tasks --submitter $USER                   your own, on a shared cluster
  ctl tasks --schedule 1                        what the recurring task schedule_001 made
  ctl tasks --after-id 0 --limit 1000 --json    page through all of them by `next_after_id`")]
pub struct Args {
    /// Only these: open, active, pending, completed, failed, or an exact status; repeat it or use commas
    #[arg(long, short, value_name = "STATUS", value_delimiter = ',', value_parser = StatusFilter::named(),
          hide_possible_values = true)]
    status: Vec<StatusFilter>,
    #[command(flatten)]
    filter: Filter,
    /// Only the runs of this recurring task, as schedule_001 or 1
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<ScheduleId>,
    /// At most this many, as many as you like. Default: 50, also with --json
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    limit: u32,
    /// Only the first ones after this task, instead of the latest; 0 begins with the first
    #[arg(long, value_name = "TASK", value_parser = after_id)]
    after_id: Option<u64>,
}

/// `ctl tasks --json`.
#[derive(Debug, Serialize)]
struct Tasks {
    tasks: Vec<Task>,
    /// Give it to `--after-id` for the next page; null when there is none.
    next_after_id: Option<TaskId>,
    /// There are more than these: later ones with `--after-id`, else earlier ones.
    truncated: bool,
}

/// A status, or a word for several of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFilter(Vec<TaskStatus>);

const WORDS: [(&str, &[TaskStatus]); 4] = [
    (
        "open",
        &[
            TaskStatus::Blocked,
            TaskStatus::Queued,
            TaskStatus::Assigned,
            TaskStatus::Running,
        ],
    ),
    ("active", &[TaskStatus::Assigned, TaskStatus::Running]),
    ("pending", &[TaskStatus::Blocked, TaskStatus::Queued]),
    ("completed", &[TaskStatus::Succeeded]),
];

impl StatusFilter {
    /// Reads one, and knows all of its words.
    pub fn named() -> Named<Self> {
        let words = WORDS.into_iter().map(|(word, _)| word);
        Named::new(words.chain(TaskStatus::ALL.map(TaskStatus::as_str)))
    }

    /// Reads any, and knows the words of which `chosen` takes something: shells offer no others.
    pub fn named_for(chosen: fn(&[Self]) -> Vec<TaskStatus>) -> Named<Self> {
        let all = Self::named().into_words();
        let is_taken = |word: &&str| word.parse().is_ok_and(|one| !chosen(&[one]).is_empty());
        Named::new(all.into_iter().filter(is_taken))
    }

    /// The statuses of tasks that can be cancelled: of all that are open, or of the ones that are
    /// named. One that waits for a person must be named: it may be the last that knows of some work.
    pub fn cancellable(filters: &[Self]) -> Vec<TaskStatus> {
        let named = |s: TaskStatus| filters.iter().any(|f| f.0.contains(&s));
        let chosen = |s: &TaskStatus| match s {
            TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Assigned
            | TaskStatus::Running => filters.is_empty() || named(*s),
            TaskStatus::NeedsReview => named(*s),
            TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Cancelled => false,
        };
        TaskStatus::ALL.into_iter().filter(chosen).collect()
    }

    /// The statuses of tasks that are open: all of them, or of the ones that are named.
    pub fn open(filters: &[Self]) -> Vec<TaskStatus> {
        let mut statuses = Self::cancellable(filters);
        statuses.retain(|status| !status.is_ended());
        statuses
    }

    /// The statuses that are named, each once.
    pub fn exactly(filters: &[Self]) -> Vec<TaskStatus> {
        let named = |s: &TaskStatus| filters.iter().any(|f| f.0.contains(s));
        TaskStatus::ALL.into_iter().filter(named).collect()
    }

    /// The statuses of tasks that can be tried again: `failed`, or the ones that are named. Whoever
    /// cancelled a task, or must decide about it, names it.
    pub fn retryable(filters: &[Self]) -> Vec<TaskStatus> {
        let named = |s: TaskStatus| filters.iter().any(|f| f.0.contains(&s));
        let chosen = |s: &TaskStatus| match s {
            TaskStatus::Failed => filters.is_empty() || named(*s),
            TaskStatus::Cancelled | TaskStatus::NeedsReview => named(*s),
            TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Assigned
            | TaskStatus::Running
            | TaskStatus::Succeeded => false,
        };
        TaskStatus::ALL.into_iter().filter(chosen).collect()
    }
}

impl FromStr for StatusFilter {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.replace('-', "_");
        if let Some((_, statuses)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(Self(statuses.to_vec()));
        }
        let exact = TaskStatus::ALL.map(TaskStatus::as_str);
        text.parse().map(|status| Self(vec![status])).map_err(|_| {
            let words = WORDS.map(|(word, _)| word);
            let guess = did_you_mean(&text, words.into_iter().chain(exact));
            format!(
                "unknown status{guess} (known: {}, {})",
                words.join(", "),
                exact.join(", ")
            )
        })
    }
}

/// Lists tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let latest = args.after_id.is_none();
    let statuses: Vec<i32> = args
        .status
        .into_iter()
        .flat_map(|f| f.0)
        .map(|s| v1::TaskStatus::from(s).into())
        .collect();
    let request = v1::ListTasksRequest {
        statuses,
        after_id: args.after_id.unwrap_or(0),
        newest_first: latest,
        schedule: args.schedule.map_or(0, |id| id.0),
        with_usage: app.ui.is_json(),
        ..args.filter.request()?
    };
    let client = app.connect().await?;
    let (mut tasks, next) = first(&client, request.clone(), args.limit).await?;
    tasks.sort_by_key(|task| task.id);
    if tasks.is_empty() {
        unknown::refuse(&client, &request).await?;
    }
    let none = match (tasks.is_empty(), request.submitter.as_str()) {
        (true, wanted) if !wanted.is_empty() => unknown::submitter(&client, wanted).await?,
        (_, _) => "no tasks".to_owned(),
    };
    queued::explain(&client, &mut tasks).await?;
    let more = next.is_some();
    let next_after_id = next.filter(|_| !latest);
    let names = if app.ui.is_json() {
        if more && latest {
            app.ui.warn(only_latest(args.limit));
        }
        BTreeMap::new()
    } else {
        client.worker_names().await?
    };
    app.show(
        &Tasks {
            tasks,
            next_after_id,
            truncated: more,
        },
        |document| {
            if document.tasks.is_empty() {
                app.ui.next(none);
                return Ok(());
            }
            app.ui.table(&task_table(&document.tasks, &names))?;
            hints(&document.tasks)
                .iter()
                .for_each(|hint| app.ui.next(hint));
            match (more, document.next_after_id) {
                (true, Some(next)) => app.ui.next(format!("more: ctl tasks --after-id {next}")),
                (true, None) => {
                    app.ui.next(only_latest(args.limit));
                }
                (false, _) => {}
            }
            Ok(())
        },
    )
}

/// The latest runs of a schedule, oldest first, and whether there are more.
pub async fn latest_runs(
    client: &Client,
    id: ScheduleId,
    wanted: u32,
) -> Result<(Vec<Task>, bool)> {
    let request = v1::ListTasksRequest {
        schedule: id.0,
        newest_first: true,
        ..Default::default()
    };
    let (mut tasks, next) = first(client, request, wanted).await?;
    tasks.sort_by_key(|task| task.id);
    queued::explain(client, &mut tasks).await?;
    Ok((tasks, next.is_some()))
}

/// As many tasks as are wanted, in however many answers, and the last of them where there are more.
async fn first(
    client: &Client,
    mut request: v1::ListTasksRequest,
    wanted: u32,
) -> Result<(Vec<Task>, Option<TaskId>)> {
    let mut tasks = Vec::new();
    let mut left = wanted;
    loop {
        request.limit = left.min(LIMIT_MAX);
        let page = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
        let read = page.tasks.into_iter().map(Task::read_listed);
        let mut read = read.collect::<Result<Vec<_>>>()?;
        // A head that does not know this filter yet gives all.
        read.retain(|task| is_of(task.submitter.as_deref(), &request.submitter));
        read.retain(|task| request.schedule == 0 || is_run(task, request.schedule));
        left = left.saturating_sub(u32::try_from(read.len()).unwrap_or(u32::MAX));
        tasks.extend(read);
        let next = Some(page.next_after_id).filter(|next| *next != 0);
        if next.is_none() || left == 0 {
            return Ok((tasks, next.map(TaskId)));
        }
        request.after_id = page.next_after_id;
    }
}

/// Whether a person who says `wanted` means this submitter, as the head takes it.
pub fn is_of(submitter: Option<&str>, wanted: &str) -> bool {
    let submitter = submitter.unwrap_or_default();
    let user = submitter.rsplit_once('@').map(|(user, _)| user);
    wanted.is_empty() || submitter == wanted || user == Some(wanted)
}

fn is_run(task: &Task, schedule: u64) -> bool {
    task.schedule == Some(ScheduleId(schedule))
}

/// All tasks that are asked for, by id.
pub async fn find(client: &Client, mut request: v1::ListTasksRequest) -> Result<Vec<TaskId>> {
    request.limit = LIMIT_MAX;
    let mut ids = Vec::new();
    let mut of = projects::Found::default();
    loop {
        let page = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
        of.note(&page.tasks);
        ids.extend(meant(&page.tasks, &request.submitter));
        if page.next_after_id == 0 {
            break;
        }
        request.after_id = page.next_after_id;
    }
    if ids.is_empty() {
        unknown::refuse(client, &request).await?;
    }
    if !request.project.is_empty() {
        of.require_one(&request.project)?;
    }
    Ok(ids)
}

/// Those of the submitter: a head that does not know this filter yet gives all, and those of others
/// are not to be cancelled for that.
fn meant(tasks: &[v1::Task], submitter: &str) -> impl Iterator<Item = TaskId> {
    let who = |task: &v1::Task| task.spec.as_ref().map(|spec| spec.submitter.clone());
    let is_meant = move |task: &&v1::Task| is_of(who(task).as_deref(), submitter);
    tasks.iter().filter(is_meant).map(|task| TaskId(task.id))
}

/// Says that there are more, and how to see them.
fn only_latest(limit: u32) -> String {
    let shown = counted(limit.into(), "task");
    format!("only the latest {shown}; --limit N shows more")
}

fn after_id(text: &str) -> std::result::Result<u64, String> {
    match text {
        "0" => Ok(0),
        text => text
            .parse::<TaskId>()
            .map(|id| id.0)
            .map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_person_is_cancelled_only_by_name() {
        let of = |words: &[&str]| {
            let filters: Vec<StatusFilter> = words.iter().map(|w| w.parse().unwrap()).collect();
            StatusFilter::cancellable(&filters)
        };
        let open = [
            TaskStatus::Blocked,
            TaskStatus::Queued,
            TaskStatus::Assigned,
            TaskStatus::Running,
        ];
        assert_eq!(of(&[]), open);
        assert_eq!(
            of(&["active", "needs-review", "failed"]),
            [
                TaskStatus::Assigned,
                TaskStatus::Running,
                TaskStatus::NeedsReview
            ]
        );
        assert_eq!(of(&["succeeded"]), []);
    }

    #[test]
    fn what_was_cancelled_or_waits_for_a_person_is_tried_again_only_by_name() {
        let of = |words: &[&str]| {
            let filters: Vec<StatusFilter> = words.iter().map(|w| w.parse().unwrap()).collect();
            StatusFilter::retryable(&filters)
        };
        assert_eq!(of(&[]), [TaskStatus::Failed]);
        let named = [TaskStatus::Cancelled, TaskStatus::NeedsReview];
        assert_eq!(of(&["needs-review", "cancelled", "running"]), named);
        assert_eq!(of(&["succeeded"]), []);
    }

    #[test]
    fn the_statuses_that_shells_offer_are_those_that_the_command_takes() {
        let offered = |command: &str| {
            let mut ctl = crate::cli::for_people();
            ctl.build();
            let command = ctl.find_subcommand(command).unwrap();
            let status = command.get_arguments().find(|arg| arg.get_id() == "status");
            let words = status.unwrap().get_possible_values();
            let words = words.iter().map(|word| word.get_name().to_owned());
            words.collect::<Vec<_>>()
        };
        assert_eq!(offered("retry"), ["failed", "cancelled", "needs_review"]);
        assert_eq!(
            offered("cancel"),
            [
                "open",
                "active",
                "pending",
                "blocked",
                "queued",
                "assigned",
                "running",
                "needs_review"
            ]
        );
        assert_eq!(
            offered("priority"),
            [
                "open", "active", "pending", "blocked", "queued", "assigned", "running"
            ]
        );
        let all = StatusFilter::named().into_words();
        assert_eq!(offered("tasks"), all);
        assert_eq!(offered("wait"), all);
    }

    #[test]
    fn a_head_that_gives_the_tasks_of_all_cancels_those_of_one() {
        let of = |id, submitter: &str| v1::Task {
            id,
            spec: Some(v1::TaskSpec {
                submitter: submitter.to_owned(),
                ..v1::TaskSpec::default()
            }),
            ..v1::Task::default()
        };
        let all = [of(1, "ana@vm"), of(2, "bob@vm"), v1::Task::default()];
        let meant = |who| meant(&all, who).collect::<Vec<_>>();
        assert_eq!(meant("ana"), [TaskId(1)]);
        assert_eq!(meant("").len(), 3);
    }

    #[test]
    fn a_submitter_is_named_whole_or_by_the_user() {
        let of = |wanted| is_of(Some("jo@corp@vm"), wanted);
        assert!(of("") && of("jo@corp@vm") && of("jo@corp"));
        assert!(!of("jo") && !of("vm") && !is_of(None, "jo"));
    }

    #[test]
    fn a_filter_is_a_word_or_an_exact_status() {
        let read = |text: &str| text.parse::<StatusFilter>().map(|f| f.0);
        assert_eq!(
            read("active"),
            Ok(vec![TaskStatus::Assigned, TaskStatus::Running])
        );
        let open = TaskStatus::ALL.into_iter().filter(|s| !s.is_ended());
        assert_eq!(read("open"), Ok(open.collect()), "as `ctl status` counts");
        assert_eq!(read("needs-review"), Ok(vec![TaskStatus::NeedsReview]));
        assert_eq!(read("failed"), Ok(vec![TaskStatus::Failed]));
        let error = read("faild").unwrap_err();
        assert!(
            error.starts_with("unknown status; did you mean `failed`?"),
            "{error}"
        );
    }
}
