//! A `.git` that is there and that git does not take for a repository: after a loss of power its `HEAD`
//! may be empty. Git passes over it without a word and looks further up.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use crate::{
    error::{Error, Result},
    git::{Git, Input},
};

/// What of a directory called `.git` says that it was a repository; an empty one never was.
const PARTS: [&str; 3] = ["HEAD", "objects", "refs"];

/// Fails when one is at `dir` or above it, below `found`: where git has found a repository, if it has.
pub(crate) fn refuse(dir: &Path, found: Option<&Path>) -> Result<()> {
    let device = |dir: &Path| fs::metadata(dir).map(|meta| meta.dev()).ok();
    let own = device(dir);
    let above = dir.ancestors();
    // Git goes no further than the file system.
    let above = above.take_while(|at| Some(*at) != found && device(at) == own);
    for git_dir in above.map(|at| at.join(".git")) {
        if was_repository(&git_dir)
            && let Some(said) = refused(&git_dir)?
        {
            return Err(Error::Broken {
                path: git_dir,
                said,
            });
        }
    }
    Ok(())
}

fn was_repository(git_dir: &Path) -> bool {
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    match fs::metadata(git_dir) {
        Ok(found) if found.is_dir() => PARTS.iter().any(|part| is_there(&git_dir.join(part))),
        // A file names the git directory of a further work tree or of a submodule.
        Ok(found) => found.is_file(),
        Err(_) => false,
    }
}

/// What git says of it, unless it takes it.
fn refused(git_dir: &Path) -> Result<Option<String>> {
    let above = git_dir.parent().unwrap_or(git_dir);
    let git = Git::user(above).env("GIT_DIR", git_dir);
    let asked = git.ended(&["rev-parse", "--git-dir"], Input::Nothing)?;
    Ok((asked.code != 0).then_some(asked.stderr))
}
