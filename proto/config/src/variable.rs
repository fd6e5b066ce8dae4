//! Variables of the environment that stand for an option which is not given.

use std::ffi::{OsStr, OsString};

/// An option, its variable, and what that may be.
const VARIABLES: [(&str, &str, &str); 5] = [
    ("--state", "ORCHESTRA_STATE", "a directory"),
    ("--config", "ORCHESTRA_CONFIG", "a file"),
    ("--head", "ORCHESTRA_HEAD", "the head, as HOST:PORT,"),
    ("--stop-within", "ORCHESTRA_STOP_WITHIN", "a time, as 30s,"),
    ("--parent", "ORCHESTRA_TASK", "a task"),
];

/// What is wrong where the value of an option, which a message calls as `--state <DIR>`, is refused although
/// the `words` of the command line do not give it: its variable is set and empty. It is not taken for one that
/// is not set: a script whose variable is empty would go to another cluster than it means.
pub fn empty_variable(
    option: &str,
    words: &[OsString],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let option = option.split([' ', '=']).next()?;
    let (option, name, what) = VARIABLES.into_iter().find(|(known, ..)| *known == option)?;
    let gives = |word: &OsStr| {
        let rest = word.to_str().and_then(|word| word.strip_prefix(option));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if words.iter().any(|word| gives(word)) || !variable(name)?.is_empty() {
        return None;
    }
    Some(format!(
        "{name} is set and empty\n\n  tip: name {what} in it, or take it away: `unset {name}`\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_told_that_is_empty_and_stands_for_what_nobody_gave() {
        let says = |option: &str, line: &str, value: Option<&str>| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            empty_variable(option, &words, |name| {
                assert!(name.starts_with("ORCHESTRA_"));
                value.map(Into::into)
            })
        };
        let told = says("--state <DIR>", "ctl tasks", Some("")).unwrap();
        assert!(told.starts_with("ORCHESTRA_STATE is set and empty\n"));
        assert!(told.contains("`unset ORCHESTRA_STATE`"), "{told}");
        assert!(says("--stop-within <TIME>", "ctl start", Some("")).is_some());
        for line in ["ctl --state x tasks", "ctl tasks --state="] {
            assert_eq!(says("--state <DIR>", line, Some("")), None, "{line}");
        }
        assert_eq!(says("--state <DIR>", "ctl tasks", Some("/s")), None);
        assert_eq!(says("--state <DIR>", "ctl tasks", None), None);
        assert_eq!(says("--label <KEY=VALUE>", "ctl tasks", Some("")), None);
    }
}
