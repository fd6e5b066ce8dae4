//! The files that an attempt changed.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// How a file changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum FileChange {
    /// It is new.
    Added,
    /// Its content changed, perhaps its mode too.
    Modified,
    /// It is gone.
    Deleted,
    /// It has another name, perhaps other content.
    Renamed {
        /// The name it had.
        from: String,
    },
    /// Only its mode changed.
    ModeChanged,
}

impl FileChange {
    /// The name, as in `--json`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed { .. } => "renamed",
            Self::ModeChanged => "mode_changed",
        }
    }
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Path below the workspace, with `/`; bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    /// The path as git quotes it, where it is not UTF-8; none where `path` says it.
    pub path_quoted: Option<String>,
    /// The same of the name that a renamed file had.
    pub renamed_from_quoted: Option<String>,
    /// How it changed.
    #[serde(flatten)]
    pub change: FileChange,
    /// Size in bytes; 0 when deleted.
    pub size: u64,
    /// Git file mode, as 0o100644; 0 when deleted.
    pub mode: u32,
    /// SHA-256 of the content; none when deleted or not a regular file.
    pub sha256: Option<Digest>,
    /// Lines added; none for binary files and scans that have no earlier content.
    pub lines_added: Option<u64>,
    /// Lines removed; none for binary files and scans that have no earlier content.
    pub lines_removed: Option<u64>,
    /// Whether the content is binary.
    pub binary: bool,
}

/// The files that an attempt changed, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files.
    pub entries: Vec<ManifestEntry>,
    /// What could not be recorded, by name: one odd file never costs the rest. And what the agent left
    /// beside its result.
    pub warnings: Vec<String>,
}

impl Manifest {
    /// The counts of it.
    #[must_use]
    pub fn summary(&self) -> ManifestSummary {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        ManifestSummary {
            files: count(self.entries.len()),
            lines_added: self.entries.iter().filter_map(|e| e.lines_added).sum(),
            lines_removed: self.entries.iter().filter_map(|e| e.lines_removed).sum(),
            warnings: count(self.warnings.len()),
        }
    }
}

/// The counts of a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSummary {
    /// Changed files.
    pub files: u64,
    /// Lines added in text files.
    pub lines_added: u64,
    /// Lines removed in text files.
    pub lines_removed: u64,
    /// Warnings.
    pub warnings: u64,
}
