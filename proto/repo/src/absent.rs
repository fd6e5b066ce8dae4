//! What a snapshot names without having it, or has otherwise than a checkout: submodules, files that are
//! kept in Git LFS, files that git filters or converts.

use crate::{
    converted::converted,
    error::Result,
    filters,
    git::{Git, Input, records},
    names::shown,
    stage::Warnings,
};

/// A pointer of Git LFS is smaller than this, by its specification.
const POINTER_BYTES_MAX: u64 = 1024;
/// How many files a warning names.
const NAMED_MAX: usize = 5;
/// The filter of Git LFS.
const LFS: &str = "lfs";

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
    for filter in filters::set_up(git)?.iter().filter(|filter| *filter != LFS) {
        let output = of_filter(git, filter)?;
        let paths: Vec<Vec<u8>> = records(&output)
            .filter_map(|entry| entry.splitn(2, |b| *b == b'\t').nth(1))
            .map(<[u8]>::to_vec)
            .collect();
        if !paths.is_empty() {
            let named = named(&paths);
            warnings.add(format!(
                "agents get the files that git filters by `{filter}` as it keeps them: {named}"
            ));
        }
    }
    let name = |entry| <[u8]>::splitn(entry, 2, |b| *b == b'\t').nth(1);
    let converted = converted(git, records(&output).filter_map(name))?;
    for (paths, kept) in [
        (converted.line_ends, "with LF instead of CRLF"),
        (converted.encoding, "in UTF-8"),
    ] {
        if !paths.is_empty() {
            let named = named(&paths);
            warnings.add(format!(
                "agents get files as git keeps them, {kept}: {named}"
            ));
        }
    }
    Ok(())
}

/// The entries of the index that a filter is for.
fn of_filter(git: &Git, filter: &str) -> Result<Vec<u8>> {
    let git = git.clone().env("GIT_LITERAL_PATHSPECS", "0");
    let kept = format!(":(top,attr:filter={filter})");
    git.output(&["ls-files", "-z", "--stage", "--", &kept])
}

/// Files that Git LFS keeps elsewhere, as far as the snapshot has only their pointers.
fn pointers(git: &Git) -> Result<Vec<Vec<u8>>> {
    let output = of_filter(git, LFS)?;
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
    format!(
        "agents get the pointers of {} files in Git LFS instead of what is in them: {}",
        pointers.len(),
        named(pointers)
    )
}

fn named(paths: &[Vec<u8>]) -> String {
    let named = paths.iter().take(NAMED_MAX);
    let named: Vec<String> = named.map(|path| format!("`{}`", shown(path))).collect();
    let more = match paths.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    named.join(", ") + &more
}
