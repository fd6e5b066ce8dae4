//! Task files: a YAML list, or JSON lines. The schema is documented in `docs/task-file.md`.

mod words;

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use orchestra_types::limits;
use serde_json::json;
use serde_saphyr::Spanned;

use super::draft::{Draft, KEYS};
use crate::error::{Error, OrFailed, Result};
use words::wrong;

/// Largest file: what one submission may hold.
const BYTES_MAX: u64 = limits::SUBMIT_BYTES_MAX as u64;

/// Where text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// `-` is standard input.
    pub fn new(path: PathBuf) -> Self {
        if path.as_os_str() == "-" {
            Self::Stdin
        } else {
            Self::File(path)
        }
    }

    /// How messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    /// The directory that relative paths in it start from.
    pub fn base(&self) -> PathBuf {
        match self {
            Self::File(path) => path.parent().map(Path::to_owned).unwrap_or_default(),
            Self::Stdin => PathBuf::new(),
        }
    }

    /// Its text.
    pub fn read(&self) -> Result<String> {
        let failed = || format!("failed to read {}", self.name());
        let mut bytes = Vec::new();
        match self {
            Self::File(path) => std::fs::File::open(path)
                .or_failed(failed)?
                .take(BYTES_MAX + 1)
                .read_to_end(&mut bytes),
            Self::Stdin => std::io::stdin()
                .lock()
                .take(BYTES_MAX + 1)
                .read_to_end(&mut bytes),
        }
        .or_failed(failed)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(Error::failed(format!(
                "{} is larger than 256 MiB",
                self.name()
            )));
        }
        String::from_utf8(bytes).map_err(|e| {
            Error::failed(format!(
                "{} is not UTF-8 at byte {}",
                self.name(),
                e.utf8_error().valid_up_to()
            ))
        })
    }
}

/// Reads the tasks in `text`; `name` is for messages.
pub fn parse(text: &str, name: &str) -> Result<Vec<Draft>> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let drafts = if text.trim_start().starts_with('{') {
        json_lines(text, name)
    } else {
        yaml(text, name)
    }?;
    if drafts.is_empty() {
        return Err(
            Error::failed(format!("{name} holds no tasks")).hint("docs/task-file.md has examples")
        );
    }
    if drafts.len() > limits::SUBMIT_TASKS_MAX {
        return Err(Error::failed(format!(
            "{name} holds more than {} tasks",
            limits::SUBMIT_TASKS_MAX
        )));
    }
    Ok(drafts)
}

fn yaml(text: &str, name: &str) -> Result<Vec<Draft>> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 2 * NODES_MAX,
            max_nodes: NODES_MAX,
            max_aliases: NODES_MAX,
            max_merge_keys: limits::SUBMIT_TASKS_MAX,
            max_total_scalar_bytes: limits::SUBMIT_BYTES_MAX,
            // All tasks of a file may share what one of them says; how much that makes counts above.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 2 * NODES_MAX },
    };
    serde_saphyr::from_str_with_options::<Option<Vec<Spanned<Draft>>>>(text, options)
        .map(|drafts| {
            let drafts = drafts.unwrap_or_default().into_iter();
            drafts
                .map(|draft| draft.value.standing_at(name, draft.referenced.line()))
                .collect()
        })
        .map_err(|e| {
            let (line, column) = e.location().map_or((1, 1), |l| (l.line(), l.column()));
            if !is_list(text) && e.to_string().starts_with("expected sequence start") {
                return wrong(name, line, column, None, LIST_EXPECTED);
            }
            let key = match begins_task(text, line, column) {
                true => None,
                false => orchestra_config::key_at(text, line, column, &KEYS),
            };
            wrong(name, line, column, key, &e.to_string())
        })
}

/// Most keys and values of a file: of as many tasks as one call may have, each with 40.
const NODES_MAX: usize = 40 * limits::SUBMIT_TASKS_MAX;

/// What is said of a YAML file that is something else.
const LIST_EXPECTED: &str =
    "a list of tasks is expected, each with a dash in front: `- description: …`";

/// Whether what stands first is a list.
fn is_list(text: &str) -> bool {
    first_line(text).is_some_and(|line| line.trim().starts_with(['-', '[']))
}

fn first_line(text: &str) -> Option<&str> {
    text.lines().find(|line| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with('#') || line == "---")
    })
}

/// Whether a place is right behind the dash of a task: what stands there is of no key.
fn begins_task(text: &str, line: u64, column: u64) -> bool {
    let (Ok(line), Ok(column)) = (usize::try_from(line), usize::try_from(column)) else {
        return false;
    };
    let dash = |line: &str| line.trim_start().starts_with('-').then(|| indent(line));
    let (first, this) = (first_line(text), text.lines().nth(line.saturating_sub(1)));
    let (Some(first), Some(this)) = (first.and_then(dash), this) else {
        return false;
    };
    let before: String = this.chars().take(column.saturating_sub(1)).collect();
    dash(this) == Some(first) && before.trim() == "-"
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn json_lines(text: &str, name: &str) -> Result<Vec<Draft>> {
    let lines = (1u64..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            if !line.trim_start().starts_with('{') {
                let column = line.len() - line.trim_start().len() + 1;
                return Err(wrong(name, number, column as u64, None, NO_OBJECT));
            }
            let draft = serde_json::from_str::<Draft>(line);
            draft.map(|d| d.standing_at(name, number)).map_err(|e| {
                let key = wrong_key(line);
                let message = match e.is_eof() {
                    true => UNFINISHED.to_owned(),
                    false if e.to_string().starts_with("trailing characters") => {
                        MORE_BEHIND.to_owned()
                    }
                    false => e.to_string(),
                };
                wrong(name, number, e.column() as u64, key, &message)
            })
        })
        .collect()
}

/// What is said of an object that goes on in the next line.
const UNFINISHED: &str = "the object does not end on this line; write one object a line, or a list of them: `[{…}, {…}]`";

/// What is said of a line that goes on behind its object.
const MORE_BEHIND: &str = "something stands behind the object; write one object a line, without a comma behind it, or a list of them: `[{…}, {…}]`";

/// What is said of a line that is no object, as of YAML behind JSON.
const NO_OBJECT: &str = "this file began with a JSON object, and has one object on each line, or it is a YAML list and begins with a dash: both are not mixed";

/// The key of a task in JSON whose value is none of its own.
fn wrong_key(line: &str) -> Option<&'static str> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    KEYS.into_iter().find(|key| {
        let alone = object.get(*key).map(|value| json!({ *key: value }));
        alone.is_some_and(|alone| serde_json::from_value::<Draft>(alone).is_err())
    })
}

#[cfg(test)]
mod tests;
