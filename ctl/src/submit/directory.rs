//! A directory that is in no repository: agents get a copy of it all the same.

use std::path::{Path, PathBuf};

use orchestra_repo::{Checkout, Error as RepoError, may_mirror, mirror_paths};
use orchestra_types::ProjectId;

use crate::{
    app::App,
    blocking::shown,
    error::{Error, Result},
    exit::Exit,
};

const OTHER_WAYS: &str = "go into the project's own directory; or `git init` and a `.gitignore` here, \
    `--in-place` to work in it, `--no-repo` to work without it";

/// Takes what the directory holds; the shared context in its directory `mirror` is left out.
pub async fn take(app: &App, dir: &Path, project: &ProjectId, mirror: &str) -> Result<Checkout> {
    if let Some(why) = no_project(dir, app.state.path(), std::env::home_dir().as_deref()) {
        let message = format!("`{}` is not copied for an agent: {why}", dir.display());
        return Err(Error::new(Exit::Refused, message).hint(OTHER_WAYS));
    }
    let keep = app.state.directory(project.as_str());
    let (dir, mirror) = (dir.to_owned(), mirror.to_owned());
    let taken = shown(app.ui, "reading the directory", move || {
        let ours = match may_mirror(&dir, &mirror) {
            true => mirror_paths(&mirror),
            false => Vec::new(),
        };
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        Ok(Checkout::of_directory(&dir, &keep, &ours))
    })
    .await?;
    // What could not be taken is named when the snapshot is made of it.
    let (checkout, _said_later) = taken.map_err(failed)?;
    Ok(checkout)
}

fn failed(error: RepoError) -> Error {
    let large = matches!(error, RepoError::LargeDirectory { .. });
    let message = "failed to copy the directory for an agent";
    if large {
        Error::new(Exit::Refused, message)
            .because(error)
            .hint(OTHER_WAYS)
    } else {
        Error::failed(message).because(error)
    }
}

/// Why a directory is surely no project: with it, keys and other secrets would go along.
fn no_project(dir: &Path, state: &Path, home: Option<&Path>) -> Option<&'static str> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let home: Option<PathBuf> = home.map(real);
    if home.is_some_and(|home| home.starts_with(dir)) {
        Some("it is or holds your home directory")
    } else if real(state).starts_with(dir) {
        Some("it is or holds the state directory of Orchestra")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_and_what_is_above_it_is_no_project() {
        let refused = |dir: &str| {
            no_project(
                Path::new(dir),
                Path::new("/nowhere/a/state"),
                Some(Path::new("/nowhere/home/me")),
            )
            .is_some()
        };
        assert!(refused("/") && refused("/nowhere/home") && refused("/nowhere/home/me"));
        assert!(refused("/nowhere/a") && refused("/nowhere/a/state"));
        assert!(!refused("/nowhere/home/me/project"));
        assert!(!refused("/nowhere/home/my"));
    }
}
