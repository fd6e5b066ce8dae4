//! What a snapshot names without having it: submodules, and files that are kept in Git LFS.

use crate::{
    error::Result,
    git::{Git, Input, records},
    names::shown,
    stage::Warnings,
};

/// A pointer of Git LFS is smaller than this, by its specification.
const POINTER_BYTES_MAX: u64 = 1024;
/// How many files a warning names.
const NAMED_MAX: usize = 5;

/// Warns of what agents will miss. `git` has the index of the snapshot.
pub(crate) fn warn(git: &Git, warnings: &mut Warnings) -> Result<()> {
    let output = git.output(&["ls-files", "-z", "--stage"])?;
    for path in records(&output).filter_map(|entry| entry.strip_prefix(b"160000 ")) {
        let path = path.splitn(2, |b| *b == b'\t').nth(1).unwrap_or_default();
        warnings.add(format!(
            "`{}` is a submodule: agents get an empty directory",
            shown(path)
        ));
    }
    let pointers = pointers(git)?;
    if !pointers.is_empty() {
        warnings.add(pointers_text(&pointers));
    }
    Ok(())
}

/// Files that Git LFS keeps elsewhere, as far as the snapshot has only their pointers.
fn pointers(git: &Git) -> Result<Vec<Vec<u8>>> {
    let git = git.clone().env("GIT_LITERAL_PATHSPECS", "0");
    let kept = ":(top,attr:filter=lfs)";
    let output = git.output(&["ls-files", "-z", "--stage", "--", kept])?;
    let (mut ids, mut paths) = (String::new(), Vec::new());
    for entry in records(&output) {
        let mut halves = entry.splitn(2, |b| *b == b'\t');
        let (facts, path) = (halves.next().unwrap_or_default(), halves.next());
        let id = facts.split(|b| *b == b' ').nth(1).unwrap_or_default();
        if let (Some(path), Ok(id)) = (path, str::from_utf8(id)) {
            ids.push_str(id);
            ids.push('\n');
            paths.push(path.to_vec());
        }
    }
    if paths.is_empty() {
        return Ok(paths);
    }
    let args = ["cat-file", "--batch-check=%(objectsize)"];
    let sizes = git.output_of(&args, Input::Bytes(ids.as_bytes()))?;
    let sizes = sizes.split(|b| *b == b'\n');
    let is_pointer = |size: &[u8]| {
        let size = str::from_utf8(size).ok().and_then(|size| size.parse().ok());
        size.is_some_and(|size: u64| size < POINTER_BYTES_MAX)
    };
    let both = paths.into_iter().zip(sizes);
    Ok(both
        .filter_map(|(path, size)| is_pointer(size).then_some(path))
        .collect())
}

fn pointers_text(pointers: &[Vec<u8>]) -> String {
    let named = pointers.iter().take(NAMED_MAX);
    let named: Vec<String> = named.map(|path| format!("`{}`", shown(path))).collect();
    let mut text = format!(
        "agents get the pointers of {} files in Git LFS instead of what is in them: {}",
        pointers.len(),
        named.join(", ")
    );
    if pointers.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", pointers.len() - NAMED_MAX));
    }
    text
}
