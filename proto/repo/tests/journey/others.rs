//! What an agent committed and left beside its result.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::common::{BRANCH, CLUSTER, Task, World, git, import_branch, rows};
use orchestra_repo::{Checkout, Collected, Others, import_others, others_in};
use orchestra_types::TaskId;

pub fn world() -> World {
    World::with(&[("a.txt", "one\n")])
}

/// Commits one file on a branch and goes back.
pub fn leave(task: &Task, branch: &str, file: &str) {
    git(task.dir(), &["checkout", "-q", "-b", branch]);
    task.write(file, "work\n");
    git(task.dir(), &["add", "-f", file]);
    git(task.dir(), &["commit", "-q", "-m", "left"]);
    git(task.dir(), &["checkout", "-q", "-"]);
}

pub fn names(collected: &Collected) -> Vec<String> {
    let Some(bundle) = &collected.bundle else {
        return Vec::new();
    };
    let others = others_in(bundle, TaskId(1)).unwrap().into_iter();
    others.map(|(name, _)| name).collect()
}

pub fn import(user: &World, collected: &Collected) -> Others {
    let bundle = collected.bundle.as_deref().unwrap();
    import_others(&user.checkout(), bundle, TaskId(1), Some(CLUSTER)).unwrap()
}

pub fn show(user: &World, what: &str) -> String {
    git(&user.user(), &["show", what])
}

/// A third task after two that conflict: the second's branch is only at hand.
pub fn after_a_conflict(user: &World) -> Task {
    let snapshot = user.checkout().snapshot().unwrap();
    let of = |number, text| {
        let task = user.start_after(&snapshot, number, &[]);
        task.write("a.txt", text);
        task.done()
    };
    let (first, second) = (of(1, "first\n"), of(2, "second\n"));
    user.start_after(&snapshot, 3, &[&first, &second])
}

/// The only warning.
pub fn warning(collected: &Collected) -> &str {
    match collected.manifest.warnings.as_slice() {
        [one] => one,
        others => panic!("{others:#?}"),
    }
}

#[test]
fn a_branch_that_the_agent_left_is_kept_and_named() {
    let user = world();
    let task = user.start();
    leave(&task, "fix/lexer", "work.txt");
    for _ in 0..2 {
        let collected = task.collect();
        assert!(rows(&collected).is_empty());
        assert!(!collected.has_branch);
        assert_eq!(
            warning(&collected),
            "commits on the agent's branch `fix/lexer` are not in the result; they are the branch \
             `orchestra/task_001-1-fix-lexer`"
        );
        let others = import(&user, &collected);
        assert_eq!(others.made, ["orchestra/task_001-1-fix-lexer"]);
        assert_eq!(
            show(&user, "orchestra/task_001-1-fix-lexer:work.txt"),
            "work"
        );
    }
    let branches = git(&user.user(), &["branch", "--list", BRANCH]);
    assert_eq!(branches, "", "there is no change of its own");
}

#[test]
fn a_name_that_something_else_has_is_left_alone() {
    let user = world();
    let task = user.start();
    leave(&task, "fix", "work.txt");
    let name = "orchestra/task_001-1-fix";
    git(&user.user(), &["branch", name]);
    let before = git(&user.user(), &["rev-parse", name]);
    let others = import(&user, &task.collect());
    assert_eq!(others.left_alone, [name]);
    assert!(others.made.is_empty());
    assert_eq!(git(&user.user(), &["rev-parse", name]), before);
}

#[test]
fn a_branch_comes_beside_a_change() {
    let user = world();
    let task = user.start();
    leave(&task, "fix", "work.txt");
    task.write("b.txt", "two\n");
    let collected = task.collect();
    assert!(collected.has_branch);
    import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
    import(&user, &collected);
    assert_eq!(show(&user, &format!("{BRANCH}:b.txt")), "two");
    assert_eq!(show(&user, "orchestra/task_001-1-fix:work.txt"), "work");
    crate::common::apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert!(!user.user().join("work.txt").exists());
}

