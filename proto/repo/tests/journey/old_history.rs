//! Histories with defects that harm nobody are worked on like all others; what may harm is refused.

use std::{fs, path::Path};

use orchestra_repo::Cache;

use crate::{
    common::{BRANCH, World, apply, git, import_branch},
    others::show,
};

/// Lines of a commit as old tools have written them.
const DEFECTS: [&str; 7] = [
    "author A <a@b> 1234567890 +051800\ncommitter A <a@b> 1 +0000",
    "author A <a@b>1234567890 +0000\ncommitter A <a@b> 1 +0000",
    "author A<a@b> 1234567890 +0000\ncommitter A <a@b> 1 +0000",
    "author <a@b> 1234567890 +0000\ncommitter A <a@b> 1 +0000",
    "author A 1234567890 +0000\ncommitter A <a@b> 1 +0000",
    "author A <a@b> never +0000\ncommitter A <a@b> 1 +0000",
    "author A <a@b> 01234567890 +0000\ncommitter A <a@b> 1 +0000",
];

/// A commit of the same files on top of HEAD, which no git of today would write.
fn commit_with(dir: &Path, lines: &str) {
    let tree = git(dir, &["rev-parse", "HEAD^{tree}"]);
    let parent = git(dir, &["rev-parse", "HEAD"]);
    let text = format!("tree {tree}\nparent {parent}\n{lines}\n\nold\n");
    let commit = object(dir, "commit", text.as_bytes());
    git(dir, &["update-ref", "HEAD", &commit]);
}

/// The name of a new object with these bytes, whatever they are.
fn object(dir: &Path, kind: &str, bytes: &[u8]) -> String {
    let file = dir.join(".git/object");
    fs::write(&file, bytes).unwrap();
    let file = ".git/object";
    git(dir, &["hash-object", "--literally", "-w", "-t", kind, file])
}

#[test]
fn a_repository_with_an_old_history_is_worked_on() {
    for lines in DEFECTS {
        let user = World::with(&[("a.txt", "a\n")]);
        commit_with(&user.user(), lines);
        user.write("b.txt", "b\n");
        user.commit("since then");
        let task = user.start();
        task.write("work.txt", "work\n");
        let collected = task.collect();
        assert_eq!(collected.manifest.warnings, [""; 0], "{lines}");
        apply(&user.checkout(), &task.change(&collected)).unwrap();
        let work = fs::read_to_string(user.user().join("work.txt")).unwrap();
        assert_eq!(work, "work\n", "{lines}");
    }
}

#[test]
fn the_commits_of_an_agent_that_merges_such_a_history_are_kept() {
    let user = World::with(&[("a.txt", "a\n")]);
    let task = user.start();
    commit_with(task.dir(), DEFECTS[0]);
    task.write("work.txt", "work\n");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-qm", "the agent's own"]);
    let collected = task.collect();
    assert_eq!(collected.manifest.warnings, [""; 0]);
    import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
    assert_eq!(show(&user, &format!("{BRANCH}:work.txt")), "work");
    let subjects = git(&user.user(), &["log", "--format=%s", BRANCH]);
    assert!(subjects.starts_with("the agent's own\nold\n"), "{subjects}");
}

#[test]
fn a_history_that_may_harm_is_refused_each_time() {
    // The second is found only when all objects are there.
    for (name, mode, defect) in [
        (".git", "100644", "hasDotgit"),
        (".gitattributes", "40000", "gitattributesBlob"),
    ] {
        let user = World::with(&[("a.txt", "a\n")]);
        let dir = user.user();
        let inside = match mode {
            "40000" => git(&dir, &["rev-parse", "HEAD^{tree}"]),
            _ => git(&dir, &["rev-parse", "HEAD:a.txt"]),
        };
        let byte = |at| u8::from_str_radix(&inside[at..at + 2], 16).unwrap();
        let inside: Vec<u8> = (0..inside.len()).step_by(2).map(byte).collect();
        let entry = [format!("{mode} {name}\0").as_bytes(), &inside].concat();
        let tree = object(&dir, "tree", &entry);
        let hostile = git(&dir, &["commit-tree", "-p", "HEAD", "-m", "bad", &tree]);
        let since = ["commit-tree", "-p", &hostile, "-m", "good", "HEAD^{tree}"];
        let since = git(&dir, &since);
        git(&dir, &["update-ref", "HEAD", &since]);
        let snapshot = user.checkout().snapshot().unwrap();
        let bundle = user.tmp.path().join("source.bundle");
        snapshot.bundle(&[], &bundle).unwrap();
        let cache = user.tmp.path().join("cache");
        let cache = Cache::open(&cache, &snapshot.commit).unwrap();
        for _ in 0..2 {
            let refused = cache.fetch_bundles(&[&bundle], &snapshot.commit);
            let why = refused.unwrap_err().to_string();
            assert!(why.contains(defect), "{why}");
            assert!(!cache.has(&snapshot.commit).unwrap(), "{defect}");
        }
    }
}
