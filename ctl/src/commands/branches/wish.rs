//! What `--older-than` and `--unapplied` make of the fate of a branch. A result that is nowhere else goes only
//! where both are said, and where nothing else keeps it (see `claim`).

use std::time::Duration;

use orchestra_repo::{LastWrite, TaskBranch};
use orchestra_types::Timestamp;

use super::{claim::Looked, fate::Fate};
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
    /// Whether it matters who wrote this branch last, and when, and what only it has.
    pub fn asks_for_a_look(&self, fate: &Fate, branch: &TaskBranch) -> bool {
        let may_go = match fate {
            Fate::Goes(_) | Fate::Alone(_) => true,
            Fate::Stays(_) => false,
        };
        let limit = self.older_than;
        may_go && limit.is_some_and(|limit| self.is_older(branch.committed_at, limit))
    }

    /// Decides about one. `objection` says why one must stay that is nowhere else.
    pub fn fate(
        &self,
        fate: Fate,
        branch: &TaskBranch,
        looked: &Looked,
        objection: impl FnOnce() -> Option<String>,
    ) -> Fate {
        let Some(limit) = self.older_than else {
            return fate;
        };
        let written = match looked.write {
            LastWrite::Ours { at, .. } => Some(at),
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
            Fate::Alone(why) => match objection() {
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

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    const DAY_S: u64 = 24 * 3600;
    const NOW_S: u64 = 100 * DAY_S;

    fn ours(at: u64) -> Looked {
        Looked {
            write: LastWrite::Ours { at, cluster: None },
            ..Looked::NOT
        }
    }

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
            assert!(!wish.asks_for_a_look(&fate, &new));
            let same = wish.fate(fate.clone(), &new, &ours(9 * DAY_S), || None);
            assert_eq!(same, fate);
        }
        assert_eq!(wish(None, false).words(), "");
    }

    #[test]
    fn what_is_kept_elsewhere_goes_only_when_it_is_old() {
        let wish = wish(Some(30), false);
        let of = |branch: &TaskBranch, looked| wish.fate(goes(), branch, &looked, || None);
        assert_eq!(of(&branch(10 * DAY_S), ours(9 * DAY_S)), goes());
        assert_eq!(of(&branch(10 * DAY_S), Looked::NOT), goes());
        let why = stays(of(&branch(90 * DAY_S), Looked::NOT));
        assert_eq!(why, "it is kept, but it is not older than 30d");
        // An old commit that was written only now.
        stays(of(&branch(10 * DAY_S), ours(NOW_S)));
        assert!(wish.asks_for_a_look(&goes(), &branch(10 * DAY_S)));
        assert!(!wish.asks_for_a_look(&goes(), &branch(90 * DAY_S)));
    }

    #[test]
    fn a_result_that_is_nowhere_else_goes_only_when_it_is_old_and_said_and_nothing_keeps_it() {
        let old = branch(10 * DAY_S);
        let of =
            |wish: Wish, branch: &TaskBranch, at| wish.fate(alone(), branch, &ours(at), || None);
        let without = wish(Some(30), false);
        assert_eq!(of(without, &old, 9 * DAY_S), alone());
        let with = wish(Some(30), true);
        let went = Fate::Goes("it is alone".to_owned());
        assert_eq!(of(with, &old, 9 * DAY_S), went);
        stays(of(with, &branch(90 * DAY_S), 9 * DAY_S));
        stays(of(with, &old, NOW_S));
        for wish in [without, with] {
            let objection = || Some("somebody keeps it".to_owned());
            let why = stays(wish.fate(alone(), &old, &ours(9 * DAY_S), objection));
            assert_eq!(why, "it is alone, and somebody keeps it");
        }
        let kept = Fate::Stays("checked out".to_owned());
        let same = with.fate(kept.clone(), &old, &ours(9 * DAY_S), || None);
        assert_eq!(same, kept);
        assert_eq!(with.words(), " --older-than 30d --unapplied");
    }
}
