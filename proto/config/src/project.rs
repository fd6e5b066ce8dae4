//! `.orchestra.yaml` at the top of a project: what its tasks need of the place that they work in.

use std::{fs, io, path::Path, time::Duration};

use orchestra_types::limits;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::load::{Error, read, read_text};

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
    read_text(&bytes, &path).map(Some)
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
    let command = String::deserialize(d)?;
    if command.len() > limits::SET_UP_COMMAND_BYTES_MAX || command.contains('\0') {
        return Err(D::Error::custom("must be at most 16 KiB, without NUL"));
    }
    Ok(command)
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
        read_text(text.as_bytes(), Path::new(PROJECT_FILE)).map_err(|e| e.to_string())
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
