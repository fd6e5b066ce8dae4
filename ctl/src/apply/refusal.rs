//! Why a change was not put there, and what helps.

use orchestra_repo::{ApplyError, Error as RepoError};

use super::{How, Work};
use crate::{error::Error, exit::Exit};

/// Why the change was not taken out of its bundle.
pub(super) fn not_received(work: &Work, how: &How, error: RepoError) -> Error {
    let id = work.task;
    match (error, how) {
        (error @ RepoError::NotAsTold { .. }, _) => {
            let worker = work.worker.as_deref().unwrap_or_default();
            let hint = format!(
                "nothing was touched; do not trust the worker `{worker}`: `ctl workers cordon {worker}` \
                 gives it nothing more, `ctl show {id}` shows what it told"
            );
            Error::new(Exit::Refused, format!("the change of {id} was not taken"))
                .because(error)
                .hint(hint)
        }
        (error @ RepoError::LacksCommit { .. }, _) => {
            let hint = format!(
                "nothing was touched; `git fetch` where the commit was pushed, or apply in the checkout that the task \
                 was submitted from: `ctl show {id}` names it"
            );
            Error::new(Exit::Refused, format!("the change of {id} was not taken"))
                .because(error)
                .hint(hint)
        }
        (error, How::WorkTree) => refusal(work, error.into()),
        (error, How::Branch) => not_branched(&work.branch, error),
        (error, How::BranchAs(name)) => not_branched(name.as_str(), error),
    }
}

pub(super) fn not_branched(branch: &str, error: RepoError) -> Error {
    let is_the_name = matches!(
        error,
        RepoError::BranchMoved { .. }
            | RepoError::BranchTaken { .. }
            | RepoError::BranchAbove { .. }
            | RepoError::BranchBelow { .. }
            | RepoError::BranchInUse { .. }
    );
    let failed = |exit| Error::new(exit, format!("failed to make the branch `{branch}`"));
    match is_the_name {
        true => failed(Exit::Refused)
            .because(error)
            .hint("`--branch=NAME` makes it with another name"),
        false => failed(Exit::Failed).because(error),
    }
}

pub(super) fn called_off() -> Error {
    Error::new(Exit::Interrupted, "interrupted; nothing was applied")
}

pub(super) fn refusal(work: &Work, error: ApplyError) -> Error {
    let task = work.task;
    let (exit, hint) = match &error {
        ApplyError::CalledOff => return called_off(),
        ApplyError::Conflict {
            attempt: Some(attempt),
            ..
        } => (Exit::Refused, take_it_back(work, &attempt.commit)),
        ApplyError::Conflict {
            branch: Some(_),
            uncommitted,
            ..
        } => (Exit::Refused, merge_it(*uncommitted)),
        ApplyError::InTheWay { .. }
        | ApplyError::InTheWayOfDirectory { .. }
        | ApplyError::Unmerged { .. } => (Exit::Refused, "nothing was touched".to_owned()),
        ApplyError::Conflict {
            branch: None,
            attempt: None,
            ..
        }
        | ApplyError::Unsafe { .. } => (
            Exit::Refused,
            format!("nothing was touched; look at the change with `ctl diff {task}`"),
        ),
        ApplyError::Repo(RepoError::PartialClone) => (
            Exit::Refused,
            "the work tree is as it was; fetch that in the checkout, then apply again".to_owned(),
        ),
        ApplyError::Repo(_) => (
            Exit::Failed,
            "the work tree is as it was; check git and the disk".to_owned(),
        ),
    };
    Error::new(exit, "the change was not applied")
        .because(error)
        .hint(hint)
}

/// Which attempt a commit is of.
pub(super) fn number_of(work: &Work, commit: &str) -> u32 {
    let mut each = work.attempts.iter().zip(&work.numbers);
    let number = each.find_map(|(other, number)| (other == commit).then_some(*number));
    number.unwrap_or_default()
}

/// What helps where an earlier attempt is there in part, so that this one cannot take its place.
fn take_it_back(work: &Work, commit: &str) -> String {
    let (task, number) = (work.task, number_of(work, commit));
    format!(
        "nothing was touched; `ctl diff {task} --attempt {number} | git apply -R --reject` at the top of the checkout \
         takes back what is there of attempt {number}, and says what is not; then apply again"
    )
}

/// What helps where a change conflicts. Git merges nothing over what is not committed.
fn merge_it(uncommitted: bool) -> String {
    let first = match uncommitted {
        true => "commit what is there, then ",
        false => "",
    };
    format!(
        "nothing was touched; {first}the same with `--branch` makes the branch, so that you can merge it"
    )
}
