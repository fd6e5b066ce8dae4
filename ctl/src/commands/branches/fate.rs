//! Whether a branch of Orchestra's may go: where another branch has its commits, or the head the result of a
//! task that was applied. Whether somebody took the change back since is not known.

use orchestra_repo::TaskBranch;
use orchestra_types::TaskStatus;

use crate::json::task::{Task, Workplace};

/// What the head says of a branch's task.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// How it is.
    Task(&'a Task),
    /// The one of that id is of another project, so that the branch is not of it: ids are a cluster's.
    Elsewhere,
    /// There is one of that id here, and the branch is not of it.
    NotOf(Maker),
    /// It knows none of that id: it has forgotten it, or the branch is of another cluster.
    Nothing,
    /// It could not be asked.
    Unasked,
}

/// Who has made a branch that has the name of a task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Another cluster, as its reflog says: each gives out the same ids.
    OtherCluster,
    /// Somebody: no attempt of the task has left anything yet.
    Somebody,
}

impl<'a> Known<'a> {
    /// The task, where the head knows it.
    pub fn task(self) -> Option<&'a Task> {
        match self {
            Self::Task(task) => Some(task),
            Self::Elsewhere | Self::NotOf(_) | Self::Nothing | Self::Unasked => None,
        }
    }

    /// The commit of its result.
    pub fn result(self) -> Option<&'a str> {
        self.task().and_then(result)
    }

    /// The commit of the user's that its result begins from: the bundle of the result holds what comes after it.
    pub fn begins_from(self) -> Option<&'a str> {
        match &self.task()?.place {
            Workplace::Repository { head, .. } => head.as_deref(),
            Workplace::InPlace { .. } | Workplace::Empty => None,
        }
    }

    /// Whether the branch is the commit that one of the task's attempts left.
    pub fn left(self, branch: &TaskBranch) -> bool {
        let attempts = self.task().map_or(Vec::new(), |task| task.commits().0);
        let left = |commit: &str| commit == branch.commit;
        branch.beside.is_none()
            && (self.result().is_some_and(left) || attempts.iter().any(|c| left(c)))
    }
}

/// What becomes of a branch, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It can go.
    Goes(String),
    /// Nothing else has what it has, and its task is over: it goes only where a person says so.
    Alone(String),
    /// It stays.
    Stays(String),
}

/// Decides about one.
pub fn fate(branch: &TaskBranch, known: Known<'_>) -> Fate {
    if branch.committed_at.is_none() {
        return Fate::Stays(
            "the repository lacks its commit, so that it is damaged: `git fsck` says where, and \
             `git branch -D` removes the branch"
                .to_owned(),
        );
    }
    if branch.severed {
        return Fate::Stays(
            "the repository lacks a commit before it, so that it is damaged: `git fsck` says where, and \
             `git branch -D` removes the branch"
                .to_owned(),
        );
    }
    if let Some(why) = branch.in_use() {
        return Fate::Stays(why);
    }
    if let Some(within) = &branch.within {
        return Fate::Goes(format!("`{}` has its commits", within.name()));
    }
    let why_alone = |why: &str| format!("no other branch has its commits{why}");
    let alone = |why: &str| Fate::Alone(why_alone(why));
    let stays = |why: &str| Fate::Stays(why_alone(why));
    match known {
        Known::Unasked if branch.beside.is_some() => stays(""),
        Known::Unasked => stays(", and whether they were applied only the head knows"),
        Known::Elsewhere => stays(
            ", and the head's task of that number is of another project, or of this one as it was called before \
             `git fetch --unshallow`: look at it first, `git branch -D` removes it",
        ),
        Known::NotOf(Maker::OtherCluster) => stays(
            ", and its reflog says that another cluster wrote it, which may still work on its task: `git branch -D` \
             removes it",
        ),
        Known::NotOf(Maker::Somebody) => stays(
            ", and it is not of the task of that number, of which no attempt has left anything yet: `git branch -D` \
             removes it",
        ),
        Known::Task(task) if !task.status.is_ended() => stays(", and its task has not ended"),
        Known::Task(task) if waits_for_a_person(task) && !is_applied_as(task, branch) => {
            let id = branch.task;
            stays(&format!(
                ", and its task waits for a person: `ctl show {id}` says what for"
            ))
        }
        Known::Task(_) if branch.beside.is_some() => alone(""),
        Known::Nothing => alone(", and the head does not know its task"),
        Known::Task(task) if !is_applied(task) => alone(", and they are not applied"),
        Known::Task(task) if is_applied_as(task, branch) => Fate::Goes(
            "its change was applied, and the head has its result until retention forgets it"
                .to_owned(),
        ),
        Known::Task(_) => alone(", and it is not the result that was applied"),
    }
}

