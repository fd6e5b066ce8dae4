//! What `--older-than` and `--unapplied` make of the fate of a branch. A result that is nowhere else goes only
//! where both are said. Whatever is said, one goes only where nothing else keeps it (see `claim`).

use std::time::Duration;

use orchestra_repo::{LastWrite, TaskBranch};
use orchestra_types::{Timestamp, time::write_duration};

use super::{claim::Looked, fate::Fate};

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

/// What the repository is asked for of a branch that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    /// Who wrote it last, and when.
    pub write: bool,
    /// What only it has.
    pub only_here: bool,
}

impl Asks {
    /// Of one of which nothing matters.
    pub const NOTHING: Self = Self {
        write: false,
        only_here: false,
    };

    /// Whether it is asked for anything.
    pub fn anything(self) -> bool {
        self.write || self.only_here
    }
}

impl Wish {
    /// What of this branch matters.
    pub fn asks(&self, fate: &Fate, branch: &TaskBranch) -> Asks {
        // One that is too young stays.
        if !self.is_old(branch.committed_at) {
            return Asks::NOTHING;
        }
        let write = self.older_than.is_some();
        match fate {
            Fate::Goes(_) => Asks {
                write,
                only_here: branch.within.is_none(),
            },
            Fate::Alone(_) => Asks {
                write,
                only_here: write,
            },
            Fate::Stays(_) => Asks::NOTHING,
        }
    }

    /// Decides about one. `objection` says why one must stay that would go.
    pub fn fate(
        &self,
        fate: Fate,
        branch: &TaskBranch,
        looked: &Looked,
        objection: impl FnOnce(&Fate) -> Option<String>,
    ) -> Fate {
        let written = match looked.write {
            LastWrite::Ours { at, .. } | LastWrite::Anothers { at } => Some(at),
            LastWrite::Unknown => None,
        };
        // Whose commit is old may have been written here only now.
        let is_old = self.is_old(branch.committed_at.max(written));
        let limit = self.older_than.map(write_duration);
        match (fate, limit) {
            (Fate::Stays(why), _) => Fate::Stays(why),
            (Fate::Goes(why), Some(limit)) if !is_old => {
                Fate::Stays(format!("{why}, but it is not older than {limit}"))
            }
            (Fate::Goes(why), _) => match objection(&Fate::Goes(why.clone())) {
                Some(reason) => Fate::Stays(format!("{why}, but {reason}")),
                None => Fate::Goes(why),
            },
            (Fate::Alone(why), None) => Fate::Alone(why),
            (Fate::Alone(why), Some(limit)) if !is_old => {
                Fate::Stays(format!("{why}, and it is not older than {limit}"))
            }
            (Fate::Alone(why), Some(_)) => match objection(&Fate::Alone(why.clone())) {
                Some(reason) => Fate::Stays(format!("{why}, and {reason}")),
                None if self.unapplied => Fate::Goes(why),
                None => Fate::Alone(why),
            },
        }
    }

    /// As options of the command, each with a space before it.
    pub fn words(&self) -> String {
        let older = self.older_than.map(|limit| {
            // It is to be copied.
            format!(" --older-than {}", write_duration(limit))
        });
        let unapplied = if self.unapplied { " --unapplied" } else { "" };
        older.unwrap_or_default() + unapplied
    }

    /// Whether one of that time is old enough; without a limit all are.
    fn is_old(&self, at: Option<u64>) -> bool {
        let at = at.map(|seconds| Timestamp(seconds.saturating_mul(1000)));
        let is_older = |limit| at.is_some_and(|at| at.plus(limit) <= self.now);
        self.older_than.is_none_or(is_older)
    }
}

