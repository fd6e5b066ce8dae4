//! The files that an attempt changed.

use std::borrow::Cow;

use super::{
    escape::{naming, path},
    style::{Line, Style},
    time::counted,
    width::{columns, pad},
};
use crate::json::manifest::{Changes, File};

/// Files that a summary names; the others are counted.
pub const NAMED_MAX: usize = 20;

/// `2 files, +12 −3, 1 warning`.
pub fn summary(changes: &Changes) -> String {
    let mut text = counted(changes.files, "file");
    if changes.lines_added > 0 || changes.lines_removed > 0 {
        text.push_str(&format!(
            ", +{} −{}",
            changes.lines_added, changes.lines_removed
        ));
    }
    if changes.warnings > 0 {
        text.push_str(&format!(", {}", counted(changes.warnings, "warning")));
    }
    text
}

/// One line for each of the first `max` files, and one for the rest.
pub fn lines(files: &[File], max: usize) -> Vec<Line> {
    let named = &files[..max.min(files.len())];
    let width = named
        .iter()
        .map(|f| columns(&name(f)))
        .max()
        .unwrap_or(0)
        .min(60);
    let mut lines: Vec<Line> = named.iter().map(|file| one(file, width)).collect();
    if files.len() > named.len() {
        let rest = counted((files.len() - named.len()) as u64, "more file");
        lines.push(Line::of(Style::Dim, format!("  … {rest}")));
    }
    lines
}

fn one(file: &File, width: usize) -> Line {
    let (letter, style) = match file.change {
        "added" => ("A", Style::Good),
        "deleted" => ("D", Style::Bad),
        "renamed" => ("R", Style::Active),
        "mode_changed" => ("X", Style::Active),
        _ => ("M", Style::Attention),
    };
    let line = Line::of(style, format!("  {letter} ")).with(Style::Plain, pad(&name(file), width));
    let line = match (file.binary, file.lines_added, file.lines_removed) {
        (true, _, _) => line.with(Style::Dim, "  binary"),
        (false, None, None) => line,
        (false, added, removed) => line
            .with(Style::Good, part("  +", added))
            .with(Style::Bad, part("  −", removed)),
    };
    trimmed(line)
}

fn part(sign: &str, count: Option<u64>) -> String {
    count
        .filter(|n| *n > 0)
        .map(|n| format!("{sign}{n}"))
        .unwrap_or_default()
}

fn trimmed(mut line: Line) -> Line {
    if let Some(last) = line.0.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
    line
}

fn name(file: &File) -> String {
    let now = quoted_or(file.path_quoted.as_deref(), &file.path);
    match &file.renamed_from {
        Some(from) => {
            let before = quoted_or(file.renamed_from_quoted.as_deref(), from);
            format!("{before} → {now}")
        }
        None => now.into_owned(),
    }
}

/// A name that came as git quotes it is shown as it came.
fn quoted_or<'a>(quoted: Option<&'a str>, name: &'a str) -> Cow<'a, str> {
    quoted.map_or_else(|| path(name), naming)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, change: &'static str) -> File {
        File {
            path: path.into(),
            path_quoted: None,
            change,
            renamed_from: None,
            renamed_from_quoted: None,
            size: 1,
            mode: "100644".into(),
            sha256: None,
            lines_added: Some(3),
            lines_removed: Some(0),
            binary: false,
        }
    }

    #[test]
    fn files_are_listed_with_letter_and_lines_and_the_rest_is_counted() {
        let renamed = File {
            renamed_from: Some("a\x1b[0m\t".into()),
            lines_removed: Some(1),
            ..file("b", "renamed")
        };
        let binary = File {
            binary: true,
            lines_added: None,
            ..file("x.png", "modified")
        };
        let odd = File {
            path_quoted: Some(r#""bad\376""#.into()),
            renamed_from: Some("bad\u{fffd}".into()),
            renamed_from_quoted: Some("\"\x1b[0m\\377\"".into()),
            ..file("bad\u{fffd}", "renamed")
        };
        let files = [
            file("README.md", "added"),
            renamed,
            binary,
            odd,
            file("z", "deleted"),
        ];
        let shown: Vec<String> = lines(&files, 4).iter().map(|l| l.render(false)).collect();
        assert_eq!(
            shown,
            [
                "  A README.md                  +3",
                "  R \"a\\x1b[0m\\t\" → b           +3  −1",
                "  M x.png                      binary",
                "  R \"\\x1b[0m\\377\" → \"bad\\376\"  +3",
                "  … 1 more file"
            ]
        );
    }
}
