//! Pipes under names that git opens: it would wait in them for ever.

use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::{
    common::{git, rows},
    others::world,
};

fn pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

#[test]
fn a_pipe_that_git_would_open_costs_a_warning_and_nothing_else() {
    let user = world();
    let task = user.start();
    task.write("work.txt", "work\n");
    task.write("deep/er/other.txt", "other\n");
    task.write("nest/file.txt", "nested\n");
    git(&task.dir().join("nest"), &["init", "-q"]);
    std::fs::remove_file(task.dir().join("nest/.git/HEAD")).unwrap();
    let pipes = [".gitattributes", "deep/.gitignore", "nest/.git/HEAD"];
    pipes.iter().for_each(|path| pipe(&task.dir().join(path)));
    let look = task.workspace.look(&[], &[]).unwrap_err().to_string();
    assert!(look.contains("`.gitattributes` is no file"), "{look}");

    let collected = task.collect();
    let files: Vec<_> = rows(&collected).into_iter().map(|row| row.0).collect();
    for file in ["work.txt", "deep/er/other.txt"] {
        assert!(files.iter().any(|path| path == file), "{files:?}");
    }
    let warnings = collected.manifest.warnings.join("\n");
    for path in pipes {
        let said = format!("`{path}` was left out: it is a pipe, and no file");
        assert!(warnings.contains(&said), "{warnings}");
    }
}

#[test]
fn a_pipe_in_a_further_work_tree_costs_no_work() {
    let user = world();
    let task = user.start();
    git(
        task.dir(),
        &["worktree", "add", "-q", "../wt", "-b", "side"],
    );
    let tree = task.dir().join("../wt");
    std::fs::write(tree.join("x"), "x\n").unwrap();
    pipe(&tree.join(".gitattributes"));
    let collected = task.collect();
    let warnings = collected.manifest.warnings.join("\n");
    assert!(
        warnings.contains("`.gitattributes` was left out: it is a pipe"),
        "{warnings}"
    );
    assert!(warnings.contains("`side`"), "{warnings}");
}

#[test]
fn a_pipe_that_git_overlooks_is_named_unless_the_project_ignores_it() {
    let user = world();
    user.write(".gitignore", "cache/\n");
    user.commit("with rules");
    let task = user.start();
    task.write("work.txt", "work\n");
    task.write("cache/made", "made\n");
    for path in ["pipe", "new/pipe", "cache/pipe"] {
        std::fs::create_dir_all(task.dir().join(path).parent().unwrap()).unwrap();
        pipe(&task.dir().join(path));
    }
    let collected = task.collect();
    assert_eq!(
        collected.manifest.warnings,
        ["new/pipe", "pipe"]
            .map(|path| format!("`{path}` was left out: it is a pipe, and no file"))
    );
    let again = task.collect();
    assert_eq!(again.manifest.warnings, collected.manifest.warnings);
}
