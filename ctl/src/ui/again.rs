//! Commands that a person is told to type next, with the global options that were given: without
//! them they would ask another head.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::Subcommand;
use orchestra_types::shell;

use crate::cli::{CtlCommand, Global};

/// The options that choose the head and its configuration, as they are typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again(&'static str);

impl Again {
    /// Those that were given on the command line. What only the environment says, it says to the
    /// next command too.
    pub fn of(global: &Global, environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let said = [
            (
                "--state",
                "ORCHESTRA_STATE",
                global.state.as_deref().map(Path::as_os_str),
            ),
            (
                "--config",
                "ORCHESTRA_CONFIG",
                global.config.as_deref().map(Path::as_os_str),
            ),
            (
                "--head",
                "ORCHESTRA_HEAD",
                global.head.as_deref().map(OsStr::new),
            ),
        ];
        let options = said.into_iter().filter_map(|(option, variable, value)| {
            let value = value.filter(|v| environment(variable).as_deref() != Some(*v))?;
            Some((option, value))
        });
        Self::typed(options)
    }

    /// Those that choose a state directory and nothing else.
    pub fn in_state(state: &Path) -> Self {
        Self::typed([("--state", state.as_os_str())].into_iter())
    }

    fn typed<'v>(options: impl Iterator<Item = (&'static str, &'v OsStr)>) -> Self {
        let text: String = options
            .map(|(option, value)| format!(" {option} {}", shell::word(&value.to_string_lossy())))
            .collect();
        // Made once for each command line, so that whoever prints is still copied freely.
        Self(Box::leak(text.into_boxed_str()))
    }

    /// The options with a space before each, to stand behind the program.
    pub fn options(self) -> &'static str {
        self.0
    }

    /// `text` with the options in every `ctl COMMAND` that it names.
    pub fn spell(self, text: &str) -> Cow<'_, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::new();
        let mut rest = text;
        let mut before = None;
        while let Some(at) = rest.find("ctl ") {
            let (head, tail) = rest.split_at(at + "ctl".len());
            let before_ctl = rest[..at].chars().next_back().or(before);
            out.push_str(head);
            if before_ctl.is_none_or(may_stand_before) && names_command(tail) {
                out.push_str(self.0);
            }
            before = Some('l');
            rest = tail;
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

/// Not in `systemctl`, nor in a path that ends in `ctl`.
fn may_stand_before(c: char) -> bool {
    c.is_whitespace() || matches!(c, '`' | '(' | '"' | '\'' | '&' | ';')
}

/// Whether ` tasks --json` begins with a command.
fn names_command(after: &str) -> bool {
    let name: String = after
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_lowercase() || *c == '-')
        .collect();
    CtlCommand::has_subcommand(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(state: Option<&str>, head: Option<&str>) -> Global {
        Global {
            state: state.map(Into::into),
            head: head.map(Into::into),
            ..Global::default()
        }
    }

    #[test]
    fn every_command_of_a_hint_asks_the_same_head() {
        let again = Again::of(&given(Some("/s"), Some("h:7117")), |_| None);
        let spelled = again.spell("`ctl stop`, then (`ctl start`); ctl logs 1 -f && ctl diff 1");
        let all = "--state /s --head h:7117";
        assert_eq!(
            spelled,
            format!(
                "`ctl {all} stop`, then (`ctl {all} start`); ctl {all} logs 1 -f && ctl {all} diff 1"
            )
        );
    }

    #[test]
    fn words_that_are_no_command_stay() {
        let again = Again::of(&given(Some("/s"), None), |_| None);
        for text in [
            "ctl and head have different versions",
            "`systemctl start x`",
            "`ctl --version`",
            "ctl says so, ctl",
        ] {
            assert_eq!(again.spell(text), text);
        }
    }

    #[test]
    fn what_the_environment_says_is_not_repeated() {
        let environment = |name: &str| (name == "ORCHESTRA_STATE").then(|| OsString::from("/s"));
        let same = Again::of(&given(Some("/s"), None), environment);
        assert_eq!(same.spell("`ctl start`"), "`ctl start`");
        let other = Again::of(&given(Some("/t"), None), environment);
        assert_eq!(other.spell("`ctl start`"), "`ctl --state /t start`");
    }

    #[test]
    fn a_value_is_one_word_of_a_shell() {
        let again = Again::of(&given(Some("/my state/it's"), None), |_| None);
        assert_eq!(again.options(), r" --state '/my state/it'\''s'");
        assert_eq!(
            Again::in_state(Path::new("/tmp/a")).options(),
            " --state /tmp/a"
        );
    }
}
