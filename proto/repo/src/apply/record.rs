//! What was applied to a work tree and may not be committed yet: at which path which difference from HEAD
//! was left. A file that is just that is no edit of the user's.
//!
//! It is written before the files are, so that it has them whenever an apply is killed. Files are compared
//! by their content; an entry counts as long as HEAD has at its path what it had then.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use super::{Change, here::Entries};
use crate::{
    checkout::Checkout,
    error::{IoContext, Result},
    git::{check_commit, records},
    import::check_branch,
    manifest::Raw,
};

/// Its file, beside the index: each work tree of a repository has its own.
const NAME: &str = "orchestra-applied";
/// What it begins with.
const FIRST: &[u8] = b"orchestra-applied 1\0";
/// Largest file; the oldest entries go first. That is some 20,000 files.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Mode and object id; zeros where nothing is.
type Version = (u32, String);

/// What a change left at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    path: Vec<u8>,
    /// What HEAD had there.
    head: Version,
    /// What was left there.
    left: Version,
    by: By,
}

/// Whose change it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct By {
    /// Its result.
    pub commit: String,
    /// Its branch.
    pub branch: String,
}

impl By {
    pub fn of(change: &Change<'_>) -> Self {
        Self {
            commit: change.commit.to_owned(),
            branch: change.branch.to_owned(),
        }
    }
}

/// The record of a work tree. Read and write it with the lock of the apply.
#[derive(Clone, Debug)]
pub(super) struct Record {
    file: PathBuf,
    /// The oldest first.
    entries: Vec<Entry>,
}

impl Record {
    /// Reads it. What cannot be understood is not there: then files count as the user's.
    pub fn read(checkout: &Checkout) -> Result<Self> {
        let file = checkout.git_dir().join(NAME);
        let entries = match fs::read(&file) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).at("read", &file),
        };
        Ok(Self { file, entries })
    }

    /// The paths of those `differences` from HEAD that were left by an apply.
    pub fn known<'a>(
        &self,
        differences: impl Iterator<Item = &'a Raw>,
    ) -> impl Iterator<Item = &'a Vec<u8>> {
        let key = |entry: &Entry| {
            let Entry {
                path, head, left, ..
            } = entry.clone();
            (path, head, left)
        };
        let entries: BTreeSet<_> = self.entries.iter().map(key).collect();
        let is_known = move |file: &&Raw| {
            let (head, left) = versions(file);
            entries.contains(&(file.path.clone(), head, left))
        };
        differences.filter(is_known).map(|file| &file.path)
    }

    /// Whether something of this result was left here.
    pub fn has(&self, commit: &str) -> bool {
        self.entries.iter().any(|entry| entry.by.commit == commit)
    }

    /// What was left last at each path where HEAD has still what it had then.
    pub fn left(&self, heads: &Entries) -> impl Iterator<Item = (&Vec<u8>, &Version)> {
        let is_current = move |entry: &&Entry| match heads.get(&entry.path) {
            Some(head) => entry.head == *head,
            None => entry.head.0 == 0,
        };
        self.entries
            .iter()
            .filter(is_current)
            .map(|entry| (&entry.path, &entry.left))
    }

    /// Every path that is in it.
    pub fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.entries.iter().map(|entry| &entry.path)
    }

    /// Whose changes made what is now at a path, the first one first; none where it was edited since.
    pub fn makers(&self, now: &Raw) -> Vec<&By> {
        let (_, left) = versions(now);
        let at = |entry: &&Entry| entry.path == now.path;
        let all: Vec<&Entry> = self.entries.iter().filter(at).collect();
        let Some(last) = all.iter().rposition(|entry| entry.left == left) else {
            return Vec::new();
        };
        // Older ones are committed.
        let with_it = all[..=last].iter().filter(|e| e.head == all[last].head);
        with_it.map(|entry| &entry.by).collect()
    }

    /// The same with `differences` from HEAD which `by` is about to leave.
    pub fn with<'a>(&self, differences: impl Iterator<Item = &'a Raw>, by: &By) -> Self {
        let new = differences.map(|file| {
            let (head, left) = versions(file);
            let (path, by) = (file.path.clone(), by.clone());
            Entry {
                path,
                head,
                left,
                by,
            }
        });
        let new: Vec<Entry> = new.collect();
        let named: BTreeMap<&[u8], &Entry> =
            new.iter().map(|entry| (&*entry.path, entry)).collect();
        let is_again = |entry: &Entry| named.get(&*entry.path) == Some(&entry);
        let mut entries: Vec<Entry> = self.entries.clone();
        entries.retain(|entry| !is_again(entry));
        entries.extend(new);
        Self {
            file: self.file.clone(),
            entries,
        }
    }

    /// Writes it, durably.
    pub fn save(&self) -> Result<()> {
        // Nobody else is at work: the lock is held.
        let beside = self.file.with_extension("new");
        write_synced(&beside, &self.bytes()).at("write", &beside)?;
        fs::rename(&beside, &self.file).at("rename a file to", &self.file)
    }

    /// The file: the newest entries that there is room for.
    fn bytes(&self) -> Vec<u8> {
        let mut size = FIRST.len();
        let all = self.entries.iter().rev().map(Entry::line);
        let mut lines: Vec<Vec<u8>> = all
            .take_while(|line| {
                size += line.len();
                size <= BYTES_MAX
            })
            .collect();
        lines.reverse();
        [FIRST, &lines.concat()].concat()
    }
}