#[test]
fn what_is_in_the_result_or_was_given_is_no_other_branch() {
    let user = world();
    let snapshot = user.checkout().snapshot().unwrap();
    let first = user.start_from(&snapshot);
    first.write("a.txt", "first\n");
    let first = first.done();
    let second = user.start_after(&snapshot, 2, &[&first]);
    // Merged, the same as what was given, and the beginning.
    leave(&second, "merged", "work.txt");
    git(second.dir(), &["merge", "-q", "merged"]);
    git(second.dir(), &["branch", "copy", "orchestra/task_001"]);
    git(second.dir(), &["branch", "old", "HEAD~2"]);
    let collected = second.collect();
    assert_eq!(collected.manifest.warnings, [] as [String; 0]);
    let bundle = collected.bundle.as_deref().unwrap();
    assert_eq!(others_in(bundle, TaskId(2)).unwrap(), []);
}

#[test]
fn work_on_a_branch_that_was_given_is_kept() {
    let user = world();
    let third = after_a_conflict(&user);
    git(third.dir(), &["checkout", "-q", "orchestra/task_002"]);
    third.write("b.txt", "more\n");
    git(third.dir(), &["add", "."]);
    git(third.dir(), &["commit", "-q", "-m", "more"]);
    git(third.dir(), &["checkout", "-q", "-"]);
    let collected = third.collect();
    let bundle = collected.bundle.as_deref().unwrap();
    let others = import_others(&user.checkout(), bundle, TaskId(3), None).unwrap();
    assert_eq!(others.made, ["orchestra/task_003-1-orchestra-task_002"]);
    let name = &others.made[0];
    assert_eq!(show(&user, &format!("{name}:a.txt")), "second");
    assert_eq!(show(&user, &format!("{name}:b.txt")), "more");
}

#[test]
fn what_we_put_there_for_a_task_that_the_agent_queued_is_no_other_branch() {
    let user = world();
    let snapshot = user.checkout().snapshot().unwrap();
    let parent = user.start_from(&snapshot);
    let queued = user.start_after(&snapshot, 2, &[]);
    queued.write("b.txt", "queued\n");
    let workspace = Checkout::discover(parent.dir()).unwrap().unwrap();
    import_branch(&workspace, &queued.done().change(&[]), &[]).unwrap();
    let collected = parent.collect();
    assert_eq!(collected.manifest.warnings, [] as [String; 0]);
    assert_eq!(names(&collected), [] as [String; 0]);
    // It is the agent's once the agent has gone on with it.
    git(parent.dir(), &["checkout", "-q", "orchestra/task_002"]);
    parent.write("c.txt", "more\n");
    git(parent.dir(), &["add", "c.txt"]);
    git(parent.dir(), &["commit", "-q", "-m", "more"]);
    git(parent.dir(), &["checkout", "-q", "-"]);
    let collected = parent.collect();
    let kept = "orchestra/task_001-1-orchestra-task_002";
    assert_eq!(names(&collected), [kept]);
    assert!(warning(&collected).contains(kept));
}

#[test]
fn stashes_are_kept_the_latest_and_those_before_it() {
    let user = world();
    let task = user.start();
    task.write("a.txt", "older\n");
    git(task.dir(), &["stash", "-q"]);
    task.write("a.txt", "later\n");
    task.write("new.txt", "new\n");
    git(task.dir(), &["stash", "-uq"]);
    let collected = task.collect();
    assert!(rows(&collected).is_empty());
    let both = ["orchestra/task_001-1-stash", "orchestra/task_001-1-stash-1"];
    assert_eq!(names(&collected), both);
    assert_eq!(
        collected.manifest.warnings[0],
        "commits in the agent's stash `stash@{0}` are not in the result; they are the branch \
         `orchestra/task_001-1-stash`"
    );
    import(&user, &collected);
    assert_eq!(show(&user, &format!("{}:a.txt", both[1])), "older");
    git(&user.user(), &["stash", "apply", "-q", both[0]]);
    for (name, text) in [("a.txt", "later\n"), ("new.txt", "new\n")] {
        assert_eq!(
            fs::read_to_string(user.user().join(name)).unwrap(),
            text,
            "with the untracked ones"
        );
    }
}

#[test]
fn packed_refs_and_packed_objects_are_read() {
    let user = world();
    let task = user.start();
    leave(&task, "fix", "work.txt");
    task.write("a.txt", "later\n");
    git(task.dir(), &["stash", "-q"]);
    git(task.dir(), &["pack-refs", "--all"]);
    git(task.dir(), &["repack", "-q", "-a", "-d"]);
    let both = ["orchestra/task_001-1-fix", "orchestra/task_001-1-stash"];
    assert_eq!(names(&task.collect()), both);
}

