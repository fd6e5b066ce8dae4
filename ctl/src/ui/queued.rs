//! Why a queued task is not begun, where the workers or a budget are the reason.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{FailureCode, TaskStatus};

use super::escape::line;
use crate::{
    client::Client,
    error::Result,
    json::{
        fleet::{Runner, Worker},
        task::{Task, Workplace},
    },
};

/// How many of those that take all slots are named.
const TAKERS_MAX: usize = 8;

/// What a task needs of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need<'a> {
    /// The runner that must do it; none for any agent.
    pub runner: Option<&'a str>,
    /// Whether another runner may do it instead.
    pub fallback: &'a [String],
    /// Labels that the worker must have.
    pub requires: &'a BTreeMap<String, String>,
    /// The machine and the directory that it works in, where it must be there.
    pub place: Option<(&'a str, &'a str)>,
}

/// What keeps every worker from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// No worker is connected.
    NoWorker(String),
    /// Nobody has a runner for it.
    NotReady(String),
    /// Workers are elsewhere, without its labels, or given nothing.
    Unfit(String),
}

impl Obstacle {
    /// In words.
    pub fn text(self) -> String {
        match self {
            Self::NoWorker(text) | Self::NotReady(text) | Self::Unfit(text) => text,
        }
    }
}

impl<'a> Need<'a> {
    fn of(task: &'a Task) -> Self {
        let place = match &task.place {
            Workplace::InPlace { machine, dir } => Some((machine.as_str(), dir.as_str())),
            Workplace::Repository { .. } | Workplace::Empty => None,
        };
        Self {
            runner: task.runner.as_deref(),
            fallback: &task.fallback,
            requires: &task.requires,
            place,
        }
    }

    /// What keeps every worker from it; none where one has only to become free.
    pub fn obstacle(&self, workers: &[Worker]) -> Option<Obstacle> {
        self.fitting(workers).err()
    }

    /// The workers that may begin it once they are free; what keeps every worker from it.
    fn fitting<'w>(&self, workers: &'w [Worker]) -> std::result::Result<Vec<&'w Worker>, Obstacle> {
        let mut left: Vec<&Worker> = workers.iter().filter(|w| w.state == "connected").collect();
        if left.is_empty() {
            let how = "`ctl start` starts one here, `ctl token create` lets a machine join";
            let text = format!("no worker is connected; {how}");
            return Err(Obstacle::NoWorker(text));
        }
        if let Some((machine, dir)) = self.place {
            left.retain(|worker| worker.machine == machine);
            if left.is_empty() {
                let dir = line(dir);
                return Err(Obstacle::Unfit(format!(
                    "no worker of the machine that has `{dir}` is connected"
                )));
            }
        }
        left.retain(|worker| self.requires.iter().all(|label| has(worker, label)));
        if left.is_empty() {
            let labels = self.requires.iter();
            let labels = labels.map(|(name, value)| format!("{name}={value}"));
            let labels = labels.collect::<Vec<_>>().join(", ");
            let labels = line(&labels);
            return Err(Obstacle::Unfit(format!(
                "no worker has {labels}; `ctl workers -v` shows their labels"
            )));
        }
        let ready = |worker: &&Worker| worker.runners.iter().any(|runner| self.does(runner));
        if !left.iter().any(ready) {
            return Err(Obstacle::NotReady(self.not_ready(&left)));
        }
        left.retain(ready);
        match closed(&left) {
            Some(text) => Err(Obstacle::Unfit(text)),
            None => Ok(left),
        }
    }

    /// The reason of the runner that it names, where just one worker has one.
    fn not_ready(&self, workers: &[&Worker]) -> String {
        let runner = line(self.runner.unwrap_or("an AI CLI"));
        let mut told = workers.iter().filter_map(|worker| {
            let mut runners = worker.runners.iter();
            let named = runners.find(|known| Some(known.name.as_str()) == self.runner);
            Some((&worker.name, named?.reason.as_deref()?))
        });
        match (told.next(), told.next()) {
            (Some((worker, why)), None) => {
                format!("{runner} is not ready on {}: {}", line(worker), line(why))
            }
            _ => format!("{runner} is ready on no worker; `ctl workers -v` says why"),
        }
    }

    fn does(&self, runner: &Runner) -> bool {
        let wanted = match self.runner {
            Some(name) => runner.name == name || self.fallback.contains(&runner.name),
            None => runner.agentic,
        };
        wanted && runner.state == "ready"
    }
}

