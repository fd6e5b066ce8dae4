//! Which backup a head comes from, kept beside its store: whoever asks for a task that came after the backup
//! shall not hear that it has ended. A backup does not take it along, so each restore says its own.

use std::{fs, io, path::Path};

use anyhow::Context;
use orchestra_config::durable::{self, Access};
use orchestra_types::Timestamp;
use serde::{Deserialize, Serialize};

const FILE: &str = "restored.json";

/// Where the state of a head comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// When it was put in place.
    pub at: Timestamp,
    /// When its backup was begun.
    pub backup: Timestamp,
}

impl Origin {
    /// Notes it in a head's directory.
    pub(super) fn write(self, head: &Path) -> anyhow::Result<()> {
        let path = head.join(FILE);
        let bytes = serde_json::to_vec(&self)?;
        durable::write(&path, &bytes, Access::Private)
            .with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// None where the head comes from no backup. It serves without it, too: only words hang on it.
    #[must_use]
    pub fn read(head: &Path) -> Option<Self> {
        let path = head.join(FILE);
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(origin) => Some(origin),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, "`{path}` cannot be read: nobody is told which backup this head comes from");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_what_is_not_there_or_damaged_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Origin::read(dir.path()), None);
        let origin = Origin {
            at: Timestamp(7),
            backup: Timestamp(3),
        };
        origin.write(dir.path()).unwrap();
        assert_eq!(Origin::read(dir.path()), Some(origin));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Origin::read(dir.path()), None);
    }
}
