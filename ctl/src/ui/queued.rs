//! Why a queued task is not begun, where the workers or a budget are the reason.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{FailureCode, TaskStatus};

use super::{
    closed::{WORKERS_MAX, closed, listed},
    escape::line,
    now,
    time::counted,
};
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
        left.retain(|worker| self.is_there(worker));
        if let (true, Some((_, dir))) = (left.is_empty(), self.place) {
            let dir = line(dir);
            return Err(Obstacle::Unfit(format!(
                "no worker of the machine that has `{dir}` is connected"
            )));
        }
        left.retain(|worker| self.is_labelled(worker));
        if left.is_empty() {
            return Err(Obstacle::Unfit(self.unlabelled(workers)));
        }
        let ready = |worker: &&Worker| worker.runners.iter().any(|runner| self.does(runner));
        if !left.iter().any(ready) {
            let away = self.away(workers, |worker| ready(&worker));
            let not_ready = self.not_ready(&left);
            return Err(Obstacle::NotReady(match away {
                Some(away) => format!("{not_ready}; {away}"),
                None => not_ready,
            }));
        }
        let (left, mut unready): (Vec<_>, Vec<_>) = left.into_iter().partition(ready);
        unready.retain(|worker| worker.availability == "open");
        match closed(&left) {
            // Who opens one again may rather want what is broken mended.
            Some(text) if !unready.is_empty() => Err(Obstacle::Unfit(format!(
                "{text}; {}",
                self.neither_ready(&unready)
            ))),
            Some(text) => Err(Obstacle::Unfit(text)),
            None => Ok(left),
        }
    }

    fn is_there(&self, worker: &Worker) -> bool {
        self.place
            .is_none_or(|(machine, _)| worker.machine == machine)
    }

    fn is_labelled(&self, worker: &Worker) -> bool {
        self.requires.iter().all(|label| has(worker, label))
    }

    /// Why no connected worker has its labels.
    fn unlabelled(&self, workers: &[Worker]) -> String {
        let words = |labels: &[(&String, &String)]| {
            let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
            labels.collect::<Vec<_>>().join(", ")
        };
        let wanted: Vec<_> = self.requires.iter().collect();
        if let Some(away) = self.away(workers, |_| true) {
            let labels = words(&wanted);
            return format!("no connected worker has {}; {away}", line(&labels));
        }
        let may_come = |w: &&Worker| w.availability != "revoked" && self.is_there(w);
        let nobody_has =
            |label: &(&String, &String)| !workers.iter().filter(may_come).any(|w| has(w, *label));
        let missing: Vec<_> = wanted.iter().copied().filter(nobody_has).collect();
        let labels = match missing.is_empty() {
            // Each is somewhere, and all of them nowhere.
            true => format!("all of {}", words(&wanted)),
            false => words(&missing),
        };
        format!(
            "no worker has {}; `ctl workers -v` shows their labels",
            line(&labels)
        )
    }

    /// The workers that are not connected and would do, of those that `also` holds for.
    fn away(&self, workers: &[Worker], also: impl Fn(&Worker) -> bool) -> Option<String> {
        let would = |worker: &&Worker| {
            worker.state != "connected"
                && worker.availability != "revoked"
                && self.is_there(worker)
                && self.is_labelled(worker)
                && also(worker)
        };
        let names: Vec<_> = workers
            .iter()
            .filter(would)
            .map(|w| line(&w.name))
            .collect();
        let verb = match names.len() {
            0 => return None,
            1 => "has it and is",
            _ => "have it and are",
        };
        let named = listed(&names, WORKERS_MAX);
        Some(format!(
            "{named} {verb} not connected, `ctl workers` says since when"
        ))
    }

    /// Why none of them is ready.
    fn not_ready(&self, workers: &[&Worker]) -> String {
        self.one_reason(workers).unwrap_or_else(|| {
            let runner = self.runner_name();
            format!("{runner} is ready on no worker; `ctl workers -v` says why")
        })
    }

    /// Why these are not ready either, beside others that are and take nothing.
    fn neither_ready(&self, workers: &[&Worker]) -> String {
        self.one_reason(workers).unwrap_or_else(|| {
            let (runner, count) = (self.runner_name(), workers.len() as u64);
            let others = counted(count, "other worker");
            format!("{runner} is not ready on {others}; `ctl workers -v` says why")
        })
    }

    /// The reason of the runner that it names, where just one of them has one.
    fn one_reason(&self, workers: &[&Worker]) -> Option<String> {
        let mut told = workers.iter().filter_map(|worker| {
            let mut runners = worker.runners.iter();
            let named = runners.find(|known| Some(known.name.as_str()) == self.runner);
            Some((&worker.name, named?.reason.as_deref()?))
        });
        let (worker, why) = told.next()?;
        let (runner, worker) = (self.runner_name(), line(worker));
        let only = told.next().is_none();
        only.then(|| format!("{runner} is not ready on {worker}: {}", line(why)))
    }

    fn runner_name(&self) -> String {
        line(self.runner.unwrap_or("an AI CLI")).into_owned()
    }

    fn does(&self, runner: &Runner) -> bool {
        let wanted = match self.runner {
            Some(name) => runner.name == name || self.fallback.contains(&runner.name),
            None => runner.agentic,
        };
        wanted && runner.state == "ready"
    }
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
    let takers: Vec<String> = takers.iter().map(ToString::to_string).collect();
    let named = listed(&takers, TAKERS_MAX);
    Some(format!(
        "all slots are taken by {named}, among them its parent {parent}, which may wait for it; more \
         slots or another worker let it begin, `ctl cancel TASK` frees one"
    ))
}

