//! `ctl branches --prune`: removes one branch after the other, and tells each as it happens. Ctrl-C waits for
//! the one that is being removed, and leaves the others.

use std::sync::Arc;

use orchestra_repo::{Checkout, Removal, TaskBranch, remove_branch};

use super::{Row, removed};
use crate::{
    app::App,
    blocking::blocking,
    error::{Error, OrFailed, Result, or_untold},
    exit::Exit,
    ui::{
        escape::line,
        style::{Line, Style},
    },
    writing::Begin,
};

/// Removes those of the rows that go; the branches are in the same order. Gives the first failure, or that
/// it was interrupted.
pub async fn prune(
    app: &App,
    checkout: &Arc<Checkout>,
    branches: Vec<TaskBranch>,
    rows: &mut [Row],
) -> Result<Option<Error>> {
    let mut failed = None;
    for (at, branch) in branches.into_iter().enumerate() {
        let Some(row) = rows.get_mut(at).filter(|row| row.removable) else {
            continue;
        };
        match remove(app, checkout, branch).await {
            Ok(Some(removal)) => note(row, removal),
            Ok(None) => return Ok(Some(interrupted(rows))),
            Err(error) => {
                (row.removable, row.why) = (false, error.chain());
                failed.get_or_insert(error);
            }
        }
        if row.removed && !app.ui.is_json() {
            let told = app.ui.line(&told(row));
            // Nothing more goes where nobody can be told.
            or_untold(told, || format!("{} removed", removed(rows)))?;
        }
        app.writing.end_part();
    }
    Ok(failed)
}

/// What came of it; none where it was called off before.
async fn remove(
    app: &App,
    checkout: &Arc<Checkout>,
    branch: TaskBranch,
) -> Result<Option<Removal>> {
    let (from, writing) = (Arc::clone(checkout), app.writing.clone());
    let removal = blocking(move || match writing.begin() {
        Begin::Never => Ok(None),
        Begin::Now => {
            let failed = || format!("failed to remove the branch `{}`", branch.name);
            remove_branch(&from, &branch).or_failed(failed).map(Some)
        }
    });
    removal.await
}

fn note(row: &mut Row, removal: Removal) {
    let why = match removal {
        Removal::Done => {
            row.removed = true;
            return;
        }
        Removal::Gone => {
            row.gone = true;
            "somebody has removed it already".to_owned()
        }
        Removal::Changed => "somebody changed it meanwhile".to_owned(),
        Removal::KeeperChanged => match &row.within {
            Some(within) => format!("`{within}`, which had its commits, has changed meanwhile"),
            None => "the branch that had its commits has changed meanwhile".to_owned(),
        },
    };
    (row.removable, row.why) = (false, why);
}

fn told(row: &Row) -> Line {
    let rest = format!(", which was {}: {}", row.commit, line(&row.why));
    Line::of(Style::Good, "removed ")
        .with(Style::Bold, row.name.as_str())
        .with(Style::Plain, rest)
}

/// What is said where the removals that were told so far are all that is known.
pub fn interrupted_between() -> Error {
    let message = "interrupted; the branches that were told are removed, the others stay";
    Error::new(Exit::Interrupted, message)
}

fn interrupted(rows: &[Row]) -> Error {
    let done = removed(rows);
    let message = format!("interrupted; {done} removed, the others stay");
    Error::new(Exit::Interrupted, message)
}
