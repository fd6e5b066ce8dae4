//! Why a task is as it is: what happened and, apart from it, what a person can type. A command that
//! is cut off, or that asks another head, is worse than none.

use std::borrow::Cow;

use super::{again::Again, escape::line, width::fit};
use crate::json::task::Task;

/// A command may fail with a page of text; `ctl show` has all that is kept of it.
const WHAT_MAX: usize = 160;
/// A longer hint is none of ours.
const HINT_MAX: usize = 400;
/// How many hints stand below a list of tasks.
const HINTS_MAX: usize = 5;

/// Why a task is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What happened, cut where it is long; it names no command.
    pub what: String,
    /// The sentence that names a command, whole.
    pub hint: Option<String>,
    /// What stands between the two.
    between: &'static str,
}

impl Why {
    /// Of a task; none when there is nothing to say.
    pub fn of(task: &Task) -> Option<Self> {
        if let Some(reason) = &task.reason {
            return Some(Self::read(reason.code.as_str(), &line(&reason.message)));
        }
        if let Some(why) = &task.waits_because {
            let (what, between, hint) = split(why);
            return Some(Self {
                what: fit(what, WHAT_MAX),
                hint: hint.map(str::to_owned),
                between,
            });
        }
        if task.waits_for.is_empty() {
            return None;
        }
        let names: Vec<String> = task.waits_for.iter().map(ToString::to_string).collect();
        Some(Self {
            what: format!("waits for {}", names.join(", ")),
            hint: None,
            between: "",
        })
    }

    fn read(code: &str, message: &str) -> Self {
        let (what, between, hint) = split(message);
        let what = match what {
            "" => code.to_owned(),
            what => format!("{code}: {}", fit(what, WHAT_MAX)),
        };
        let hint = hint.filter(|hint| hint.len() <= HINT_MAX);
        Self {
            what,
            hint: hint.map(str::to_owned),
            between,
        }
    }

    /// All of it in one line.
    pub fn whole(&self, again: Again) -> Cow<'_, str> {
        match &self.hint {
            None => Cow::Borrowed(&self.what),
            Some(hint) => Cow::Owned([&self.what, self.between, &again.spell(hint)].concat()),
        }
    }
}

/// The part of a message before the sentence that names a command, what ends it, and that sentence.
pub fn split(message: &str) -> (&str, &'static str, Option<&str>) {
    let Some(command) = message.find("`ctl ") else {
        return (message, "", None);
    };
    let before = &message[..command];
    let ends = [". ", "; "].map(|end| Some((before.rfind(end)?, end)));
    match ends.into_iter().flatten().max() {
        Some((at, end)) => (&message[..at], end, Some(&message[at + end.len()..])),
        None => ("", ": ", Some(message)),
    }
}

/// The hints of some tasks, a line for each: those that several tasks share are said once.
pub fn hints(tasks: &[Task]) -> Vec<String> {
    let mut hints: Vec<(String, Vec<String>)> = Vec::new();
    for task in tasks {
        let Some(hint) = Why::of(task).and_then(|why| why.hint) else {
            continue;
        };
        let id = task.id.to_string();
        match hints.iter_mut().find(|(said, _)| *said == hint) {
            Some((_, ids)) => ids.push(id),
            None => hints.push((hint, vec![id])),
        }
    }
    let rest = hints.len().saturating_sub(HINTS_MAX);
    let mut lines: Vec<String> = hints.iter().take(HINTS_MAX).map(one).collect();
    if rest > 0 {
        lines.push(format!("and {rest} more; `ctl show TASK` says what to do"));
    }
    lines
}

fn one((hint, ids): &(String, Vec<String>)) -> String {
    match &ids[..] {
        [one] => format!("{one}: {hint}"),
        [first, rest @ ..] => format!("{first} and {} more: {hint}", rest.len()),
        [] => hint.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_stands_apart_from_the_command_that_helps() {
        let text = "the budget of task_001 is used up; its work is kept. Shall it go on, by `ctl budget 1 --usd +1`?";
        let why = Why::read("budget_exceeded", text);
        assert_eq!(
            why.what,
            "budget_exceeded: the budget of task_001 is used up; its work is kept"
        );
        let again = Again::in_state("/s".as_ref());
        let whole = why.whole(again).into_owned();
        assert!(
            whole.ends_with("is kept. Shall it go on, by `ctl --state /s budget 1 --usd +1`?"),
            "{whole}"
        );
        let only = Why::read("x", "`ctl retry 1`");
        assert_eq!(only.what, "x");
        assert_eq!(only.whole(Again::default()), "x: `ctl retry 1`");
    }

    #[test]
    fn a_page_of_text_is_cut_and_no_command_is() {
        let page = "x".repeat(2000);
        assert!(Why::read("x", &page).what.len() < 200);
        let long = format!("{page}; `ctl retry 1`");
        assert_eq!(Why::read("x", &long).hint.as_deref(), Some("`ctl retry 1`"));
        let foreign = format!("no; `ctl retry 1` {page}");
        assert_eq!(Why::read("x", &foreign).hint, None);
    }

    #[test]
    fn a_hint_of_many_tasks_is_said_once_and_there_are_few() {
        let of = |hint: &str, ids: &[&str]| {
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            one(&(hint.to_owned(), ids))
        };
        assert_eq!(of("`ctl x`", &["task_001"]), "task_001: `ctl x`");
        assert_eq!(
            of("`ctl x`", &["task_001", "task_002", "task_003"]),
            "task_001 and 2 more: `ctl x`"
        );
    }
}
