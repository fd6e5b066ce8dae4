//! `ctl diff --stat`: the changed files with their lines, and all of them together.

use orchestra_types::TaskId;
use serde::Serialize;

use crate::{
    json::manifest::{Changes, File, Files},
    ui::{
        changes,
        style::{Line, Style},
    },
};

/// `ctl diff --stat --json`.
#[derive(Debug, Serialize)]
pub struct Stat {
    id: TaskId,
    attempt: u32,
    files: Vec<File>,
    changes: Changes,
    warnings: Vec<String>,
}

impl Stat {
    /// The summary of the files of an attempt.
    pub fn of(files: Files) -> Self {
        let sum =
            |lines: fn(&File) -> Option<u64>| files.files.iter().filter_map(lines).sum::<u64>();
        let changes = Changes {
            files: files.files.len() as u64,
            lines_added: sum(|file| file.lines_added),
            lines_removed: sum(|file| file.lines_removed),
            warnings: files.warnings.len() as u64,
        };
        Self {
            id: files.id,
            attempt: files.attempt,
            files: files.files,
            changes,
            warnings: files.warnings,
        }
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What could not be recorded.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A line for each file, then one for all.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = changes::lines(&self.files, usize::MAX);
        let all = format!("  {}", changes::summary(&self.changes));
        lines.push(Line::of(Style::Dim, all));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines_added: Option<u64>, lines_removed: Option<u64>) -> File {
        File {
            path: path.into(),
            change: "modified",
            renamed_from: None,
            path_quoted: None,
            renamed_from_quoted: None,
            size: 1,
            mode: "100644".into(),
            sha256: None,
            lines_added,
            lines_removed,
            binary: lines_added.is_none(),
        }
    }

    #[test]
    fn each_file_has_its_lines_and_the_last_line_is_the_sum() {
        let stat = Stat::of(Files {
            id: TaskId(1),
            attempt: 1,
            interim_at: None,
            files: vec![
                file("README.md", Some(3), Some(0)),
                file("src/a.rs", Some(10), Some(4)),
                file("x.png", None, None),
            ],
            warnings: Vec::new(),
        });
        let shown: Vec<String> = stat.lines().iter().map(|l| l.render(false)).collect();
        assert_eq!(
            shown,
            [
                "  M README.md  +3",
                "  M src/a.rs   +10  −4",
                "  M x.png      binary",
                "  3 files, +13 −4",
            ]
        );
    }
}
