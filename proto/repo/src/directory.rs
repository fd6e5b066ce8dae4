//! A directory that is in no repository, as a checkout: what it holds is committed to a private
//! repository beside it, so that everything else works as in a repository of the user's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    beneath,
    checkout::{Checkout, commit_of},
    error::{Error, IoContext, Result},
    git::{Git, records},
    lock::{self, Lock},
    quarantine::Format,
    snapshot::{EMAIL, commit_tree},
    stage::{Conflicts, Nested, Sizes, Stage, Warnings},
    temporary::make_private,
};

/// Most files of a directory that were not taken before. One with more is probably not a project.
pub const DIRECTORY_FILES_MAX: usize = 50_000;
/// Most bytes of them: 1 GiB.
pub const DIRECTORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// What is taken of no directory, and of no copy that an agent works in, beside what `.gitignore` files
/// in it say.
pub(crate) const IGNORED: &str = "node_modules/\n.venv/\n__pycache__/\n.DS_Store\n.env\n";
const BRANCH: &str = "directory";
/// The message of our commits.
const MESSAGE: &str = "State of the directory";
/// What a git that was killed leaves behind, and the next one stumbles over.
const STALE_LOCKS: [&str; 3] = ["index.lock", "HEAD.lock", "refs/heads/directory.lock"];

impl Checkout {
    /// Takes everything that is not ignored below `dir`, which is in no repository, into the private
    /// repository at `keep`. Its HEAD is then what the directory holds. What is named in
    /// `excluded`, relative to `dir`, is left out, now and later. What could not be taken is named
    /// in the warnings.
    ///
    /// # Errors
    /// When there is more that is new than `DIRECTORY_FILES_MAX` and `DIRECTORY_BYTES_MAX` allow, when
    /// it cannot be read, or git fails.
    pub fn of_directory(dir: &Path, keep: &Path, excluded: &[&str]) -> Result<(Self, Vec<String>)> {
        make_private(keep)?;
        let kept = Kept::lock(dir, keep)?;
        kept.prepare(excluded)?;
        kept.take()
    }

    /// The same for a directory that was taken before; none when it was not.
    ///
    /// # Errors
    /// As `of_directory`.
    pub fn of_kept_directory(dir: &Path, keep: &Path) -> Result<Option<(Self, Vec<String>)>> {
        if !keep.join("HEAD").exists() {
            return Ok(None);
        }
        Kept::lock(dir, keep)?.take().map(Some)
    }
}

/// A directory and its private repository, locked.
struct Kept {
    top: PathBuf,
    keep: PathBuf,
    _lock: Lock,
}

impl Kept {
    fn lock(dir: &Path, keep: &Path) -> Result<Self> {
        let keep = fs::canonicalize(keep).at("find", keep)?;
        let lock = lock::exclusive(&keep.join("orchestra-directory.lock"))?;
        for name in STALE_LOCKS {
            remove(&keep.join(name))?;
        }
        Ok(Self {
            top: fs::canonicalize(dir).at("find", dir)?,
            keep,
            _lock: lock,
        })
    }

    /// Makes the private repository unless it is there, and says what it ignores.
    fn prepare(&self, excluded: &[&str]) -> Result<()> {
        let branch = format!("--initial-branch={BRANCH}");
        let format = Format::Sha1.option();
        let git = Git::private(&self.keep).work_tree(&self.top);
        git.output(&["init", "--quiet", "--template=", &branch, format])?;
        let names = excluded.iter().map(|name| name.trim_matches('/'));
        let own = names.filter(|name| !name.is_empty());
        let rules: String = own.map(|name| format!("/{name}\n")).collect();
        let info = self.keep.join("info");
        fs::create_dir_all(&info).at("create the directory", &info)?;
        let exclude = info.join("exclude");
        fs::write(&exclude, format!("{IGNORED}{rules}")).at("write", &exclude)
    }

    fn take(&self) -> Result<(Checkout, Vec<String>)> {
        let checkout = Checkout::kept_at(self.top.clone(), self.keep.clone());
        let git = checkout.git();
        self.refuse_large(&git)?;
        let mut warnings = Warnings::default();
        Stage {
            git: &git,
            root: &self.top,
            skip: &[],
            also: Vec::new(),
            nested: Nested::Skip,
            conflicts: Conflicts::Never,
            sizes: Sizes::KEPT,
        }
        .run(&mut warnings)?;
        let head = commit(&git)?;
        Ok((checkout.at_commit(head), warnings.into_list()))
    }

    fn refuse_large(&self, git: &Git) -> Result<()> {
        let output = git.output(&["ls-files", "-z", "--others", "--exclude-standard"])?;
        let root = beneath::root(&self.top).at("open", &self.top)?;
        let (mut files, mut bytes) = (0, 0);
        for path in records(&output) {
            let stat = beneath::lstat(&root, path).ok().flatten();
            files += 1;
            bytes += stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
            if files > DIRECTORY_FILES_MAX || bytes > DIRECTORY_BYTES_MAX {
                return Err(Error::LargeDirectory {
                    path: self.top.clone(),
                });
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a commit is the state of a directory, made here.
pub(crate) fn is_state(git: &Git, commit: &str) -> Result<bool> {
    let made = git.line(&["show", "--no-patch", "--format=%ae %s", commit])?;
    Ok(made == format!("{EMAIL} {MESSAGE}"))
}

/// Commits what is staged, and gives the commit; the one that is there if it is the same.
fn commit(git: &Git) -> Result<String> {
    let tree = git.line(&["write-tree"])?;
    let head = commit_of(git, "HEAD")?;
    if let Some(head) = &head
        && git.line(&["rev-parse", &format!("{head}^{{tree}}")])? == tree
    {
        return Ok(head.clone());
    }
    let message = format!("{MESSAGE}\n");
    let parents = head.as_deref();
    let commit = commit_tree(git, &tree, parents.as_slice(), message.as_bytes())?;
    git.output(&["update-ref", "HEAD", &commit])?;
    Ok(commit)
}
