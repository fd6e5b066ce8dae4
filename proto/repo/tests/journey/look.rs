//! Looks at what an agent has changed so far.

use std::{collections::BTreeMap, fs, path::Path, time::UNIX_EPOCH};

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

    let look = task.workspace.look(&exclude(), &[]).unwrap();

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
        changes(&task.workspace.look(&exclude(), &[]).unwrap()),
        [("a.txt", "modified")]
    );
    task.write("a.txt", "one\n");
    task.write("b.txt", "mine\n");
    git(task.dir(), &["add", "b.txt"]);
    git(task.dir(), &["commit", "-q", "-m", "work"]);
    let look = task.workspace.look(&exclude(), &[]).unwrap();
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
    let look = task.workspace.look(&exclude(), &[]).unwrap();
    assert_eq!(changes(&look), [("small.txt", "added")]);
    assert!(
        look.warnings[0].contains("large.bin"),
        "{:?}",
        look.warnings
    );
}

#[test]
fn a_large_file_that_was_only_touched_is_no_change_and_no_warning() {
    let world = World::with(&[("a.txt", "one\n")]);
    let large = fs::File::create(world.user().join("large.bin")).unwrap();
    large.set_len(16 * 1024 * 1024 + 1).unwrap();
    world.commit("with a large file");
    let task = world.start();
    let touched = fs::File::options()
        .write(true)
        .open(task.dir().join("large.bin"));
    touched.unwrap().set_modified(UNIX_EPOCH).unwrap();
    let look = task.workspace.look(&exclude(), &[]).unwrap();
    assert_eq!(look, Manifest::default());
}

#[test]
fn an_agent_that_removes_its_git_or_everything_can_be_looked_at() {
    let world = World::with(&[("a.txt", "one\n")]);
    let task = world.start();
    fs::remove_dir_all(task.dir().join(".git")).unwrap();
    task.write("b.txt", "new\n");
    assert_eq!(
        changes(&task.workspace.look(&exclude(), &[]).unwrap()),
        [("b.txt", "added")]
    );
    fs::remove_dir_all(task.dir()).unwrap();
    // There is nothing to look at, which is an error and no panic; or everything is gone.
    if let Ok(look) = task.workspace.look(&exclude(), &[]) {
        assert_eq!(changes(&look), [("a.txt", "deleted")]);
    }
}

#[test]
fn an_edit_of_the_same_length_is_seen_however_soon_it_was_made() {
    let world = World::with(&[("a.txt", "one\n"), ("b.txt", "two\n")]);
    let task = world.start();
    // In the second of the checkout, most likely.
    task.write("a.txt", "ONE\n");
    let wanted = [("a.txt", "modified")];
    assert_eq!(
        changes(&task.workspace.look(&exclude(), &[]).unwrap()),
        wanted
    );
    task.workspace.settle().unwrap();
    assert_eq!(
        changes(&task.workspace.look(&exclude(), &[]).unwrap()),
        wanted
    );
    assert_eq!(changes(&task.collect().manifest), wanted);
    task.write("b.txt", "TWO\n");
    let wanted = [("a.txt", "modified"), ("b.txt", "modified")];
    assert_eq!(
        changes(&task.workspace.look(&exclude(), &[]).unwrap()),
        wanted
    );
    assert_eq!(changes(&task.collect().manifest), wanted);
}

#[test]
fn settling_changes_no_result_also_of_an_attempt_that_goes_on_from_another() {
    let world = World::with(&[
        ("a.txt", "one\n"),
        ("b.txt", "two\n"),
        (".gitignore", "*.log\n"),
    ]);
    let first = world.start();
    first.write("a.txt", "first\n");
    first.write("kept.log", "ignored, and committed all the same\n");
    git(first.dir(), &["add", "--force", "kept.log"]);
    git(first.dir(), &["commit", "-q", "-m", "work"]);
    let commit = first.collect().commit;
    let again = |settle: bool| {
        let second = World::with(&[]);
        let place = second.tmp.path();
        let cache = orchestra_repo::Cache::open(&world.tmp.path().join("cache"), &commit).unwrap();
        let bundle = first.out.join("change.bundle");
        cache.fetch_bundles(&[bundle], &commit).unwrap();
        let workspace = orchestra_repo::Workspace::create(&orchestra_repo::Plan {
            cache: &cache,
            commit: first.workspace.base(),
            start: first.workspace.base(),
            head: first.workspace.base(),
            branch: crate::common::BRANCH,
            others: &[],
            ignore_rules: "",
            dir: &place.join("agent"),
            git_dir: &place.join("own"),
        })
        .unwrap();
        if settle {
            workspace.settle().unwrap();
        }
        workspace.carry_on(&commit).unwrap();
        fs::write(workspace.dir().join("b.txt"), "TWO\n").unwrap();
        if settle {
            workspace.settle().unwrap();
        }
        let look = workspace.look(&exclude(), &[]).unwrap();
        let task = crate::common::Task {
            start: workspace.base().to_owned(),
            conflicts: Vec::new(),
            below: Vec::new(),
            workspace,
            out: place.join("out"),
        };
        let manifest = task.collect().manifest;
        assert_eq!(look, manifest, "settled: {settle}");
        manifest
    };
    assert_eq!(again(true), again(false));
}
