//! Submodules in an agent's directory. A result names a submodule's commit and has none of its files, so
//! what an agent writes there is nowhere but in its directory.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    agent_refs::text,
    beneath,
    error::{IoContext, Result},
    git::records,
    names,
    places::{TEXT_BYTES_MAX, plain},
    quarantine::{Format, Quarantine, has_commit},
    stage::Warnings,
    workspace::{Workspace, keep_bytes},
};

const SUBMODULE: &[u8] = b"160000 ";
/// Longest look at one.
const TIME_MAX: Duration = Duration::from_secs(120);

impl Workspace {
    /// Names each submodule of `tree` that the agent has written to.
    pub(crate) fn submodules(&self, tree: &str, warnings: &mut Warnings) -> Result<()> {
        let before = self.submodules_of(&self.base)?;
        for path in self.submodules_of(tree)?.keys() {
            if !self.has_files(path) {
                continue;
            }
            let commit = before.get(path).map(String::as_str);
            // Whoever cannot be asked may have been written to.
            if commit.is_some_and(|commit| self.is_untouched(path, commit).unwrap_or(false)) {
                continue;
            }
            let path = names::shown(path);
            warnings.only_there(format!(
                "`{path}` was left out: files inside a submodule are not collected"
            ));
        }
        Ok(())
    }

    fn submodules_of(&self, tree: &str) -> Result<BTreeMap<Vec<u8>, String>> {
        // Directories and submodules, without the files.
        let output = self.bare().output(&["ls-tree", "-z", "-r", "-d", tree])?;
        let parse = |record: &[u8]| {
            let tab = record.iter().position(|b| *b == b'\t')?;
            let facts = record[..tab].strip_prefix(SUBMODULE)?;
            let id = facts.rsplit(|b| *b == b' ').next()?;
            let id = str::from_utf8(id).ok()?;
            Some((record[tab + 1..].to_vec(), id.to_owned()))
        };
        Ok(records(&output).filter_map(parse).collect())
    }

    fn has_files(&self, path: &[u8]) -> bool {
        fs::read_dir(self.dir.join(OsStr::from_bytes(path)))
            .is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Whether somebody has only fetched it: its files are those of `commit`, but for ignored ones.
    fn is_untouched(&self, path: &[u8], commit: &str) -> Result<bool> {
        let Some(objects) = self.objects_of(path)? else {
            return Ok(false);
        };
        let quarantine = Quarantine::new(Format::of(commit), &[objects])?;
        keep_bytes(quarantine.path())?;
        let git = quarantine
            .git()
            .clone()
            .work_tree(&self.dir.join(OsStr::from_bytes(path)))
            .option("core.bare=false")
            .env("GIT_INDEX_FILE", quarantine.path().join("index"))
            .time_limit(TIME_MAX);
        if !has_commit(&git, commit)? {
            return Ok(false);
        }
        git.output(&["read-tree", commit])?;
        let own = git.output(&["ls-files", "-z", "--stage"])?;
        // What is in a submodule of a submodule is not looked at.
        if records(&own).any(|record| record.starts_with(SUBMODULE)) {
            return Ok(false);
        }
        let changed = [
            "ls-files",
            "-z",
            "--modified",
            "--others",
            "--exclude-standard",
        ];
        Ok(git.output(&changed)?.is_empty())
    }

    /// Where the objects of a submodule are: below the agent's directory, without a link on the way, and
    /// with none lent.
    fn objects_of(&self, path: &[u8]) -> Result<Option<PathBuf>> {
        let link = [path, b"/.git"].concat();
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        let dir = self.dir.join(OsStr::from_bytes(path));
        let git_dir = match text(&root, &link, TEXT_BYTES_MAX) {
            Ok(Some(text)) => {
                let named = text.strip_prefix(b"gitdir:").unwrap_or_default();
                plain(&dir.join(OsStr::from_bytes(named.trim_ascii())))
            }
            Ok(None) => None,
            Err(_) => Some(dir.join(".git")),
        };
        let Some(objects) = git_dir.map(|dir| dir.join("objects")) else {
            return Ok(None);
        };
        let real = |path: &Path| fs::canonicalize(path).at("find", path);
        let Ok(below) = objects.strip_prefix(&self.dir) else {
            return Ok(None);
        };
        let inside = real(&objects)? == real(&self.dir)?.join(below);
        let lent = objects.join("info/alternates").symlink_metadata().is_ok();
        Ok((inside && !lent).then_some(objects))
    }
}
