//! `.orchestra.yaml` at the top of a project: what its tasks need of the place that they work in.

use std::{fmt, fs, io, path::Path, time::Duration};

use orchestra_types::limits;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};

use crate::{
    load::{Error, read, read_text},
    message::key_at,
};

/// Its name.
pub const PROJECT_FILE: &str = ".orchestra.yaml";
/// Most patterns.
const PATTERNS_MAX: usize = 32;
/// How long a set-up command may run, if nobody says otherwise.
const SETUP_TIMEOUT: Duration = Duration::from_secs(600);

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectConfig {
    /// How a clone of it is made ready for an agent.
    pub setup: SetupConfig,
    /// How many ports of its own an attempt must have.
    #[serde(deserialize_with = "ports")]
    pub ports: Option<u32>,
}

/// `setup:`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetupConfig {
    /// Files that git ignores and that are copied from the checkout: paths, with `*` and `**`.
    #[serde(deserialize_with = "patterns")]
    pub copy: Vec<String>,
    /// Run by `sh -c` in the clone. Default: none.
    #[serde(deserialize_with = "command")]
    pub run: String,
    /// How long that may run. Default: 10m.
    #[serde(deserialize_with = "crate::value::duration")]
    pub timeout: Duration,
}

impl Default for SetupConfig {
    fn default() -> Self {
        Self {
            copy: Vec::new(),
            run: String::new(),
            timeout: SETUP_TIMEOUT,
        }
    }
}

/// The file of the project at `top`; none when there is none.
///
/// # Errors
/// When it cannot be read, is a link or something else than a file, or is not valid.
pub fn load_project(top: &Path) -> Result<Option<ProjectConfig>, Error> {
    let path = top.join(PROJECT_FILE);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            let source = io::Error::other("it is no regular file");
            return Err(Error::Read { path, source });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path, source }),
    }
    let bytes = read(&path)?;
    read_project(&bytes, &path).map(Some)
}

/// The keys, for messages.
const KEYS: [&str; 5] = ["setup", "copy", "run", "timeout", "ports"];

fn read_project(bytes: &[u8], path: &Path) -> Result<ProjectConfig, Error> {
    read_text(bytes, path).map_err(|error| with_key(error, &String::from_utf8_lossy(bytes)))
}

/// The error with the key whose value is wrong.
fn with_key(error: Error, text: &str) -> Error {
    let Error::Invalid {
        path,
        line,
        column,
        message,
    } = error
    else {
        return error;
    };
    let is_of_a_value = ![
        "unknown ",
        "key `",
        "a key ",
        "a second ",
        "a tab ",
        "this ",
    ]
    .iter()
    .any(|begin| message.starts_with(begin));
    let key = key_at(text, line, column, &KEYS).filter(|_| is_of_a_value);
    let message = match key {
        Some("ports") if message.contains(" is expected here") => {
            "`ports`: must be a whole number, 0 to 16".to_owned()
        }
        Some(key) => format!("`{key}`: {message}"),
        None => message,
    };
    Error::Invalid {
        path,
        line,
        column,
        message,
    }
}

fn patterns<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<String>::deserialize(d)?;
    if patterns.len() > PATTERNS_MAX {
        return Err(D::Error::custom("at most 32 patterns"));
    }
    match patterns.iter().all(|pattern| stays_below(pattern)) {
        true => Ok(patterns),
        false => Err(D::Error::custom(
            "must be paths below the project, without `..` and not in `.git`",
        )),
    }
}

fn stays_below(pattern: &str) -> bool {
    let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
    let is_plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    !pattern.chars().any(char::is_control) && pattern.split('/').all(is_plain)
}

fn command<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let command = d.deserialize_any(CommandText)?;
    if command.len() > limits::SET_UP_COMMAND_BYTES_MAX || command.contains('\0') {
        return Err(D::Error::custom("must be at most 16 KiB, without NUL"));
    }
    Ok(command)
}

/// A text, and nothing that YAML takes for something else: `run: 5` is a slip, not a command.
struct CommandText;

