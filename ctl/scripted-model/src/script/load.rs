//! Reads scripts and refuses those that cannot work.

use std::{fs, io, path::PathBuf};

use super::{BUILTIN_NAMES, Script, builtin};

/// Why a script could not be had.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not a script.
    Parse(String),
    /// A rule cannot work.
    Rule {
        /// Its name or number.
        rule: String,
        /// Why.
        problem: &'static str,
    },
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { path, .. } => write!(
                f,
                "failed to read the script `{}`; built-in scripts are {}",
                path.display(),
                BUILTIN_NAMES.join(", ")
            ),
            Self::Parse(problem) => write!(f, "failed to understand the script: {problem}"),
            Self::Rule { rule, problem } => write!(f, "rule {rule} cannot work: {problem}"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Parse(_) | Self::Rule { .. } => None,
        }
    }
}

/// The built-in script of that name, else the script in that file.
pub fn load(name_or_file: &str) -> Result<Script, LoadError> {
    if let Some(script) = builtin(name_or_file) {
        return Ok(script);
    }
    let text = fs::read_to_string(name_or_file).map_err(|source| LoadError::Read {
        path: name_or_file.into(),
        source,
    })?;
    parse(&text)
}

/// The script that a YAML or JSON text says.
pub fn parse(text: &str) -> Result<Script, LoadError> {
    let script: Script =
        serde_saphyr::from_str(text).map_err(|error| LoadError::Parse(error.to_string()))?;
    check(&script)?;
    Ok(script)
}

fn check(script: &Script) -> Result<(), LoadError> {
    for (index, rule) in script.rules.iter().enumerate() {
        let problem = match rule.steps.split_last() {
            None if rule.trouble.is_none() => Some("it has neither steps nor trouble"),
            None => None,
            Some((_, before)) if before.iter().any(|step| step.actions().next().is_none()) => {
                Some("a step without a tool ends the turn, so only the last step may have none")
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            let rule = if rule.name.is_empty() {
                format!("number {}", index + 1)
            } else {
                format!("`{}`", rule.name)
            };
            return Err(LoadError::Rule { rule, problem });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Action;

    #[test]
    fn a_script_may_be_yaml_or_json() {
        let yaml = parse(
            "rules:\n- when: {prompt: hi, api: chat}\n  trouble: 2x529\n  steps:\n  - tool: {bash: \
             {command: ls}}\n  - say: done\n",
        )
        .expect("a good script");
        assert!(matches!(
            yaml.rules[0].steps[0].tool,
            Some(Action::Bash { .. })
        ));
        let json = r#"{"rules":[{"trouble":429,"steps":[{"say":"x"}]}]}"#;
        parse(json).expect("JSON is YAML");
    }

    #[test]
    fn a_step_that_can_never_be_reached_is_refused() {
        let error = parse("rules:\n- name: r\n  steps:\n  - say: a\n  - say: b\n")
            .expect_err("the second step is out of reach");
        assert!(error.to_string().contains("rule `r`"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(matches!(
            parse("rules: []\nruels: []\n"),
            Err(LoadError::Parse(_))
        ));
    }

    #[test]
    fn every_built_in_script_can_work() {
        for name in BUILTIN_NAMES {
            check(&builtin(name).expect("it is built in")).expect("it can work");
        }
    }
}
