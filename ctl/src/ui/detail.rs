//! One task in full, and what a person does next with it.

mod attempts;

use std::{collections::BTreeMap, time::Duration};

use orchestra_repo::BranchHere;
use orchestra_types::{
    ArtifactKind, FailureCode, OnDependencyFailure, TaskStatus, Timestamp,
    limits::{CUT_FRONT_MARK, CUT_MARK},
    runner::SHELL,
};

use self::attempts::attempts;
pub use self::attempts::given_up;
use super::{
    again::Again,
    changes,
    escape::{line, path},
    excerpt::{ALL_IN_JSON, Part, text},
    now,
    reason::split,
    status::{style, told},
    style::{Line, Style},
    task::worker_name,
    time::{ago, duration, limit, usage},
    wrap::At,
};
use crate::{
    client::NAMES_LOSSES,
    json::{
        attempt::Attempt,
        task::{Reason, SetUpDocument, Task, Workplace},
        time::Time,
    },
};

/// How wide the names of facts are, with the space after them.
const NAME: usize = 12;

/// The task in full; `width` is the terminal's.
pub fn lines(
    task: &Task,
    names: &BTreeMap<String, String>,
    again: Again,
    width: Option<usize>,
) -> Vec<Line> {
    let mut lines = vec![title(task)];
    lines.extend(text(&task.description, Part::First, width, ALL_IN_JSON));
    lines.push(Line::default());
    lines.extend(reason(task, again, width));
    for fact in facts(task, names, again) {
        lines.extend(fact.wrapped(width, 2 + NAME, At::Words));
    }
    for attempt in attempts(task, names, again) {
        lines.extend(attempt.wrapped(width, 4, At::Words));
    }
    let files = files(task, again);
    if !files.is_empty() {
        lines.push(Line::default());
        lines.push(Line::of(Style::Bold, "files"));
        lines.extend(files);
    }
    if let Some(result) = &task.result {
        lines.push(Line::default());
        lines.push(Line::of(Style::Bold, "result"));
        let in_logs = format!("`ctl logs {}` has all of it", task.id);
        let is_end = result.starts_with(CUT_FRONT_MARK);
        let whole = match is_end || result.ends_with(CUT_MARK) {
            true => &*in_logs,
            false => ALL_IN_JSON,
        };
        // What a command has to say stands at the end of its output.
        let part = match is_end || task.runner.as_deref() == Some(SHELL) {
            true => Part::Last,
            false => Part::First,
        };
        lines.extend(text(result, part, width, whole));
    }
    lines
}

/// The first of the files that it changed, or why these are not known.
pub fn files(task: &Task, again: Again) -> Vec<Line> {
    let Some(why) = &task.files_lost else {
        let files = task.files.as_deref().unwrap_or_default();
        return changes::lines(files, changes::NAMED_MAX);
    };
    let text = format!("  {}; {}", line(why), again.spell(NAMES_LOSSES));
    vec![Line::of(Style::Bad, text)]
}