/// Whether the task's change was put into a checkout, here or elsewhere; not whether it is there still.
pub fn is_applied(task: &Task) -> bool {
    task.apply.result.as_deref() == Some("applied")
}

/// Whether the branch is the result that was applied, and nothing else.
fn is_applied_as(task: &Task, branch: &TaskBranch) -> bool {
    branch.beside.is_none() && is_applied(task) && result(task) == Some(&*branch.commit)
}

fn waits_for_a_person(task: &Task) -> bool {
    match task.status {
        TaskStatus::NeedsReview => true,
        TaskStatus::Blocked
        | TaskStatus::Queued
        | TaskStatus::Assigned
        | TaskStatus::Running
        | TaskStatus::Succeeded
        | TaskStatus::Failed
        | TaskStatus::Cancelled => false,
    }
}

/// The commit of its result: also where that only passes on what it was built on, which no change of its own is.
fn result(task: &Task) -> Option<&str> {
    let tip = task.of_result().and_then(|attempt| attempt.tip.as_ref());
    tip.map(|(_, commit)| commit.as_str())
        .or(task.commit.as_deref())
}

#[cfg(test)]
pub mod tests {
    use std::path::PathBuf;

    use orchestra_proto::v1;
    use orchestra_repo::{Held, Keeper};
    use orchestra_types::{Place, TaskId};

    use super::*;

    pub const TIP: &str = "1111111111111111111111111111111111111111";

    pub fn branch() -> TaskBranch {
        TaskBranch {
            name: "orchestra/task_001".to_owned(),
            task: TaskId(1),
            beside: None,
            commit: TIP.to_owned(),
            committed_at: Some(0),
            severed: false,
            within: None,
            held: None,
            alias: None,
        }
    }

    pub fn task(status: v1::TaskStatus, apply: &str, commit: &str) -> Task {
        let spec = v1::TaskSpec {
            description: "x".to_owned(),
            timeout_ms: 1_000,
            place: Some(Place::Empty.into()),
            ..Default::default()
        };
        let mut task = Task::read(v1::Task {
            id: 1,
            spec: Some(spec),
            status: status.into(),
            apply: apply.to_owned(),
            ..Default::default()
        })
        .unwrap();
        task.commit = Some(commit.to_owned());
        task
    }

    fn goes(branch: &TaskBranch, known: Known<'_>) -> bool {
        matches!(fate(branch, known), Fate::Goes(_))
    }

    #[test]
    fn a_branch_that_is_not_of_the_task_whose_number_it_has_stays_with_why() {
        for (maker, why) in [
            (Maker::OtherCluster, "another cluster wrote it"),
            (Maker::Somebody, "it is not of the task of that number"),
        ] {
            let Fate::Stays(said) = fate(&branch(), Known::NotOf(maker)) else {
                panic!("it goes");
            };
            assert!(said.contains(why), "{said}");
            assert!(Known::NotOf(maker).task().is_none());
        }
    }

