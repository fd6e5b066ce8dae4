//! Agents that end behind what they began with.

use std::fs;

use crate::common::{LINES, World, apply, git, lines, rows};

fn read(user: &World, name: &str) -> String {
    fs::read_to_string(user.user().join(name)).unwrap()
}

#[test]
fn an_agent_that_goes_back_to_the_last_commit_takes_no_uncommitted_work_back() {
    let user = World::with(&[("a.txt", "one\n"), ("b.txt", "one\n")]);
    user.write("a.txt", "mine\n");
    user.write("note.txt", "mine\n");
    let snapshot = user.checkout().snapshot().unwrap();
    let task = user.start_from(&snapshot);
    git(task.dir(), &["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(
        fs::read_to_string(task.dir().join("a.txt")).unwrap(),
        "one\n"
    );
    task.write("b.txt", "agent\n");
    git(task.dir(), &["commit", "-qam", "work"]);
    task.write("new.txt", "agent\n");
    let collected = task.collect();
    let paths: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(paths, ["b.txt", "new.txt"]);
    let warned = collected.manifest.warnings.join("\n");
    assert!(
        warned.contains("that is kept, with what it did"),
        "{warned}"
    );
    assert!(!warned.contains("merge-base"), "{warned}");
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let kept = ["a.txt", "b.txt", "new.txt", "note.txt"].map(|name| read(&user, name));
    assert_eq!(kept, ["mine\n", "agent\n", "agent\n", "mine\n"]);
    // What both have changed is the agent's, and named.
    let other = user.start_after(&snapshot, 2, &[]);
    git(other.dir(), &["reset", "-q", "--hard", "HEAD~1"]);
    other.write("a.txt", "agent\n");
    let collected = other.collect();
    let paths: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(paths, ["a.txt"]);
    let warned = collected.manifest.warnings.join("\n");
    assert!(
        warned.contains("not all of what you had in `a.txt`"),
        "{warned}"
    );
}

/// How an agent may end on a commit from before the user's own, or on none.
const BACK: [&[&[&str]]; 5] = [
    &[&["checkout", "-q", "HEAD~2"]],
    &[&["reset", "-q", "--hard", "HEAD~2"]],
    &[&["checkout", "-q", "-b", "fix", "HEAD~2"]],
    &[&["bisect", "start", "HEAD", "HEAD~2"]],
    &[
        &["checkout", "-q", "--orphan", "pages"],
        &["rm", "-rfq", "."],
    ],
];

#[test]
fn an_agent_that_goes_back_further_takes_no_uncommitted_work_back() {
    let user = World::with(&[("a.txt", LINES), ("b.txt", "one\n")]);
    user.write("a.txt", &lines(&[(1, "two")]));
    user.write("c.txt", "two\n");
    user.commit("second");
    let mine = lines(&[(1, "two"), (9, "mine")]);
    user.write("a.txt", &mine);
    user.write("wip/note.txt", "mine\n");
    let snapshot = user.checkout().snapshot().unwrap();
    for (number, back) in (1..).zip(BACK) {
        let task = user.start_after(&snapshot, number, &[]);
        for args in back {
            git(task.dir(), args);
        }
        task.write("report.txt", "agent\n");
        let collected = task.collect();
        let rows = rows(&collected);
        let paths: Vec<_> = rows.iter().map(|row| &*row.0).collect();
        assert!(
            paths.contains(&"report.txt")
                && !paths.iter().any(|p| ["a.txt", "wip/note.txt"].contains(p)),
            "{back:?}: {rows:?}"
        );
        let warned = collected.manifest.warnings.join("\n");
        let says = |what: &str| warned.contains(what);
        assert!(
            says("behind your uncommitted work; that is kept, with what it did"),
            "{back:?}: {warned}"
        );
        let is_at = back[0][0];
        let further = ["checkout", "reset"].contains(&is_at) && back.len() == 1;
        assert_eq!(
            says("on a branch that begins anew"),
            back.len() == 2,
            "{back:?}: {warned}"
        );
        assert_eq!(
            says("takes back what you have committed since"),
            further,
            "{back:?}: {warned}"
        );
        assert_eq!(
            says("in the middle of a bisect"),
            is_at == "bisect",
            "{back:?}: {warned}"
        );
    }
}

#[test]
fn an_agent_that_goes_back_takes_no_change_back_that_its_task_is_built_on() {
    let user = World::with(&[("a.txt", "one\n")]);
    user.write("note.txt", "mine\n");
    let snapshot = user.checkout().snapshot().unwrap();
    let first = user.start_after(&snapshot, 1, &[]);
    first.write("new.txt", "first\n");
    let first = first.done();
    let task = user.start_after(&snapshot, 2, &[&first]);
    let users = git(&user.user(), &["rev-parse", "HEAD"]);
    git(task.dir(), &["reset", "-q", "--hard", &users]);
    assert!(!task.dir().join("new.txt").exists());
    task.write("report.txt", "agent\n");
    let collected = task.collect();
    let paths: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(paths, ["report.txt"]);
    let warned = collected.manifest.warnings.join("\n");
    assert!(
        warned.contains("behind the changes that it is built on"),
        "{warned}"
    );
}

#[test]
fn an_agent_that_writes_its_history_anew_is_not_one_that_went_back() {
    let user = World::with(&[
        ("a.txt", "one\n"),
        ("gone.txt", "one\n"),
        ("kept.txt", "one\n"),
    ]);
    user.write("note.txt", "mine\n");
    user.write("gone.txt", "mine\n");
    user.write("moved.txt", LINES);
    let snapshot = user.checkout().snapshot().unwrap();
    let first = user.start_after(&snapshot, 1, &[]);
    first.write("first.txt", "first\n");
    first.write("second.txt", "first\n");
    let first = first.done();
    let amend: &[&[&str]] = &[&["commit", "-qa", "--amend", "-m", "anew"]];
    let orphan: &[&[&str]] = &[
        &["checkout", "-q", "--orphan", "anew"],
        &["commit", "-qam", "anew"],
    ];
    let cases = [
        (amend, false),
        (orphan, false),
        (amend, true),
        (orphan, true),
    ];
    for (number, (how, in_a_chain)) in (2..).zip(cases) {
        let before: &[_] = if in_a_chain { &[&first] } else { &[] };
        let task = user.start_after(&snapshot, number, before);
        task.write("a.txt", "agent\n");
        git(task.dir(), &["rm", "-qf", "gone.txt"]);
        git(task.dir(), &["mv", "moved.txt", "there.txt"]);
        if in_a_chain {
            git(task.dir(), &["rm", "-qf", "first.txt"]);
        }
        for args in how {
            git(task.dir(), args);
        }
        let collected = task.collect();
        let paths: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
        let of_the_chain: &[&str] = if in_a_chain { &["first.txt"] } else { &[] };
        let expected = [&["a.txt"], of_the_chain, &["gone.txt", "there.txt"]].concat();
        assert_eq!(paths, expected, "{how:?} {in_a_chain}");
        let warned = collected.manifest.warnings.join("\n");
        assert!(
            !warned.contains("went back") && !warned.contains("begins anew: the change"),
            "{warned}"
        );
    }
}

#[test]
fn what_cannot_be_kept_of_one_that_went_back_is_named() {
    let user = World::with(&[("a.txt", "one\n")]);
    user.write("a.txt", "mine\n");
    let snapshot = user.checkout().snapshot().unwrap();
    let task = user.start_from(&snapshot);
    git(task.dir(), &["reset", "-q", "--hard", "HEAD~1"]);
    task.write("a.txt", "agent\n");
    let warned = task.collect().manifest.warnings.join("\n");
    assert!(
        warned.contains("not all of what you had in `a.txt`"),
        "{warned}"
    );
    // Where the user had a file the agent has made a directory, and the other way round.
    let user = World::with(&[("a.txt", "one\n")]);
    user.write("notes", "mine\n");
    user.write("dir/file", "mine\n");
    let task = user.start();
    git(task.dir(), &["reset", "-q", "--hard", "HEAD~1"]);
    task.write("notes/report.md", "agent\n");
    task.write("dir", "agent\n");
    let collected = task.collect();
    let paths: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert!(
        ["notes/report.md", "dir"]
            .iter()
            .all(|path| paths.iter().any(|p| p == path)),
        "{paths:?}"
    );
    let warned = collected.manifest.warnings.join("\n");
    assert!(
        warned.contains("`notes`") && warned.contains("`dir/file`"),
        "{warned}"
    );
}

#[test]
fn committed_work_that_is_taken_back_is_told_also_where_all_was_committed() {
    let user = World::with(&[("a.txt", "one\n")]);
    user.write("a.txt", "two\n");
    user.commit("second");
    let task = user.start();
    git(task.dir(), &["checkout", "-q", "HEAD~1"]);
    task.write("report.txt", "agent\n");
    let warned = task.collect().manifest.warnings.join("\n");
    assert!(
        warned.contains("takes back what you have committed since"),
        "{warned}"
    );
    // A squash takes nothing back.
    let task = user.start_after(&user.checkout().snapshot().unwrap(), 2, &[]);
    git(task.dir(), &["reset", "-q", "--soft", "HEAD~1"]);
    git(task.dir(), &["commit", "-qam", "squashed"]);
    let warned = task.collect().manifest.warnings.join("\n");
    assert!(!warned.contains("takes back"), "{warned}");
}
