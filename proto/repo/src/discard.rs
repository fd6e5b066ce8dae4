//! What collecting has made, taken back: a disk that became full while a result was gathered has halves of it, and
//! they take the room that the next one needs.

use std::{collections::BTreeSet, fs, io, path::Path};

use crate::{
    collect::{BUNDLE, PATCH},
    error::{IoContext, Result},
    git::Input,
    workspace::Workspace,
};

impl Workspace {
    /// Takes back all that [`collect`](Self::collect) has made, whole or half: the patch and the bundle in `out`, the
    /// commits on the attempt's branch and beside it, and their objects. The agent's own files and commits are
    /// as they were, so that collecting gives the same again, but for the time of a commit. How many bytes its objects
    /// had: what collecting takes at least.
    ///
    /// # Errors
    /// When git or the disk fails. It may be called again.
    pub fn discard(&self, out: &Path) -> Result<u64> {
        self.unlock(out)?;
        for name in [PATCH, BUNDLE] {
            remove(&out.join(name))?;
        }
        let kept = self.objects_carried()?;
        // To write a ref takes room that may only be there without the objects. A branch without what it names, left
        // by a crash in between, is taken back by the next discard.
        let done = self.take_branches_back();
        let bytes = remove_objects(&self.git_dir.join("objects"), &kept)?;
        done.or_else(|_| self.take_branches_back())?;
        Ok(bytes)
    }

    /// Removes the locks that a git which was killed while it collected has left: nobody else collects this, and what
    /// a former worker left running has been ended.
    pub(crate) fn unlock(&self, out: &Path) -> Result<()> {
        let lock = |name: &str| format!("{name}.lock");
        remove(&out.join(lock(BUNDLE)))?;
        remove(&self.git_dir.join(lock("packed-refs")))?;
        remove_locks(&self.git_dir.join("refs/heads"))
    }

    /// Has the attempt's branch at the base again, and no other one. Nothing is written where that is so.
    fn take_branches_back(&self) -> Result<()> {
        let heads = [
            "for-each-ref",
            "--format=%(objectname) %(refname)",
            "refs/heads",
        ];
        let heads = self.bare().line(&heads)?;
        let mut edits = String::new();
        for (commit, name) in heads.lines().filter_map(|line| line.split_once(' ')) {
            if name != self.full_branch() {
                edits.push_str(&format!("delete {name}\n"));
            } else if commit != self.base {
                edits.push_str(&format!("update {name} {}\n", self.base));
            }
        }
        if edits.is_empty() {
            return Ok(());
        }
        let args = ["update-ref", "--stdin"];
        self.bare()
            .output_of(&args, Input::Bytes(edits.as_bytes()))
            .map(drop)
    }

    /// Objects that the attempt began with and that may be nowhere else: those of a merge that its files were made from.
    fn objects_carried(&self) -> Result<BTreeSet<String>> {
        let Some(carried) = self.carried_files()? else {
            return Ok(BTreeSet::new());
        };
        let base = format!("{}^{{tree}}", self.base);
        let new = ["rev-list", "--objects", "--no-object-names", &carried];
        let but = ["--not", &self.base, &base];
        let new = self.bare().line(&[&new[..], &but].concat())?;
        Ok(new.lines().map(str::to_owned).collect())
    }
}

/// Removes all objects but these, and all that is half written. Which others the directory may see stays.
fn remove_objects(objects: &Path, kept: &BTreeSet<String>) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(objects).at("read the directory", objects)? {
        let entry = entry.at("read the directory", objects)?;
        let (path, first) = (entry.path(), entry.file_name());
        let is_dir = entry.file_type().at("look at", &path)?.is_dir();
        match is_dir {
            true if first == "info" => {}
            // Beginnings of what git had not finished are in directories and files of other names.
            true => bytes += remove_below(&path, &first.to_string_lossy(), kept)?,
            false => bytes += remove_counted(&path)?,
        }
    }
    Ok(bytes)
}

/// Removes those of branches; none has such a name itself.
fn remove_locks(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.at("read the directory", dir)?,
    };
    for entry in entries {
        let entry = entry.at("read the directory", dir)?;
        let path = entry.path();
        if entry.file_type().at("look at", &path)?.is_dir() {
            remove_locks(&path)?;
        } else if path.extension().is_some_and(|end| end == "lock") {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove_below(dir: &Path, first: &str, kept: &BTreeSet<String>) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).at("read the directory", dir)? {
        let entry = entry.at("read the directory", dir)?;
        let path = entry.path();
        let id = format!("{first}{}", entry.file_name().to_string_lossy());
        if entry.file_type().at("look at", &path)?.is_dir() {
            // Never an object of its own.
            bytes += remove_below(&path, "", &BTreeSet::new())?;
            fs::remove_dir(&path).at("remove", &path)?;
        } else if !kept.contains(&id) {
            bytes += remove_counted(&path)?;
        }
    }
    Ok(bytes)
}

fn remove_counted(path: &Path) -> Result<u64> {
    let bytes = path.symlink_metadata().map_or(0, |meta| meta.len());
    remove(path)?;
    Ok(bytes)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        Ok(()) | Err(_) => Ok(()),
    }
}
