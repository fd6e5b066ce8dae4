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

    let empty = user.start();
    assert!(!empty.collect().submodules);
    empty.write("lib/new.c", "int y;\n");
    let collected = empty.collect();
    assert!(collected.submodules);
    let warning = "`lib` was left out: files inside a submodule are not collected";
    assert_eq!(collected.manifest.warnings, [warning]);

    let fetched = user.start();
    let from = module.to_str().unwrap();
    git(fetched.dir(), &["clone", "-q", from, "lib"]);
    fetched.write("lib/lib.o", "built\n");
    let collected = fetched.collect();
    assert!(!collected.submodules, "{:?}", collected.manifest.warnings);
    fetched.write("lib/lib.c", "int z;\n");
    assert!(fetched.collect().submodules);
    git(&fetched.dir().join("lib"), &["commit", "-qam", "z"]);
    assert!(fetched.collect().submodules);
}