/// What a person does next; none when nothing is open.
pub fn next_step(task: &Task) -> Option<String> {
    let id = task.id;
    let advice = || task.reason.as_ref().map(|reason| reason.advice.clone());
    let code = task.reason.as_ref().map(|reason| reason.code);
    match task.status {
        _ if task.is_stuck() => {
            let failed = match task.failed_before() {
                Some(failed) => failed.to_string(),
                None => ids(&task.waits_for),
            };
            Some(format!(
                "ctl retry {failed}, ctl release {id}, or ctl cancel {id}"
            ))
        }
        TaskStatus::Queued | TaskStatus::Blocked if code == Some(FailureCode::BudgetExceeded) => {
            advice()
        }
        TaskStatus::Blocked | TaskStatus::Queued => {
            Some(format!("ctl wait {id}, or ctl cancel {id}"))
        }
        TaskStatus::Assigned | TaskStatus::Running if task.finishing => {
            Some(format!("ctl wait {id}"))
        }
        TaskStatus::Assigned | TaskStatus::Running if task.is_being_cancelled() => Some(format!(
            "ctl wait {id}; a worker that is away ends it when it is back"
        )),
        TaskStatus::Assigned | TaskStatus::Running => Some(format!("ctl logs {id} -f")),
        TaskStatus::Succeeded if has_work(task) => {
            Some(format!("ctl diff {id}, then ctl apply {id}"))
        }
        TaskStatus::Succeeded => {
            let warned = task.changes.is_some_and(|c| c.files == 0 && c.warnings > 0);
            warned.then(|| format!("ctl files {id}"))
        }
        TaskStatus::Failed | TaskStatus::NeedsReview | TaskStatus::Cancelled => {
            let says_so = code == Some(FailureCode::ApplyConflict);
            let kept = (has_work(task) && !says_so)
                .then(|| format!("`ctl apply {id}` takes what it did so far"));
            let complains = |attempt: &Attempt| attempt.artifact(ArtifactKind::Stderr).is_some();
            let stderr = (task.status == TaskStatus::Failed
                && task.latest().is_some_and(complains))
            .then(|| format!("`ctl logs {id} --stderr` has what it complained of"));
            let dismiss = (task.status == TaskStatus::NeedsReview)
                .then(|| format!("`ctl cancel {id}` if nothing more is wanted of it"));
            let advice = advice().into_iter().chain(stderr).chain(kept);
            let all: Vec<String> = advice.chain(dismiss).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
    }
}

/// Whether it left changes that are not in the checkout.
fn has_work(task: &Task) -> bool {
    let changed = task.changes.is_some_and(|c| c.files > 0);
    let in_repository = matches!(task.place, Workplace::Repository { .. });
    let applied = task.apply.result.as_deref() == Some("applied");
    changed && in_repository && !applied
}

fn title(task: &Task) -> Line {
    Line::of(Style::Bold, format!("{}  ", task.id)).with(style(task.status), told(task))
}

/// Why it is as it is. Where that takes several lines, what can be typed is one of them and not
/// broken: it is there to be copied.
fn reason(task: &Task, again: Again, width: Option<usize>) -> Vec<Line> {
    let Some(Reason { code, message, .. }) = &task.reason else {
        return Vec::new();
    };
    let message = line(message);
    let of = |text: &str| {
        let line = Line::of(Style::Dim, format!("  {:<NAME$}", "reason"));
        let line = line.with(Style::Plain, format!("{code}: {}", again.spell(text)));
        line.wrapped(width, 2 + NAME, At::Words)
    };
    let whole = of(&message);
    match split(&message) {
        (what, _, Some(hint)) if whole.len() > 1 && !what.is_empty() => {
            let hint = format!("{:indent$}{}", "", again.spell(hint), indent = 2 + NAME);
            let mut lines = of(what);
            lines.push(Line::of(Style::Plain, hint));
            lines
        }
        (_, _, _) => whole,
    }
}

fn facts(task: &Task, names: &BTreeMap<String, String>, again: Again) -> Vec<Line> {
    let now = now();
    let mut lines = Vec::new();
    let mut fact = |name: &str, value: String| {
        debug_assert!(name.len() < NAME, "`{name}` would touch its value");
        if !value.is_empty() {
            lines.push(Line::of(Style::Dim, format!("  {name:<NAME$}")).with(Style::Plain, value));
        }
    };
    fact("runner", runner(task, names));
    fact("priority", task.priority.to_string());
    let submitter = task.submitter.as_deref().map(line);
    fact("submitter", submitter.unwrap_or_default().into_owned());
    fact("created", moment(task.created_at, now));
    fact(
        "started",
        task.started_at.map(|t| moment(t, now)).unwrap_or_default(),
    );
    fact("finished", finished(task, now));
    fact("used", task.usage.as_ref().map(usage).unwrap_or_default());
    fact("budget", task.budget.map(|b| b.words()).unwrap_or_default());
    fact("spent", task.spent.map(|s| s.words()).unwrap_or_default());
    fact(
        "part of",
        task.parent.map(|id| id.to_string()).unwrap_or_default(),
    );
    fact("fallback", task.fallback.join(", "));
    fact("after", ids(&task.after));
    fact("waits for", ids(&task.waits_for));
    let latest = task.of_result();
    fact(
        "built on",
        latest.map(|a| ids(&a.built_on)).unwrap_or_default(),
    );
    let left_out = latest
        .map(|a| ids(&a.left_out))
        .filter(|ids| !ids.is_empty());
    fact(
        "left out",
        left_out
            .map(|ids| format!("{ids}: conflicting changes"))
            .unwrap_or_default(),
    );
    if !task.after.is_empty() && task.on_dependency_failure != OnDependencyFailure::Block {
        fact("if failed", task.on_dependency_failure.to_string());
    }
    let not_before = task.not_before.or(task.start_at).filter(|t| t.0 > now);
    let words = if task.attempt == 0 {
        "starts at"
    } else {
        "retry at"
    };
    fact(words, not_before.map(here).unwrap_or_default());
    let within = |seconds: Option<f64>| seconds.map(limit).unwrap_or_default();
    let silent = task.silent_since.map(|since| {
        let times = duration(now.since(since.0));
        format!(
            "nothing was heard of its agent for {times}; `ctl{} logs {}` has its end",
            again.options(),
            task.id
        )
    });
    fact("silent", silent.unwrap_or_default());
    fact("wait limit", within(task.queue_timeout_seconds));
    fact("stall limit", within(task.stall_timeout_seconds));
    fact(
        "run of",
        task.schedule.map(|id| id.to_string()).unwrap_or_default(),
    );
    fact("labels", pairs(&task.labels));
    fact("requires", pairs(&task.requires));
    fact(
        "context",
        task.context
            .iter()
            .map(|c| line(c).into_owned())
            .collect::<Vec<_>>()
            .join(", "),
    );
    fact(
        "project",
        task.project
            .as_ref()
            .map(|p| format!("{} ({})", line(&p.name), path(&p.dir)))
            .unwrap_or_default(),
    );
    let project_id = task.project.as_ref().map(|p| line(&p.id).into_owned());
    fact("project id", project_id.unwrap_or_default());
    fact("place", place(&task.place));
    fact(
        "set-up",
        task.set_up.as_ref().map(set_up).unwrap_or_default(),
    );
    fact(
        "ports",
        task.ports.map(|p| p.to_string()).unwrap_or_default(),
    );
    fact("branch", again.spell(&branch(task)).into_owned());
    fact("applied", again.spell(&applied(task)).into_owned());
    lines
}

fn runner(task: &Task, names: &BTreeMap<String, String>) -> String {
    let runner = line(task.runner.as_deref().unwrap_or("any")).into_owned();
    let model = task
        .model
        .as_deref()
        .map(|m| format!(" ({})", line(m)))
        .unwrap_or_default();
    match task.attempt {
        0 => runner + &model,
        _ => format!("{runner}{model} on {}", worker_name(task, names)),
    }
}

fn finished(task: &Task, now: Timestamp) -> String {
    let Some(end) = task.finished_at else {
        return String::new();
    };
    let took = worked(task)
        .map(|took| format!(", took {took}"))
        .unwrap_or_default();
    // Its work had ended before somebody cancelled it: it waited for a person, or for its next attempt.
    match last_end(task).filter(|_| task.status == TaskStatus::Cancelled) {
        Some(last) if end.0.since(last.0) >= Duration::from_secs(1) => {
            let (last, cancelled) = (moment(last, now), moment(end, now));
            format!("{last}{took}; cancelled {cancelled}")
        }
        Some(_) | None => moment(end, now) + &took,
    }
}

/// When the latest attempt ended, as far as attempts are known.
fn last_end(task: &Task) -> Option<Time> {
    task.attempts.as_ref()?.last()?.finished_at
}

/// How long its attempts have worked, without the time between them; none where none has ended.
pub fn worked(task: &Task) -> Option<String> {
    let Some(attempts) = &task.attempts else {
        // A list does not have them.
        let all = task.finished_at?.0.since(task.started_at?.0);
        return Some(duration(all));
    };
    let times = attempts
        .iter()
        .filter_map(|a| Some(a.finished_at?.0.since(a.started_at?.0)));
    let times: Vec<Duration> = times.collect();
    let all = duration(times.iter().sum());
    match times.len() {
        0 => None,
        1 => Some(all),
        several => Some(format!("{all} in {several} attempts")),
    }
}

/// Where a task works.
pub fn place(place: &Workplace) -> String {
    match place {
        Workplace::Repository { commit, branch, .. } => {
            let branch = branch
                .as_deref()
                .map(|b| format!(" of {}", line(b)))
                .unwrap_or_default();
            format!("snapshot {}{branch}", &line(commit)[..commit.len().min(10)])
        }
        Workplace::InPlace { dir, .. } => format!("in place: {}", path(dir)),
        Workplace::Empty => "an empty directory".to_owned(),
    }
}

/// How a clone is made ready.
pub fn set_up(set_up: &SetUpDocument) -> String {
    let run = set_up.command.as_deref().map(|command| {
        let limit = limit(set_up.timeout_seconds);
        format!("{} (limit {limit})", line(command))
    });
    let names: Vec<_> = set_up.files.iter().map(|f| path(f)).collect();
    let copies = (!names.is_empty()).then(|| format!("copies {}", names.join(", ")));
    run.into_iter().chain(copies).collect::<Vec<_>>().join("; ")
}

/// The branch of its result, and what makes it where it is not there. Without a look, it is there once it
/// was applied.
pub fn branch(task: &Task) -> String {
    let Some(branch) = task.branch_to_apply().or(passed_on(task)).map(line) else {
        return String::new();
    };
    let (id, was_applied) = (task.id, task.apply.result.as_deref() == Some("applied"));
    match (task.branch_here, was_applied) {
        (Some(BranchHere::There), _) | (None, true) => branch.into_owned(),
        (Some(BranchHere::Missing), true) => {
            format!("{branch}, not there; made by `ctl apply {id} --branch`")
        }
        (Some(BranchHere::Missing) | None, false) => format!("{branch}, made by `ctl apply {id}`"),
        (Some(BranchHere::Anothers), _) => format!(
            "none: the one here that is called {branch} has commits that are not of this task, as of another cluster; \
             `git branch --move {branch} NAME` frees the name, then `ctl apply {id} --branch` makes its own"
        ),
    }
}

/// The branch of a result that has no change of its own and passes on what it was built on, where that is there.
fn passed_on(task: &Task) -> Option<&str> {
    let tip = task.of_result()?.tip.as_ref();
    let there = tip.filter(|_| task.branch_here == Some(BranchHere::There));
    there.map(|(branch, _)| branch.as_str())
}

fn applied(task: &Task) -> String {
    let message = task
        .apply
        .message
        .as_deref()
        .map(|m| format!(": {}", line(m)))
        .unwrap_or_default();
    match (task.apply.result.as_deref(), task.apply.requested) {
        (Some("applied"), _) if !task.has_change_to_apply() => "nothing to apply".to_owned(),
        (Some("applied"), _) => "yes".to_owned(),
        (Some("conflict"), _) => format!("no, conflict{message}"),
        (_, true) if task.was_cancelled_too_late() && task.has_change_to_apply() => format!(
            "no: a person had cancelled it before its result was there; `ctl apply {}` puts it there",
            task.id
        ),
        (_, true) => "on success".to_owned(),
        (_, false) => String::new(),
    }
}

/// A moment to come, by the clock of this machine.
pub fn here(time: Time) -> String {
    let ms = i64::try_from(time.0.0).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    let here = instant.to_zoned(jiff::tz::TimeZone::system());
    format!("{}", here.strftime("%Y-%m-%d %H:%M:%S %Z"))
}

fn moment(time: Time, now: Timestamp) -> String {
    format!("{} ({})", ago(time.0, now), time)
}

/// Ids, for a sentence.
pub fn ids(ids: &[orchestra_types::TaskId]) -> String {
    ids.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Labels, in one line.
pub fn pairs(pairs: &BTreeMap<String, String>) -> String {
    pairs
        .iter()
        .map(|(k, v)| format!("{k}={}", line(v)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// How long something has been going on, in whole seconds.
pub fn since(start: Time) -> String {
    let seconds = now().since(start.0).as_secs();
    if seconds < 10 {
        format!("{seconds}s")
    } else {
        duration(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;
    use orchestra_types::Place;

    use super::*;

    fn task(description: &str, message: &str) -> Task {
        let spec = v1::TaskSpec {
            description: description.into(),
            timeout_ms: 1,
            place: Some(Place::Empty.into()),
            ..Default::default()
        };
        let reason = v1::Failure {
            code: FailureCode::BudgetExceeded.as_str().into(),
            message: message.into(),
            resets_at_ms: None,
        };
        Task::read(v1::Task {
            id: 1,
            spec: Some(spec),
            status: v1::TaskStatus::NeedsReview.into(),
            reason: Some(reason),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn of_a_commands_output_the_end_is_shown_and_of_an_answer_the_beginning() {
        let output: String = (1..=100).map(|n| format!("line {n}\n")).collect();
        let result = |runner: &str, result: String| {
            let task = Task {
                runner: Some(runner.to_owned()),
                result: Some(result),
                ..task("d", "m")
            };
            let shown = shown(&task, None);
            let at = shown.iter().position(|line| line == "result").unwrap();
            (shown[at + 1].clone(), shown.last().unwrap().clone())
        };
        let pair = |first: &str, last: &str| (first.to_owned(), last.to_owned());
        assert_eq!(
            result("claude", output.clone()),
            pair("  line 1", "  … 60 more lines (--json has all of it)")
        );
        assert_eq!(
            result("shell", output.clone()),
            pair("  … 60 earlier lines (--json has all of it)", "  line 100")
        );
        assert_eq!(
            result("mine", format!("{CUT_FRONT_MARK}{output}")),
            pair(
                "  … 61 earlier lines (`ctl logs task_001` has all of it)",
                "  line 100"
            )
        );
    }

    fn shown(task: &Task, width: Option<usize>) -> Vec<String> {
        let again = Again::in_state("/s".as_ref());
        let lines = lines(task, &BTreeMap::new(), again, width);
        lines.iter().map(|line| line.render(false)).collect()
    }

    #[test]
    fn of_an_earlier_attempt_it_is_said_why_it_is_not_the_one() {
        let outcome = |failure: Option<&str>| v1::Outcome {
            exit: Some(orchestra_types::Exit::Code(0).into()),
            failure: failure.map(|message| v1::Failure {
                code: FailureCode::WorkerLost.as_str().into(),
                message: message.into(),
                resets_at_ms: None,
            }),
            ..Default::default()
        };
        let attempts = [Some("gone"), None, None].map(outcome);
        let attempts = (1..).zip(attempts).map(|(number, outcome)| v1::Attempt {
            number,
            runner: "shell".into(),
            worker: "w-1".into(),
            outcome: Some(outcome),
            ..Default::default()
        });
        let task = Task::read(v1::Task {
            id: 1,
            spec: Some(v1::TaskSpec {
                description: "x".into(),
                timeout_ms: 1,
                place: Some(Place::Empty.into()),
                ..Default::default()
            }),
            status: v1::TaskStatus::Succeeded.into(),
            attempts: attempts.collect(),
            attempt: 3,
            ..Default::default()
        })
        .unwrap();
        let shown = shown(&task, None);
        let at = shown.iter().position(|line| line == "attempts").unwrap();
        assert_eq!(
            shown[at + 1..at + 4],
            [
                "  1 shell on w-1  ✗ worker_lost: gone",
                "  2 shell on w-1  ✓ succeeded; attempt 3 came after it",
                "  3 shell on w-1  ✓ succeeded",
            ]
        );
        let why = |number| given_up(&task, number, Again::in_state("/s".as_ref()));
        let why = |number| why(number).map(|line: Line| line.render(false));
        assert_eq!(why(1).as_deref(), Some("  attempt 1 ✗ worker_lost: gone"));
        assert_eq!(why(3), None);
    }

    #[test]
    fn what_a_task_took_is_the_work_of_its_attempts() {
        let said = |attempts: &[(u64, u64)], end: u64, status| {
            let attempt = |&(start, end): &(u64, u64)| v1::Attempt {
                number: 1,
                runner: "shell".into(),
                worker: "w-1".into(),
                started_at_ms: Some(start * 1000),
                finished_at_ms: Some(end * 1000),
                ..Default::default()
            };
            let wire = v1::Task {
                id: 1,
                spec: Some(v1::TaskSpec {
                    description: "x".into(),
                    timeout_ms: 1,
                    place: Some(Place::Empty.into()),
                    ..Default::default()
                }),
                status: v1::TaskStatus::from(status).into(),
                started_at_ms: attempts.first().map(|(start, _)| start * 1000),
                finished_at_ms: Some(end * 1000),
                attempts: attempts.iter().map(attempt).collect(),
                ..Default::default()
            };
            let text = finished(&Task::read(wire).unwrap(), Timestamp(7_200_000));
            // Only what is said beside the moments.
            let words = text.split('(').flat_map(|part| part.split(')'));
            words.step_by(2).collect::<Vec<_>>().join("")
        };
        let (done, cancelled) = (TaskStatus::Succeeded, TaskStatus::Cancelled);
        assert_eq!(said(&[(0, 60)], 60, done), "1h ago , took 1m");
        let twice = said(&[(0, 60), (3000, 3060)], 3600, done);
        assert_eq!(twice, "1h ago , took 2m in 2 attempts");
        let dismissed = said(&[(0, 60)], 3600, cancelled);
        assert_eq!(dismissed, "1h ago , took 1m; cancelled 1h ago ");
        assert_eq!(said(&[(0, 60)], 60, cancelled), "1h ago , took 1m");
        assert_eq!(said(&[], 60, cancelled), "1h ago ");
    }

    #[test]
    fn on_a_narrow_terminal_texts_go_on_below_and_commands_stay_whole() {
        let text = "Write a page about\n  - this and that and then more";
        let task = task(text, "it is used up. Go on by `ctl budget 1 --usd +1`?");
        let narrow = shown(&task, Some(28));
        let expected = [
            "task_001  ! needs review",
            "  Write a page about",
            "    - this and that and then",
            "    more",
            "",
            "  reason      budget_exceeded:",
            "              it is used up",
            "              Go on by `ctl --state /s budget 1 --usd +1`?",
        ];
        assert_eq!(narrow[..expected.len()], expected);
        let reason = "  reason      budget_exceeded: it is used up. Go on by `ctl --state /s budget 1 --usd +1`?";
        assert_eq!(shown(&task, None)[4], reason);
    }
}
