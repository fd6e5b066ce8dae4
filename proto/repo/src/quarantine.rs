//! Bare repositories of our own: made, and lent the objects of others.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{IoContext, Result},
    git::{Git, quoted},
    harmless,
    temporary::{Temporary, make_private},
};

/// How a repository names its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Sha1,
    Sha256,
}

impl Format {
    /// The format of the repository that has `commit`.
    pub fn of(commit: &str) -> Self {
        if commit.len() == 64 {
            Self::Sha256
        } else {
            Self::Sha1
        }
    }

    pub fn option(self) -> &'static str {
        match self {
            Self::Sha1 => "--object-format=sha1",
            Self::Sha256 => "--object-format=sha256",
        }
    }
}

/// Makes a bare repository at `dir`, whose HEAD is on `branch`, that can see the objects in `lenders`.
pub(crate) fn init_bare(
    dir: &Path,
    branch: &str,
    format: Format,
    lenders: &[PathBuf],
) -> Result<Git> {
    make_private(dir)?;
    let git = Git::private(dir);
    git.output(&[
        "init",
        "--quiet",
        "--bare",
        "--template=",
        &format!("--initial-branch={branch}"),
        format.option(),
    ])?;
    lend(dir, lenders)?;
    Ok(git)
}

/// Makes an ordinary repository in `dir` that can see the objects in `lenders`.
pub(crate) fn init_clone(
    dir: &Path,
    branch: &str,
    format: Format,
    lenders: &[PathBuf],
) -> Result<Git> {
    let git_dir = dir.join(".git");
    let git = Git::private(&git_dir).work_tree(dir);
    let branch = format!("--initial-branch={branch}");
    git.output(&["init", "--quiet", "--template=", &branch, format.option()])?;
    lend(&git_dir, lenders)?;
    Ok(git)
}

pub(crate) fn lend(git_dir: &Path, lenders: &[PathBuf]) -> Result<()> {
    let mut text = Vec::new();
    for lender in lenders {
        text.extend_from_slice(quoted(lender).as_encoded_bytes());
        text.push(b'\n');
    }
    let info = git_dir.join("objects/info");
    fs::create_dir_all(&info).at("create the directory", &info)?;
    let file = info.join("alternates");
    fs::write(&file, text).at("write", &file)
}

/// A repository that vanishes with this value: objects are looked at here before, or instead of,
/// being put anywhere else.
#[derive(Debug)]
pub(crate) struct Quarantine {
    dir: Temporary,
    git: Git,
}

impl Quarantine {
    /// An empty one that can see the objects in `lenders`.
    pub fn new(format: Format, lenders: &[PathBuf]) -> Result<Self> {
        let dir = Temporary::new()?;
        let git = init_bare(dir.path(), "orchestra/none", format, lenders)?;
        Ok(Self { dir, git })
    }

    /// git on it.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its objects.
    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// Takes `from_ref` out of `bundle` and keeps it as `to_ref`, its objects checked.
    pub fn take(&self, bundle: &Path, from_ref: &str, to_ref: &str) -> Result<()> {
        fetch(&self.git, bundle, from_ref, to_ref)
    }
}

/// Fetches `from_ref` of `bundle` into `to_ref`, whatever that was, with its objects checked.
pub(crate) fn fetch(git: &Git, bundle: &Path, from_ref: &str, to_ref: &str) -> Result<()> {
    fetch_as(git, bundle, &format!("+{from_ref}:{to_ref}"))
}

/// Fetches what `from_ref` of `bundle` is, its objects checked, and names it nothing.
pub(crate) fn fetch_objects(git: &Git, bundle: &Path, from_ref: &str) -> Result<()> {
    fetch_as(git, bundle, from_ref)
}

fn fetch_as(git: &Git, bundle: &Path, refspec: &str) -> Result<()> {
    let bundle = std::path::absolute(bundle).at("find", bundle)?;
    harmless::take_objects(git, &bundle)?;
    let mut args: Vec<&std::ffi::OsStr> = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--",
    ]
    .map(std::ffi::OsStr::new)
    .to_vec();
    args.push(bundle.as_os_str());
    args.push(refspec.as_ref());
    git.output(&args).map(drop)
}

/// Whether `commit` and nothing less is there.
pub(crate) fn has_commit(git: &Git, commit: &str) -> Result<bool> {
    crate::git::check_commit(commit)?;
    let name = format!("{commit}^{{commit}}");
    Ok(git
        .ended(&["cat-file", "-e", &name], crate::git::Input::Nothing)?
        .code
        == 0)
}
