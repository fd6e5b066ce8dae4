//! Where things lie below the state directory.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    durable,
    owner::{self, Foreign},
};

/// What git reads of it: keys are below. Only the directories themselves are named, since other programs
/// that know such files read them from within a workspace as well.
const IGNORE: &str = "# Orchestra's own: keys, the queue, workspaces. Git leaves it alone.\n/*\n";

/// How it begins, in earlier versions too: by this a state directory is known.
const OWN: &str = "# Orchestra's own:";

/// The state directory. Everything that Orchestra keeps on a machine is below it.
///
/// ```text
/// STATE/orchestra.yaml          the configuration, optional
/// STATE/.gitignore              keeps git away from all of it
/// STATE/start.lock  stop.lock   held by a `ctl start` and by each `ctl stop` at work
/// STATE/client/                 ctl's credentials and the head's address
///       endpoint  ca.pem  cert.pem  key.pem
/// STATE/head/                   the head's own
///       db/  blobs/  events/  context/  pki/  head.json  head.log  lock
/// STATE/worker/                 the local worker's own
///       id  pki/  spool  attempts/  workspaces/  aside/  cache/  ballast/  worker.json  options.json
///       worker.log  lock
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The state directory that `dir` is in, or is, of this cluster or another one; none for what an agent
    /// works in there, and for what was put aside of that.
    #[must_use]
    pub fn around(dir: &Path) -> Option<PathBuf> {
        let is_state = |dir: &&Path| {
            fs::read(dir.join(".gitignore")).is_ok_and(|text| text.starts_with(OWN.as_bytes()))
        };
        let state = dir.ancestors().find(is_state)?;
        let rest = dir.strip_prefix(state).ok()?;
        let mut names = rest.iter().filter_map(|name| name.to_str());
        let names = [names.next(), names.next(), names.next(), names.next()];
        let is_agents = matches!(
            names,
            [Some("worker"), Some("workspaces"), Some(_), _]
                | [Some("worker"), Some("aside"), Some(_), Some("workspace")]
        );
        (!is_agents).then(|| state.to_owned())
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
        let made = durable::create_private(&ignore);
        match made.and_then(|mut file| file.write_all(IGNORE.as_bytes())) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            written => written,
        }
    }

    /// Who else may write there, in a sentence with what to do; none where nobody may. Whoever may say what
    /// is run as its owner does so in the configuration.
    #[must_use]
    pub fn exposed(&self) -> Option<String> {
        let found = self.0.metadata().ok()?;
        let dir = self.0.display();
        let danger = "who can have commands run as you";
        if found.mode() & 0o002 != 0 {
            return Some(format!(
                "everybody may write to `{dir}`, {danger}; `chmod 700` it"
            ));
        }
        let us = rustix::process::geteuid().as_raw();
        let config = self.config_file().metadata().ok();
        let mut owners = std::iter::once(found)
            .chain(config)
            .map(|found| found.uid());
        let other = owners.find(|owner| *owner != us && *owner != 0)?;
        Some(format!(
            "`{dir}` or the orchestra.yaml in it belongs to the user {other}, {danger}"
        ))
    }

    /// Refuses a state that another user's head or worker keeps there.
    ///
    /// # Errors
    /// When one of its directories is another user's, or files of the store are that this user may not use.
    pub fn refuse_foreign(&self) -> Result<(), Foreign> {
        let store = self.head().join("db");
        [self.head(), store.clone(), self.worker()]
            .iter()
            .try_for_each(|dir| owner::refuse_foreign(dir, &self.0))?;
        [self.head(), store.join("journal"), store]
            .iter()
            .try_for_each(|dir| owner::refuse_strays(dir, &self.0))
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

    /// What a head that `ctl start` has detached prints.
    #[must_use]
    pub fn head_log(&self) -> PathBuf {
        self.head().join("head.log")
    }

    /// What a worker that `ctl start` has detached prints.
    #[must_use]
    pub fn worker_log(&self) -> PathBuf {
        self.worker().join("worker.log")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_in_a_state_directory_is_known_but_for_what_agents_work_in() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.make().unwrap();
        let around = |below: &str| StateDir::around(&state.path().join(below));
        for own in [
            "",
            "head",
            "head/pki",
            "client",
            "worker/workspaces",
            "worker/aside/task_001.1",
        ] {
            assert_eq!(around(own).as_deref(), Some(state.path()), "{own}");
        }
        for agents in [
            "worker/workspaces/task_001.1",
            "worker/aside/task_001.1/workspace/src",
        ] {
            assert_eq!(around(agents), None, "{agents}");
        }
        assert_eq!(StateDir::around(dir.path()), None);
    }

    #[test]
    fn a_directory_in_which_others_may_write_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.make().unwrap();
        assert_eq!(state.exposed(), None);
        let mode = |mode| fs::set_permissions(state.path(), fs::Permissions::from_mode(mode));
        for open in [0o777, 0o1777] {
            mode(open).unwrap();
            let told = state.exposed().unwrap_or_default();
            assert!(told.contains("everybody may write"), "{told}");
        }
        mode(0o755).unwrap();
        assert_eq!(state.exposed(), None);
    }
}
