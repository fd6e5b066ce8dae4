//! Files whose changes git was told to overlook.

use std::fs;

use orchestra_repo::ApplyError;

use crate::common::{World, apply, git};

const BITS: [&str; 2] = ["--assume-unchanged", "--skip-worktree"];

fn marked(bit: &str) -> World {
    let user = World::with(&[("a.txt", "one\n"), ("b.txt", "two\n")]);
    git(&user.user(), &["update-index", bit, "a.txt"]);
    user
}

fn read(user: &World) -> String {
    fs::read_to_string(user.user().join("a.txt")).unwrap()
}

#[test]
fn their_edits_go_to_the_agent_and_the_change_comes_back() {
    for bit in BITS {
        let user = marked(bit);
        user.write("a.txt", "edited\n");
        let snapshot = user.checkout().snapshot().unwrap();
        assert!(snapshot.dirty, "{bit}");
        let tags = git(&user.user(), &["ls-files", "-v", "a.txt"]);
        assert!(!tags.starts_with('H'), "the user's index is as it was");
        let task = user.start_from(&snapshot);
        let there = fs::read_to_string(task.dir().join("a.txt")).unwrap();
        assert_eq!(there, "edited\n", "{bit}");
        task.write("a.txt", "edited\nand more\n");
        let collected = task.collect();
        apply(&user.checkout(), &task.change(&collected)).unwrap();
        assert_eq!(read(&user), "edited\nand more\n", "{bit}");
    }
}

#[test]
fn an_edit_in_one_is_not_written_over() {
    for bit in BITS {
        let user = marked(bit);
        let task = user.start();
        task.write("a.txt", "the agent's\n");
        let collected = task.collect();
        user.write("a.txt", "PRECIOUS\n");
        let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
        assert!(
            matches!(refused, ApplyError::InTheWay { .. }),
            "{bit}: {refused}"
        );
        assert_eq!(read(&user), "PRECIOUS\n");
    }
}

#[test]
fn a_file_apart_from_a_sparse_checkout_stays_as_it_is() {
    let user = World::with(&[("in/a.txt", "one\n"), ("out/b.txt", "two\n")]);
    git(&user.user(), &["sparse-checkout", "set", "in"]);
    assert!(!user.user().join("out").exists());
    let snapshot = user.checkout().snapshot().unwrap();
    assert!(!snapshot.dirty);
    user.write("in/a.txt", "edited\n");
    let task = user.start_from(&user.checkout().snapshot().unwrap());
    assert!(task.dir().join("out/b.txt").exists());
}
