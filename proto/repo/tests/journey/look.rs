//! Looks at what an agent has changed so far.

use std::{collections::BTreeMap, fs, path::Path};

use orchestra_types::{FileChange, Manifest};

use crate::common::{World, git};

fn exclude() -> Vec<String> {
    vec!["context".to_owned()]
}

fn changes(manifest: &Manifest) -> Vec<(&str, &str)> {
    let entries = manifest.entries.iter();
    entries
        .map(|entry| (&*entry.path, entry.change.as_str()))
        .collect()
}

/// All files below a directory, with their bytes.
fn everything(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => {
                    let bytes = fs::read(&path).unwrap();
                    all.insert(path.to_string_lossy().into_owned(), bytes);
                }
            }
        }
    }
    all
}

#[test]
fn a_look_says_what_collecting_would_and_touches_nothing() {
    let world = World::with(&[("a.txt", "one\n"), ("b.txt", "two\n"), ("c.txt", "three\n")]);
    let task = world.start();
    task.write("a.txt", "one\nand more\n");
    task.write("sub/new.txt", "new\n");
    task.write("context/ours.md", "no result\n");
    fs::remove_file(task.dir().join("b.txt")).unwrap();
    git(task.dir(), &["add", "c.txt"]);
    let own = world.tmp.path().join("own");
    let before = (everything(&own), everything(task.dir()));

    let look = task.workspace.look(&exclude()).unwrap();

    let wanted = [
        ("a.txt", "modified"),
        ("b.txt", "deleted"),
        ("sub/new.txt", "added"),
    ];
    assert_eq!(changes(&look), wanted);
    assert_eq!(look.entries[0].lines_added, Some(1));
    assert_eq!((everything(&own), everything(task.dir())), before);
    assert_eq!(look, task.collect().manifest);
}

#[test]
fn a_look_sees_what_was_taken_back_and_what_the_agent_committed() {
    let world = World::with(&[("a.txt", "one\n")]);
    let task = world.start();
    task.write("a.txt", "two\n");
    assert_eq!(
        changes(&task.workspace.look(&exclude()).unwrap()),
        [("a.txt", "modified")]
    );
    task.write("a.txt", "one\n");
    task.write("b.txt", "mine\n");
    git(task.dir(), &["add", "b.txt"]);
    git(task.dir(), &["commit", "-q", "-m", "work"]);
    let look = task.workspace.look(&exclude()).unwrap();
    assert_eq!(changes(&look), [("b.txt", "added")]);
    assert_eq!(look.entries[0].change, FileChange::Added);
}

#[test]
fn a_large_file_is_named_and_not_read() {
    let world = World::with(&[("a.txt", "one\n")]);
    let task = world.start();
    let large = fs::File::create(task.dir().join("large.bin")).unwrap();
    large.set_len(16 * 1024 * 1024 + 1).unwrap();
    task.write("small.txt", "kept\n");
    let look = task.workspace.look(&exclude()).unwrap();
    assert_eq!(changes(&look), [("small.txt", "added")]);
    assert!(
        look.warnings[0].contains("large.bin"),
        "{:?}",
        look.warnings
    );
}

#[test]
fn an_agent_that_removes_its_git_or_everything_can_be_looked_at() {
    let world = World::with(&[("a.txt", "one\n")]);
    let task = world.start();
    fs::remove_dir_all(task.dir().join(".git")).unwrap();
    task.write("b.txt", "new\n");
    assert_eq!(
        changes(&task.workspace.look(&exclude()).unwrap()),
        [("b.txt", "added")]
    );
    fs::remove_dir_all(task.dir()).unwrap();
    // There is nothing to look at, which is an error and no panic; or everything is gone.
    if let Ok(look) = task.workspace.look(&exclude()) {
        assert_eq!(changes(&look), [("a.txt", "deleted")]);
    }
}