/// Which of these is given nothing, and what ends that; none where one of them is open.
fn closed(workers: &[&Worker]) -> Option<String> {
    if workers.iter().any(|worker| worker.availability == "open") {
        return None;
    }
    let closed = workers.first()?;
    let (name, state) = (line(&closed.name), line(&closed.availability));
    if closed.availability == "revoked" {
        return Some(format!(
            "{name} is revoked; `ctl token create` lets it join again"
        ));
    }
    Some(format!(
        "{name} is {state}; `ctl workers uncordon {name}` ends that"
    ))
}

/// What keeps every worker from it; none where one has only to become free, or where something else
/// keeps it. One that its own parent must free may never become free.
pub fn why(task: &Task, workers: &[Worker]) -> Option<String> {
    if !waits(task) {
        return None;
    }
    match Need::of(task).fitting(workers) {
        Ok(fitting) => taken_by_parent(task, &fitting),
        Err(obstacle) => Some(obstacle.text()),
    }
}

/// Who takes all slots, where the task's parent is among them and may wait for the task.
fn taken_by_parent(task: &Task, workers: &[&Worker]) -> Option<String> {
    let parent = task.parent?;
    let is_open = |worker: &Worker| worker.availability == "open";
    let mut takers = BTreeSet::new();
    for worker in workers.iter().filter(|worker| is_open(worker)) {
        if worker.attempts.len() < worker.slots as usize {
            return None;
        }
        takers.extend(worker.attempts.iter().map(|attempt| attempt.task));
    }
    if !takers.contains(&parent) {
        return None;
    }
    let named = takers.iter().take(TAKERS_MAX).map(ToString::to_string);
    let mut named = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = takers.len().checked_sub(TAKERS_MAX).filter(|n| *n > 0) {
        named += &format!(" and {more} more");
    }
    Some(format!(
        "all slots are taken by {named}, among them its parent {parent}, which may wait for it; more \
         slots or another worker let it begin, `ctl cancel TASK` frees one"
    ))
}

/// Whether it waits in the queue for a worker alone.
pub fn waits(task: &Task) -> bool {
    task.status == TaskStatus::Queued && task.reason.is_none() && task.not_before.is_none()
}

/// Writes into the tasks why no worker can begin them. The workers are asked for only where one waits.
pub async fn explain(client: &Client, tasks: &mut [Task]) -> Result<()> {
    if !tasks.iter().any(waits) {
        return Ok(());
    }
    let workers = client.workers().await?;
    for task in tasks {
        task.waits_because = why(task, &workers);
    }
    Ok(())
}

/// Which budget holds it, and how to raise that; none where no budget does.
pub fn held(task: &Task) -> Option<String> {
    let reason = task
        .reason
        .as_ref()
        .filter(|_| task.status == TaskStatus::Queued)?;
    if reason.code != FailureCode::BudgetExceeded {
        return None;
    }
    let message = line(&reason.message);
    Some(format!("{} waits: {message}\n{}", task.id, reason.advice))
}

