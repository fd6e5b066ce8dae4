//! A checkout that is as the task started from it, in states that git tells oddly: none of that is in the way.

use std::{fs, path::PathBuf};

use crate::common::{World, apply, git, write};
use orchestra_repo::ApplyError;

#[test]
fn a_file_that_the_user_took_out_of_the_index_is_in_nobodys_way() {
    let user = World::with(&[("f", "1\n"), ("g", "1\n"), ("h", "1\n")]);
    git(&user.user(), &["rm", "-q", "--cached", "f", "g", "h"]);
    let task = user.start();
    task.write("f", "2\n");
    fs::remove_file(task.dir().join("g")).unwrap();
    let collected = task.collect();
    let change = task.change(&collected);
    // An edit since then is one.
    user.write("f", "mine\n");
    let refused = apply(&user.checkout(), &change).unwrap_err();
    assert!(matches!(refused, ApplyError::InTheWay { .. }), "{refused}");
    user.write("f", "1\n");
    // So is what else is staged.
    user.write("g", "staged\n");
    git(&user.user(), &["add", "g"]);
    user.write("g", "1\n");
    let refused = apply(&user.checkout(), &change).unwrap_err();
    assert!(matches!(refused, ApplyError::InTheWay { .. }), "{refused}");
    git(&user.user(), &["rm", "-q", "--cached", "-f", "g"]);

    assert_eq!(apply(&user.checkout(), &change).unwrap().files, 2);
    assert_eq!(fs::read_to_string(user.user().join("f")).unwrap(), "2\n");
    assert!(!user.user().join("g").exists());
    let staged = git(&user.user(), &["diff", "--cached", "--name-status"]);
    assert_eq!(staged, "D\tf\nD\tg\nD\th", "the index is as it was");
}

fn with_submodule() -> (World, PathBuf) {
    let user = World::with(&[("a.txt", "one\n")]);
    let module = user.tmp.path().join("module");
    fs::create_dir(&module).unwrap();
    git(&module, &["init", "-q", "-b", "main"]);
    write(&module, "lib.c", "int x;\n");
    git(&module, &["add", "-A"]);
    git(&module, &["commit", "-qm", "module"]);
    let args = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        module.to_str().unwrap(),
        "lib",
    ];
    git(&user.user(), &args);
    git(&user.user(), &["commit", "-qm", "with a submodule"]);
    let lib = user.user().join("lib");
    (user, lib)
}

#[test]
fn a_submodule_that_has_another_commit_than_the_index_is_as_the_task_knew_it() {
    let (user, lib) = with_submodule();
    write(&lib, "lib.c", "int y;\n");
    git(&lib, &["commit", "-qam", "new"]);
    let task = user.start();
    task.write("a.txt", "two\n");
    let collected = task.collect();
    apply(&user.checkout(), &task.change(&collected)).unwrap();

    // An agent that changes it, too, hears of that, and not of edits.
    let agents = task.dir().join("lib");
    let from = user.tmp.path().join("module");
    git(task.dir(), &["clone", "-q", from.to_str().unwrap(), "lib"]);
    write(&agents, "lib.c", "int z;\n");
    git(&agents, &["commit", "-qam", "agents"]);
    let collected = task.collect();
    let refused = || apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    match refused() {
        ApplyError::Unsafe { path, why } => {
            assert_eq!(path, "lib");
            assert!(why.contains("it is a submodule"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // Where it has moved on since, that is in the way.
    git(&lib, &["commit", "-q", "--allow-empty", "-m", "newer"]);
    match refused() {
        ApplyError::InTheWay { paths } => assert_eq!(paths, ["lib"]),
        other => panic!("{other:?}"),
    }
}
