//! What is wrong with the command line: clap's text, which repeats what was typed.

use super::{
    escape::block,
    style::{Line, Style},
};

/// What clap begins with.
const ERROR: &str = "error: ";
/// Words with which clap begins a line of its own.
const TITLES: [&str; 2] = ["Usage:", "tip:"];

/// The lines of clap's `text`. An argument may be anything, such as a name that a script has found.
pub fn lines(text: &str) -> Vec<Line> {
    let text = block(text.trim_end());
    text.lines().map(one).collect()
}

fn one(text: &str) -> Line {
    if let Some(rest) = text.strip_prefix(ERROR) {
        return Line::of(Style::Bad, ERROR).with(Style::Plain, rest);
    }
    let indent = text.len() - text.trim_start_matches(' ').len();
    let (indent, words) = text.split_at(indent);
    let title = TITLES.iter().find(|title| words.starts_with(**title));
    let (title, rest) = words.split_at(title.map_or(0, |title| title.len()));
    Line::of(Style::Plain, indent)
        .with(Style::Active, title)
        .with(Style::Plain, rest)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{cli::Cli, ui::escape};

    fn said(words: &[&str]) -> String {
        let error = Cli::try_parse_from(words).unwrap_err();
        let lines = lines(&error.render().to_string());
        let lines = lines.iter().map(|line| line.render(false));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn nothing_that_was_typed_steers_the_terminal() {
        let hostile = "x\u{9b}31m\u{202e}txt\u{85}\u{7}";
        for words in [
            &["ctl", "show", hostile][..],
            &["ctl", hostile],
            &["ctl", "show", "1", hostile],
            &["ctl", "tasks", "--status", hostile],
            &["ctl", "add", "x", &format!("--{hostile}")],
        ] {
            let said = said(words);
            assert!(said.starts_with("error: "), "{said:?}");
            assert!(said.contains("\\x9b31m\\u{202e}txt\\x85"), "{said:?}");
            let clean = escape::block(&said);
            assert!(matches!(clean, std::borrow::Cow::Borrowed(_)), "{said:?}");
        }
    }

    #[test]
    fn the_text_stays_as_it_is_and_its_titles_are_coloured() {
        let text = "error: unrecognized subcommand 'taks'\n\n  tip: a similar subcommand exists: \
                    'tasks'\n\nUsage: ctl [OPTIONS] [COMMAND]\n";
        let plain: Vec<String> = lines(text).iter().map(|l| l.render(false)).collect();
        assert_eq!(plain.join("\n"), text.trim_end());
        let coloured: Vec<String> = lines(text).iter().map(|l| l.render(true)).collect();
        assert_eq!(coloured[4], "\x1b[36mUsage:\x1b[0m ctl [OPTIONS] [COMMAND]");
    }
}
