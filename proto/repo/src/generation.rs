//! The generations of a worker's repository of a project. Attempts borrow objects from one while they run,
//! so a damaged one stays where it is, and the next one is made beside it.
//!
//! ```text
//! git-0a1b2c         the first
//! git-0a1b2c.gen2    the one that took its place; the newest is the one that is used
//! ```

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::error::{IoContext, Result};

const MARK: &str = ".gen";
const FIRST: u32 = 1;

/// A repository's place among those of its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The project's name: that of the first one.
    pub project: String,
    /// Counted from 1.
    pub number: u32,
}

impl Generation {
    /// What a directory's name says.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let marked = name.rsplit_once(MARK).and_then(|(project, number)| {
            let number = number.parse().ok().filter(|number| *number > FIRST)?;
            Some((project, number))
        });
        let (project, number) = marked.unwrap_or((name, FIRST));
        Self {
            project: project.to_owned(),
            number,
        }
    }
}

/// Where the newest one is, or the first one will be. `first` is where the first one is or was.
pub(crate) fn newest(first: &Path) -> Result<PathBuf> {
    let project = name(first);
    let all = parent(first);
    let mut newest = FIRST;
    for entry in fs::read_dir(all).at("read the directory", all)? {
        let entry = entry.at("read the directory", all)?;
        let of = Generation::of(&entry.file_name().to_string_lossy());
        if of.project == project {
            newest = newest.max(of.number);
        }
    }
    Ok(place(first, newest))
}

/// Makes place for the one after `dir`, unless it is there already.
pub(crate) fn make_next(first: &Path, dir: &Path) -> Result<PathBuf> {
    let next = place(first, Generation::of(&name(dir)).number + 1);
    match fs::DirBuilder::new().mode(0o700).create(&next) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.at("create the directory", &next)?,
    }
    Ok(next)
}

fn place(first: &Path, number: u32) -> PathBuf {
    match number {
        FIRST => first.to_owned(),
        number => first.with_file_name(format!("{}{MARK}{number}", name(first))),
    }
}

fn name(dir: &Path) -> String {
    let name = dir.file_name().map(OsStr::to_string_lossy);
    name.unwrap_or_default().into_owned()
}

fn parent(dir: &Path) -> &Path {
    dir.parent().unwrap_or(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_generation_and_any_other_name_is_a_first_one() {
        let of = |name: &str| {
            let Generation { project, number } = Generation::of(name);
            (project, number)
        };
        assert_eq!(of("git-1"), ("git-1".to_owned(), 1));
        assert_eq!(of("git-1.gen2"), ("git-1".to_owned(), 2));
        for name in ["git-1.gen", "git-1.gen1", "git-1.gen0", "git-1.genx"] {
            assert_eq!(of(name), (name.to_owned(), 1));
        }
    }

    #[test]
    fn the_newest_is_used_and_the_next_one_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("git-1");
        assert_eq!(newest(&first).unwrap(), first);
        let second = make_next(&first, &first).unwrap();
        assert_eq!(make_next(&first, &first).unwrap(), second);
        assert_eq!(second, dir.path().join("git-1.gen2"));
        fs::create_dir(dir.path().join("git-12.gen7")).unwrap();
        assert_eq!(newest(&first).unwrap(), second);
        fs::create_dir(dir.path().join("git-1.gen10")).unwrap();
        assert_eq!(newest(&first).unwrap(), dir.path().join("git-1.gen10"));
    }
}
