//! Changes to files that the user has not committed.

use std::{fs, process::Command};

use crate::common::{BRANCH, Task, World, apply, git, import_branch};
use orchestra_repo::{ApplyError, Received, apply_if, keeps_from_merging};

fn read(user: &World, name: &str) -> String {
    fs::read_to_string(user.user().join(name)).unwrap()
}

#[test]
fn what_an_attempt_started_from_may_be_replaced_although_it_is_not_committed() {
    let user = World::with(&[("a.txt", "one\n"), ("b.txt", "one\n"), ("gone.txt", "x\n")]);
    user.write("a.txt", "mine\n");
    user.write("untracked.txt", "mine\n");
    user.write("b.txt", "staged\n");
    git(&user.user(), &["add", "b.txt"]);
    fs::remove_file(user.user().join("gone.txt")).unwrap();
    let task = user.start();
    for name in ["a.txt", "b.txt", "untracked.txt", "gone.txt"] {
        task.write(name, "the agent's\n");
    }
    let collected = task.collect();
    let applied = apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert_eq!(applied.files, 4);
    for name in ["a.txt", "b.txt", "untracked.txt", "gone.txt"] {
        assert_eq!(read(&user, name), "the agent's\n", "{name}");
    }
}

#[test]
fn files_that_git_did_not_know_count_when_they_go() {
    let user = World::with(&[("a.txt", "one\n"), ("b.txt", "two\n")]);
    for name in ["u", "v", "w"] {
        user.write(name, &format!("{name}\nwith a line of its own\n"));
    }
    let task = user.start();
    for name in ["a.txt", "u", "v"] {
        fs::remove_file(task.dir().join(name)).unwrap();
    }
    for (from, to) in [("w", "x"), ("b.txt", "c.txt")] {
        fs::rename(task.dir().join(from), task.dir().join(to)).unwrap();
    }
    let collected = task.collect();
    let put = || apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert_eq!(put().files, 5, "three are gone, two have another name");
    for name in ["a.txt", "u", "v", "w"] {
        assert!(!user.user().join(name).exists(), "{name}");
    }
    assert_eq!(put().files, 3, "git knows of these only");
}

#[test]
fn files_that_become_as_in_head_again_count_when_they_are_written() {
    let user = World::with(&[("a.txt", "one\n"), ("b.txt", "two\n"), ("c.txt", "three\n")]);
    user.write("a.txt", "mine\n");
    fs::remove_file(user.user().join("b.txt")).unwrap();
    let task = user.start();
    for (name, text) in [("a.txt", "one\n"), ("b.txt", "two\n"), ("c.txt", "new\n")] {
        task.write(name, text);
    }
    let collected = task.collect();
    let put = || apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert_eq!(put().files, 3, "two are as in HEAD again");
    assert_eq!(read(&user, "a.txt"), "one\n");
    assert!(put().already);
}

#[test]
fn what_keeps_git_from_merging_is_what_it_would_refuse() {
    // What git does is what was said.
    let tried = |user: &World, task: &Task| {
        let collected = task.collect();
        let change = task.change(&collected);
        let checkout = user.checkout();
        let received = Received::take(&checkout, &change).unwrap();
        let keeps = keeps_from_merging(&checkout, &received).unwrap();
        import_branch(&checkout, &change, &[]).unwrap();
        let tried = Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@x"])
            .args(["merge", "-q", "--no-edit", BRANCH])
            .current_dir(user.user())
            .output()
            .unwrap();
        assert_eq!(keeps, !tried.status.success(), "{tried:?}");
        !keeps
    };
    let merges = |user: &World, changed: &str| {
        let task = user.start();
        task.write(changed, "the agent's\n");
        tried(user, &task)
    };
    let files = [("a.txt", "one\n"), ("b.txt", "two\n")];
    assert!(merges(&World::with(&files), "a.txt"));
    let edited = World::with(&files);
    edited.write("a.txt", "mine\n");
    assert!(!merges(&edited, "b.txt"), "the snapshot has the edit");
    let untracked = World::with(&files);
    untracked.write("new.txt", "mine\n");
    assert!(!merges(&untracked, "b.txt"), "and the new file");
    let staged = World::with(&files);
    staged.write("a.txt", "mine\n");
    git(&staged.user(), &["add", "a.txt"]);
    assert!(merges(&staged, "b.txt"), "as the branch has it");
    let changed = World::with(&files);
    changed.write("a.txt", "mine\n");
    git(&changed.user(), &["add", "a.txt"]);
    assert!(!merges(&changed, "a.txt"));
    let behind = World::with(&files);
    let task = behind.start();
    task.write("a.txt", "the agent's\n");
    behind.write("c.txt", "committed since\n");
    behind.commit("second");
    assert!(tried(&behind, &task), "nothing is staged");
    let behind = World::with(&files);
    let task = behind.start();
    task.write("a.txt", "the agent's\n");
    behind.write("c.txt", "committed since\n");
    behind.commit("second");
    behind.write("b.txt", "staged\n");
    git(&behind.user(), &["add", "b.txt"]);
    assert!(!tried(&behind, &task));
}