/// Whether it waits in the queue for a worker alone. What it failed by before is no reason to wait.
pub fn waits(task: &Task) -> bool {
    let is_due = task.not_before.is_none_or(|at| at.0 <= now());
    let is_held = task.reason.as_ref().is_some_and(|why| holds(why.code));
    task.status == TaskStatus::Queued && is_due && !is_held
}

/// Whether a queued task that has this reason waits for something else than a worker: a budget, or an account.
fn holds(code: FailureCode) -> bool {
    matches!(
        code,
        FailureCode::BudgetExceeded
            | FailureCode::RateLimited
            | FailureCode::AccountFull
            | FailureCode::QuotaExhausted
    )
}

/// What a person should know of the worker that a task runs on; none where all is well.
pub fn runs_on(task: &Task, workers: &[Worker]) -> Option<String> {
    let runs = matches!(task.status, TaskStatus::Assigned | TaskStatus::Running);
    let id = task.worker.as_deref().filter(|_| runs)?;
    let worker = workers.iter().find(|worker| worker.id.as_str() == id)?;
    let name = line(&worker.name);
    if worker.availability == "revoked" {
        return Some(format!(
            "{name}, where it runs, was revoked: its agent is being stopped there, and when the worker's lease ends, \
             or it has joined again, the task is tried again"
        ));
    }
    if worker.state != "connected" {
        return Some(format!(
            "{name}, where it runs, is not connected: an agent goes on there, and its result comes when the \
             worker is back; `ctl workers` says since when"
        ));
    }
    let of_it = |runner: &&Runner| Some(&runner.name) == task.runner.as_ref();
    let runner = worker.runners.iter().find(of_it)?;
    let why = runner
        .reason
        .as_deref()
        .filter(|_| runner.state == "not_ready")?;
    Some(format!(
        "{name}, where it runs, takes nothing new: {}",
        line(why)
    ))
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
    use std::time::Duration;

    use orchestra_types::Place;

    use super::*;
    use crate::json::{task::Reason, time::Time};

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

    fn reason(task: &Task, code: FailureCode) -> Reason {
        Reason {
            code,
            message: String::new(),
            retryable: code.is_retryable(),
            fault: code.fault(),
            advice: code.advice_for(task.id),
            resets_at: None,
        }
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
    fn only_labels_that_nobody_has_are_named() {
        let mut wants = task("shell", Some("linux"));
        let labels = |labels: &[(&str, &str)]| {
            let labels = labels.iter();
            labels
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        wants.requires = labels(&[("os", "linux"), ("zone", "mars")]);
        let open = [worker("connected", "open")];
        let said = why(&wants, &open).unwrap();
        assert!(said.contains("no worker has zone=mars;"), "{said}");
        let mut other = worker("connected", "open");
        other.labels = labels(&[("zone", "mars")]);
        let said = why(&wants, &[worker("connected", "open"), other]).unwrap();
        let both = "no worker has all of os=linux, zone=mars;";
        assert!(said.contains(both), "{said}");
    }

    #[test]
    fn all_that_take_nothing_are_named_and_what_is_broken_beside_them() {
        let named = |name: &str, availability: &str| {
            let mut worker = worker("connected", availability);
            worker.name = name.to_owned();
            worker
        };
        let mut full = named("w3", "open");
        full.runners[0].state = "not_ready";
        full.runners[0].reason = Some("its disk is full".to_owned());
        let workers = [
            named("gone", "revoked"),
            named("vm", "cordoned"),
            named("w2", "draining"),
            full,
        ];
        let said = why(&task("shell", None), &workers).unwrap_or_default();
        assert!(said.starts_with("vm, w2 take nothing new"), "{said}");
        assert!(
            said.ends_with("; shell is not ready on w3: its disk is full"),
            "{said}"
        );
        let mut unknown = workers.clone();
        unknown[3].runners[0].reason = None;
        let said = why(&task("shell", None), &unknown[2..]).unwrap_or_default();
        assert!(
            said.starts_with("w2 is draining; `ctl workers uncordon w2`"),
            "{said}"
        );
        assert!(
            said.contains("shell is not ready on 1 other worker"),
            "{said}"
        );
        let said = why(&task("shell", None), &workers[..1]).unwrap_or_default();
        assert!(
            said.contains("`ctl token create` lets it join again"),
            "{said}"
        );
    }

    #[test]
    fn a_worker_that_would_do_and_is_away_is_named() {
        let mut away = worker("lost", "open");
        away.name = "far".to_owned();
        away.labels = [("os".to_owned(), "win".to_owned())].into();
        away.runners[0].name = "codex".to_owned();
        let mut workers = vec![worker("connected", "open"), away];
        let says = |task: Task, workers: &[Worker]| why(&task, workers).unwrap_or_default();
        let not_there = "far has it and is not connected, `ctl workers` says since when";
        assert_eq!(
            says(task("codex", Some("win")), &workers),
            format!("no connected worker has os=win; {not_there}")
        );
        let said = says(task("codex", None), &workers);
        assert!(said.ends_with(not_there), "{said}");
        let said = says(task("claude", None), &workers);
        assert!(!said.contains("far"), "{said}");
        for n in 0..WORKERS_MAX {
            let mut more = workers[1].clone();
            more.name = format!("more{n}");
            workers.push(more);
        }
        let said = says(task("codex", Some("win")), &workers);
        assert!(
            said.contains("; far, more0, more1, more2 and 1 more have it"),
            "{said}"
        );
        workers[1].availability = "revoked".to_owned();
        let said = says(task("codex", Some("win")), &workers[..2]);
        assert!(said.starts_with("no worker has os=win"), "{said}");
    }

    #[test]
    fn a_task_that_is_tried_again_waits_for_a_worker_like_one_that_is_new() {
        let mut again = task("shell", None);
        again.reason = Some(reason(&again, FailureCode::WorkerLost));
        again.not_before = Some(Time::from_ms(1));
        assert!(why(&again, &[]).is_some());
        again.not_before = Some(Time(now().plus(Duration::from_secs(60))));
        assert_eq!(why(&again, &[]), None, "it is not due");
        let mut held = task("shell", None);
        held.reason = Some(reason(&held, FailureCode::BudgetExceeded));
        assert_eq!(why(&held, &[]), None);
    }

    #[test]
    fn what_is_the_matter_with_the_worker_that_it_runs_on_is_said() {
        let mut running = task("shell", None);
        running.status = TaskStatus::Running;
        running.worker = Some("w-1".to_owned());
        let mut on = worker("connected", "open");
        assert_eq!(runs_on(&running, std::slice::from_ref(&on)), None);
        on.runners[0].state = "not_ready";
        on.runners[0].reason = Some("its disk is full".to_owned());
        assert_eq!(
            runs_on(&running, std::slice::from_ref(&on)).unwrap_or_default(),
            "vm, where it runs, takes nothing new: its disk is full"
        );
        on.state = "lost".to_owned();
        let said = runs_on(&running, std::slice::from_ref(&on)).unwrap_or_default();
        assert!(
            said.starts_with("vm, where it runs, is not connected"),
            "{said}"
        );
        on.availability = "revoked".to_owned();
        let said = runs_on(&running, std::slice::from_ref(&on)).unwrap_or_default();
        assert!(
            said.starts_with("vm, where it runs, was revoked: its agent is being stopped"),
            "{said}"
        );
        running.status = TaskStatus::Queued;
        assert_eq!(runs_on(&running, &[on]), None);
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
            message: "the budget of task_007 is used up".to_owned(),
            ..reason(&of_parent, FailureCode::BudgetExceeded)
        });
        let said = held(&of_parent).unwrap();
        assert!(said.starts_with("task_001 waits: the budget of task_007 is used up\n"));
        assert!(said.contains("--attempts +1"), "{said}");
        assert!(!said.contains("ctl budget task_001"), "{said}");
        assert_eq!(held(&task("shell", None)), None);
    }
}
