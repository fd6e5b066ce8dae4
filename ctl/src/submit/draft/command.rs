//! What is wrong with a command as it is written, before any machine tries it.

use orchestra_types::ShellCommand;

/// Why a command cannot be meant so, and what to write instead.
pub(super) fn fault(command: &ShellCommand) -> Option<(String, Option<String>)> {
    match command {
        ShellCommand::Line(line) if line.trim().is_empty() => Some(empty()),
        ShellCommand::Line(_) => None,
        ShellCommand::Argv(words) => match words.as_slice() {
            [] => Some(empty()),
            [program, ..] if program.is_empty() => Some(empty()),
            [line] if is_line(line) => Some(line_of_shell(line)),
            [_, ..] => None,
        },
    }
}

fn empty() -> (String, Option<String>) {
    ("is empty; say what the shell shall run".to_owned(), None)
}

/// A single word with blanks in it. A path may have some.
fn is_line(word: &str) -> bool {
    word.contains(char::is_whitespace) && !word.contains('/')
}

fn line_of_shell(line: &str) -> (String, Option<String>) {
    let why = format!(
        "`{line}` is one word, and behind `--` words are run as they are, without a shell: no program has that name"
    );
    let hint = "for a line of shell leave out the `--` and say `--agent shell`, in a file say `command: LINE`; \
                for a program and its arguments, give each as a word of its own";
    (why, Some(hint.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> ShellCommand {
        ShellCommand::Argv(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_line_of_shell_in_one_word_is_told_as_that() {
        for line in ["a; b", "cargo test", "echo hi | wc"] {
            let (why, hint) = fault(&words(&[line])).unwrap();
            assert!(why.starts_with(&format!("`{line}` is one word")), "{why}");
            assert!(hint.unwrap().contains("--agent shell"));
        }
    }

    #[test]
    fn what_may_be_a_program_is_left_to_the_machine_that_runs_it() {
        for good in [
            &["make"][..],
            &["cargo", "test --workspace"],
            &["./my tool"],
            &["/opt/My Tool/bin/run"],
        ] {
            assert_eq!(fault(&words(good)), None, "{good:?}");
        }
        let line = ShellCommand::Line("a; b".to_owned());
        assert_eq!(fault(&line), None);
    }
}
