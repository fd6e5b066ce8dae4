//! Why a queued task is not begun, where the workers or a budget are the reason.

use orchestra_types::{FailureCode, TaskStatus};

use super::escape::line;
use crate::json::{
    fleet::{Runner, Worker},
    task::{Task, Workplace},
};

/// What keeps every worker from it; none where one has only to become free, or where something else
/// keeps it.
pub fn why(task: &Task, workers: &[Worker]) -> Option<String> {
    if task.status != TaskStatus::Queued || task.reason.is_some() || task.not_before.is_some() {
        return None;
    }
    let mut left: Vec<&Worker> = workers.iter().filter(|w| w.state == "connected").collect();
    if left.is_empty() {
        let how = "`ctl start` starts one here, `ctl token create` lets a machine join";
        return Some(format!("no worker is connected; {how}"));
    }
    if let Workplace::InPlace { machine, dir } = &task.place {
        left.retain(|worker| worker.machine == *machine);
        if left.is_empty() {
            let dir = line(dir);
            return Some(format!(
                "no worker of the machine that has `{dir}` is connected"
            ));
        }
    }
    left.retain(|worker| task.requires.iter().all(|label| has(worker, label)));
    if left.is_empty() {
        let labels = task
            .requires
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let labels = line(&labels);
        return Some(format!(
            "no worker has {labels}; `ctl workers -v` shows their labels"
        ));
    }
    let ready = |worker: &&Worker| worker.runners.iter().any(|runner| does(task, runner));
    if !left.iter().any(ready) {
        return Some(not_ready(task, &left));
    }
    left.retain(ready);
    let closed = left.iter().find(|worker| worker.availability != "open");
    let closed = closed.filter(|_| !left.iter().any(|worker| worker.availability == "open"))?;
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

/// The reason of the runner that it names, where just one worker has one.
fn not_ready(task: &Task, workers: &[&Worker]) -> String {
    let runner = line(task.runner.as_deref().unwrap_or("an AI CLI"));
    let mut told = workers.iter().filter_map(|worker| {
        let mut runners = worker.runners.iter();
        let named = runners.find(|known| Some(&known.name) == task.runner.as_ref());
        Some((&worker.name, named?.reason.as_deref()?))
    });
    match (told.next(), told.next()) {
        (Some((worker, why)), None) => {
            format!("{runner} is not ready on {}: {}", line(worker), line(why))
        }
        _ => format!("{runner} is ready on no worker; `ctl workers -v` says why"),
    }
}

fn has(worker: &Worker, (name, value): (&String, &String)) -> bool {
    worker.labels.get(name) == Some(value)
}

fn does(task: &Task, runner: &Runner) -> bool {
    let wanted = match &task.runner {
        Some(name) => runner.name == *name || task.fallback.contains(&runner.name),
        None => runner.agentic,
    };
    wanted && runner.state == "ready"
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
