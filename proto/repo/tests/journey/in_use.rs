//! Branches of ours that a work tree of the user's is at work on without having them checked out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    attempts::halves,
    common::{BRANCH, Done, LINES, World, git, import_branch},
};

/// The first attempt's branch is there, and a further work tree has it.
struct Scene {
    user: World,
    first: Done,
    second: Done,
    attempts: Vec<String>,
    tree: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let user = World::with(&[("f", LINES)]);
        let (first, second, attempts) = halves(&user);
        import_branch(&user.checkout(), &first.change(&[]), &attempts).unwrap();
        let tree = user.tmp.path().join("tree");
        let dir = tree.to_string_lossy().into_owned();
        git(&user.user(), &["worktree", "add", "-q", &dir, BRANCH]);
        Self {
            user,
            first,
            second,
            attempts,
            tree,
        }
    }

    fn put(&self) -> Result<(), String> {
        let change = self.second.change(&[]);
        import_branch(&self.user.checkout(), &change, &self.attempts)
            .map_err(|error| error.to_string())
    }

    /// It is refused with these words and where that is, and the branch stays.
    fn is_refused(&self, words: &[&str]) {
        let said = self.put().unwrap_err();
        let place = self.tree.to_string_lossy();
        for word in words.iter().chain(&[&*place]) {
            assert!(said.contains(word), "{word}: {said}");
        }
        let tip = git(&self.user.user(), &["rev-parse", BRANCH]);
        assert_eq!(tip, self.first.commit);
    }
}

/// Git that stops at a conflict.
fn stops(dir: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(dir)
        .env("GIT_SEQUENCE_EDITOR", "echo break >");
    git.args(["-c", "user.name=User", "-c", "user.email=user@example.org"]);
    assert!(!git.args(args).output().unwrap().status.success());
}

#[test]
fn a_branch_that_is_being_rebased_is_not_moved() {
    for backend in ["--merge", "--apply"] {
        let scene = Scene::new();
        scene.user.write("f", "mine\n");
        scene.user.commit("mine");
        stops(&scene.tree, &["rebase", backend, "main"]);
        scene.is_refused(&["is being rebased", "git rebase --abort"]);
        git(&scene.tree, &["rebase", "--abort"]);
        git(&scene.tree, &["checkout", "-q", "--detach"]);
        scene.put().unwrap();
    }
}

#[test]
fn nor_one_that_a_rebase_of_another_branch_takes_along() {
    let scene = Scene::new();
    git(&scene.tree, &["checkout", "-q", "-b", "on-top"]);
    git(&scene.tree, &["commit", "-q", "--allow-empty", "-m", "top"]);
    scene.user.write("f", "mine\n");
    scene.user.commit("mine");
    stops(&scene.tree, &["rebase", "--update-refs", "main"]);
    scene.is_refused(&["is being rebased", "git rebase --abort"]);
}

#[test]
fn nor_one_on_which_a_bisection_began() {
    let scene = Scene::new();
    git(&scene.tree, &["bisect", "start"]);
    git(&scene.tree, &["checkout", "-q", "--detach", "main"]);
    scene.is_refused(&["is being bisected", "git bisect reset"]);
    git(&scene.tree, &["bisect", "reset", "main"]);
    scene.put().unwrap();
}

#[test]
fn nor_one_that_a_work_tree_is_about_to_begin() {
    let scene = Scene::new();
    git(&scene.tree, &["checkout", "-q", "--detach"]);
    git(&scene.user.user(), &["branch", "-q", "-D", BRANCH]);
    git(&scene.tree, &["checkout", "-q", "--orphan", BRANCH]);
    let said = scene.put().unwrap_err();
    assert!(said.contains("is checked out in"), "{said}");
}

#[test]
fn of_a_work_tree_that_is_gone_it_is_said_how_it_is_forgotten() {
    let scene = Scene::new();
    fs::remove_dir_all(&scene.tree).unwrap();
    scene.is_refused(&["git worktree prune"]);
    git(&scene.user.user(), &["worktree", "prune"]);
    scene.put().unwrap();
}
