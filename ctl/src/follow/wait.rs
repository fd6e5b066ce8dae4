//! Waiting until tasks have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestra_types::{TaskId, TaskStatus};

use super::Changes;
use crate::{
    calls::each_of,
    client::Client,
    error::Result,
    exit::Exit,
    json::{fleet::Worker, task::Task},
    ui::{
        Ui, detail,
        live::Live,
        queued,
        status::{label, style, words},
        style::{Line, Style},
        task::summary,
    },
};

/// When it is first looked whether a worker can begin what waits: one that has just been started is
/// connected by then.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How often after that: the answer has every worker.
const NEXT_LOOK: Duration = Duration::from_secs(30);
/// Most tasks that the live display names.
const NAMED_MAX: usize = 8;

/// How many are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// The first, and those that have ended with it.
    Any,
}

impl Which {
    /// Whether the waiting is over with so many that have ended, and so many that have not.
    pub fn is_over(self, ended: usize, open: usize) -> bool {
        match self {
            Self::All => open == 0,
            Self::Any => ended > 0 || open == 0,
        }
    }
}

/// Waits until tasks have ended, or wait for a person; gives those that have.
pub async fn wait_for(
    ui: &Ui,
    client: &Client,
    tasks: Vec<Task>,
    which: Which,
) -> Result<Vec<Task>> {
    let live = Live::new(*ui);
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    let mut known: BTreeMap<TaskId, Task> = tasks.into_iter().map(|task| (task.id, task)).collect();
    let mut changes = Changes::open(client, &ids, live.voice()).await?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let begin = tokio::time::Instant::now() + FIRST_LOOK;
    let mut look = tokio::time::interval_at(begin, NEXT_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut said = BTreeSet::new();
    let mut forgotten: BTreeSet<TaskId> = BTreeSet::new();
    let is_over = |known: &BTreeMap<TaskId, Task>, forgotten: &BTreeSet<TaskId>| {
        let is_open = |task: &&Task| !task.rests() && !forgotten.contains(&task.id);
        let open = known.values().filter(is_open).count();
        which.is_over(known.len() - open, open)
    };
    while !is_over(&known, &forgotten) {
        live.show(&picture(&known));
        let news = tokio::select! {
            news = changes.next() => news?,
            _ = look.tick() => {
                say_what_keeps(&live, client, &known, &mut said).await;
                continue;
            }
            _ = second.tick() => continue,
        };
        forgotten.extend(news.forgotten);
        for task in news.tasks {
            if !ui.is_json() && has_ended_now(known.get(&task.id), &task) {
                live.above(|ui| ui.note(&ended(&task)));
            }
            known.insert(task.id, task);
        }
    }
    drop(live);
    let mut ids = ids;
    if which == Which::Any {
        ids.retain(|id| known[id].rests() || forgotten.contains(id));
    }
    each_of(&ids, async |id| client.whole_or(known[&id].clone()).await).await
}

/// Says on standard error, each once, what keeps every worker from tasks that wait.
async fn say_what_keeps(
    live: &Live,
    client: &Client,
    known: &BTreeMap<TaskId, Task>,
    said: &mut BTreeSet<String>,
) {
    if !known.values().any(queued::waits) {
        return;
    }
    // Whoever waits goes on waiting over a break of the connection.
    let Ok(workers) = client.workers().await else {
        return;
    };
    for (who, why) in kept(known, &workers) {
        if said.insert(why.clone()) {
            live.above(|ui| ui.warn(format!("{who} waits: {why}")));
        }
    }
}

/// What keeps every worker from some of the tasks, with the first of them and how many more.
fn kept(known: &BTreeMap<TaskId, Task>, workers: &[Worker]) -> Vec<(String, String)> {
    let mut by_text: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
    for task in known.values() {
        if let Some(why) = queued::why(task, workers) {
            by_text.entry(why).or_default().push(task.id);
        }
    }
    let named = by_text.into_iter().map(|(why, ids)| match &ids[..] {
        [first, _, ..] => (format!("{first}, like {} more,", ids.len() - 1), why),
        ids => (ids.first().map(TaskId::to_string).unwrap_or_default(), why),
    });
    named.collect()
}

/// The exit code that tasks give which were waited for: of failures the worst. One that is still
/// blocked waits for a person, and one whose budget is used up.
pub fn ended_well(tasks: &[Task]) -> Exit {
    tasks
        .iter()
        .fold(Exit::Ok, |worst, task| match (task.status, worst) {
            (_, Exit::TaskFailed) | (TaskStatus::Failed | TaskStatus::Cancelled, _) => {
                Exit::TaskFailed
            }
            (TaskStatus::NeedsReview | TaskStatus::Blocked, _) => Exit::NeedsReview,
            (TaskStatus::Queued, _) if task.asks_for_more() => Exit::NeedsReview,
            (
                TaskStatus::Succeeded
                | TaskStatus::Queued
                | TaskStatus::Assigned
                | TaskStatus::Running,
                worst,
            ) => worst,
        })
}

fn has_ended_now(before: Option<&Task>, task: &Task) -> bool {
    task.rests() && before.is_none_or(|before| !before.rests())
}

fn ended(task: &Task) -> Line {
    Line::of(style(task.status), format!("{}  ", label(task.status)))
        .with(Style::Bold, task.id.to_string())
        .with(Style::Dim, format!("  {}", summary(task, 60)))
}

fn picture(known: &BTreeMap<TaskId, Task>) -> Vec<Line> {
    let open: Vec<&Task> = known.values().filter(|t| !t.status.is_ended()).collect();
    let mut lines: Vec<Line> = open.iter().take(NAMED_MAX).map(|task| one(task)).collect();
    let done = known.len() - open.len();
    lines.push(Line::of(
        Style::Dim,
        format!("{done} of {} ended", known.len()),
    ));
    lines
}

fn one(task: &Task) -> Line {
    let since = match (task.status, task.started_at) {
        (TaskStatus::Running, Some(start)) => format!(" {}", detail::since(start)),
        (_, _) => String::new(),
    };
    Line::of(Style::Bold, format!("  {}  ", task.id))
        .with(style(task.status), words(task.status) + &since)
        .with(Style::Dim, format!("  {}", summary(task, 50)))
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;
    use orchestra_types::{Failure, FailureCode, Place, TaskSpec, Timestamp};

    use super::*;
    use crate::json::task::Reason;

    fn tasks(statuses: &[TaskStatus]) -> Vec<Task> {
        let spec = v1::TaskSpec {
            description: "x".into(),
            timeout_ms: 1,
            place: Some(Place::Empty.into()),
            ..Default::default()
        };
        assert!(TaskSpec::try_from(spec.clone()).is_ok());
        let wire = |status: &TaskStatus| v1::Task {
            id: 1,
            spec: Some(spec.clone()),
            status: v1::TaskStatus::from(*status).into(),
            ..Default::default()
        };
        statuses
            .iter()
            .map(|status| Task::read(wire(status)).unwrap())
            .collect()
    }

    #[test]
    fn a_task_whose_budget_is_used_up_waits_for_a_person_and_one_of_the_day_for_tomorrow() {
        let mut held = tasks(&[TaskStatus::Queued]);
        assert!(!held[0].rests());
        let mut why = Failure::new(FailureCode::BudgetExceeded, "used up");
        held[0].reason = Some(Reason::of(held[0].id, why.clone()));
        assert!(held[0].rests());
        assert_eq!(ended_well(&held), Exit::NeedsReview);
        let mut behind = tasks(&[TaskStatus::Blocked]);
        assert!(!behind[0].rests());
        behind[0].reason = Some(Reason::of(behind[0].id, why.clone()));
        assert!(behind[0].rests(), "one that comes after it does not go on");
        assert_eq!(ended_well(&behind), Exit::NeedsReview);
        why.resets_at = Some(Timestamp(1));
        held[0].reason = Some(Reason::of(held[0].id, why));
        assert!(!held[0].rests());
        assert_eq!(ended_well(&held), Exit::Ok);
    }

    #[test]
    fn what_keeps_every_worker_is_said_once_for_all_that_it_keeps() {
        let mut two = tasks(&[TaskStatus::Queued, TaskStatus::Queued]);
        two[1].id = TaskId(2);
        let of = |tasks: Vec<Task>| tasks.into_iter().map(|task| (task.id, task)).collect();
        let one = of(two[..1].to_vec());
        let said = kept(&one, &[]);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].0, "task_001");
        assert!(said[0].1.starts_with("no worker is connected; "));
        let said = kept(&of(two), &[]);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].0, "task_001, like 1 more,");
        assert!(kept(&of(tasks(&[TaskStatus::Running])), &[]).is_empty());
    }

    #[test]
    fn the_first_end_is_enough_for_who_waits_for_any() {
        let over = |which: Which| [(0, 2), (1, 1), (2, 0)].map(|(a, b)| which.is_over(a, b));
        assert_eq!(over(Which::All), [false, false, true]);
        assert_eq!(over(Which::Any), [false, true, true]);
    }

    #[test]
    fn the_worst_end_decides_the_exit_code() {
        use TaskStatus::{Cancelled, Failed, NeedsReview, Succeeded};
        let exit = |statuses: &[TaskStatus]| ended_well(&tasks(statuses));
        assert_eq!(exit(&[]), Exit::Ok);
        assert_eq!(exit(&[Succeeded, Succeeded]), Exit::Ok);
        assert_eq!(exit(&[NeedsReview, Succeeded]), Exit::NeedsReview);
        assert_eq!(exit(&[Failed, NeedsReview, Succeeded]), Exit::TaskFailed);
        assert_eq!(exit(&[NeedsReview, Cancelled]), Exit::TaskFailed);
        assert_eq!(exit(&[TaskStatus::Blocked, Succeeded]), Exit::NeedsReview);
    }
}
