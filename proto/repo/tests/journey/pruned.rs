//! Branches of tasks in the user's repository: which another branch has too, and their removal.

use std::path::Path;

use orchestra_repo::{Held, TaskBranch, remove_branch, task_branches};
use orchestra_types::TaskId;

use crate::common::{BRANCH, World, git};

fn branches(user: &World) -> Vec<TaskBranch> {
    task_branches(&user.checkout()).unwrap()
}

fn only(user: &World) -> TaskBranch {
    let [branch] = &branches(user)[..] else {
        panic!("there is one");
    };
    branch.clone()
}

/// A branch with a commit of its own, made without a work tree.
fn make(dir: &Path, branch: &str) -> String {
    let tree = git(dir, &["rev-parse", "HEAD^{tree}"]);
    let commit = git(dir, &["commit-tree", "-p", "HEAD", "-m", branch, &tree]);
    git(
        dir,
        &["update-ref", &format!("refs/heads/{branch}"), &commit],
    );
    commit
}

fn exists(user: &World, branch: &str) -> bool {
    let full = format!("refs/heads/{branch}");
    !git(&user.user(), &["for-each-ref", &full]).is_empty()
}

#[test]
fn each_says_whose_it_is_and_which_other_branch_has_its_commits() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    assert_eq!(branches(&user), []);
    for mine in ["orchestra/mine", "orchestra/task_1", "orchestra/task_001-x"] {
        make(&dir, mine);
    }
    assert_eq!(branches(&user), [], "names that a person gave");
    let beside = make(&dir, "orchestra/task_001-2-fix");
    let ten = make(&dir, "orchestra/task_010");
    let commit = make(&dir, BRANCH);
    let known = branches(&user);
    let names = known
        .iter()
        .map(|b| (&*b.name, b.task, b.beside, &*b.commit));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            (BRANCH, TaskId(1), None, &*commit),
            ("orchestra/task_001-2-fix", TaskId(1), Some(2), &*beside),
            ("orchestra/task_010", TaskId(10), None, &*ten),
        ]
    );
    let within = |user: &World| {
        let known = branches(user).into_iter();
        known
            .map(|b| b.within.unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert_eq!(within(&user), ["", "", ""]);
    git(&dir, &["merge", "-q", "--no-edit", BRANCH]);
    git(&dir, &["branch", "-q", "topic", &beside]);
    git(&dir, &["update-ref", "refs/remotes/origin/x", &ten]);
    assert_eq!(within(&user), ["main", "topic", "origin/x"]);
    // A branch of ours keeps no other, and of a mere name only what it means does.
    git(&dir, &["update-ref", "-d", "refs/remotes/origin/x"]);
    git(&dir, &["update-ref", "refs/heads/orchestra/task_011", &ten]);
    git(
        &dir,
        &[
            "symbolic-ref",
            "refs/heads/alias",
            "refs/heads/orchestra/task_010",
        ],
    );
    assert_eq!(within(&user), ["main", "topic", "", ""]);
    let known = branches(&user);
    assert_eq!(known[2].alias.as_deref(), Some("alias"));
    assert_eq!(
        known[2].in_use().as_deref(),
        Some("`alias` is another name of it")
    );
    assert_eq!(known[3].in_use(), None);
}

#[test]
fn a_commit_that_only_a_head_without_a_branch_has_is_nowhere_else() {
    let user = World::with(&[("a.txt", "one\n")]);
    make(&user.user(), BRANCH);
    git(&user.user(), &["checkout", "-q", "--detach", BRANCH]);
    assert_eq!(only(&user).within, None);
    git(&user.user(), &["checkout", "-q", "main"]);
    git(&user.user(), &["merge", "-q", "--ff-only", BRANCH]);
    git(&user.user(), &["checkout", "-q", "--detach"]);
    assert_eq!(only(&user).within.as_deref(), Some("main"));
}

#[test]
fn one_goes_as_it_was_seen_and_not_otherwise() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let first = make(&dir, BRANCH);
    let seen = only(&user);
    // Somebody goes on with it.
    git(&dir, &["checkout", "-q", BRANCH]);
    user.commit("mine");
    let mine = git(&dir, &["rev-parse", "HEAD"]);
    git(&dir, &["checkout", "-q", "main"]);
    assert!(!remove_branch(&user.checkout(), &seen).unwrap());
    assert_eq!(git(&dir, &["rev-parse", BRANCH]), mine);
    // And has it checked out, in any work tree.
    git(&dir, &["branch", "-q", "-f", BRANCH, &first]);
    let tree = user.tmp.path().join("tree").to_string_lossy().into_owned();
    git(&dir, &["worktree", "add", "-q", &tree, BRANCH]);
    let (held, place) = only(&user).held.unwrap();
    assert_eq!(
        (held, place.to_string_lossy().into_owned()),
        (Held::CheckedOut, tree.clone())
    );
    let refused = remove_branch(&user.checkout(), &seen)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is checked out in"), "{refused}");
    assert!(exists(&user, BRANCH));
    git(&dir, &["worktree", "remove", &tree]);
    assert!(remove_branch(&user.checkout(), &seen).unwrap());
    assert!(!exists(&user, BRANCH));
    assert!(
        !remove_branch(&user.checkout(), &seen).unwrap(),
        "it is gone"
    );
    assert_eq!(branches(&user), []);
    // Nothing else is ever removed.
    let main = TaskBranch {
        name: "main".to_owned(),
        commit: git(&dir, &["rev-parse", "main"]),
        ..seen
    };
    assert!(remove_branch(&user.checkout(), &main).is_err());
}

#[test]
fn a_name_that_became_another_name_of_something_takes_nothing_with_it() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    make(&dir, BRANCH);
    git(&dir, &["merge", "-q", "--ff-only", BRANCH]);
    let seen = only(&user);
    git(&dir, &["branch", "-q", "topic", BRANCH]);
    let full = format!("refs/heads/{BRANCH}");
    git(&dir, &["symbolic-ref", &full, "refs/heads/topic"]);
    assert_eq!(branches(&user), []);
    let _ = remove_branch(&user.checkout(), &seen);
    assert!(exists(&user, "topic"));
}
