//! Files that git ignores: to an agent, and never back.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use orchestra_repo::{Ignored, Put, put_ignored};

use crate::common::{Task, World, git, rows, write};

fn world() -> World {
    World::with(&[
        (".gitignore", ".env\n*.local\nbuild/\n"),
        ("a.txt", "one\n"),
        ("tracked.env", "public\n"),
    ])
}

fn copied(world: &World, patterns: &[&str]) -> (Vec<Ignored>, Vec<String>) {
    let to = tempfile::tempdir_in(world.tmp.path()).unwrap().keep();
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    world.checkout().copy_ignored(&patterns, &to).unwrap()
}

fn paths(files: &[Ignored]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn only_ignored_regular_files_that_match_are_copied_and_the_rest_is_named() {
    let user = world();
    user.write(".env", "KEY=1\n");
    user.write("sub/.env", "KEY=2\n");
    user.write("sub/x.local", "#!/bin/sh\n");
    user.write("build/deep/out", "x");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(user.user().join("sub/x.local"), executable).unwrap();
    symlink("/etc/passwd", user.user().join("link.local")).unwrap();

    let (files, warnings) = copied(&user, &[".env", "**/*.local", "build/", ".env"]);
    assert_eq!(paths(&files), [".env", "sub/x.local", "build/deep/out"]);
    assert_eq!(fs::read_to_string(&files[0].copy).unwrap(), "KEY=1\n");
    assert!(!files[0].executable && files[1].executable);
    assert_eq!(
        warnings,
        ["`link.local` was left out: it is no regular file"]
    );
    let (files, warnings) = copied(&user, &["tracked.env", "nothing", ":(exclude)a"]);
    assert_eq!(paths(&files), [""; 0]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(
        warnings[0],
        "no file that git ignores matches `tracked.env`"
    );
}

#[test]
fn a_directory_that_is_a_link_is_not_entered() {
    let user = world();
    let outside = user.tmp.path().join("outside");
    write(&outside, "x.local", "not yours\n");
    symlink(&outside, user.user().join("dir")).unwrap();
    let (files, _) = copied(&user, &["dir/x.local", "dir/", "**/x.local"]);
    assert_eq!(paths(&files), [""; 0]);
}

#[test]
fn more_than_fits_is_left_out_by_name() {
    let user = world();
    user.write("a.local", "small");
    let large = fs::File::create(user.user().join("b.local")).unwrap();
    large
        .set_len(orchestra_types::limits::COPIED_BYTES_MAX)
        .unwrap();
    let (files, warnings) = copied(&user, &["*.local"]);
    assert_eq!(paths(&files), ["a.local"]);
    assert!(
        warnings[0].starts_with("`b.local` was left out"),
        "{warnings:?}"
    );
}

#[test]
fn a_file_is_put_below_the_directory_or_nowhere() {
    let tmp = tempfile::tempdir().unwrap();
    let (root, from) = (tmp.path().join("root"), tmp.path().join("from"));
    let outside = tmp.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&root).unwrap();
    fs::write(&from, "KEY=1\n").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    let put = |path: &str| put_ignored(&root, path, false, &from);
    assert_eq!(put("a/b/.env").unwrap(), Put::Written);
    assert_eq!(put("a/b/.env").unwrap(), Put::Exists);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root.join("a/b/.env")), 0o600);
    assert_eq!(put("link").unwrap(), Put::Exists);
    for path in ["link/x", "../x", "/x", ".git/config", "a/../../x", ""] {
        assert!(put(path).is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// A task whose agent has a secret; [`Task::collect`] knows of it.
fn with_secret() -> (World, Task) {
    let user = world();
    let task = user.start();
    let from = user.tmp.path().join("from");
    fs::write(&from, "KEY=1\n").unwrap();
    put_ignored(task.dir(), "local/.env", false, &from).unwrap();
    task.workspace.hide(&["local/.env".to_owned()]).unwrap();
    (user, task)
}

/// Whether the bytes of the secret are anywhere in what is sent.
fn tells_it(task: &Task, collected: &orchestra_repo::Collected) -> bool {
    let patch = fs::read_to_string(&collected.patch).unwrap();
    let receiver = tempfile::tempdir().unwrap();
    git(receiver.path(), &["init", "-q"]);
    let lent = task.dir().join(".git/objects/info/alternates");
    fs::copy(lent, receiver.path().join(".git/objects/info/alternates")).unwrap();
    let bundle = collected.bundle.as_ref().unwrap();
    git(
        receiver.path(),
        &[
            "fetch",
            "-q",
            bundle.to_str().unwrap(),
            "refs/heads/*:refs/x/*",
        ],
    );
    let known = git(
        receiver.path(),
        &["log", "--all", "--name-only", "--format="],
    );
    patch.contains("KEY=1") || known.lines().any(|path| path == "local/.env")
}

#[test]
fn a_secret_is_in_no_form_of_the_result() {
    let (_user, task) = with_secret();
    assert_eq!(git(task.dir(), &["status", "--porcelain"]), "");
    task.write("a.txt", "two\n");
    let collected = task.collect();
    let changed: Vec<String> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(changed, ["a.txt"]);
    assert!(!tells_it(&task, &collected));
}

#[test]
fn a_secret_that_the_agent_commits_costs_its_commits_and_not_its_work() {
    let (_user, task) = with_secret();
    task.write("a.txt", "two\n");
    git(task.dir(), &["add", "-f", "local/.env"]);
    git(task.dir(), &["commit", "-qam", "all"]);
    git(task.dir(), &["rm", "-q", "--cached", "local/.env"]);
    git(task.dir(), &["commit", "-qm", "oh"]);
    let collected = task.collect();
    let changed: Vec<String> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(changed, ["a.txt"]);
    let warnings = collected.manifest.warnings.join("\n");
    assert!(warnings.contains("for the agent alone"), "{warnings}");
    assert!(!tells_it(&task, &collected));
}

#[test]
fn what_the_users_git_ignores_everywhere_is_in_no_result_either() {
    // git takes a relative path from the top of the work tree, wherever it is called.
    for is_relative in [false, true] {
        let user = World::with(&[("a.txt", "one\n")]);
        let everywhere = user.user().parent().unwrap().join("ignore");
        fs::write(&everywhere, "# mine\n.idea/\n*.tmp\n").unwrap();
        let named = match is_relative {
            true => "../ignore",
            false => everywhere.to_str().unwrap(),
        };
        git(&user.user(), &["config", "core.excludesFile", named]);
        user.write(".git/info/exclude", "!kept.tmp\n/venv\n");
        user.write("mine.tmp", "the user's\n");
        let task = user.start();
        assert!(!task.dir().join("mine.tmp").exists());
        for name in [".idea/x.xml", "sub/.idea/y", "x.tmp", "venv/bin/python"] {
            task.write(name, "agent\n");
        }
        task.write("kept.tmp", "agent\n");
        task.write("sub/venv", "agent\n");
        let seen = git(task.dir(), &["status", "--porcelain", "-uall"]);
        assert_eq!(seen, "?? kept.tmp\n?? sub/venv", "{named}");
        let names: Vec<_> = rows(&task.collect()).into_iter().map(|row| row.0).collect();
        assert_eq!(names, ["kept.tmp", "sub/venv"], "{named}");
    }
}
