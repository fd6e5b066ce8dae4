//! Lines that are longer than the terminal is wide: they go on below with an indent, so that what
//! belongs together is seen. A word is never broken: paths and ids are there to be copied.

use std::ops::Range;

use super::{
    style::{Line, Style},
    width::{columns, head},
};

/// Between the items of a line.
const BETWEEN: &str = " · ";

/// Where a line is broken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At spaces.
    Words,
    /// At ` · `, which goes then; at spaces where an item alone is too long.
    Items,
}

/// How wide the first line is and how wide those after it are, without their indent.
#[derive(Clone, Copy, Debug)]
struct Room {
    first: usize,
    rest: usize,
    /// Columns of the first line that stay together: a label and its value.
    label: usize,
}

impl Line {
    /// The line in as many lines as it takes; `width` is the terminal's, none where there is none.
    pub fn wrapped(&self, width: Option<usize>, indent: usize, at: At) -> Vec<Self> {
        let text: String = self.0.iter().map(|span| span.text.as_str()).collect();
        let width = width.unwrap_or(usize::MAX);
        if columns(&text) <= width {
            return vec![self.clone()];
        }
        let indent = indent.min(width / 2);
        let room = Room {
            first: width,
            rest: width - indent,
            label: indent,
        };
        let ranges = match at {
            At::Words => words(&text, 0..text.len(), room),
            At::Items => items(&text, room),
        };
        let below = Self::of(Style::Plain, " ".repeat(indent));
        let lines = ranges.into_iter().enumerate().map(|(nth, range)| {
            let start = if nth == 0 {
                Self::default()
            } else {
                below.clone()
            };
            self.part(range)
                .0
                .into_iter()
                .fold(start, |line, span| line.with(span.style, span.text))
        });
        lines.collect()
    }

    /// The spans of a range of the text.
    fn part(&self, range: Range<usize>) -> Self {
        let mut at = 0;
        let mut part = Self::default();
        for span in &self.0 {
            let start = range.start.clamp(at, at + span.text.len()) - at;
            let end = range.end.clamp(at, at + span.text.len()) - at;
            part = part.with(span.style, &span.text[start..end]);
            at += span.text.len();
        }
        part
    }
}

/// As many items in each line as fit.
fn items(text: &str, room: Room) -> Vec<Range<usize>> {
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for item in text.split(BETWEEN) {
        let item_range = start..start + item.len();
        start = item_range.end + BETWEEN.len();
        let max = if lines.len() <= 1 {
            room.first
        } else {
            room.rest
        };
        match lines.last_mut() {
            Some(line) if columns(&text[line.start..item_range.end]) <= max => {
                line.end = item_range.end;
            }
            Some(_) | None => lines.push(item_range),
        }
    }
    let of_line = |(nth, line): (usize, Range<usize>)| {
        let room = if nth == 0 { room } else { room.below() };
        words(text, line, room)
    };
    lines.into_iter().enumerate().flat_map(of_line).collect()
}

/// As many words of a range in each line as fit, and at least one.
fn words(text: &str, range: Range<usize>, room: Room) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = range.start;
    let mut room = room;
    while let Some((end, next)) = cut(&text[start..range.end], room) {
        lines.push(start..start + end);
        start += next;
        room = room.below();
    }
    lines.push(start..range.end);
    lines
}

impl Room {
    fn below(self) -> Self {
        Self {
            first: self.rest,
            label: 0,
            ..self
        }
    }
}

/// Where the first line of `text` ends and the next one starts; none where all of it is one line.
fn cut(text: &str, room: Room) -> Option<(usize, usize)> {
    if columns(text) <= room.first {
        return None;
    }
    let fits = head(text, room.first).len();
    let blank = text.len() - text.trim_start().len();
    let label = head(text, room.label).len().max(blank);
    let spaces = || {
        let spaces = text.char_indices().filter(|(_, c)| *c == ' ');
        spaces.map(|(at, _)| at).filter(|at| *at > label)
    };
    let end = spaces()
        .take_while(|at| *at <= fits)
        .last()
        .or_else(|| spaces().next())?;
    let after = text[end..].trim_start();
    (!after.is_empty()).then(|| (text[..end].trim_end().len(), text.len() - after.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &Line, width: usize, indent: usize, at: At) -> Vec<String> {
        let lines = line.wrapped(Some(width), indent, at);
        lines.iter().map(|line| line.render(false)).collect()
    }

    #[test]
    fn a_long_line_goes_on_below_its_value() {
        let line =
            Line::of(Style::Dim, "  reason    ").with(Style::Plain, "it was not logged in there");
        assert_eq!(
            shown(&line, 24, 12, At::Words),
            [
                "  reason    it was not",
                "            logged in",
                "            there"
            ]
        );
        assert_eq!(shown(&line, 80, 12, At::Words).len(), 1);
        assert_eq!(line.wrapped(None, 12, At::Words), [line]);
    }

    #[test]
    fn items_stay_whole_and_styles_too() {
        let line = Line::of(Style::Dim, "tasks ")
            .with(Style::Active, "● 2 running")
            .with(Style::Dim, " · ")
            .with(Style::Good, "✓ 13 succeeded")
            .with(Style::Dim, " · ")
            .with(Style::Bad, "✗ 1 failed");
        assert_eq!(
            shown(&line, 22, 6, At::Items),
            [
                "tasks ● 2 running",
                "      ✓ 13 succeeded",
                "      ✗ 1 failed"
            ]
        );
        let second = &line.wrapped(Some(22), 6, At::Items)[1];
        assert_eq!(second.render(true), "      \x1b[32m✓ 13 succeeded\x1b[0m");
    }

    #[test]
    fn no_word_is_broken_or_lost() {
        let line = Line::of(
            Style::Plain,
            "  state  /a/very/long/path/of/it and 世界 · more words",
        );
        for width in 20..60 {
            for at in [At::Words, At::Items] {
                let shown = shown(&line, width, 9, at);
                let words = |text: &str| {
                    let words = text.split_whitespace().filter(|w| *w != "·");
                    words.map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!(words(&shown.join(" ")), words(&line.render(false)));
                let long = shown.iter().filter(|l| columns(l) > width);
                assert!(
                    long.clone().all(|l| l.contains("/path/")),
                    "{width}: {shown:?}"
                );
            }
        }
        assert_eq!(
            shown(&line, 20, 9, At::Words)[0],
            "  state  /a/very/long/path/of/it"
        );
    }
}
