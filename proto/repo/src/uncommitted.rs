//! Large files of a snapshot that the user has not committed: what was sent of them once is not packed and sent
//! again with the next snapshot, which is no descendant of the one before.
//!
//! They are known by their object ids. A bundle without them can be taken by whoever has them from an earlier one.

use std::collections::BTreeSet;

use crate::{
    error::{Error, Result},
    git::{Git, Input, check_commit, records},
    quarantine::has_commit,
    snapshot::Snapshot,
};

/// What is smaller is sent each time.
const LARGE_BYTES: u64 = 64 * 1024;
/// Of so many it is remembered that they were sent: the largest.
const LARGE_FILES_MAX: usize = 10_000;

impl Snapshot {
    /// The large files that are in the snapshot and not in the user's commit below it, by their object ids.
    ///
    /// # Errors
    /// When git fails.
    pub fn large_files(&self) -> Result<Vec<String>> {
        if !self.dirty {
            return Ok(Vec::new());
        }
        let git = self.git();
        let mut sized: Vec<(u64, String)> = sizes(git, &new_files(git, self)?)?
            .into_iter()
            .filter(|(size, _)| *size >= LARGE_BYTES)
            .collect();
        sized.sort_unstable_by(|a, b| b.cmp(a));
        sized.truncate(LARGE_FILES_MAX);
        Ok(sized.into_iter().map(|(_, id)| id).collect())
    }

    /// Those of `files` that a bundle for somebody with the commits `have` would hold.
    ///
    /// # Errors
    /// When git fails.
    pub fn would_send(&self, have: &[String], files: &[String]) -> Result<Vec<String>> {
        // Who does not have all objects cannot list them.
        if self.is_partial {
            return Ok(Vec::new());
        }
        let git = self.git();
        // Most snapshots have nothing of what was sent long ago, and that is soon known.
        let files: BTreeSet<String> = files.iter().cloned().collect();
        let here = sizes(git, &files)?;
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let mut revisions = format!("{}\n", self.commit);
        for commit in have {
            check_commit(commit)?;
            if has_commit(git, commit)? {
                revisions.push_str(&format!("^{commit}\n"));
            }
        }
        let args = ["rev-list", "--objects", "--no-object-names", "--stdin"];
        let listed = git.output_of(&args, Input::Bytes(revisions.as_bytes()))?;
        let listed = String::from_utf8_lossy(&listed);
        let listed: BTreeSet<&str> = listed.lines().collect();
        let wanted = here.into_iter().map(|(_, id)| id);
        Ok(wanted.filter(|id| listed.contains(id.as_str())).collect())
    }
}

/// The files of the snapshot that its commit below does not have at the same place.
fn new_files(git: &Git, snapshot: &Snapshot) -> Result<BTreeSet<String>> {
    let below = match snapshot.head.as_str() {
        "" => git.line_of(&["mktree"], Input::Nothing)?,
        head => head.to_owned(),
    };
    let args = [
        "diff-tree",
        "-r",
        "-z",
        "--raw",
        "--no-renames",
        "--no-abbrev",
        &below,
        &snapshot.commit,
    ];
    let output = git.output(&args)?;
    // Behind each record comes the path.
    let ids = records(&output).step_by(2).filter_map(file_of);
    Ok(ids.collect())
}

/// The id of the file that a record of `diff-tree` brings: `:100644 100644 OLD NEW M`.
fn file_of(record: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(record).ok()?.strip_prefix(':')?;
    let fields: Vec<&str> = text.split(' ').collect();
    match fields.as_slice() {
        [_, "100644" | "100755", _, new, _] => Some((*new).to_owned()),
        _ => None,
    }
}

/// The sizes of those objects that are here, as far as these are files.
fn sizes(git: &Git, ids: &BTreeSet<String>) -> Result<Vec<(u64, String)>> {
    let mut input = String::new();
    for id in ids {
        check_commit(id)?;
        input.push_str(id);
        input.push('\n');
    }
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let args = [
        "cat-file",
        "--batch-check=%(objecttype) %(objectsize) %(objectname)",
    ];
    let output = git.output_of(&args, Input::Bytes(input.as_bytes()))?;
    let text = String::from_utf8_lossy(&output);
    let mut found = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        // Whatever else it says: it is not here, or no file.
        if let ["blob", size, id] = fields.as_slice() {
            let size = size.parse().map_err(|_| Error::Output {
                command: "cat-file --batch-check".to_owned(),
                what: line.to_owned(),
            })?;
            found.push((size, (*id).to_owned()));
        }
    }
    Ok(found)
}
