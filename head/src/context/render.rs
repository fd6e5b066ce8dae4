//! The texts: an output with its header, the section of the current state, the list of tasks.
//! Pure: the same task gives the same bytes.

use jiff::Timestamp as Moment;
use orchestra_types::{TaskId, TaskStatus, Timestamp, limits};
use serde::{Deserialize, Serialize};

use super::{OUTPUT_BYTES_MAX, OUTPUTS, record::ClosingTask};

/// Where our section of the current state begins.
const BEGIN: &str = "<!-- orchestra:begin (this section is generated; write above or below it) -->";
/// What every beginning has, also of other versions.
const BEGIN_MARK: &str = "<!-- orchestra:begin";
/// Where our section of the current state ends.
const END: &str = "<!-- orchestra:end -->";
/// Most tasks in the list: a project lives long.
const COMPLETED_MAX: usize = 1000;
/// Most tasks in the section, which every agent reads.
const RECENT_MAX: usize = 20;
/// Most changed files named in a text.
const FILES_MAX: usize = 200;
/// Longest line about one task.
const LINE_BYTES_MAX: usize = 160;

/// What the name of an output has behind its task's.
const OUTPUT_END: &str = "_output.md";

/// What a new project's overview says. As long as nobody changes it, no agent is given it.
pub(super) const OVERVIEW_TEMPLATE: &str =
    "<!-- Describe the project here: what it is for, how it is built and tested, what agents
     must know. Every task of this project is given this text. -->
";

/// One task in `completed_tasks.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Completed {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) attempt: u32,
    description: String,
    status: TaskStatus,
    runner: String,
    worker: String,
    started_at: Option<String>,
    finished_at: String,
    reason: Option<String>,
    files: u64,
    /// Empty when it is removed.
    output: String,
}

impl Completed {
    pub(super) fn of(task: &ClosingTask) -> Self {
        Self {
            id: task.id.to_string(),
            number: task.id.0,
            attempt: task.attempt,
            description: limits::cut(&task.spec.description, 1024),
            status: task.status,
            runner: task.runner.clone(),
            worker: task.worker.clone(),
            started_at: task.started_at.map(moment),
            finished_at: moment(task.finished_at),
            reason: task
                .failure
                .as_ref()
                .map(|f| limits::cut(&f.to_string(), 1024)),
            files: u64::try_from(task.files.len()).unwrap_or(u64::MAX),
            output: format!("{OUTPUTS}/{}", output_name(task)),
        }
    }
}

/// Puts `task` into the list: once, in the order of the tasks, never over a later attempt.
pub(super) fn with_completed(mut list: Vec<Completed>, task: Completed) -> Vec<Completed> {
    match list.iter_mut().find(|known| known.number == task.number) {
        Some(known) if known.attempt > task.attempt => {}
        Some(known) => *known = task,
        None => list.push(task),
    }
    list.sort_by_key(|known| known.number);
    let surplus = list.len().saturating_sub(COMPLETED_MAX);
    list.drain(..surplus);
    list
}

impl Completed {
    /// Without the output of its task, which is removed. Whether it had one.
    pub(super) fn loses_output(&mut self) -> bool {
        !std::mem::take(&mut self.output).is_empty()
    }
}

/// The task whose output has this name; none of any other name.
pub(super) fn task_of_output(name: &str) -> Option<TaskId> {
    let task: TaskId = name.strip_suffix(OUTPUT_END)?.parse().ok()?;
    (output_name_of(&task.to_string()) == name).then_some(task)
}

/// `task_001_output.md`.
pub(super) fn output_name(task: &ClosingTask) -> String {
    output_name_of(&task.id.to_string())
}

/// The name of the output of the task with this id.
pub(super) fn output_name_of(id: &str) -> String {
    format!("{id}{OUTPUT_END}")
}

/// Another name for a file that has the name of an output: no task's, and one that does not make the mirror
/// somebody else's.
pub(super) fn name_beside(output: &str, number: u32) -> String {
    let id = output.strip_suffix(OUTPUT_END).unwrap_or(output);
    format!("{id}-{number}{OUTPUT_END}")
}

/// The output file: a header for people and machines, then the text.
pub(super) fn output(task: &ClosingTask) -> String {
    let mut text = format!("# {}: {}\n\n", task.id, one_line(&task.spec.description));
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("- {name}: {}\n", one_line(value)));
        }
    };
    row("status", task.status.as_str());
    if let Some(failure) = &task.failure {
        row("reason", &failure.to_string());
    }
    row("runner", &task.runner);
    row("worker", &task.worker);
    row("attempt", &task.attempt.to_string());
    row("started", &task.started_at.map(moment).unwrap_or_default());
    row("finished", &moment(task.finished_at));
    text.push_str(&format!("- changed files: {}\n", task.files.len()));
    for file in task.files.iter().take(FILES_MAX) {
        let path = one_line(&file.path).replace('`', "'");
        text.push_str(&format!("  - {} `{path}`\n", file.change.as_str()));
    }
    if task.files.len() > FILES_MAX {
        text.push_str(&format!("  - and {} more\n", task.files.len() - FILES_MAX));
    }
    text.push_str("\n---\n\n");
    text.push_str(limits::cut(&task.text, OUTPUT_BYTES_MAX).trim_end());
    text.push('\n');
    text
}

/// The current state with our section made anew. What people wrote around it is kept, byte for
/// byte; where there is no section, it is put at the end.
pub(super) fn state(existing: &str, completed: &[Completed]) -> String {
    let section = section(completed);
    let Some((before, rest)) = existing.split_once(BEGIN_MARK) else {
        let gap = match existing {
            "" => "# Current state\n\n",
            text if text.ends_with("\n\n") => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        return format!("{existing}{gap}{section}\n");
    };
    match rest.split_once(END) {
        Some((_, after)) => format!("{before}{section}{after}"),
        // Someone took the end away: we cannot know what is theirs, so all of it stays.
        None => {
            let rest = rest.split_once("-->").map_or(rest, |(_, rest)| rest);
            let rest = rest.trim_start_matches('\n');
            format!("{before}{section}\n\n{rest}")
        }
    }
}

fn section(completed: &[Completed]) -> String {
    let mut text = format!("{BEGIN}\n\n## Recent tasks\n\n");
    for task in completed.iter().rev().take(RECENT_MAX) {
        let files = match task.files {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        text.push_str(&format!(
            "- {} {} ({}, {files}): {}\n",
            task.id,
            task.status,
            one_line(&task.runner),
            one_line(&task.description),
        ));
    }
    text.push('\n');
    text.push_str(END);
    text
}

/// The first line, short, without what could end our section or look like another line.
fn one_line(text: &str) -> String {
    let line = text.lines().find(|l| !l.trim().is_empty());
    let clean: String = line
        .unwrap_or_default()
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    limits::cut(&clean.replace("<!--", "<! --"), LINE_BYTES_MAX)
}

fn moment(time: Timestamp) -> String {
    let ms = i64::try_from(time.0).unwrap_or(i64::MAX);
    Moment::from_millisecond(ms).map_or_else(|_| String::new(), |m| m.to_string())
}
