//! Agents that make a mess of their workspace, by accident or on purpose.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::common::{BRANCH, Task, World, apply, git, rows};
use orchestra_repo::{ApplyError, Collect};

fn paths(task: &Task) -> Vec<String> {
    task.collect()
        .manifest
        .entries
        .into_iter()
        .map(|e| e.path)
        .collect()
}

#[test]
fn a_broken_git_directory_costs_the_history_and_nothing_else() {
    type Break = fn(&Path);
    let breaks: [(&str, Break); 8] = [
        ("deleted", |dir| {
            fs::remove_dir_all(dir.join(".git")).unwrap()
        }),
        ("a file", |dir| {
            fs::remove_dir_all(dir.join(".git")).unwrap();
            fs::write(dir.join(".git"), "gitdir: /etc\n").unwrap();
        }),
        ("a link", |dir| {
            fs::rename(dir.join(".git"), dir.with_extension("moved")).unwrap();
            symlink(dir.with_extension("moved"), dir.join(".git")).unwrap();
        }),
        ("HEAD is nonsense", |dir| {
            fs::write(dir.join(".git/HEAD"), "\0\u{fffd}").unwrap()
        }),
        ("HEAD is a pipe", |dir| {
            fs::remove_file(dir.join(".git/HEAD")).unwrap();
            let path = dir.join(".git/HEAD");
            assert!(
                std::process::Command::new("mkfifo")
                    .arg(path)
                    .status()
                    .unwrap()
                    .success()
            );
        }),
        ("HEAD climbs out", |dir| {
            fs::write(dir.join(".git/HEAD"), "ref: refs/../../../../etc/passwd\n").unwrap();
        }),
        ("no such commit", |dir| {
            fs::write(dir.join(".git/HEAD"), "a".repeat(40)).unwrap()
        }),
        ("no objects", |dir| {
            fs::remove_dir_all(dir.join(".git/objects")).unwrap()
        }),
    ];
    for (name, spoil) in breaks {
        let user = World::with(&[("a.txt", "one\n")]);
        let task = user.start();
        task.write("b.txt", "two\n");
        git(task.dir(), &["add", "-A"]);
        git(task.dir(), &["commit", "-qm", "mine"]);
        spoil(task.dir());
        let collected = task.collect();
        assert_eq!(
            rows(&collected),
            [("b.txt".to_owned(), "added", Some(1), Some(0))],
            "{name}"
        );
        apply(&user.checkout(), &task.change(&collected)).unwrap();
    }
}

#[test]
fn an_agents_own_commits_and_messages_are_kept() {
    let user = World::with(&[("a.txt", "one\n"), (".gitignore", "*.out\n")]);
    let task = user.start();
    task.write("b.txt", "two\n");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-qm", "first of mine"]);
    task.write("forced.out", "ignored, but committed\n");
    git(task.dir(), &["add", "-f", "forced.out"]);
    git(task.dir(), &["commit", "-qm", "second of mine"]);
    git(task.dir(), &["pack-refs", "--all"]);
    task.write("c.txt", "left over\n");
    task.write("d.out", "ignored\n");
    let collected = task.collect();
    assert_eq!(
        task.collect().commit,
        collected.commit,
        "again gives the same"
    );
    crate::common::import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
    let log = git(&user.user(), &["log", "--format=%s", BRANCH]);
    assert_eq!(log, "work\nsecond of mine\nfirst of mine\nfirst");
    let names: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(names, ["b.txt", "c.txt", "forced.out"]);
}

#[test]
fn a_rewritten_history_becomes_one_commit_on_the_base() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("b.txt", "two\n");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-q", "--amend", "-m", "all mine"]);
    let collected = task.collect();
    assert_eq!(rows(&collected).len(), 1);
    assert!(
        collected.manifest.warnings[0].contains("commits became one"),
        "{:?}",
        collected.manifest.warnings
    );
    crate::common::import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
    assert_eq!(
        git(&user.user(), &["log", "--format=%s", BRANCH]),
        "work\nfirst"
    );
}

