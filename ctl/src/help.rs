//! Texts below the options of a command, as clap is to wrap them.

use clap::Command;

/// The command and those below it, with paragraphs that are one line each. In the source they have lines
/// of their own, and clap wraps each of those by itself: on a narrower terminal each left a stump.
pub fn flowing(command: Command) -> Command {
    let text = command.get_after_help().map(ToString::to_string);
    let command = match text {
        Some(text) => command.after_help(paragraphs(&text)),
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// The text with the lines of each paragraph joined. What is indented is an example or a list, and
/// what ends with a colon is its heading: they stay as they are.
fn paragraphs(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut before = "";
    for line in text.lines() {
        if !joined.is_empty() {
            joined.push(if goes_on(before, line) { ' ' } else { '\n' });
        }
        joined.push_str(line);
        before = line;
    }
    joined
}

fn goes_on(before: &str, line: &str) -> bool {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(char::is_whitespace);
    is_prose(before) && is_prose(line) && !before.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn lines_of_a_paragraph_are_joined_and_examples_are_not() {
        let text = "One\ntwo.\n\nThree\nfour.\n\nExamples:\n  a\n  b\nFive\nsix.";
        let joined = "One two.\n\nThree four.\n\nExamples:\n  a\n  b\nFive six.";
        assert_eq!(paragraphs(text), joined);
    }

    #[test]
    fn no_paragraph_of_a_help_has_a_short_line_in_its_middle() {
        fn check(command: &mut Command, width: usize) {
            let help = command.render_long_help().to_string();
            let lines: Vec<&str> = help.lines().collect();
            for pair in lines.windows(2).filter(|pair| goes_on(pair[0], pair[1])) {
                let next = pair[1].split_whitespace().next().unwrap_or_default();
                let room = width.saturating_sub(pair[0].chars().count());
                assert!(
                    next.chars().count() >= room,
                    "{}: {pair:?}",
                    command.get_name()
                );
            }
            for below in command.get_subcommands_mut() {
                check(below, width);
            }
        }
        for width in [60, 80, 100] {
            let mut command = cli::command().term_width(width);
            command.build();
            check(&mut command, width);
        }
    }
}