fn has(worker: &Worker, (name, value): (&String, &String)) -> bool {
    worker.labels.get(name) == Some(value)
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;
    use orchestra_types::Place;

    use super::*;
    use crate::json::task::Reason;

    fn task(runner: &str, label: Option<&str>) -> Task {
        let label = label.map(|value| ("os".to_owned(), value.to_owned()));
        let spec = v1::TaskSpec {
            description: "x".into(),
            timeout_ms: 1,
            place: Some(Place::Empty.into()),
            runner: runner.to_owned(),
            requires: label.into_iter().collect(),
            ..Default::default()
        };
        Task::read(v1::Task {
            id: 1,
            spec: Some(spec),
            status: v1::TaskStatus::Queued.into(),
            ..Default::default()
        })
        .unwrap()
    }

    fn worker(state: &str, availability: &str) -> Worker {
        let shell = v1::RunnerInfo {
            name: "shell".into(),
            readiness: "ready".into(),
            slots: 1,
            ..Default::default()
        };
        let info = v1::WorkerInfo {
            id: "w-1".into(),
            name: "vm".into(),
            machine: "m".into(),
            labels: [("os".to_owned(), "linux".to_owned())].into(),
            runners: vec![shell],
            ..Default::default()
        };
        Worker::read(v1::Worker {
            info: Some(info),
            state: state.into(),
            availability: availability.into(),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn what_keeps_every_worker_from_it_is_said_and_what_to_do() {
        let says = |task: Task, workers: &[Worker], text: &str| {
            let why = why(&task, workers).unwrap_or_default();
            assert!(why.contains(text), "{why}");
        };
        let open = [worker("connected", "open")];
        says(task("shell", None), &[], "no worker is connected");
        let gone = [worker("disconnected", "open")];
        says(task("shell", None), &gone, "no worker is connected");
        says(task("shell", Some("win")), &open, "no worker has os=win");
        says(task("codex", None), &open, "codex is ready on no worker");
        says(task("", None), &open, "an AI CLI is ready on no worker");
        let cordoned = [worker("connected", "cordoned")];
        says(task("shell", None), &cordoned, "`ctl workers uncordon vm`");
        assert_eq!(why(&task("shell", Some("linux")), &open), None);
        let both = [worker("connected", "cordoned"), worker("connected", "open")];
        assert_eq!(why(&task("shell", None), &both), None);
    }

    #[test]
    fn a_parent_that_takes_the_last_slot_of_its_own_part_is_named() {
        let id = |text: &str| text.parse().unwrap();
        let mut full = worker("connected", "open");
        full.slots = 2;
        full.attempts = vec![id("task_007.1"), id("task_008.1")];
        let mut part = task("shell", None);
        assert_eq!(why(&part, std::slice::from_ref(&full)), None);
        part.parent = Some(orchestra_types::TaskId(8));
        let said = why(&part, std::slice::from_ref(&full)).unwrap_or_default();
        let begin =
            "all slots are taken by task_007, task_008, among them its parent task_008, which may";
        assert!(said.starts_with(begin), "{said}");
        full.slots = 3;
        assert_eq!(why(&part, &[full]), None);
    }

    #[test]
    fn the_reason_of_the_only_runner_that_it_names_is_said() {
        let mut rests = worker("connected", "open");
        rests.runners[0].state = "not_ready";
        rests.runners[0].reason = Some("it rests for 30 s".to_owned());
        let said = why(&task("shell", None), std::slice::from_ref(&rests));
        assert_eq!(
            said.unwrap_or_default(),
            "shell is not ready on vm: it rests for 30 s"
        );
        let said = why(&task("shell", None), &[rests.clone(), rests]);
        assert!(said.unwrap_or_default().contains("on no worker"));
    }

    #[test]
    fn a_budget_that_holds_a_task_is_named_with_the_command_that_raises_it() {
        let mut of_parent = task("shell", None);
        of_parent.reason = Some(Reason {
            code: FailureCode::BudgetExceeded,
            message: "the budget of task_007 is used up".to_owned(),
            retryable: FailureCode::BudgetExceeded.is_retryable(),
            fault: FailureCode::BudgetExceeded.fault(),
            advice: FailureCode::BudgetExceeded.advice_for(of_parent.id),
            resets_at: None,
        });
        let said = held(&of_parent).unwrap();
        assert!(said.starts_with("task_001 waits: the budget of task_007 is used up\n"));
        assert!(said.contains("--attempts +1"), "{said}");
        assert!(!said.contains("ctl budget task_001"), "{said}");
        assert_eq!(held(&task("shell", None)), None);
    }
}