#[test]
fn a_history_of_its_own_is_not_kept_and_named() {
    let user = world();
    let task = user.start();
    let tree = git(task.dir(), &["rev-parse", "HEAD^{tree}"]);
    let orphan = git(task.dir(), &["commit-tree", &tree, "-m", "orphan"]);
    git(task.dir(), &["branch", "orphan", &orphan]);
    let collected = task.collect();
    assert_eq!(collected.bundle, None);
    let said = warning(&collected);
    assert!(
        said.contains("`orphan`") && said.contains("not kept"),
        "{said}"
    );
    assert!(collected.only_there, "what is not kept is not removed");
}

#[test]
fn a_secret_never_leaves_by_a_branch_or_a_stash() {
    let user = World::with(&[("a.txt", "one\n"), (".gitignore", "local/\n")]);
    let task = user.start();
    leave(&task, "fix", "local/.env");
    task.write("local/.env", "key\n");
    git(task.dir(), &["stash", "-aq"]);
    let collected = task.collect();
    assert_eq!(collected.bundle, None);
    let warnings = &collected.manifest.warnings;
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings.iter().all(|w| w.contains("for the agent alone")));
}

#[test]
fn a_history_that_is_refused_is_named_once() {
    let user = world();
    let task = user.start();
    task.write("b.txt", "two\n");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-q", "--amend", "-m", "all mine"]);
    let collected = task.collect();
    assert!(warning(&collected).contains("became one"));
}

#[test]
fn names_are_plain_and_no_two_are_the_same() {
    let user = world();
    let task = user.start();
    let long = "x".repeat(80);
    for (at, name) in ["a/b", "a-b", "stash", "gr\u{fc}n@$(id)", &long]
        .into_iter()
        .enumerate()
    {
        leave(&task, name, &format!("{at}.txt"));
    }
    task.write("a.txt", "later\n");
    git(task.dir(), &["stash", "-q"]);
    let collected = task.collect();
    let mut found = names(&collected);
    found.sort();
    let expected = [
        "a-b",
        "a-b-2",
        "gr-n---id-",
        "stash",
        "stash-2",
        &"x".repeat(40),
    ];
    let expected = expected.map(|name| format!("orchestra/task_001-1-{name}"));
    assert_eq!(found, expected);
    assert_eq!(import(&user, &collected).made.len(), expected.len());
}

#[test]
fn a_git_directory_that_is_a_mess_costs_no_result() {
    type Spoil = fn(&Path);
    let spoils: [(&str, &str, Spoil); 7] = [
        ("a link as refs", "cannot be read", |git| {
            fs::rename(git.join("refs"), git.join("away")).unwrap();
            symlink(git.join("away"), git.join("refs")).unwrap();
        }),
        (
            "a link as branch",
            "`refs/heads/linked` cannot be read",
            |git| {
                symlink("/etc/hostname", git.join("refs/heads/linked")).unwrap();
            },
        ),
        (
            "a pipe as branch",
            "`refs/heads/pipe` cannot be read",
            |git| {
                let path = git.join("refs/heads/pipe");
                let made = std::process::Command::new("mkfifo").arg(path).status();
                assert!(made.unwrap().success());
            },
        ),
        ("no commit", "`odd` names no commit", |git| {
            fs::write(git.join("refs/heads/odd"), "\0\u{fffd}").unwrap();
        }),
        (
            "a missing object",
            "`gone` are not in the result, and were not kept",
            |git| {
                fs::write(git.join("refs/heads/gone"), "a".repeat(40)).unwrap();
            },
        ),
        ("a tag as branch", "it names a tag", |git| {
            let dir = git.parent().unwrap();
            let empty = ["commit", "-q", "--allow-empty", "-m", "more"];
            crate::common::git(dir, &["checkout", "-q", "--detach"]);
            crate::common::git(dir, &empty);
            crate::common::git(dir, &["tag", "-a", "t", "-m", "t"]);
            crate::common::git(dir, &["checkout", "-q", "-"]);
            fs::copy(git.join("refs/tags/t"), git.join("refs/heads/t")).unwrap();
        }),
        (
            "a link as packed refs",
            "packed branches cannot be read",
            |git| {
                symlink("/etc/hostname", git.join("packed-refs")).unwrap();
            },
        ),
    ];
    for (name, says, spoil) in spoils {
        let user = world();
        let task = user.start();
        task.write("b.txt", "two\n");
        spoil(&task.dir().join(".git"));
        let collected = task.collect();
        assert_eq!(rows(&collected).len(), 1, "{name}");
        let warnings = &collected.manifest.warnings;
        assert!(
            warnings.iter().any(|w| w.contains(says)),
            "{name}: {warnings:#?}"
        );
        crate::common::apply(&user.checkout(), &task.change(&collected)).unwrap();
    }
}

