//! Whether the machine has a git that will do. Nearly all tasks are about a repository, or a directory that is
//! brought here as one; a worker without git would fail each of them, and be the one that is always free. So no
//! runner is ready there, and the reason says what to install.

use std::ffi::OsStr;

use orchestra_types::runner::{NOOP, Readiness, RunnerInfo};
use tokio::task::spawn_blocking;

use crate::attempt::chain;

/// Why nothing can be done with git here; none when it will do.
pub async fn lacking(path: &OsStr) -> Option<String> {
    let path = path.to_owned();
    let looked = spawn_blocking(move || orchestra_repo::look_for_git(&path)).await;
    // A look that did not end is none.
    let error = looked.ok()?.err()?;
    Some(chain(&error))
}

/// The runners as they are with this. The one without a process needs no workspace.
pub fn limit(lacking: Option<&str>, mut runners: Vec<RunnerInfo>) -> Vec<RunnerInfo> {
    let Some(why) = lacking else {
        return runners;
    };
    tracing::warn!(why, "no runner is ready without git");
    for runner in &mut runners {
        if runner.readiness == Readiness::Ready && runner.name.as_str() != NOOP {
            let reason = format!("this machine cannot work on repositories: {why}");
            runner.readiness = Readiness::NotReady { reason };
        }
    }
    runners
}