/// A file below as many directories of this name: no path of it is short enough for a call.
fn dig(top: &Path, name: &str, depth: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let mut dir = open(top, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&dir, name, Mode::RWXU).unwrap();
        dir = openat(&dir, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&dir, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
}

#[test]
fn what_lies_too_deep_for_git_is_named() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    dig(task.dir(), &"n".repeat(250), 18);
    task.write("ok.txt", "x\n");
    let collected = task.collect();
    let names: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(names, ["ok.txt"]);
    let warnings = collected.manifest.warnings;
    assert!(
        warnings[0].contains("could not open directory"),
        "{warnings:?}"
    );
}

#[test]
fn one_odd_file_never_costs_the_rest() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    for name in [
        "git~1",
        ".git.",
        ".git ",
        "x/.GIT",
        "fine\nname",
        "-rf",
        " ",
        "\"q\"",
        ":(top)",
        "ok.txt",
    ] {
        task.write(name, "x\n");
    }
    let fifo = task.dir().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let huge = fs::File::create(task.dir().join("huge")).unwrap();
    huge.set_len(20 << 30).unwrap();
    symlink("/etc/shadow", task.dir().join("link")).unwrap();
    let collected = task.collect();
    let names: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(
        names,
        [
            " ",
            "\"q\"",
            "-rf",
            ":(top)",
            "fine\nname",
            "link",
            "ok.txt"
        ]
    );
    let warnings = collected.manifest.warnings.join("\n");
    for name in ["`git~1`", "`.git.`", "`.git `", "`x/.GIT`", "`huge`"] {
        assert!(warnings.contains(name), "{name} in {warnings}");
    }
    let error = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    assert!(
        matches!(&error, ApplyError::Unsafe { path, .. } if path == "link"),
        "{error}"
    );
    assert_eq!(git(&user.user(), &["status", "--porcelain"]), "");
}

#[test]
fn a_workspace_that_is_gone_is_named() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    fs::remove_dir_all(task.dir()).unwrap();
    let how = Collect {
        out: &task.out,
        area: task.area(),
        message: "work",
        attempt: 1,
        exclude: &[],
        secret: &[],
    };
    let error = task.workspace.collect(&how).unwrap_err().to_string();
    let dir = task.dir().to_str().unwrap();
    assert!(error.contains(dir) && !error.contains("install"), "{error}");
}

#[test]
fn what_tools_and_orchestra_leave_behind_is_no_result() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write(".aider.chat.history.md", "x");
    task.write(".aider.tags.cache.v4/cache.db", "x");
    task.write("context/current_state.md", "x");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-qm", "everything"]);
    task.write("b.txt", "two\n");
    assert_eq!(paths(&task), ["b.txt"]);
    let tracked = World::with(&[(".aider.chat.history.md", "the project's own\n")]);
    let task = tracked.start();
    task.write(".aider.chat.history.md", "longer\n");
    assert_eq!(paths(&task), [".aider.chat.history.md"]);
}

#[test]
fn a_link_in_the_place_of_a_directory_leads_nowhere() {
    let user = World::with(&[("dir/a.txt", "one\n"), ("dir/b.txt", "two\n")]);
    let task = user.start();
    let outside = user.tmp.path().join("outside");
    crate::common::write(&outside, "a.txt", "secret\n");
    fs::remove_dir_all(task.dir().join("dir")).unwrap();
    symlink(&outside, task.dir().join("dir")).unwrap();
    let collected = task.collect();
    let kinds: Vec<_> = rows(&collected)
        .into_iter()
        .map(|row| (row.0, row.1))
        .collect();
    let expected = [
        ("dir", "added"),
        ("dir/a.txt", "deleted"),
        ("dir/b.txt", "deleted"),
    ];
    assert_eq!(
        kinds,
        expected.map(|(path, change)| (path.to_owned(), change))
    );
    assert!(apply(&user.checkout(), &task.change(&collected)).is_err());
    assert!(user.user().join("dir/a.txt").exists());
}

