//! The files that an attempt changed.

use orchestra_proto::v1;
use orchestra_types::{FileChange, Manifest, ManifestEntry, ManifestSummary, TaskId};
use serde::Serialize;

use super::time::Time;
use crate::error::Result;

/// `ctl files --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Files {
    /// The task.
    pub id: TaskId,
    /// Which attempt changed them.
    pub attempt: u32,
    /// When they were looked at, while the attempt runs; the files may be others since.
    pub interim_at: Option<Time>,
    /// The files, sorted by path.
    pub files: Vec<File>,
    /// What could not be recorded.
    pub warnings: Vec<String>,
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct File {
    /// Path below the workspace; bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    /// The path as git quotes it, where it is not UTF-8.
    pub path_quoted: Option<String>,
    /// `added`, `modified`, `deleted`, `renamed`, `mode_changed`.
    pub change: &'static str,
    /// The name that a renamed file had.
    pub renamed_from: Option<String>,
    /// The same as git quotes it, where it is not UTF-8.
    pub renamed_from_quoted: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Git file mode in octal, as `100644`.
    pub mode: String,
    /// SHA-256 of the content, in hex.
    pub sha256: Option<String>,
    /// Lines added.
    pub lines_added: Option<u64>,
    /// Lines removed.
    pub lines_removed: Option<u64>,
    /// Whether the content is binary.
    pub binary: bool,
}

/// Counts of changed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Changed files.
    pub files: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// What could not be recorded, and what is beside the result.
    pub warnings: u64,
}

impl From<ManifestSummary> for Changes {
    fn from(s: ManifestSummary) -> Self {
        Self {
            files: s.files,
            lines_added: s.lines_added,
            lines_removed: s.lines_removed,
            warnings: s.warnings,
        }
    }
}

impl From<ManifestEntry> for File {
    fn from(entry: ManifestEntry) -> Self {
        let change = entry.change.as_str();
        let renamed_from = match entry.change {
            FileChange::Renamed { from } => Some(from),
            FileChange::Added
            | FileChange::Modified
            | FileChange::Deleted
            | FileChange::ModeChanged => None,
        };
        Self {
            path: entry.path,
            path_quoted: entry.path_quoted,
            change,
            renamed_from,
            renamed_from_quoted: entry.renamed_from_quoted,
            size: entry.size,
            mode: format!("{:06o}", entry.mode),
            sha256: entry.sha256.map(|d| d.to_string()),
            lines_added: entry.lines_added,
            lines_removed: entry.lines_removed,
            binary: entry.binary,
        }
    }
}

/// Reads the head's manifest.
pub fn files(id: TaskId, attempt: u32, wire: v1::Manifest) -> Result<Files> {
    let interim_at = wire.interim_at_ms.map(Time::from_ms);
    let manifest = Manifest::try_from(wire).map_err(super::refused)?;
    Ok(Files {
        id,
        attempt,
        interim_at,
        files: manifest.entries.into_iter().map(File::from).collect(),
        warnings: manifest.warnings,
    })
}
