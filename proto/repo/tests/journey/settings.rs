//! Settings of the user's git under which it does not see in a file what is there.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    attempts::{attempt, commits, put, read},
    common::{LINES, Task, World, git, lines},
};
use orchestra_repo::{ApplyError, Bit, unseen_bits};

fn make_executable(task: &Task, name: &str) {
    let path = task.dir().join(name);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_executable(user: &World, name: &str) -> bool {
    let mode = fs::metadata(user.user().join(name)).unwrap().permissions();
    mode.mode() & 0o111 != 0
}

#[test]
fn executable_bits_that_git_does_not_see_are_there_and_are_named() {
    let user = World::with(&[("run", "1\n"), ("tool", "1\n"), ("f", LINES)]);
    git(&user.user(), &["config", "core.fileMode", "false"]);
    git(&user.user(), &["update-index", "--chmod=+x", "tool"]);
    user.commit("tool");
    let task = user.start();
    make_executable(&task, "run");
    task.write("new", "#!\n");
    make_executable(&task, "new");
    let first = attempt(&user, &task, 1);
    task.write("new", "#!\n2\n");
    let second = attempt(&user, &task, 2);
    let attempts = commits(&[&first, &second]);
    let apply = |done| put(&user, done, &attempts).unwrap();
    let applied = apply(&first);
    let bits = |names: &[&str]| -> Vec<Bit> {
        let bit = |name: &&str| Bit {
            path: (*name).to_owned(),
            is_executable: true,
        };
        names.iter().map(bit).collect()
    };
    assert_eq!((applied.files, applied.unseen), (2, bits(&["new", "run"])));
    assert!(is_executable(&user, "run") && is_executable(&user, "new"));
    // As somebody else tells it who only knows the files.
    let files = [
        ("new", 0o100_755),
        ("run", 0o100_755),
        ("tool", 0o100_755),
        ("f", 0o100_644),
    ];
    let files = files.map(|(path, mode)| (path.to_owned(), mode));
    let told = || unseen_bits(&user.checkout(), &files).unwrap();
    assert_eq!(told(), bits(&["new", "run"]));
    let twice = apply(&first);
    assert!(twice.already);
    assert_eq!(twice.unseen, bits(&["new", "run"]));
    // What is advised.
    git(&user.user(), &["add", "--chmod=+x", "new", "run"]);
    let thrice = apply(&first);
    assert!(thrice.already && thrice.unseen.is_empty());
    assert_eq!(told(), []);
    // What a later attempt makes of it.
    apply(&second);
    assert_eq!(read(&user, "new"), "#!\n2\n");
    assert!(is_executable(&user, "new"));
}

#[test]
fn line_ends_that_git_would_write_anew_are_as_the_change_has_them() {
    let user = World::with(&[("f", LINES)]);
    git(&user.user(), &["config", "core.autocrlf", "true"]);
    fs::remove_file(user.user().join("f")).unwrap();
    git(&user.user(), &["checkout", "-q", "f"]);
    assert!(read(&user, "f").contains("1\r\n"));
    let task = user.start();
    task.write("f", &lines(&[(2, "two")]));
    task.write("crlf", "a\r\nb\r\n");
    for odd in ["cr\r", "line\nend", "\"quoted\""] {
        task.write(odd, "a\r\n");
    }
    let first = attempt(&user, &task, 1);
    task.write("crlf", "a\r\nb\r\nc\r\n");
    let second = attempt(&user, &task, 2);
    let attempts = commits(&[&first, &second]);
    put(&user, &first, &attempts).unwrap();
    assert_eq!(read(&user, "crlf"), "a\r\nb\r\n");
    assert!(read(&user, "f").contains("two\r\n"));
    assert!(put(&user, &first, &attempts).unwrap().already);
    put(&user, &second, &attempts).unwrap();
    assert_eq!(read(&user, "crlf"), "a\r\nb\r\nc\r\n");
    // An edit is one all the same.
    user.write("crlf", "a\r\nmine\r\n");
    let refused = put(&user, &second, &attempts);
    assert!(
        matches!(&refused, Err(ApplyError::InTheWay { paths }) if paths == &["crlf"]),
        "{refused:?}"
    );
}

#[test]
fn files_that_git_is_not_to_merge_by_lines_are_not() {
    let program = "merge.mine.driver=touch ran; cp %B %A";
    for (attribute, is_merged) in [
        ("-merge", false),
        ("binary", false),
        ("merge=binary", false),
        ("merge=mine", false),
        ("merge=nobodys", true),
        ("merge=union", true),
        ("merge", true),
    ] {
        let user = World::with(&[("f", LINES), ("g", LINES)]);
        let (key, value) = program.split_once('=').unwrap();
        git(&user.user(), &["config", key, value]);
        let task = user.start();
        task.write("f", &lines(&[(2, "two")]));
        task.write("g", &lines(&[(2, "two")]));
        let done = task.done();
        user.write("f", &lines(&[(9, "mine")]));
        user.write(".gitattributes", &format!("f {attribute}\n"));
        user.commit("mine");
        let put = put(&user, &done, &commits(&[&done]));
        match is_merged {
            true => assert_eq!(put.unwrap().files, 2, "{attribute}"),
            false => {
                let named =
                    matches!(&put, Err(ApplyError::Conflict { paths, .. }) if paths == &["f"]);
                assert!(named, "{attribute}: {put:?}");
                assert_eq!(read(&user, "g"), LINES);
            }
        }
        assert!(!user.user().join("ran").exists());
    }
}

#[test]
fn a_file_that_only_one_side_has_edited_needs_no_merge() {
    let user = World::with(&[("f", LINES), ("g", LINES)]);
    let task = user.start();
    task.write("f", &lines(&[(2, "two")]));
    let done = task.done();
    user.write("g", &lines(&[(9, "mine")]));
    user.write(".gitattributes", "* -merge\n");
    user.commit("mine");
    put(&user, &done, &commits(&[&done])).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(2, "two")]));
}
