//! The part of a long text that is shown.

use super::{
    escape::block,
    style::{Line, Style},
    wrap::At,
};

/// Lines of a description or result that are shown.
const TEXT_LINES: usize = 40;
/// Where a text that is shown in part is whole.
pub const ALL_IN_JSON: &str = "--json has all of it";

/// Which lines of a long text are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// As of an answer.
    First,
    /// As of a program's output.
    Last,
}

/// The lines of a text, or one part of them with where it is whole.
pub fn text(text: &str, part: Part, width: Option<usize>, whole: &str) -> Vec<Line> {
    let shown = block(text.trim_end());
    let all: Vec<&str> = shown.lines().collect();
    let more = all.len().saturating_sub(TEXT_LINES);
    let of_those = match part {
        Part::First => &all[..all.len() - more],
        Part::Last => &all[more..],
    };
    let mut lines: Vec<Line> = of_those
        .iter()
        .flat_map(|l| {
            let line = Line::of(Style::Plain, format!("  {l}").trim_end());
            let indent = 2 + l.len() - l.trim_start_matches(' ').len();
            line.wrapped(width, indent, At::Words)
        })
        .collect();
    if more > 0 {
        let (at, which) = match part {
            Part::First => (lines.len(), "more"),
            Part::Last => (0, "earlier"),
        };
        let said = format!("  … {more} {which} lines ({whole})");
        lines.insert(at, Line::of(Style::Dim, said));
    }
    lines
}