#[test]
fn a_git_directory_elsewhere_is_named_and_none_at_all_is_not() {
    type Spoil = fn(&Path);
    let spoils: [(&str, bool, Spoil); 4] = [
        ("moved by git", true, |dir| {
            git(dir, &["init", "-q", "--separate-git-dir", "../elsewhere"]);
        }),
        ("a link", true, |dir| {
            fs::rename(dir.join(".git"), dir.with_extension("moved")).unwrap();
            symlink(dir.with_extension("moved"), dir.join(".git")).unwrap();
        }),
        ("a file", true, |dir| {
            fs::remove_dir_all(dir.join(".git")).unwrap();
            fs::write(dir.join(".git"), "nothing\n").unwrap();
        }),
        ("gone", false, |dir| {
            fs::remove_dir_all(dir.join(".git")).unwrap();
        }),
    ];
    for (name, is_named, spoil) in spoils {
        let user = world();
        let task = user.start();
        task.write("b.txt", "two\n");
        leave(&task, "fix", "work.txt");
        spoil(task.dir());
        let collected = task.collect();
        assert_eq!(rows(&collected).len(), 1, "{name}");
        match is_named {
            true => assert_eq!(
                warning(&collected),
                "the agent's `.git` is no directory: commits on branches of its own, stashes and further \
                 work trees are not looked for",
                "{name}"
            ),
            false => assert_eq!(collected.manifest.warnings, [] as [String; 0], "{name}"),
        }
    }
}

#[test]
fn of_a_long_chain_of_branches_nothing_is_lost() {
    let user = world();
    let task = user.start();
    let base = git(task.dir(), &["rev-parse", "HEAD"]);
    for number in 1..=30 {
        git(task.dir(), &["checkout", "-q", "-b", &format!("w{number}")]);
        task.write(&format!("{number}.txt"), "work\n");
        git(task.dir(), &["add", "-A"]);
        git(task.dir(), &["commit", "-q", "-m", "left"]);
    }
    git(task.dir(), &["checkout", "-q", &base]);
    git(task.dir(), &["checkout", "-q", "-b", "fin"]);
    task.write("last.txt", "work\n");
    for _ in 0..2 {
        let collected = task.collect();
        assert_eq!(names(&collected).len(), 16);
        let others = import(&user, &collected);
        let last = "orchestra/task_001-1-w30";
        assert!(others.made.iter().any(|name| name == last), "{others:?}");
        let files = git(&user.user(), &["ls-tree", "--name-only", last]);
        assert_eq!(files.lines().filter(|name| *name != "a.txt").count(), 30);
        let warnings = &collected.manifest.warnings;
        assert!(
            !warnings.iter().any(|w| w.contains("not kept")),
            "{warnings:#?}"
        );
        let is_told = |w: &String| w.contains("the commits of these are in those that do: `w");
        assert!(warnings.iter().any(is_told), "{warnings:#?}");
        assert!(!collected.only_there, "{warnings:#?}");
    }
}

#[test]
fn of_very_many_branches_some_are_kept() {
    let user = world();
    let task = user.start();
    leave(&task, "first", "work.txt");
    let commit = git(task.dir(), &["rev-parse", "first"]);
    // All different, none there but those that are made here.
    let heads = task.dir().join(".git/refs/heads");
    for number in 0..20 {
        let parent = format!("commit {number}");
        let made = ["commit-tree", "first^{tree}", "-p", &commit, "-m", &parent];
        let made = git(task.dir(), &made);
        fs::write(heads.join(format!("a{number:02}")), made).unwrap();
    }
    for number in 0..10_000 {
        fs::write(heads.join(format!("z{number}")), format!("{number:040x}")).unwrap();
    }
    let collected = task.collect();
    assert_eq!(names(&collected).len(), 16);
    let warnings = &collected.manifest.warnings;
    assert!(warnings.len() < 20, "{}", warnings.len());
    assert!(warnings.iter().any(|w| w.contains("more than 10000")));
    assert!(warnings.iter().any(|w| w.contains("not kept: `a16`")));
    assert!(collected.only_there, "what is not kept is not removed");
}