#[test]
fn what_was_edited_since_is_not() {
    let user = World::with(&[("a.txt", "one\n2\n3\n4\nfive\n")]);
    user.write("a.txt", "mine\n2\n3\n4\nfive\n");
    let task = user.start();
    task.write("a.txt", "mine\n2\n3\n4\nFIVE\n");
    let collected = task.collect();
    // It would merge, but nobody could take that back.
    for edited in ["MINE\n2\n3\n4\nfive\n", "one\n2\n3\n4\nfive\nsix\n"] {
        user.write("a.txt", edited);
        let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
        assert!(
            matches!(refused, ApplyError::InTheWay { .. }),
            "{refused:?}"
        );
        let said = "uncommitted edits or untracked files are in the way in `a.txt`; \
                    commit them or put them aside, then apply again";
        assert_eq!(refused.to_string(), said);
        assert_eq!(read(&user, "a.txt"), edited);
    }
}

#[test]
fn a_file_that_was_renamed_in_a_commit_is_merged_under_its_new_name() {
    let text = |last: &str| format!("1\n2\n3\n4\n5\n6\n7\n{last}\n");
    let user = World::with(&[("a.txt", &text("8"))]);
    let task = user.start();
    task.write("a.txt", &text("eight"));
    let collected = task.collect();
    git(&user.user(), &["mv", "a.txt", "b.txt"]);
    user.commit("renamed");
    let put = || apply(&user.checkout(), &task.change(&collected));
    user.write("b.txt", &text("mine"));
    assert!(matches!(
        put(),
        Err(ApplyError::InTheWay { .. } | ApplyError::Conflict { .. })
    ));
    assert_eq!(read(&user, "b.txt"), text("mine"));
    user.write("b.txt", &text("8"));
    assert_eq!(put().unwrap().files, 1);
    assert_eq!(read(&user, "b.txt"), text("eight"));
}

#[test]
fn an_apply_that_is_called_off_touches_nothing() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("a.txt", "two\n");
    let collected = task.collect();
    let received = Received::take(&user.checkout(), &task.change(&collected)).unwrap();
    let called_off = apply_if(&user.checkout(), &received, || false);
    assert!(matches!(called_off, Err(ApplyError::CalledOff)));
    assert_eq!(read(&user, "a.txt"), "one\n");
}

#[test]
fn files_outside_of_a_sparse_checkout_are_left_to_git() {
    let user = World::with(&[("in/a.txt", "one\n"), ("out/b.txt", "one\n")]);
    let task = user.start();
    task.write("out/b.txt", "two\n");
    let collected = task.collect();
    assert!(!user.checkout().is_sparse().unwrap());
    git(&user.user(), &["sparse-checkout", "set", "in"]);
    assert!(user.checkout().is_sparse().unwrap());
    let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("out/b.txt") && said.contains("sparse"),
        "{said}"
    );
    let again = user.start_after(&user.checkout().snapshot().unwrap(), 2, &[]);
    again.write("in/a.txt", "two\n");
    again.done().apply(&user, &[]).unwrap();
    assert_eq!(read(&user, "in/a.txt"), "two\n");
}

