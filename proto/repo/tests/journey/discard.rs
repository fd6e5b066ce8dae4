//! What collecting made, taken back: it can be made again, and nothing of it takes room meanwhile.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    common::{BRANCH, Task, World, git, rows, write},
    others::{leave, names, world},
};
use orchestra_repo::{Cache, Collected, Plan, Workspace};

/// All files below a directory that are not its lenders.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut found = Vec::new();
    for entry in entries {
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == "info" => {}
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn same(before: &Collected, after: &Collected) {
    assert_eq!(after.manifest, before.manifest);
    assert_eq!(names(after), names(before));
    assert_eq!(rows(after), rows(before));
}

#[test]
fn locks_of_a_git_that_was_killed_keep_no_result_from_being_collected() {
    let user = world();
    let task = user.start();
    task.write("new.txt", "new\n");
    write(&task.out, "change.bundle.lock", "half\n");
    let own = user.tmp.path().join("own");
    git(task.dir(), &["add", "new.txt"]);
    git(task.dir(), &["commit", "-q", "-m", "mine"]);
    leave(&task, "beside", "b.txt");
    for branch in [BRANCH, &format!("{BRANCH}-1-beside")] {
        write(&own, &format!("refs/heads/{branch}.lock"), "");
    }
    write(&own, "packed-refs.lock", "");
    let collected = task.collect();
    assert!(collected.has_branch && collected.bundle.is_some());
    assert_eq!(names(&collected), ["orchestra/task_001-1-beside"]);
    assert!(!task.out.join("change.bundle.lock").exists());
}

#[test]
fn a_result_that_was_taken_back_is_collected_again_as_it_was() {
    let user = world();
    let task = user.start();
    let (own, objects) = (
        user.tmp.path().join("own"),
        user.tmp.path().join("own/objects"),
    );
    task.write("mine.txt", "committed\n");
    git(task.dir(), &["add", "mine.txt"]);
    git(task.dir(), &["commit", "-q", "-m", "mine"]);
    leave(&task, "beside", "b.txt");
    let before = task.collect();
    let patch = fs::read(&before.patch).unwrap();
    assert!(!files(&objects).is_empty());
    assert_eq!(names(&before), ["orchestra/task_001-1-beside"]);
    // What a git that found the disk full leaves.
    write(&task.out, "change.bundle.lock", "half\n");
    write(&own, &format!("refs/heads/{BRANCH}.lock"), "");
    write(&objects, "ab/tmp_obj_x", "half\n");
    write(&objects, "pack/tmp_pack_x", "half\n");
    write(&objects, "tmp_objdir-incoming-x/pack/y", "half\n");

    let bytes = task.workspace.discard(&task.out).unwrap();

    assert!(bytes > 0);
    assert_eq!(files(&objects), [] as [PathBuf; 0]);
    assert_eq!(files(&task.out), [] as [PathBuf; 0]);
    let heads = git(
        &own,
        &[
            "for-each-ref",
            "--format=%(objectname) %(refname:short)",
            "refs/heads",
        ],
    );
    assert_eq!(heads, format!("{} {BRANCH}", task.workspace.base()));
    assert_eq!(task.workspace.discard(&task.out).unwrap(), 0);
    let after = task.collect();
    same(&before, &after);
    assert_eq!(after.commit, before.commit);
    assert_eq!(fs::read(&after.patch).unwrap(), patch);
}

/// A workspace whose files are a merge of its base and another change: that merge is in no other repository.
fn carried(user: &World, place: &Path) -> Task {
    let snapshot = user.checkout().snapshot().unwrap();
    let of = |number, file: &str| {
        let task = user.start_after(&snapshot, number, &[]);
        task.write(file, "changed\n");
        task.done()
    };
    let (base, other) = (of(1, "a.txt"), of(2, "new/b.txt"));
    let cache = Cache::open(&user.tmp.path().join("cache"), &base.commit).unwrap();
    for done in [&base, &other] {
        let bundle = done.bundle.clone().unwrap();
        cache.fetch_bundles(&[bundle], &done.commit).unwrap();
    }
    let workspace = Workspace::create(&Plan {
        cache: &cache,
        commit: &base.commit,
        start: &snapshot.commit,
        head: &snapshot.head,
        branch: BRANCH,
        others: &[],
        ignore_rules: "",
        dir: &place.join("agent"),
        git_dir: &place.join("own"),
    })
    .unwrap();
    workspace.carry_on(&other.commit).unwrap();
    Task {
        workspace,
        start: snapshot.commit,
        conflicts: Vec::new(),
        below: Vec::new(),
        out: place.join("out"),
    }
}

#[test]
fn what_the_files_were_made_from_stays() {
    let user = world();
    let place = tempfile::tempdir().unwrap();
    let task = carried(&user, place.path());
    fs::write(task.dir().join(OsStr::from_bytes(b"caf\xe9")), "more\n").unwrap();
    let before = task.collect();
    task.workspace.discard(&task.out).unwrap();
    let objects = place.path().join("own/objects");
    assert!(!files(&objects).is_empty(), "the merge is only here");
    same(&before, &task.collect());
}
