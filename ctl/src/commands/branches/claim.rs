//! What keeps a branch that would go. With none goes what somebody else made and nothing else has. One that is
//! nowhere else, and not applied, goes only where it can be shown to be what this cluster wrote; whatever is not
//! known keeps it.

use orchestra_repo::{LastWrite, OnlyHere, TaskBranch};

use super::fate::{Fate, Known, Maker};

/// What a look at the repository said of a branch.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Who wrote it last.
    pub write: LastWrite,
    /// What no other branch has.
    pub only_here: OnlyHere,
}

impl Looked {
    /// Of one that was not looked at.
    pub const NOT: Self = Self {
        write: LastWrite::Unknown,
        only_here: OnlyHere::Unknown,
    };
}

/// Why one of this fate must stay; none where nothing keeps it. `cluster` is the one that was asked.
pub fn objection(
    fate: &Fate,
    branch: &TaskBranch,
    known: Known<'_>,
    looked: &Looked,
    cluster: Option<&str>,
) -> Option<String> {
    let not_agents_alone =
        || anothers(&looked.only_here).or_else(|| uncommitted(&looked.only_here));
    match fate {
        Fate::Stays(_) => None,
        Fate::Goes(_) if branch.within.is_some() => None,
        // The head has the result, but not what was before it: without that nothing unpacks its bundle.
        Fate::Goes(_) => anothers(&looked.only_here),
        Fate::Alone(_) => {
            not_as_written(branch, known, &looked.write, cluster).or_else(not_agents_alone)
        }
    }
}

/// Whether only its reflog can tell that a branch is not of the task that the head knows by its number.
pub fn is_doubtful(branch: &TaskBranch, known: Known<'_>) -> bool {
    known.task().is_some() && !known.left(branch)
}

/// What is known of a branch, with who wrote it last. One that this cluster wrote, or an earlier version, is of
/// the task, whoever went on with it.
pub fn with_writer<'a>(
    branch: &TaskBranch,
    known: Known<'a>,
    write: &LastWrite,
    cluster: Option<&str>,
) -> Known<'a> {
    let Some(task) = known.task() else {
        return known;
    };
    match write {
        LastWrite::Ours {
            cluster: Some(of), ..
        } if cluster.is_some_and(|cluster| cluster != of) => Known::NotOf(Maker::OtherCluster),
        // What lies beside the result an attempt may have left without one.
        LastWrite::Anothers { .. } if branch.beside.is_none() && task.commits().0.is_empty() => {
            Known::NotOf(Maker::Somebody)
        }
        LastWrite::Ours { .. } | LastWrite::Anothers { .. } | LastWrite::Unknown => known,
    }
}

/// Why somebody may have gone on with it, or another cluster may have written it.
fn not_as_written(
    branch: &TaskBranch,
    known: Known<'_>,
    write: &LastWrite,
    cluster: Option<&str>,
) -> Option<String> {
    let is_result = branch.beside.is_none() && known.result() == Some(&*branch.commit);
    let why = match write {
        LastWrite::Anothers { .. } => {
            return Some("somebody has changed it since Orchestra wrote it".to_owned());
        }
        LastWrite::Unknown if is_result => return None,
        LastWrite::Unknown => {
            "nobody knows any more whether somebody went on with it, for git has dropped its reflog"
        }
        LastWrite::Ours { .. } if known.left(branch) => return None,
        LastWrite::Ours {
            cluster: Some(of), ..
        } if Some(&**of) == cluster => match known.task() {
            None => return None,
            // The number was given out twice, as after a restore that did not skip it.
            Some(_) if branch.beside.is_none() => {
                "the head does not know it as what an attempt of its task left"
            }
            Some(_) => "which commits were beside its task's result the head cannot say",
        },
        LastWrite::Ours {
            cluster: Some(_), ..
        } => "its reflog says that another cluster wrote it, which may still work on its task",
        LastWrite::Ours { cluster: None, .. } => {
            "its reflog does not say which cluster wrote it, and another one may still work on its task"
        }
    };
    Some(format!("{why}: `git branch -D` removes it"))
}