    #[test]
    fn a_branch_goes_where_another_one_has_its_commits_whatever_the_head_says() {
        let within = TaskBranch {
            within: Some(Keeper {
                full: "refs/heads/main".to_owned(),
                commit: "2".repeat(40),
            }),
            ..branch()
        };
        assert!(goes(&within, Known::Unasked) && goes(&within, Known::Nothing));
        let why = Fate::Goes("`main` has its commits".to_owned());
        assert_eq!(fate(&within, Known::Nothing), why);
        let beside = TaskBranch {
            beside: Some(1),
            ..within.clone()
        };
        assert!(goes(&beside, Known::Nothing));
        let held = TaskBranch {
            held: Some((Held::CheckedOut, PathBuf::from("/tree"))),
            ..within.clone()
        };
        let why = Fate::Stays("it is checked out in `/tree`".to_owned());
        assert_eq!(fate(&held, Known::Unasked), why);
        let alias = TaskBranch {
            alias: Some("trunk".to_owned()),
            ..within
        };
        assert!(!goes(&alias, Known::Unasked));
    }

    #[test]
    fn one_without_its_commit_or_one_before_it_stays_whatever_the_head_says() {
        let damaged = TaskBranch {
            committed_at: None,
            ..branch()
        };
        let applied = task(v1::TaskStatus::Succeeded, "applied", TIP);
        let Fate::Stays(why) = fate(&damaged, Known::Task(&applied)) else {
            panic!("it is kept");
        };
        assert!(why.contains("lacks its commit"), "{why}");
        let severed = TaskBranch {
            severed: true,
            ..branch()
        };
        let Fate::Stays(why) = fate(&severed, Known::Task(&applied)) else {
            panic!("it is kept");
        };
        assert!(why.contains("lacks a commit before it"), "{why}");
    }

    #[test]
    fn one_that_is_nowhere_else_is_alone_once_its_task_is_over() {
        let is_alone = |branch: &TaskBranch, known| matches!(fate(branch, known), Fate::Alone(_));
        let of = |status, apply| task(status, apply, TIP);
        let beside = TaskBranch {
            beside: Some(1),
            ..branch()
        };
        let ended = of(v1::TaskStatus::Succeeded, "not_requested");
        let review = of(v1::TaskStatus::NeedsReview, "not_requested");
        let open = of(v1::TaskStatus::Queued, "not_requested");
        for branch in [branch(), beside] {
            assert!(is_alone(&branch, Known::Nothing));
            assert!(is_alone(&branch, Known::Task(&ended)));
            assert!(!is_alone(&branch, Known::Task(&open)), "it may go on");
            assert!(!is_alone(&branch, Known::Unasked), "it may be open");
            let Fate::Stays(why) = fate(&branch, Known::Elsewhere) else {
                panic!("it may be another cluster's");
            };
            assert!(why.contains("of another project"), "{why}");
            let Fate::Stays(why) = fate(&branch, Known::Task(&review)) else {
                panic!("a person is to look at it");
            };
            assert!(why.contains("`ctl show task_001`"), "{why}");
        }
        // The head has it.
        let review = of(v1::TaskStatus::NeedsReview, "applied");
        assert!(goes(&self::branch(), Known::Task(&review)));
    }

    #[test]
    fn one_that_is_nothing_but_an_applied_result_goes() {
        let of = |branch: &TaskBranch, status, apply, commit| {
            goes(branch, Known::Task(&task(status, apply, commit)))
        };
        let succeeded = v1::TaskStatus::Succeeded;
        let other = "2".repeat(40);
        assert!(of(&branch(), succeeded, "applied", TIP));
        assert!(of(&branch(), v1::TaskStatus::Failed, "applied", TIP));
        assert!(!of(&branch(), succeeded, "applied", &other));
        assert!(!of(&branch(), succeeded, "not_requested", TIP));
        assert!(!of(&branch(), v1::TaskStatus::Queued, "applied", TIP));
        let beside = TaskBranch {
            beside: Some(1),
            ..branch()
        };
        assert!(!of(&beside, succeeded, "applied", TIP));
        assert!(!goes(&branch(), Known::Unasked) && !goes(&branch(), Known::Nothing));
    }
}
