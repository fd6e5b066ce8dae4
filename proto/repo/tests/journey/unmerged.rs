//! Conflicts of the user's own that are not settled, and files that only the index has let go.

use std::{fs, process::Command};

use crate::common::{LINES, Task, World, apply, git, lines};
use orchestra_repo::{Applied, ApplyError};

type Put = Result<Applied, ApplyError>;

/// In the middle of a merge: one side has deleted `f`, the other one has edited it.
fn in_a_merge() -> (World, Task) {
    let user = World::with(&[("f", LINES), ("g", LINES)]);
    git(&user.user(), &["checkout", "-q", "-b", "gone"]);
    fs::remove_file(user.user().join("f")).unwrap();
    user.commit("gone");
    git(&user.user(), &["checkout", "-q", "main"]);
    user.write("f", &lines(&[(1, "one")]));
    user.commit("edited");
    let task = user.start();
    let mut merge = Command::new("git");
    merge.args(["-c", "user.name=User", "-c", "user.email=user@example.org"]);
    merge.args(["merge", "-q", "gone"]);
    let ended = merge.current_dir(user.user()).output().unwrap();
    assert!(!ended.status.success());
    assert_eq!(read(&user, "f"), lines(&[(1, "one")]), "it has no marks");
    (user, task)
}

fn read(user: &World, name: &str) -> String {
    fs::read_to_string(user.user().join(name)).unwrap()
}

fn put(user: &World, task: &Task) -> Put {
    apply(&user.checkout(), &task.change(&task.collect()))
}

fn is_unmerged(put: &Put) -> bool {
    matches!(put, Err(ApplyError::Unmerged { paths }) if paths == &["f"])
}

#[test]
fn a_file_in_conflict_is_called_so_also_without_marks() {
    let (user, task) = in_a_merge();
    task.write("f", &lines(&[(1, "one"), (5, "five")]));
    task.write("g", &lines(&[(5, "five")]));
    let refused = put(&user, &task);
    assert!(is_unmerged(&refused), "{refused:?}");
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("`f`") && said.contains("git add"), "{said}");
    assert_eq!(read(&user, "g"), LINES);
    git(&user.user(), &["add", "f"]);
    put(&user, &task).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(1, "one"), (5, "five")]));
}

#[test]
fn so_it_is_where_the_change_conflicts_and_where_it_deletes_the_file() {
    let (user, task) = in_a_merge();
    fs::remove_file(task.dir().join("f")).unwrap();
    let refused = put(&user, &task);
    assert!(is_unmerged(&refused), "{refused:?}");
    task.write("f", &lines(&[(1, "uno")]));
    user.write("f", &lines(&[(1, "ein")]));
    let refused = put(&user, &task);
    assert!(is_unmerged(&refused), "{refused:?}");
    // What the change has nothing to do with is none of its business.
    task.write("f", &lines(&[(1, "one")]));
    task.write("g", &lines(&[(5, "five")]));
    put(&user, &task).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(1, "ein")]));
}

#[test]
fn a_conflict_is_one_also_where_the_index_has_let_the_file_go() {
    let user = World::with(&[("f", LINES)]);
    let task = user.start();
    task.write("f", &lines(&[(5, "task")]));
    user.write("f", &lines(&[(5, "mine")]));
    user.commit("mine");
    git(&user.user(), &["rm", "-q", "--cached", "f"]);
    let refused = put(&user, &task);
    let is_conflict = matches!(&refused, Err(ApplyError::Conflict { paths, uncommitted: true, .. })
        if paths == &["f"]);
    assert!(is_conflict, "{refused:?}");
    user.write("f", &lines(&[(5, "edited")]));
    let refused = put(&user, &task);
    let named = matches!(&refused, Err(ApplyError::InTheWay { paths }) if paths == &["f"]);
    assert!(named, "{refused:?}");
}
