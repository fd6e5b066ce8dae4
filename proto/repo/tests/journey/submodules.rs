//! What an agent does in a submodule.

use std::fs;

use crate::common::{World, git, write};

#[test]
fn an_agents_work_in_a_submodule_is_told_from_one_that_was_only_fetched() {
    let user = World::with(&[("a.txt", "one\n")]);
    let module = user.tmp.path().join("module");
    fs::create_dir(&module).unwrap();
    git(&module, &["init", "-q", "-b", "main"]);
    write(&module, "lib.c", "int x;\n");
    write(&module, ".gitignore", "*.o\n");
    git(&module, &["add", "-A"]);
    git(&module, &["commit", "-qm", "module"]);
    let commit = git(&module, &["rev-parse", "HEAD"]);
    let entry = format!("160000,{commit},lib");
    git(
        &user.user(),
        &["update-index", "--add", "--cacheinfo", &entry],
    );
    git(&user.user(), &["commit", "-qm", "with a submodule"]);
    fs::create_dir(user.user().join("lib")).unwrap();

    let task = user.start();
    assert!(!task.collect().only_there);
    task.write("lib/new.c", "int y;\n");
    let collected = task.collect();
    assert!(collected.only_there);
    let warning = "`lib` was left out: files inside a submodule are not collected";
    assert_eq!(collected.manifest.warnings, [warning]);

    fs::remove_file(task.dir().join("lib/new.c")).unwrap();
    let from = module.to_str().unwrap();
    git(task.dir(), &["clone", "-q", from, "lib"]);
    task.write("lib/lib.o", "built\n");
    let collected = task.collect();
    assert!(!collected.only_there, "{:?}", collected.manifest.warnings);
    task.write("lib/lib.c", "int z;\n");
    assert!(task.collect().only_there);
    git(&task.dir().join("lib"), &["commit", "-qam", "z"]);
    assert!(task.collect().only_there);
}
