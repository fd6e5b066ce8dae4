//! Who wrote a branch last, and when, as its reflog says. What is written here always has an entry (see
//! `import`); git drops those of 90 days by default.

use crate::{
    action,
    branches::TaskBranch,
    checkout::Checkout,
    error::Result,
    git::{Git, Input},
};

/// Who wrote a branch last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastWrite {
    /// Orchestra did, so that nobody has gone on with it.
    Ours {
        /// In seconds since 1970.
        at: u64,
        /// For which cluster; none where that is not known.
        cluster: Option<String>,
    },
    /// Somebody else did.
    Anothers {
        /// In seconds since 1970.
        at: u64,
    },
    /// Nobody knows any more.
    Unknown,
}

/// Who wrote this branch last. An entry that is not about the commit that it is counts as somebody's.
///
/// # Errors
/// When git cannot be run.
pub fn last_write(checkout: &Checkout, branch: &TaskBranch) -> Result<LastWrite> {
    let git = checkout.git();
    let full = format!("refs/heads/{}", branch.name);
    let Some(entry) = newest_entry(&git, &full)? else {
        return Ok(LastWrite::Unknown);
    };
    Ok(read(&entry, &branch.commit))
}

/// Its newest entry; none where it has none, or no reflog, or git cannot tell.
fn newest_entry(git: &Git, full: &str) -> Result<Option<String>> {
    let args = [
        "log",
        "--walk-reflogs",
        "--max-count=1",
        "--no-show-signature",
        "--no-patch",
        "--date=unix",
        "--format=%H %gd %gs",
        full,
        "--",
    ];
    let said = git.ended(&args, Input::Nothing)?;
    let said_so = said.code == 0;
    let text = String::from_utf8_lossy(&said.value);
    let first = text.lines().next().filter(|_| said_so);
    Ok(first.map(str::to_owned))
}

/// `COMMIT NAME@{SECONDS} MESSAGE`.
fn read(entry: &str, commit: &str) -> LastWrite {
    let parts = entry.split_once(' ').and_then(|(of, rest)| {
        let (_, rest) = rest.split_once("@{")?;
        let (at, message) = rest.split_once("} ")?;
        Some((of, at.parse().ok()?, message))
    });
    match parts {
        None => LastWrite::Unknown,
        Some((of, at, message)) => match action::read(message) {
            Some(cluster) if of == commit => LastWrite::Ours { at, cluster },
            Some(_) | None => LastWrite::Anothers { at },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_who_wrote_and_when() {
        let of = |entry: &str| read(entry, "c0ffee");
        let ours = "c0ffee orchestra/task_001@{1700000000} orchestra: as the task left it";
        let read = |cluster: Option<&str>| LastWrite::Ours {
            at: 1_700_000_000,
            cluster: cluster.map(str::to_owned),
        };
        assert_eq!(of(ours), read(None));
        assert_eq!(of(&format!("{ours}, of cluster a-1")), read(Some("a-1")));
        for another in [
            "c0ffee orchestra/task_001@{1700000000} commit: mine",
            "c0ffee orchestra/task_001@{1700000000} orchestral: x",
            "c0ffee orchestra/task_001@{1700000000} ",
            "beef orchestra/task_001@{1700000000} orchestra: as the task left it",
        ] {
            let at = 1_700_000_000;
            assert_eq!(of(another), LastWrite::Anothers { at }, "{another}");
        }
        for unknown in [
            "",
            "c0ffee",
            "c0ffee orchestra/task_001@{yesterday} orchestra: x",
        ] {
            assert_eq!(of(unknown), LastWrite::Unknown, "{unknown}");
        }
    }
}