#[cfg(test)]
mod tests {
    use orchestra_repo::Keeper;
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
    fn without_a_limit_only_what_would_be_lost_counts() {
        let new = branch(NOW_S);
        let wish = wish(None, false);
        for fate in [goes(), alone(), Fate::Stays("x".to_owned())] {
            assert!(!wish.asks(&fate, &new).write);
            let same = wish.fate(fate.clone(), &new, &ours(9 * DAY_S), |_| None);
            assert_eq!(same, fate);
        }
        assert_eq!(wish.words(), "");
        assert!(!wish.asks(&alone(), &new).anything(), "it stays anyway");
        assert!(wish.asks(&goes(), &new).only_here);
        let objection = |_: &Fate| Some("somebody's commit is lost".to_owned());
        let why = stays(wish.fate(goes(), &new, &Looked::NOT, objection));
        assert_eq!(why, "it is kept, but somebody's commit is lost");
        assert_eq!(wish.fate(alone(), &new, &Looked::NOT, objection), alone());
        let within = TaskBranch {
            within: Some(Keeper {
                full: "refs/heads/main".to_owned(),
                commit: "2".repeat(40),
            }),
            ..new
        };
        assert!(!wish.asks(&goes(), &within).anything());
    }

    #[test]
    fn what_is_kept_elsewhere_goes_only_when_it_is_old() {
        let wish = wish(Some(30), false);
        let of = |branch: &TaskBranch, looked| wish.fate(goes(), branch, &looked, |_| None);
        assert_eq!(of(&branch(10 * DAY_S), ours(9 * DAY_S)), goes());
        assert_eq!(of(&branch(10 * DAY_S), Looked::NOT), goes());
        let why = stays(of(&branch(90 * DAY_S), Looked::NOT));
        assert_eq!(why, "it is kept, but it is not older than 30d");
        // An old commit that was written only now.
        stays(of(&branch(10 * DAY_S), ours(NOW_S)));
        let moved = |at| Looked {
            write: LastWrite::Anothers { at },
            ..Looked::NOT
        };
        stays(of(&branch(10 * DAY_S), moved(90 * DAY_S)));
        assert_eq!(of(&branch(10 * DAY_S), moved(9 * DAY_S)), goes());
        let asks = wish.asks(&goes(), &branch(10 * DAY_S));
        assert!(asks.write && asks.only_here);
        assert!(!wish.asks(&goes(), &branch(90 * DAY_S)).anything());
        let old = branch(10 * DAY_S);
        let objection = |_: &Fate| Some("somebody's commit is lost".to_owned());
        let why = stays(wish.fate(goes(), &old, &ours(9 * DAY_S), objection));
        assert_eq!(why, "it is kept, but somebody's commit is lost");
    }

    #[test]
    fn a_result_that_is_nowhere_else_goes_only_when_it_is_old_and_said_and_nothing_keeps_it() {
        let old = branch(10 * DAY_S);
        let of =
            |wish: Wish, branch: &TaskBranch, at| wish.fate(alone(), branch, &ours(at), |_| None);
        let without = wish(Some(30), false);
        assert_eq!(of(without, &old, 9 * DAY_S), alone());
        let with = wish(Some(30), true);
        let went = Fate::Goes("it is alone".to_owned());
        assert_eq!(of(with, &old, 9 * DAY_S), went);
        stays(of(with, &branch(90 * DAY_S), 9 * DAY_S));
        stays(of(with, &old, NOW_S));
        for wish in [without, with] {
            let objection = |_: &Fate| Some("somebody keeps it".to_owned());
            let why = stays(wish.fate(alone(), &old, &ours(9 * DAY_S), objection));
            assert_eq!(why, "it is alone, and somebody keeps it");
        }
        let kept = Fate::Stays("checked out".to_owned());
        let same = with.fate(kept.clone(), &old, &ours(9 * DAY_S), |_| None);
        assert_eq!(same, kept);
        assert_eq!(with.words(), " --older-than 30d --unapplied");
    }

    #[test]
    fn a_limit_is_said_as_it_can_be_given_again() {
        for (ms, text) in [(0, "0s"), (1500, "1s500ms"), (95_400_000, "1d2h30m")] {
            let wish = Wish {
                older_than: Some(Duration::from_millis(ms)),
                ..wish(None, false)
            };
            assert_eq!(wish.words(), format!(" --older-than {text}"));
        }
    }
}