impl CommandText {
    fn refuse<E: serde::de::Error>(found: &str) -> E {
        E::custom(format!(
            "is a command, a text, and {found} without quotes is none; write \"{found}\" if it is meant"
        ))
    }
}

impl Visitor<'_> for CommandText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command, as a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, found: bool) -> Result<String, E> {
        Err(Self::refuse(&found.to_string()))
    }

    fn visit_i64<E: serde::de::Error>(self, found: i64) -> Result<String, E> {
        Err(Self::refuse(&found.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, found: u64) -> Result<String, E> {
        Err(Self::refuse(&found.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, found: f64) -> Result<String, E> {
        Err(Self::refuse(&found.to_string()))
    }
}

fn ports<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let ports = u32::deserialize(d)?;
    match ports {
        0..=limits::PORTS_MAX => Ok(Some(ports)),
        _ => Err(D::Error::custom("must be 0 to 16")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ProjectConfig, String> {
        read_project(text.as_bytes(), Path::new(PROJECT_FILE)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_project_says_what_its_tasks_need() {
        let text = "setup:\n  copy: [.env, 'config/*.local.yaml', certs/]\n  run: npm ci\n  timeout: 2m\nports: 3\n";
        let project = parse(text).unwrap();
        assert_eq!(
            project.setup.copy,
            [".env", "config/*.local.yaml", "certs/"]
        );
        assert_eq!(
            (project.setup.run.as_str(), project.ports),
            ("npm ci", Some(3))
        );
        assert_eq!(project.setup.timeout, Duration::from_secs(120));
        assert_eq!(parse("").unwrap(), ProjectConfig::default());
        assert_eq!(
            parse("setup: {run: make}").unwrap().setup.timeout,
            SETUP_TIMEOUT
        );
    }

    #[test]
    fn what_leaves_the_project_or_is_unknown_is_refused_with_its_place() {
        for pattern in [
            "../x",
            "/etc/passwd",
            "a/../b",
            ".git/config",
            "",
            "a//b",
            ".",
        ] {
            let refused = parse(&format!("setup:\n  copy: ['{pattern}']")).unwrap_err();
            assert!(
                refused.contains("below the project"),
                "{pattern}: {refused}"
            );
            assert!(refused.starts_with(".orchestra.yaml:2:"), "{refused}");
        }
        for (text, says) in [
            ("set_up: {}", "setup"),
            ("ports: 17", "0 to 16"),
            ("setup: {timeout: 0s}", "longer than zero"),
            (
                "setup: {run: 5}",
                ":1:14: `run`: is a command, a text, and 5 without quotes is none; write \"5\" if it is meant",
            ),
            ("setup: {run: 1.5}", "write \"1.5\""),
            ("setup: {run: true}", "write \"true\""),
            (
                "setup: {run: [a, b]}",
                ":1:9: `run`: a command, as a text is expected here",
            ),
            (
                "setup: {run: }",
                ":1:9: `run`: a command, as a text is expected here",
            ),
            (
                "setup: {copy: .env}",
                ":1:15: `copy`: a list is expected here",
            ),
            (
                "setup:\n  copy:\n    - [a]",
                ":3:7: `copy`: a text is expected here",
            ),
            (
                "setup: {timeout: 5}",
                ":1:18: `timeout`: `5` is not a duration",
            ),
            (
                "setup: 5",
                ":1:8: `setup`: `key: value` lines are expected here",
            ),
            (
                "ports: many",
                ":1:8: `ports`: must be a whole number, 0 to 16",
            ),
            (
                "ports: [1]",
                ":1:8: `ports`: must be a whole number, 0 to 16",
            ),
            (
                "ports: 1\nports: 2",
                ":2:1: key `ports` stands here for the second time",
            ),
            ("- a", ":1:1: `key: value` lines are expected here"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_project(dir.path()).unwrap(), None);
        fs::write(dir.path().join("other"), "ports: 1").unwrap();
        std::os::unix::fs::symlink("other", dir.path().join(PROJECT_FILE)).unwrap();
        assert!(load_project(dir.path()).is_err());
    }
}
