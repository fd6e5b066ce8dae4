//! What would be in no branch any more without a branch of ours: the work of agents alone, or also commits of
//! somebody else. A task may begin from a detached HEAD, or from a branch that is deleted since.

use std::collections::BTreeSet;

use crate::{
    branches::{commits, is_ours, words},
    checkout::Checkout,
    error::{Error, Result},
    git::{Git, Input},
    snapshot::{EMAIL, UNCOMMITTED},
    workspace::AGENT_EMAIL,
};

/// Of each commit: its committer, its parents, and how its message begins, which may be long.
const FORMAT: &str = "--format=%ce%n%P%n%<(20,trunc)%s";
/// Most commits of one branch that are looked at.
const COMMITS_MAX: usize = 10_000;
/// What keeps a commit. HEAD alone does not: where it is detached, the next checkout leaves it behind.
const KEEPING: [&str; 4] = ["refs/heads/", "refs/remotes/", "refs/tags/", "refs/stash"];

/// What only branches of ours have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnlyHere {
    /// What agents and Orchestra committed, and nothing else.
    Agents,
    /// Also this commit, which somebody else made.
    Anothers {
        /// The newest of them.
        commit: String,
    },
    /// Besides those this commit of what the user had not committed when a task was added.
    Uncommitted {
        /// The newest of them.
        commit: String,
    },
    /// Git cannot tell, or there is too much of it.
    Unknown,
}

/// The commits of all that keeps them and is not ours, for a look at several branches.
#[derive(Clone, Debug)]
pub struct Keeping(BTreeSet<String>);

impl Keeping {
    /// What is in the repository now.
    ///
    /// # Errors
    /// When git cannot be run or read.
    pub fn of(checkout: &Checkout) -> Result<Self> {
        keeping(&checkout.git()).map(Self)
    }
}

/// What of this commit and all before it no branch but those of tasks has, nor a tag or a stash. Whose a commit is
/// its committer says: an agent's git has a name of its own.
///
/// # Errors
/// When git cannot be run.
pub fn only_here(checkout: &Checkout, commit: &str, keeping: &Keeping) -> Result<OnlyHere> {
    let git = checkout.git();
    let others = keeping.0.iter().map(|commit| format!("^{commit}\n"));
    let input: String = std::iter::once(format!("{commit}\n"))
        .chain(others)
        .collect();
    let max = format!("--max-count={}", COMMITS_MAX + 1);
    let args = ["rev-list", &max, FORMAT, "--stdin"];
    match git.output_of(&args, Input::Bytes(input.as_bytes())) {
        Ok(found) => Ok(read(&String::from_utf8_lossy(&found))),
        Err(Error::Git { .. } | Error::Long { .. }) => Ok(OnlyHere::Unknown),
        Err(error) => Err(error),
    }
}

/// The commits of all that is not ours, nor another name of something.
fn keeping(git: &Git) -> Result<BTreeSet<String>> {
    // Not what a tag is of: git would end where one branch or tag is damaged.
    let format = "--format=%(refname) %(objectname) %(symref)";
    let found = git.output(&[&["for-each-ref", format], &KEEPING[..]].concat())?;
    let found = String::from_utf8_lossy(&found);
    let one = |line: &str| {
        let [full, object, symref] = words(line)?;
        let keeps = symref.is_empty() && !is_ours(full);
        keeps.then(|| format!("{object}^{{commit}}"))
    };
    let named: BTreeSet<String> = found.lines().filter_map(one).collect();
    // A tag may be of something else, and what is missing keeps nothing.
    commits(git, named.iter().map(String::as_str))
}

/// `commit COMMIT` and then three lines as in `FORMAT`; the newest first.
fn read(listed: &str) -> OnlyHere {
    let mut lines = listed.lines();
    let (mut seen, mut uncommitted) = (0, None);
    while let Some(line) = lines.next() {
        let commit = line.strip_prefix("commit ");
        let (Some(commit), Some(by), Some(parents), Some(message)) =
            (commit, lines.next(), lines.next(), lines.next())
        else {
            return OnlyHere::Unknown;
        };
        if ![EMAIL, AGENT_EMAIL].contains(&by) {
            let commit = commit.to_owned();
            return OnlyHere::Anothers { commit };
        }
        if by == EMAIL && is_uncommitted(parents, message) {
            uncommitted.get_or_insert_with(|| commit.to_owned());
        }
        seen += 1;
    }
    match (seen > COMMITS_MAX, uncommitted) {
        (true, _) => OnlyHere::Unknown,
        (false, Some(commit)) => OnlyHere::Uncommitted { commit },
        (false, None) => OnlyHere::Agents,
    }
}

/// Whether a commit of ours is a snapshot of the user's files. One that joins several says the same, and
/// holds nothing that is not in one of its parents.
fn is_uncommitted(parents: &str, message: &str) -> bool {
    !parents.contains(' ') && message.trim_end() == UNCOMMITTED.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(commit: &str, by: &str, parents: &str, message: &str) -> String {
        format!("commit {commit}\n{by}\n{parents}\n{message:20}\n")
    }

    #[test]
    fn one_commit_of_somebody_else_is_found_and_what_is_too_much_is_not_known() {
        let agents = |n: usize| {
            let one = |n: usize| one(&format!("{n:040x}"), AGENT_EMAIL, "a", "x");
            (0..n).map(one).collect::<String>()
        };
        assert_eq!(read(""), OnlyHere::Agents);
        assert_eq!(read(&agents(COMMITS_MAX)), OnlyHere::Agents);
        assert_eq!(read(&agents(COMMITS_MAX + 1)), OnlyHere::Unknown);
        let ours = one("c0ffee", EMAIL, "a b", "Merge");
        assert_eq!(read(&(agents(2) + &ours)), OnlyHere::Agents);
        let mine = one("beef", "me@example.com", "", "mine");
        let commit = "beef".to_owned();
        let found = read(&(agents(2) + &mine + &ours));
        assert_eq!(found, OnlyHere::Anothers { commit });
        // Nobody's is somebody's.
        let nobodys = read(&one("beef", "", "", ""));
        assert!(matches!(nobodys, OnlyHere::Anothers { .. }));
        assert_eq!(read("beef"), OnlyHere::Unknown);
        assert_eq!(read("commit beef\n\n"), OnlyHere::Unknown);
    }

    #[test]
    fn what_was_not_committed_is_the_users_though_the_commit_is_ours() {
        let of = |by, parents, message| read(&one("beef", by, parents, message));
        let said = UNCOMMITTED.trim_end();
        let commit = "beef".to_owned();
        let uncommitted = OnlyHere::Uncommitted { commit };
        assert_eq!(of(EMAIL, "a", said), uncommitted);
        assert_eq!(of(EMAIL, "", said), uncommitted, "before the first commit");
        assert_eq!(of(EMAIL, "a b", said), OnlyHere::Agents, "a joint");
        assert_eq!(of(AGENT_EMAIL, "a", said), OnlyHere::Agents);
        assert_eq!(of(EMAIL, "a", "Uncommitted work.."), OnlyHere::Agents);
        // What somebody has committed matters more.
        let mine = one("cafe", "me@example.com", "", "mine");
        let found = read(&(one("beef", EMAIL, "cafe", said) + &mine));
        let commit = "cafe".to_owned();
        assert_eq!(found, OnlyHere::Anothers { commit });
    }
}
