//! Merges of commits as trees: no file is written, and nobody is asked.

use std::collections::BTreeSet;

use crate::{
    error::{Error, Result},
    git::{Git, Input, records},
    names::shown,
};

/// What became of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Both sides agree: the tree that has both.
    Tree(String),
    /// They disagree about these paths.
    Conflict(BTreeSet<Vec<u8>>),
}

/// Merges two commits. What both sides began from, git knows from their parents.
pub(crate) fn merge(git: &Git, ours: &str, theirs: &str) -> Result<Merge> {
    let args = [
        "merge-tree",
        "--write-tree",
        "-z",
        "--name-only",
        "--no-messages",
        ours,
        theirs,
    ];
    let ended = git.ended(&args, Input::Nothing)?;
    let mut fields = records(&ended.value);
    let merged = fields.next().map(shown);
    match (ended.code, merged) {
        (0, Some(tree)) => Ok(Merge::Tree(tree)),
        (1, Some(_)) => Ok(Merge::Conflict(
            fields
                .map(|path| own_name(path, &[ours, theirs]).to_vec())
                .collect(),
        )),
        (code, _) => Err(Error::Git {
            command: "merge-tree".to_owned(),
            status: format!("exit code {code}"),
            stderr: ended.stderr,
        }),
    }
}

/// The path itself: where one side has a directory, git calls the file `path~COMMIT`, as the side that has it.
fn own_name<'a>(path: &'a [u8], sides: &[&str]) -> &'a [u8] {
    let with = |side: &&str| path.strip_suffix(format!("~{side}").as_bytes());
    sides.iter().find_map(with).unwrap_or(path)
}

/// Whether `commit` is `tip` or came before it.
pub(crate) fn contains(git: &Git, tip: &str, commit: &str) -> Result<bool> {
    let args = ["merge-base", "--is-ancestor", commit, tip];
    Ok(git.ended(&args, Input::Nothing)?.code == 0)
}
