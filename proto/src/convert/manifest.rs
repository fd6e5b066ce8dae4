//! Manifests.

use orchestra_types::{FileChange, Manifest, ManifestEntry, ManifestSummary, limits};

use super::{Refused, Result, digest};
use crate::v1;

impl TryFrom<v1::Manifest> for Manifest {
    type Error = Refused;

    fn try_from(wire: v1::Manifest) -> Result<Self> {
        if wire.entries.len() > limits::MANIFEST_ENTRIES_MAX {
            return Err(Refused::new("manifest", "has more than 200,000 entries"));
        }
        let entries = wire.entries.into_iter().map(entry).collect::<Result<_>>()?;
        Ok(Self {
            entries,
            warnings: wire.warnings,
        })
    }
}

impl From<Manifest> for v1::Manifest {
    fn from(manifest: Manifest) -> Self {
        let entries = manifest.entries.into_iter().map(Into::into).collect();
        Self {
            entries,
            warnings: manifest.warnings,
            interim_at_ms: None,
        }
    }
}

impl From<ManifestEntry> for v1::ManifestEntry {
    fn from(entry: ManifestEntry) -> Self {
        let change = entry.change.as_str().to_owned();
        let renamed_from = match entry.change {
            FileChange::Renamed { from } => from,
            FileChange::Added
            | FileChange::Modified
            | FileChange::Deleted
            | FileChange::ModeChanged => String::new(),
        };
        Self {
            path: entry.path,
            path_quoted: entry.path_quoted.unwrap_or_default(),
            renamed_from_quoted: entry.renamed_from_quoted.unwrap_or_default(),
            change,
            renamed_from,
            size: entry.size,
            mode: entry.mode,
            sha256: entry.sha256.map(|d| d.0.to_vec()).unwrap_or_default(),
            lines_added: entry.lines_added,
            lines_removed: entry.lines_removed,
            binary: entry.binary,
        }
    }
}

impl From<ManifestSummary> for v1::ManifestSummary {
    fn from(s: ManifestSummary) -> Self {
        Self {
            files: s.files,
            lines_added: s.lines_added,
            lines_removed: s.lines_removed,
            warnings: s.warnings,
        }
    }
}

impl From<v1::ManifestSummary> for ManifestSummary {
    fn from(s: v1::ManifestSummary) -> Self {
        Self {
            files: s.files,
            lines_added: s.lines_added,
            lines_removed: s.lines_removed,
            warnings: s.warnings,
        }
    }
}

fn entry(wire: v1::ManifestEntry) -> Result<ManifestEntry> {
    let change = match wire.change.as_str() {
        "added" => FileChange::Added,
        "modified" => FileChange::Modified,
        "deleted" => FileChange::Deleted,
        "renamed" => FileChange::Renamed {
            from: wire.renamed_from,
        },
        "mode_changed" => FileChange::ModeChanged,
        _ => {
            return Err(Refused::new(
                "manifest",
                "an entry has an unknown kind of change",
            ));
        }
    };
    let sha256 = match wire.sha256.as_slice() {
        [] => None,
        bytes => Some(digest("manifest", bytes)?),
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(ManifestEntry {
        path: wire.path,
        path_quoted: some(wire.path_quoted),
        renamed_from_quoted: some(wire.renamed_from_quoted),
        change,
        size: wire.size,
        mode: wire.mode,
        sha256,
        lines_added: wire.lines_added,
        lines_removed: wire.lines_removed,
        binary: wire.binary,
    })
}
