//! Task files: a YAML list, or JSON lines. The schema is documented in `docs/task-file.md`.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use orchestra_types::limits;
use serde_json::json;
use serde_saphyr::Spanned;

use super::draft::{Draft, KEYS};
use crate::{
    error::{Error, OrFailed, Result},
    ui::suggest::did_you_mean,
};

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
    let options = serde_saphyr::options! { with_snippet: false };
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
            let draft = serde_json::from_str::<Draft>(line);
            draft.map(|d| d.standing_at(name, number)).map_err(|e| {
                let key = wrong_key(line);
                let message = match (e.is_eof(), line.trim_start().starts_with('{')) {
                    (_, false) => NO_OBJECT.to_owned(),
                    (true, true) => UNFINISHED.to_owned(),
                    (false, true) if e.to_string().starts_with("trailing characters") => {
                        MORE_BEHIND.to_owned()
                    }
                    (false, true) => e.to_string(),
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

fn wrong(name: &str, line: u64, column: u64, key: Option<&str>, message: &str) -> Error {
    // The place stands in front, so it need not stand at the end as well.
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = in_our_words(message, key);
    Error::failed(format!("{name}:{line}:{column}: {message}"))
        .hint("docs/task-file.md has every key and examples")
}

/// What the parsers begin a message with that is about the kind of a value.
const KINDS: [&str; 10] = [
    "invalid type",
    "invalid value",
    "invalid u32",
    "invalid boolean",
    "expected string scalar",
    "expected sequence start",
    "expected mapping start",
    "expected value",
    "externally tagged enum",
    "cannot deserialize null",
];

/// What the parsers say, for a person who has never heard of them. An unknown key comes with the
/// nearest one that there is, and a value with the key that it is of and what is allowed there.
fn in_our_words(message: &str, key: Option<&str>) -> String {
    let quoted = message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("unknown field") {
        return format!("unknown key `{quoted}`{}", did_you_mean(quoted, KEYS));
    }
    if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
        return twice(rest.split(',').next().unwrap_or_default());
    }
    if message.contains("from_str_multiple") {
        return "a second YAML document begins here, and a file is one list: take out the `---` between \
                the tasks"
            .to_owned();
    }
    if message.starts_with("duplicate field") {
        return twice(quoted);
    }
    if message.contains("found a tab") || message.contains("tabs") {
        return "a tab stands here; YAML indents with spaces".to_owned();
    }
    let allowed = key.and_then(|key| Some((key, allowed(key)?)));
    let is_kind = KINDS.iter().any(|kind| message.starts_with(kind));
    match (allowed, message) {
        (Some((key, allowed)), _) if message.starts_with("unknown variant") => {
            format!("`{key}` is {allowed}, and not `{quoted}`")
        }
        (Some((key, allowed)), _) if is_kind => format!("`{key}` is {allowed}"),
        (Some(_), _) if message.starts_with('`') && KEYS.contains(&quoted) => message.to_owned(),
        (Some((key, _)), _) if quoted != key => format!("`{key}`: {message}"),
        (_, "expected sequence start") => "a list is expected here".to_owned(),
        (_, "expected mapping start") => "`key: value` is expected here".to_owned(),
        (_, other) => other.to_owned(),
    }
}

/// What may stand behind a key.
fn allowed(key: &str) -> Option<&'static str> {
    Some(match key {
        "description" | "name" | "model" => "a text",
        "priority" => "high, normal or low",
        "agent" | "runner" => "the name of a runner, as claude",
        "fallback" => "a runner or a list of runners",
        "after" => "a task or a list of tasks",
        "on_dependency_failure" => "block, cancel or run",
        "at" => "a time, as +2h, \"18:30\" or \"2026-11-21 18:30\"",
        "every" => "6h, 1d or the like, or a time of day as \"18:30\"",
        "timeout" | "queue_timeout" | "stall_timeout" => "a duration, as 90s, 30m or 1h30m",
        "retries" => "a whole number, 0 to 100",
        "ports" => "a whole number, 0 to 16",
        "budget" => "a text as 200k-tokens,5usd,1h,3-attempts",
        "parent" => "a task, as task_001",
        "labels" | "require" | "requires" => "names with texts, as {area: docs}",
        "context" => "a list of files, as [notes.md]",
        "command" => "a text or a list of texts",
        "repo" => "a directory",
        "in_place" | "no_repo" | "apply" => "true or false",
        _ => return None,
    })
}

/// A key that stands twice; for the parser, its other name is the same.
fn twice(key: &str) -> String {
    let pairs = [("agent", "runner"), ("require", "requires")];
    if let Some((name, other)) = pairs.into_iter().find(|(name, _)| *name == key) {
        return format!(
            "`{name}` and `{other}` are the same key, and it stands here for the second time"
        );
    }
    format!("key `{key}` stands here for the second time")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orchestra_types::{Priority, ShellCommand};

    use super::*;

    fn error(text: &str) -> String {
        parse(text, "t").unwrap_err().to_string()
    }

    #[test]
    fn a_yaml_list_reads_with_every_key() {
        let text = "\
- name: plan
  description: |
    Plan it.
    Then write it down.
  priority: high
  agent: claude
  model: opus
  timeout: 1h30m
  retries: 2
  labels: {area: docs}
  require: {gpu: 'yes'}
  context: [notes.md]
  in_place: true
  apply: false
- {command: [cargo, test], after: [plan, 3], runner: shell}
- {command: cargo test, after: task_001, repo: ../other}
";
        let drafts = parse(text, "t").unwrap();
        assert_eq!(drafts.len(), 3);
        assert_eq!(drafts[0].description, "Plan it.\nThen write it down.\n");
        assert_eq!(drafts[0].priority, Some(Priority::High));
        assert_eq!(drafts[0].timeout, Some(Duration::from_secs(5400)));
        assert_eq!(drafts[1].after, ["plan", "3"]);
        assert_eq!(
            drafts[1].command,
            Some(ShellCommand::Argv(vec!["cargo".into(), "test".into()]))
        );
        assert_eq!(drafts[1].agent.as_ref().unwrap().as_str(), "shell");
        assert_eq!(drafts[2].after, ["task_001"]);
    }

    #[test]
    fn json_lines_and_a_json_list_read_too() {
        let lines = "{\"description\":\"a\"}\n\n{\"description\":\"b\",\"after\":1}\n";
        assert_eq!(parse(lines, "t").unwrap()[1].after, ["1"]);
        assert_eq!(parse("[{\"description\": \"a\"}]", "t").unwrap().len(), 1);
    }

    #[test]
    fn a_byte_order_mark_may_stand_before_both() {
        for text in [
            "{\"description\":\"a\"}\n{\"description\":\"b\"}",
            "- description: a\n- description: b\n",
            "[{\"description\": \"a\"}, {\"description\": \"b\"}]",
        ] {
            assert_eq!(parse(&format!("\u{feff}{text}"), "t").unwrap().len(), 2);
        }
    }

    #[test]
    fn a_text_that_yaml_takes_for_a_truth_value_is_to_be_quoted() {
        assert_eq!(
            error("- {name: y, description: a}\n- description: b\n  after: y\n"),
            "t:3:10: `after`: `true`, `yes`, `y` or `on` without quotes is no text in YAML; quote it, as \"y\""
        );
        for (key, value) in [
            ("command", "true"),
            ("command", "[no]"),
            ("after", "[x, off]"),
            ("fallback", "y"),
        ] {
            let said = error(&format!("- description: a\n  {key}: {value}\n"));
            assert!(said.starts_with("t:2:"), "{said}");
            assert!(said.contains(&format!("`{key}`: `")), "{said}");
            assert!(said.contains("quote it, as \""), "{said}");
        }
        assert!(error("- command: [sleep, 5]\n").ends_with("quote it: \"5\""));
        assert_eq!(
            error("- command: {a: b}\n"),
            "t:1:12: `command` is a text or a list of texts"
        );
        let quoted = parse("- command: 'true'\n  after: 'y'\n", "t").unwrap();
        assert_eq!(quoted[0].after, ["y"]);
    }

    #[test]
    fn a_mistake_is_told_with_line_column_and_the_nearest_key() {
        assert_eq!(
            error("- description: a\n  prioritty: high\n"),
            "t:2:3: unknown key `prioritty`; did you mean `priority`?"
        );
        let json = error("{\"description\":\"a\"}\n{\"descripton\":\"b\"}");
        assert!(
            json.starts_with("t:2:")
                && json.ends_with("unknown key `descripton`; did you mean `description`?"),
            "{json}"
        );
        assert!(
            error("- description: a\n  priority: urgent\n").starts_with("t:2:"),
            "{}",
            error("- priority: urgent\n")
        );
        assert!(error("- description: a\n  timeout: soon\n").contains("30m"));
        assert!(error("- description: [").starts_with("t:"));
        assert!(error("- description: a\n  description: b\n").contains("t:2:3"));
    }

    #[test]
    fn what_the_parsers_say_is_said_in_our_words() {
        let yaml = error("- description: a\n  description: b\n");
        assert_eq!(
            yaml,
            "t:2:3: key `description` stands here for the second time"
        );
        let json = error("{\"description\":\"a\",\"description\":\"b\"}");
        assert!(
            json.ends_with("key `description` stands here for the second time"),
            "{json}"
        );
        let number = error("- description: a\n  retries: many\n");
        assert_eq!(number, "t:2:12: `retries` is a whole number, 0 to 100");
        let list =
            "t:1:1: a list of tasks is expected, each with a dash in front: `- description: …`";
        for text in [
            "tasks:\n  - a\n",
            "description: x\n",
            "description: [x\n  , y]\n",
        ] {
            assert_eq!(error(text), list);
        }
        let comment = error("# tasks\n---\ndescription: x\n");
        assert!(
            comment.starts_with("t:3:1: a list of tasks is expected"),
            "{comment}"
        );
        let pretty = error("{\n  \"description\": \"a\"\n}\n");
        assert!(pretty.contains("one object a line"), "{pretty}");
        for (first, second) in [("agent", "runner"), ("require", "requires")] {
            let value = if first == "agent" { "shell" } else { "{a: b}" };
            let both = error(&format!("- {first}: {value}\n  {second}: {value}\n"));
            let same = format!(": `{first}` and `{second}` are the same key");
            assert!(both.starts_with("t:") && both.contains(&same), "{both}");
        }
        for comma in [
            "{\"description\":\"a\"},\n{\"description\":\"b\"}\n",
            "{\"description\":\"a\"} {\"description\":\"b\"}\n",
        ] {
            let said = error(comma);
            assert!(
                said.contains("one object a line, without a comma"),
                "{said}"
            );
        }
        let mixed = error("{\"description\":\"a\"}\n- description: b\n");
        assert!(
            mixed.starts_with("t:2:") && mixed.ends_with("not mixed"),
            "{mixed}"
        );
        let second = error("- description: a\n---\n- description: b\n");
        assert!(
            second.starts_with("t:3:") && second.contains(": a second YAML document begins here"),
            "{second}"
        );
        assert_eq!(error("- do it\n"), "t:1:3: `key: value` is expected here");
        for before in ["- {name: a, command: \"true\"}\n", "- command: x\n"] {
            let second = error(&format!("{before}- do it\n"));
            assert_eq!(second, "t:2:3: `key: value` is expected here");
        }
        let of_key = error("- after:\n  - {a: b}\n");
        assert!(of_key.contains("`after` is a task"), "{of_key}");
    }

    #[test]
    fn a_value_of_another_kind_is_told_with_its_key_and_what_is_allowed_there() {
        // Words of the parsers' authors, which nobody else knows.
        let foreign = [
            "invalid",
            "expected ",
            "scalar",
            "sequence",
            "variant",
            "tagged",
            "deserialize",
            "integer",
            "boolean",
            "null",
            "u32",
        ];
        let check = |key: &str, text: &str| {
            let Err(error) = parse(text, "t") else {
                return;
            };
            let said = error.to_string();
            assert!(said.contains(&format!("`{key}`")), "{text} {said}");
            let own = said.replace(text, "");
            let word = foreign.iter().find(|word| own.contains(**word));
            assert!(word.is_none(), "{text} {said}");
        };
        for key in KEYS {
            assert!(allowed(key).is_some(), "{key}");
            for value in [
                "5", "-1", "1.5", "true", "text", "[1]", "[[1]]", "{a: b}", "{a: [b]}", "",
            ] {
                check(key, &format!("- {key}: {value}\n"));
            }
            for value in [
                "5",
                "-1",
                "1.5",
                "true",
                r#""text""#,
                "[[1]]",
                r#"{"a": [1]}"#,
                "null",
            ] {
                check(key, &format!("{{\"{key}\": {value}}}"));
            }
        }
        let said = |text| error(text);
        assert_eq!(
            said(r#"{"name": "a", "description": 5}"#),
            "t:1:30: `description` is a text"
        );
        assert_eq!(
            said("- description: a\n  priority: urgent\n"),
            "t:2:13: `priority` is high, normal or low, and not `urgent`"
        );
        assert_eq!(
            said("- description: a\n  labels:\n    a:\n      - b\n"),
            "t:4:7: `labels` is names with texts, as {area: docs}"
        );
    }

    #[test]
    fn each_task_knows_its_line() {
        let at = |text: &str| -> Vec<Option<String>> {
            let drafts = parse(text, "t").unwrap();
            drafts.into_iter().map(|draft| draft.at).collect()
        };
        let lines = [Some("t:1".to_owned()), Some("t:3".to_owned())];
        assert_eq!(at("- description: a\n\n- description: b\n"), lines);
        assert_eq!(
            at("{\"description\":\"a\"}\n\n{\"description\":\"b\"}"),
            lines
        );
    }

    #[test]
    fn the_list_of_keys_is_the_one_that_is_read() {
        let message = serde_json::from_str::<Draft>("{\"?\":1}")
            .unwrap_err()
            .to_string();
        let mut read: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        read.sort_unstable();
        let mut keys = KEYS;
        keys.sort_unstable();
        assert_eq!(read, keys);
        let page = include_str!("../../../docs/task-file.md");
        for key in KEYS {
            assert!(
                page.contains(&format!("`{key}`")),
                "docs/task-file.md lacks `{key}`"
            );
        }
    }

    #[test]
    fn the_examples_of_the_page_need_nothing_but_themselves() {
        let page = include_str!("../../../docs/task-file.md");
        let blocks = page.split("```").skip(1).step_by(2);
        let mut files = 0;
        for block in blocks {
            let (_, text) = block.split_once('\n').unwrap();
            let drafts = parse(text, "t").unwrap_or_else(|e| panic!("{e}\n{text}"));
            for after in super::super::order::resolve(&drafts).unwrap() {
                assert_eq!(after.ids, [], "a new cluster has no such task\n{text}");
            }
            for draft in &drafts {
                draft.spec(&orchestra_config::Config::default()).unwrap();
                assert_eq!(draft.parent, None, "{text}");
            }
            files += 1;
        }
        assert_eq!(files, 2);
    }

    #[test]
    fn a_file_without_tasks_is_a_mistake() {
        for text in ["", "[]", "# nothing\n", "  \n"] {
            assert_eq!(error(text), "t holds no tasks", "{text:?}");
        }
    }
}