#[test]
fn a_directory_becomes_a_link_to_another_one() {
    // More files than git may refuse one by one, also such as the other directory has.
    let names: Vec<String> = (0..100).map(|n| format!("a/{n}")).collect();
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1\n")).collect();
    files.extend([("b/1", "2\n"), (".gitignore", "ignored\n")]);
    let user = World::with(&files);
    user.write("ignored/1", "3\n");
    git(&user.user(), &["add", "-f", "ignored/1"]);
    user.commit("second");
    let task = user.start();
    for name in ["a", "ignored"] {
        fs::remove_dir_all(task.dir().join(name)).unwrap();
        symlink("b", task.dir().join(name)).unwrap();
    }
    let collected = task.collect();
    let warnings = &collected.manifest.warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
    let rows = rows(&collected);
    let is = |path: &str, change: &str| rows.iter().any(|row| (&*row.0, row.1) == (path, change));
    assert!(is("a", "added") && is("a/1", "deleted") && is("ignored/1", "deleted"));
    assert_eq!(rows.len(), 102, "{rows:?}");
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let link = fs::read_link(user.user().join("a")).unwrap();
    assert_eq!(link, std::path::Path::new("b"));
}

#[test]
fn a_damaged_bundle_is_refused_and_nothing_is_touched() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("b.txt", "two\n");
    let collected = task.collect();
    let bundle = collected.bundle.clone().unwrap();
    let whole = fs::read(&bundle).unwrap();
    for at in [whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&bundle, bytes).unwrap();
        assert!(apply(&user.checkout(), &task.change(&collected)).is_err());
    }
    assert_eq!(git(&user.user(), &["status", "--porcelain"]), "");
}

#[test]
fn a_file_that_every_receiver_refuses_costs_only_itself() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 6] = [
        (".gitmodules", |dir| {
            symlink("a.txt", dir.join(".gitmodules")).unwrap();
        }),
        (".gitmodules", |dir| {
            let text = "[submodule \"x\"]\n\tpath = x\n\turl = -u./evil\n";
            fs::write(dir.join(".gitmodules"), text).unwrap();
        }),
        (".gitmodules", |dir| {
            let text = "[submodule \"x\"]\n\tpath = x\n\tupdate = !touch /tmp/evil\n";
            fs::write(dir.join(".gitmodules"), text).unwrap();
        }),
        (".gitmodules", |dir| {
            let text = "[submodule \"../../x\"]\n\tpath = x\n\turl = https://x.invalid\n";
            fs::write(dir.join(".gitmodules"), text).unwrap();
        }),
        (".gitattributes/inside", |dir| {
            crate::common::write(dir, ".gitattributes/inside", "x\n");
        }),
        ("sub/.gitattributes", |dir| {
            crate::common::write(
                dir,
                "sub/.gitattributes",
                &format!("{} x", "y".repeat(3000)),
            );
        }),
    ];
    for (at, (name, spoil)) in spoils.into_iter().enumerate() {
        for committed in [false, true] {
            let user = World::with(&[("a.txt", "one\n")]);
            let task = user.start();
            spoil(task.dir());
            task.write("b.txt", "two\n");
            // Even the agent's own git refuses the link.
            if committed && at > 0 {
                git(task.dir(), &["add", "-A"]);
                git(task.dir(), &["commit", "-qm", "mine"]);
            }
            let collected = task.collect();
            assert_eq!(
                rows(&collected),
                [("b.txt".to_owned(), "added", Some(1), Some(0))],
                "{at} {committed}"
            );
            let warnings = collected.manifest.warnings.join("\n");
            assert!(warnings.contains(&format!("`{name}`")), "{at}: {warnings}");
            apply(&user.checkout(), &task.change(&collected)).unwrap();
            assert!(user.user().join("b.txt").exists());
            let again = task.collect();
            assert_eq!(again.commit, collected.commit, "again gives the same");
        }
    }
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    let honest = "[submodule \"x\"]\n\tpath = x\n\turl = https://x.invalid/x\n";
    task.write(".gitmodules", honest);
    assert_eq!(paths(&task), [".gitmodules"]);
}