#[test]
fn files_that_git_converts_are_named_and_written_as_a_checkout_has_them() {
    let user = World::with(&[("other.txt", "one\n")]);
    let rules = "*.bat eol=crlf\nraw.bat -text eol=crlf\n*.u working-tree-encoding=UTF-16LE\n";
    user.write(".gitattributes", rules);
    user.write("x.bat", "one\r\n");
    user.write("raw.bat", "one\n");
    user.write("y.u", "o\0\n\0");
    user.commit("converted");
    let snapshot = user.checkout().snapshot().unwrap();
    let expected = [
        "agents get files as git keeps them, with LF instead of CRLF: `x.bat`",
        "agents get files as git keeps them, in UTF-8: `y.u`",
    ];
    assert_eq!(snapshot.warnings, expected);
    let task = user.start_from(&snapshot);
    let given = |name: &str| fs::read_to_string(task.dir().join(name)).unwrap();
    assert_eq!([given("x.bat"), given("y.u")], ["one\n", "o\n"]);
    task.write("x.bat", "one\ntwo\n");
    task.write("y.u", "p\n");
    apply(&user.checkout(), &task.change(&task.collect())).unwrap();
    assert_eq!(read(&user, "x.bat"), "one\r\ntwo\r\n");
    assert_eq!(read(&user, "y.u"), "p\0\n\0");
}

#[test]
fn a_file_that_git_filters_is_not_written_as_git_keeps_it() {
    let user = World::with(&[("a.txt", "one\n")]);
    let set = |key: &str, value: &str| git(&user.user(), &["config", key, value]);
    set("filter.upper.clean", "tr a-z A-Z");
    set("filter.upper.smudge", "tr A-Z a-z");
    user.write(".gitattributes", "*.up filter=upper\n");
    user.write("word.up", "hello\n");
    user.write("a b.up", "one\n");
    user.commit("filtered");
    let snapshot = user.checkout().snapshot().unwrap();
    let warned = snapshot.warnings.join("\n");
    assert!(
        warned.contains("`upper`") && warned.contains("word.up"),
        "{warned}"
    );
    let task = user.start_from(&snapshot);
    assert_eq!(
        fs::read_to_string(task.dir().join("word.up")).unwrap(),
        "HELLO\n"
    );
    task.write("word.up", "HELLO\nMORE\n");
    task.write("a b.up", "ONE\nMORE\n");
    task.write("a.txt", "one\ntwo\n");
    let collected = task.collect();
    let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("git filters it"), "{refused}");
    let rest = "`ctl diff task_001 | git apply --exclude='a b.up' --exclude=word.up`";
    assert!(refused.contains(rest), "{refused}");
    assert_eq!(read(&user, "word.up"), "hello\n");
    let patch = collected.patch.to_string_lossy().into_owned();
    let exclude = ["--exclude=a b.up", "--exclude=word.up"];
    git(
        &user.user(),
        &[&["apply"], &exclude[..], &[&patch]].concat(),
    );
    assert_eq!(read(&user, "a.txt"), "one\ntwo\n");
    assert_eq!(read(&user, "word.up"), "hello\n");
    user.write("a.txt", "one\n");
    // One that the agent made is as it made it.
    let other = user.start_after(&snapshot, 2, &[]);
    other.write("new.up", "fresh\n");
    other.done().apply(&user, &[]).unwrap();
    assert_eq!(read(&user, "new.up"), "fresh\n");
    // And one that it only moved is what it was.
    let third = user.start_after(&snapshot, 3, &[]);
    let moved = |name: &str| third.dir().join(name);
    fs::rename(moved("word.up"), moved("moved.up")).unwrap();
    fs::copy(moved("moved.up"), moved("copy.up")).unwrap();
    third.done().apply(&user, &[]).unwrap();
    assert_eq!(read(&user, "moved.up"), "hello\n");
    assert_eq!(read(&user, "copy.up"), "hello\n");
    assert!(!user.user().join("word.up").exists());
    let again = third.done().apply(&user, &[]).unwrap();
    assert!(again.already);
}