impl Entry {
    fn line(&self) -> Vec<u8> {
        let (head, left, by) = (&self.head, &self.left, &self.by);
        let mut line = format!(
            "{:o} {} {:o} {} {} {}\t",
            head.0, head.1, left.0, left.1, by.commit, by.branch
        )
        .into_bytes();
        line.extend_from_slice(&self.path);
        line.push(0);
        line
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let tab = line.iter().position(|b| *b == b'\t')?;
        let words = std::str::from_utf8(&line[..tab]).ok()?;
        let words: Vec<&str> = words.split(' ').collect();
        let [head_mode, head, left_mode, left, commit, branch] = words[..] else {
            return None;
        };
        let mode = |text: &str| u32::from_str_radix(text, 8).ok();
        let is_sound = [head, left, commit]
            .map(check_commit)
            .iter()
            .all(Result::is_ok)
            && check_branch(branch).is_ok();
        is_sound.then_some(Self {
            path: line[tab + 1..].to_vec(),
            head: (mode(head_mode)?, head.to_owned()),
            left: (mode(left_mode)?, left.to_owned()),
            by: By {
                commit: commit.to_owned(),
                branch: branch.to_owned(),
            },
        })
    }
}

fn parse(bytes: &[u8]) -> Vec<Entry> {
    match bytes.strip_prefix(FIRST) {
        Some(rest) if bytes.len() <= BYTES_MAX && bytes.ends_with(b"\0") => {
            records(rest).filter_map(Entry::parse).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

/// What was at a path before, and after.
fn versions(file: &Raw) -> (Version, Version) {
    (
        (file.old_mode, file.old_id.clone()),
        (file.new_mode, file.new_id.clone()),
    )
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(path: &[u8], version: u32) -> Raw {
        let id = |number: u32| format!("{number:040x}");
        Raw {
            old_mode: 0o100_644,
            new_mode: 0o100_755,
            old_id: id(0),
            new_id: id(version),
            status: b'M',
            from: None,
            path: path.to_vec(),
        }
    }

    fn by(number: u32) -> By {
        By {
            commit: format!("{number:040x}"),
            branch: format!("orchestra/task_{number:03}"),
        }
    }

    fn knows(record: &Record, file: &Raw) -> bool {
        record.known([file].into_iter()).count() == 1
    }

    #[test]
    fn it_is_read_as_it_was_written_whatever_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NAME);
        let names: [&[u8]; 4] = [b"a\tb\nc", b" x ", b"\xff\xfe", b"d/e"];
        let files = names.map(|name| left(name, 7));
        let record = Record {
            file: file.clone(),
            entries: Vec::new(),
        };
        record.with(files.iter(), &by(1)).save().unwrap();
        let entries = parse(&fs::read(&file).unwrap());
        let read = Record { file, entries };
        for file in &files {
            assert!(knows(&read, file));
            assert_eq!(read.makers(file), [&by(1)]);
            let other = Raw {
                new_mode: 0o100_644,
                ..file.clone()
            };
            assert!(!knows(&read, &other));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn it_does_not_grow_for_ever_and_the_newest_stay() {
        const EACH: u32 = 5_000;
        let mut record = Record {
            file: PathBuf::new(),
            entries: Vec::new(),
        };
        let name = |number: u32| format!("a/path/of/some/length/{number}").into_bytes();
        let files = |task| (0..EACH).map(move |number| left(&name(number), task));
        for task in 1..=10 {
            let new: Vec<Raw> = files(task).collect();
            let again = record.with(new.iter(), &by(task));
            let twice = again.with(new.iter(), &by(task));
            assert_eq!(twice.entries.len(), again.entries.len());
            let bytes = twice.bytes();
            assert!(bytes.len() <= BYTES_MAX);
            record.entries = parse(&bytes);
        }
        assert!(knows(&record, &left(&name(0), 10)));
        assert!(knows(&record, &left(&name(EACH - 1), 10)));
        assert!(!knows(&record, &left(&name(0), 1)));
    }
}
