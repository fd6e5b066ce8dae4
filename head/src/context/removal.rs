//! Removes a file from a mirror if it is what we wrote. A person may put another one in its place at any
//! moment, so that it is first given a name that nobody else uses; what it is then is what goes, or comes back.
//!
//! ```text
//! task_001_output.md ─ rename ─► .task_001_output.md.going ─ ours ─► removed
//!          ▲                                               └ theirs ─┐
//!          └───────────── unless something is there by then ─────────┴─► task_001-1_output.md
//! ```
//! A crash in between leaves the hidden name, and the next try goes on from it.

use std::io;

use orchestra_types::Digest;

use super::{OUTPUT_BYTES_MAX, folder::Folder, mirror::hash, render::name_beside};

/// Most files that are kept beside one whose name was taken meanwhile.
const BESIDE_MAX: u32 = 9;

/// Removes the file `name` if its text has one of these sums. What is something else stays, and is no error.
pub(super) fn remove_ours(folder: &Folder, name: &str, sums: &[Digest]) -> io::Result<()> {
    settle(folder, name, sums)?;
    // So that a file of somebody else's is not touched at all, as a rule.
    if is_ours(folder, name, sums)? && hide(folder, name)? {
        settle(folder, name, sums)?;
    }
    Ok(())
}

/// Gives back its name to what a crash has left hidden, unless that is taken and this is what we wrote.
pub(super) fn restore(folder: &Folder, name: &str, sums: &[Digest]) -> io::Result<()> {
    let hidden = hidden(name);
    if !folder.has(&hidden)? || folder.rename_to_free(&hidden, name)? {
        return Ok(());
    }
    settle(folder, name, sums)
}

/// What `name` is called while it is looked at.
pub(super) fn hidden(name: &str) -> String {
    format!(".{name}.going")
}

/// Whether there was something of that name.
fn hide(folder: &Folder, name: &str) -> io::Result<bool> {
    folder.rename_if_there(name, &hidden(name))
}

/// Removes what is hidden, or puts it back.
fn settle(folder: &Folder, name: &str, sums: &[Digest]) -> io::Result<()> {
    let hidden = hidden(name);
    if !folder.has(&hidden)? {
        return Ok(());
    }
    match is_ours(folder, &hidden, sums) {
        Ok(true) => folder.remove(&hidden),
        Ok(false) => put_back(folder, &hidden, name),
        // What cannot be read may be somebody's.
        Err(error) => put_back(folder, &hidden, name).and(Err(error)),
    }
}

fn put_back(folder: &Folder, hidden: &str, name: &str) -> io::Result<()> {
    if folder.rename_to_free(hidden, name)? {
        return Ok(());
    }
    for number in 1..=BESIDE_MAX {
        let beside = name_beside(name, number);
        if folder.rename_to_free(hidden, &beside)? {
            tracing::warn!(
                name,
                beside,
                "a file in the mirror of the context has another name now"
            );
            return Ok(());
        }
    }
    Err(io::Error::other(format!(
        "`{hidden}` is a file of yours that has no place: move it away"
    )))
}

fn is_ours(folder: &Folder, name: &str, sums: &[Digest]) -> io::Result<bool> {
    match folder.read(name, 2 * OUTPUT_BYTES_MAX) {
        Ok(text) => Ok(text.is_some_and(|text| sums.contains(&hash(text)))),
        // A link, a directory, or something that is too large: not what we wrote.
        Err(error) if error.raw_os_error().is_none() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const NAME: &str = "task_001_output.md";

    fn ours() -> [Digest; 1] {
        [hash("ours")]
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What is there after somebody has done something between our look and our rename, and, after it, again.
    fn raced(before: impl FnOnce(&Path), after: impl FnOnce(&Path)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::write(dir.path().join(NAME), "ours").unwrap();
        assert!(is_ours(&folder, NAME, &ours()).unwrap());
        before(dir.path());
        hide(&folder, NAME).unwrap();
        after(dir.path());
        settle(&folder, NAME, &ours()).unwrap();
        dir
    }

    fn replace(dir: &Path, text: &str) {
        fs::write(dir.join("new"), text).unwrap();
        fs::rename(dir.join("new"), dir.join(NAME)).unwrap();
    }

    #[test]
    fn ours_goes_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::write(dir.path().join(NAME), "ours").unwrap();
        remove_ours(&folder, NAME, &ours()).unwrap();
        remove_ours(&folder, NAME, &ours()).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn what_took_its_place_before_it_was_hidden_comes_back() {
        let dir = raced(|dir| replace(dir, "mine"), |_| {});
        assert_eq!(names(dir.path()), [NAME]);
        assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), "mine");
        // A directory, too, and one who took it away.
        let dir = raced(
            |dir| {
                fs::remove_file(dir.join(NAME)).unwrap();
                fs::create_dir(dir.join(NAME)).unwrap();
            },
            |_| {},
        );
        assert!(dir.path().join(NAME).is_dir());
        let dir = raced(|dir| fs::remove_file(dir.join(NAME)).unwrap(), |_| {});
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn what_is_put_there_while_it_is_hidden_stays() {
        let dir = raced(|_| {}, |dir| replace(dir, "mine"));
        assert_eq!(names(dir.path()), [NAME]);
        assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), "mine");
        // Both are theirs.
        let dir = raced(|dir| replace(dir, "first"), |dir| replace(dir, "second"));
        let beside = "task_001-1_output.md";
        assert_eq!(names(dir.path()), [beside, NAME]);
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((&*text(NAME), &*text(beside)), ("second", "first"));
    }

    #[test]
    fn what_a_crash_left_hidden_is_gone_on_with() {
        for (text, left) in [("ours", &[][..]), ("mine", &[NAME][..])] {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::open(dir.path()).unwrap();
            fs::write(dir.path().join(hidden(NAME)), text).unwrap();
            remove_ours(&folder, NAME, &ours()).unwrap();
            assert_eq!(names(dir.path()), left, "{text}");
        }
    }
}
