//! Where things lie below the state directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::durable;

/// What git reads of it: keys are below. Only the directories themselves are named, since other programs
/// that know such files read them from within a workspace as well.
const IGNORE: &str = "# Orchestra's own: keys, the queue, workspaces. Git leaves it alone.\n/*\n";

/// The state directory. Everything that Orchestra keeps on a machine is below it.
///
/// ```text
/// STATE/orchestra.yaml          the configuration, optional
/// STATE/.gitignore              keeps git away from all of it
/// STATE/client/                 ctl's credentials and the head's address
///       endpoint  ca.pem  cert.pem  key.pem
/// STATE/head/                   the head's own
///       db/  blobs/  events/  context/  pki/  head.json  head.log  lock
/// STATE/worker/                 the local worker's own
///       id  pki/  spool  attempts/  workspaces/  cache/  worker.json  worker.log  lock
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The default: `$XDG_STATE_HOME/orchestra`, else `$HOME/.local/state/orchestra`.
    #[must_use]
    pub fn default_path(xdg_state_home: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
        let base = match xdg_state_home {
            Some(path) if path.is_absolute() => path.to_path_buf(),
            Some(_) | None => home?.join(".local/state"),
        };
        Some(base.join("orchestra"))
    }

    /// Makes it, for its owner alone, and keeps git away from it: below a repository the keys would go into
    /// the next snapshot or commit.
    ///
    /// # Errors
    /// When it cannot be made; a full disk costs only the file for git, until the next start.
    pub fn make(&self) -> io::Result<()> {
        durable::create_private_dir(&self.0)?;
        let ignore = self.0.join(".gitignore");
        if ignore.exists() {
            return Ok(());
        }
        match fs::write(ignore, IGNORE) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            written => written,
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The configuration file that is read when none is named.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.0.join("orchestra.yaml")
    }

    /// ctl's credentials and the head's address.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.0.join("client")
    }

    /// What ctl keeps of a project's directory that is in no repository.
    #[must_use]
    pub fn directory(&self, project: &str) -> PathBuf {
        self.client()
            .join("directories")
            .join(format!("{project}.git"))
    }

    /// The head's own directory.
    #[must_use]
    pub fn head(&self) -> PathBuf {
        self.0.join("head")
    }

    /// The local worker's own directory.
    #[must_use]
    pub fn worker(&self) -> PathBuf {
        self.0.join("worker")
    }
}
