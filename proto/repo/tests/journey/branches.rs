//! The branches that a change makes in the user's repository.

use std::{fs, path::Path};

use crate::common::{BRANCH, World, git, import_branch};
use orchestra_repo::{BranchHere, branch_here};

#[test]
fn a_later_attempt_takes_the_branch_of_an_earlier_one_but_nobodys_own_commits() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    let collect = |text: &str| {
        task.write("a.txt", text);
        let mut collected = task.collect();
        let copy = |from: &Path, name: &str| {
            let to = user.tmp.path().join(format!("{}.{name}", text.trim()));
            fs::copy(from, &to).unwrap();
            to
        };
        collected.bundle = collected.bundle.map(|bundle| copy(&bundle, "bundle"));
        collected.patch = copy(&collected.patch, "patch");
        collected
    };
    let (first, second) = (collect("two\n"), collect("three\n"));
    let tip = || git(&user.user(), &["rev-parse", BRANCH]);
    let attempts = [first.commit.clone(), second.commit.clone()];
    let put = |of| import_branch(&user.checkout(), &task.change(of), &attempts);
    put(&first).unwrap();
    let foreign = import_branch(&user.checkout(), &task.change(&second), &[]).unwrap_err();
    assert!(
        foreign.to_string().contains("not of this task"),
        "{foreign}"
    );
    assert_eq!(
        tip(),
        first.commit,
        "another cluster has a task of this number"
    );
    put(&second).unwrap();
    assert_eq!(tip(), second.commit);

    let home = git(&user.user(), &["symbolic-ref", "--short", "HEAD"]);
    git(&user.user(), &["checkout", "-q", BRANCH]);
    let in_use = put(&first).unwrap_err();
    assert!(in_use.to_string().contains("is checked out"), "{in_use}");
    // In another work tree as well.
    git(&user.user(), &["checkout", "-q", &home]);
    let tree = user.tmp.path().join("tree").to_string_lossy().into_owned();
    git(&user.user(), &["worktree", "add", "-q", &tree, BRANCH]);
    let in_use = put(&first).unwrap_err().to_string();
    assert!(
        in_use.contains(&format!("is checked out in `{tree}`")),
        "{in_use}"
    );
    git(&user.user(), &["worktree", "remove", &tree]);
    git(&user.user(), &["checkout", "-q", BRANCH]);
    git(
        &user.user(),
        &["commit", "-q", "--allow-empty", "-m", "mine"],
    );
    let mine = tip();
    git(&user.user(), &["checkout", "-q", &home]);
    let refused = put(&first).unwrap_err();
    assert!(
        refused.to_string().contains("git branch --move"),
        "{refused}"
    );
    put(&second).unwrap();
    assert_eq!(tip(), mine, "it has what was to be put there");
    git(&user.user(), &["branch", "--move", BRANCH, "kept"]);
    put(&first).unwrap();
    assert_eq!(tip(), first.commit);
    assert_eq!(git(&user.user(), &["rev-parse", "kept"]), mine);
}

#[test]
fn a_branch_in_the_place_of_ours_is_named_with_a_way_out() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("a.txt", "two\n");
    let collected = task.collect();
    git(&user.user(), &["branch", "orchestra"]);
    let put = || import_branch(&user.checkout(), &task.change(&collected), &[]);
    let refused = put().unwrap_err().to_string();
    assert!(
        refused.contains("git branch --move orchestra NAME"),
        "{refused}"
    );
    git(&user.user(), &["branch", "--move", "orchestra", "mine"]);
    let below = format!("{BRANCH}/mine");
    git(&user.user(), &["branch", &below]);
    let refused = put().unwrap_err().to_string();
    let way_out = format!("git branch --move {below} NAME");
    assert!(refused.contains(&way_out), "{refused}");
    git(&user.user(), &["branch", "--move", &below, "mine-2"]);
    let here = |attempts: &[String]| {
        branch_here(&user.checkout(), BRANCH, &collected.commit, attempts).unwrap()
    };
    let is_there = || here(&[]) == BranchHere::There;
    assert!(!is_there());
    put().unwrap();
    put().unwrap();
    assert!(is_there());
    // Of another commit it is another one.
    git(&user.user(), &["branch", "-f", BRANCH, "main"]);
    assert_eq!(here(&[]), BranchHere::Anothers);
    let main = git(&user.user(), &["rev-parse", "main"]).trim().to_owned();
    assert_eq!(here(&[main]), BranchHere::Missing, "an earlier attempt's");
}