/// Why it may hold what the user had not committed, which a commit of ours has: the head's bundle of a result
/// has that, too, and whoever applied it had the files.
fn uncommitted(only_here: &OnlyHere) -> Option<String> {
    match only_here {
        OnlyHere::Agents | OnlyHere::Anothers { .. } | OnlyHere::Unknown => None,
        OnlyHere::Uncommitted { commit } => Some(format!(
            "the commit {commit} before it, of files that were not committed when its task was added, is in no \
             branch but those of tasks, and no tag: `git branch NAME {commit}` keeps that one, and `git branch -D` removes this"
        )),
    }
}

/// Why it may hold what somebody else has committed.
fn anothers(only_here: &OnlyHere) -> Option<String> {
    match only_here {
        OnlyHere::Agents | OnlyHere::Uncommitted { .. } => None,
        OnlyHere::Anothers { commit } => Some(format!(
            "the commit {commit} before it, which no agent's git made, is in no branch but those of tasks, and no tag: \
             `git branch NAME {commit}` keeps that one, and `git branch -D` removes this"
        )),
        OnlyHere::Unknown => Some(
            "nobody can tell whether all of its commits are an agent's: `git branch -D` removes it"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_repo::Keeper;
    use orchestra_types::TaskId;

    use super::*;
    use crate::commands::branches::fate::tests::{TIP, branch, task};

    const HERE: Option<&str> = Some("c1");

    fn alone() -> Fate {
        Fate::Alone("it is alone".to_owned())
    }

    fn ours(cluster: Option<&str>) -> LastWrite {
        let cluster = cluster.map(str::to_owned);
        LastWrite::Ours { at: 1, cluster }
    }

    fn of(branch: &TaskBranch, known: Known<'_>, write: LastWrite) -> Option<String> {
        let only_here = OnlyHere::Agents;
        objection(&alone(), branch, known, &Looked { write, only_here }, HERE)
    }

    #[test]
    fn of_a_task_that_the_head_does_not_know_only_what_its_cluster_wrote_goes() {
        let of = |write| of(&branch(), Known::Nothing, write);
        assert_eq!(of(ours(HERE)), None);
        let why = of(ours(Some("c2"))).unwrap();
        assert!(why.contains("another cluster wrote it"), "{why}");
        let why = of(ours(None)).unwrap();
        assert!(why.contains("does not say which cluster"), "{why}");
        assert!(why.contains("`git branch -D`"), "{why}");
        // A head that does not say who it is.
        let looked = Looked {
            write: ours(HERE),
            only_here: OnlyHere::Agents,
        };
        assert!(objection(&alone(), &branch(), Known::Nothing, &looked, None).is_some());
    }

    #[test]
    fn a_branch_that_another_cluster_wrote_is_not_of_the_task_of_its_number() {
        let ended = task(
            orchestra_proto::v1::TaskStatus::Failed,
            "not_requested",
            TIP,
        );
        let known = Known::Task(&ended);
        let maker = |write: &LastWrite, cluster| match with_writer(&branch(), known, write, cluster)
        {
            Known::NotOf(maker) => Some(maker),
            _ => None,
        };
        assert_eq!(maker(&ours(Some("c2")), HERE), Some(Maker::OtherCluster));
        let somebody = Some(Maker::Somebody);
        assert_eq!(maker(&LastWrite::Anothers { at: 1 }, HERE), somebody);
        for write in [ours(HERE), ours(None), LastWrite::Unknown] {
            assert_eq!(maker(&write, HERE), None);
        }
        // A head that does not say who it is.
        assert_eq!(maker(&ours(Some("c2")), None), None);
        let beside = TaskBranch {
            beside: Some(1),
            ..branch()
        };
        let known_beside = with_writer(&beside, known, &LastWrite::Anothers { at: 1 }, HERE);
        assert!(matches!(known_beside, Known::Task(_)));
        assert!(!is_doubtful(&branch(), known), "it is its result");
        let other = TaskBranch {
            commit: "2".repeat(40),
            ..branch()
        };
        assert!(is_doubtful(&other, known) && !is_doubtful(&other, Known::Nothing));
    }

    #[test]
    fn of_a_task_that_it_knows_only_what_its_attempts_left_goes() {
        let ended = task(
            orchestra_proto::v1::TaskStatus::Failed,
            "not_requested",
            TIP,
        );
        let known = Known::Task(&ended);
        assert_eq!(of(&branch(), known, ours(None)), None);
        assert_eq!(of(&branch(), known, LastWrite::Unknown), None);
        // The same number in another cluster.
        let other = TaskBranch {
            commit: "2".repeat(40),
            ..branch()
        };
        assert!(of(&other, known, ours(None)).is_some());
        assert!(of(&other, known, ours(Some("c2"))).is_some());
        let why = of(&other, known, ours(HERE)).unwrap();
        assert!(why.contains("an attempt of its task"), "{why}");
        let beside = TaskBranch {
            beside: Some(1),
            task: TaskId(1),
            ..branch()
        };
        assert!(of(&beside, known, ours(None)).is_some());
        assert!(of(&beside, known, ours(HERE)).is_some());
        assert_eq!(of(&beside, Known::Nothing, ours(HERE)), None);
    }

    #[test]
    fn what_somebody_may_have_gone_on_with_stays() {
        let ended = task(
            orchestra_proto::v1::TaskStatus::Failed,
            "not_requested",
            TIP,
        );
        let why = of(
            &branch(),
            Known::Task(&ended),
            LastWrite::Anothers { at: 1 },
        )
        .unwrap();
        assert!(why.contains("somebody has changed it"), "{why}");
        // Without a reflog only the head may know.
        let why = of(&branch(), Known::Nothing, LastWrite::Unknown).unwrap();
        assert!(why.contains("git branch -D"), "{why}");
        let beside = TaskBranch {
            beside: Some(1),
            ..branch()
        };
        assert!(of(&beside, Known::Task(&ended), LastWrite::Unknown).is_some());
    }

    #[test]
    fn one_that_alone_has_a_commit_of_somebody_else_stays_also_where_it_was_applied() {
        let goes = Fate::Goes("it was applied".to_owned());
        let of = |fate: &Fate, branch: &TaskBranch, only_here| {
            let write = ours(HERE);
            let looked = Looked { write, only_here };
            objection(fate, branch, Known::Nothing, &looked, HERE)
        };
        let commit = "beef".to_owned();
        let anothers = OnlyHere::Anothers { commit };
        for fate in [&alone(), &goes] {
            let of = |only_here| of(fate, &branch(), only_here);
            assert_eq!(of(OnlyHere::Agents), None);
            let why = of(anothers.clone()).unwrap();
            assert!(why.contains("`git branch NAME beef`"), "{why}");
            assert!(of(OnlyHere::Unknown).is_some());
        }
        // What was not committed is in the head's bundle of a result, as far as there is one.
        let commit = "beef".to_owned();
        let uncommitted = OnlyHere::Uncommitted { commit };
        let why = of(&alone(), &branch(), uncommitted.clone()).unwrap();
        assert!(why.contains("not committed") && why.contains("`git branch NAME beef`"));
        assert_eq!(of(&goes, &branch(), uncommitted), None);
        // What another branch has as a whole is not looked at.
        let within = TaskBranch {
            within: Some(Keeper {
                full: "refs/heads/main".to_owned(),
                commit: "2".repeat(40),
            }),
            ..branch()
        };
        assert_eq!(of(&goes, &within, OnlyHere::Unknown), None);
        let stays = Fate::Stays("checked out".to_owned());
        assert_eq!(of(&stays, &branch(), anothers), None);
    }
}
