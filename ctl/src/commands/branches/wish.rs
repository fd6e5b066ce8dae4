//! What `--older-than` and `--unapplied` make of the fate of a branch. A result that is nowhere else goes only
//! where both are said, and where nobody can have gone on with it.

use std::time::Duration;

use orchestra_repo::{LastWrite, TaskBranch};
use orchestra_types::Timestamp;

use super::fate::Fate;
use crate::ui::time::duration;

/// Which branches a person wants to be rid of.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Only those that are older.
    pub older_than: Option<Duration>,
    /// Also results that are nowhere else.
    pub unapplied: bool,
    /// The clock.
    pub now: Timestamp,
}

impl Wish {
    /// Whether it matters who wrote this branch last, and when.
    pub fn asks_for_last_write(&self, fate: &Fate, branch: &TaskBranch) -> bool {
        let may_go = match fate {
            Fate::Goes(_) | Fate::Alone(_) => true,
            Fate::Stays(_) => false,
        };
        let limit = self.older_than;
        may_go && limit.is_some_and(|limit| self.is_older(branch.committed_at, limit))
    }

    /// Decides about one. `result` is the commit that the head has as the result of its task.
    pub fn fate(
        &self,
        fate: Fate,
        branch: &TaskBranch,
        last_write: LastWrite,
        result: Option<&str>,
    ) -> Fate {
        let Some(limit) = self.older_than else {
            return fate;
        };
        let written = match last_write {
            LastWrite::Ours { at } => Some(at),
            LastWrite::Anothers | LastWrite::Unknown => None,
        };
        // Whose commit is old may have been written here only now.
        let is_old = self.is_older(branch.committed_at.max(written), limit);
        let limit = duration(limit);
        match fate {
            Fate::Stays(why) => Fate::Stays(why),
            Fate::Goes(why) if is_old => Fate::Goes(why),
            Fate::Goes(why) => Fate::Stays(format!("{why}, but it is not older than {limit}")),
            Fate::Alone(why) if !is_old => {
                Fate::Stays(format!("{why}, and it is not older than {limit}"))
            }
            Fate::Alone(why) => match not_as_written(branch, last_write, result) {
                Some(reason) => Fate::Stays(format!("{why}, and {reason}")),
                None if self.unapplied => Fate::Goes(why),
                None => Fate::Alone(why),
            },
        }
    }

    /// As options of the command, each with a space before it.
    pub fn words(&self) -> String {
        let older = self.older_than.map(|limit| {
            // Without spaces: it is to be copied.
            format!(" --older-than {}", duration(limit).replace(' ', ""))
        });
        let unapplied = if self.unapplied { " --unapplied" } else { "" };
        older.unwrap_or_default() + unapplied
    }

    fn is_older(&self, at: Option<u64>, limit: Duration) -> bool {
        let at = at.map(|seconds| Timestamp(seconds.saturating_mul(1000)));
        at.is_some_and(|at| at.plus(limit) <= self.now)
    }
}

/// Why somebody may have gone on with a branch; none where nobody has.
fn not_as_written(
    branch: &TaskBranch,
    last_write: LastWrite,
    result: Option<&str>,
) -> Option<&'static str> {
    let is_result = branch.beside.is_none() && result == Some(&*branch.commit);
    match last_write {
        LastWrite::Ours { .. } => None,
        LastWrite::Anothers => Some("somebody has changed it since Orchestra wrote it"),
        LastWrite::Unknown if is_result => None,
        LastWrite::Unknown => Some(
            "nobody knows any more whether somebody went on with it, for git has dropped its reflog: \
             `git branch -D` removes it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    const DAY_S: u64 = 24 * 3600;
    const NOW_S: u64 = 100 * DAY_S;
    const OURS: LastWrite = LastWrite::Ours { at: 9 * DAY_S };

    fn branch(committed_at: u64) -> TaskBranch {
        TaskBranch {
            name: "orchestra/task_001".to_owned(),
            task: TaskId(1),
            beside: None,
            commit: "1".repeat(40),
            committed_at: Some(committed_at),
            severed: false,
            within: None,
            held: None,
            alias: None,
        }
    }

    fn wish(days: Option<u64>, unapplied: bool) -> Wish {
        Wish {
            older_than: days.map(|days| Duration::from_secs(days * DAY_S)),
            unapplied,
            now: Timestamp(NOW_S * 1000),
        }
    }

    fn alone() -> Fate {
        Fate::Alone("it is alone".to_owned())
    }

    fn goes() -> Fate {
        Fate::Goes("it is kept".to_owned())
    }

    fn stays(fate: Fate) -> String {
        match fate {
            Fate::Stays(why) => why,
            Fate::Goes(_) | Fate::Alone(_) => panic!("{fate:?}"),
        }
    }

    #[test]
    fn without_a_limit_nothing_changes() {
        let new = branch(NOW_S);
        for fate in [goes(), alone(), Fate::Stays("x".to_owned())] {
            let wish = wish(None, false);
            assert!(!wish.asks_for_last_write(&fate, &new));
            assert_eq!(wish.fate(fate.clone(), &new, OURS, None), fate);
        }
        assert_eq!(wish(None, false).words(), "");
    }

    #[test]
    fn what_is_kept_elsewhere_goes_only_when_it_is_old() {
        let wish = wish(Some(30), false);
        let of = |branch: &TaskBranch, write| wish.fate(goes(), branch, write, None);
        assert_eq!(of(&branch(10 * DAY_S), OURS), goes());
        assert_eq!(of(&branch(10 * DAY_S), LastWrite::Unknown), goes());
        let why = stays(of(&branch(90 * DAY_S), LastWrite::Unknown));
        assert_eq!(why, "it is kept, but it is not older than 30d");
        // An old commit that was written only now.
        let now = LastWrite::Ours { at: NOW_S };
        stays(of(&branch(10 * DAY_S), now));
        assert!(wish.asks_for_last_write(&goes(), &branch(10 * DAY_S)));
        assert!(!wish.asks_for_last_write(&goes(), &branch(90 * DAY_S)));
    }

    #[test]
    fn a_result_that_is_nowhere_else_goes_only_when_it_is_old_as_written_and_said() {
        let old = branch(10 * DAY_S);
        let without = wish(Some(30), false);
        assert_eq!(without.fate(alone(), &old, OURS, None), alone());
        let with = wish(Some(30), true);
        let of = |branch: &TaskBranch, write, result| with.fate(alone(), branch, write, result);
        assert_eq!(of(&old, OURS, None), Fate::Goes("it is alone".to_owned()));
        stays(of(&branch(90 * DAY_S), OURS, None));
        stays(of(&old, LastWrite::Ours { at: NOW_S }, None));
        let why = stays(of(&old, LastWrite::Anothers, Some(&old.commit)));
        assert!(why.contains("somebody has changed it"), "{why}");
        // Without a reflog only the head may know.
        let why = stays(of(&old, LastWrite::Unknown, None));
        assert!(why.contains("git branch -D"), "{why}");
        stays(of(&old, LastWrite::Unknown, Some("another")));
        let known = of(&old, LastWrite::Unknown, Some(&old.commit));
        assert_eq!(known, Fate::Goes("it is alone".to_owned()));
        let beside = TaskBranch {
            beside: Some(1),
            ..old.clone()
        };
        stays(of(&beside, LastWrite::Unknown, Some(&old.commit)));
        let kept = Fate::Stays("checked out".to_owned());
        assert_eq!(with.fate(kept.clone(), &old, OURS, None), kept);
        assert_eq!(with.words(), " --older-than 30d --unapplied");
    }
}
