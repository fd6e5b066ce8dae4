//! What an agent left in further work trees of its own.

use std::{fs, os::unix::fs::symlink};

use crate::{
    common::{Task, git, rows, write},
    others::{after_a_conflict, import, leave, names, show, warning, world},
};
use orchestra_repo::Collected;

/// Makes a work tree at `path` and leaves a commit and an edit in it.
fn leave_tree(task: &Task, path: &str, how: &[&str]) {
    git(
        task.dir(),
        &[&["worktree", "add", "-q", path][..], how].concat(),
    );
    let dir = task.dir().join(path);
    write(&dir, "committed.txt", "work\n");
    git(&dir, &["add", "committed.txt"]);
    git(&dir, &["commit", "-q", "-m", path]);
    write(&dir, "edited.txt", "more\n");
    // A secret and what is Orchestra's own.
    write(&dir, "local/.env", "key\n");
    write(&dir, "context/STATE.md", "state\n");
}

#[test]
fn what_a_further_work_tree_holds_is_a_branch_and_no_part_of_the_result() {
    for path in ["../fix", ".claude/worktrees/fix"] {
        let user = world();
        let task = user.start();
        task.write("own.txt", "own\n");
        leave_tree(&task, path, &["-b", "fix"]);
        let paths = |rows: Vec<_>| rows.into_iter().map(|(path, ..): (String, _, _, _)| path);
        for _ in 0..2 {
            let collected = task.collect();
            assert_eq!(paths(rows(&collected)).collect::<Vec<_>>(), ["own.txt"]);
            assert_eq!(
                warning(&collected),
                "commits and edits on the agent's branch `fix` are not in the result; they are the \
                 branch `orchestra/task_001-1-fix`"
            );
            import(&user, &collected);
            for (file, text) in [("committed.txt", "work"), ("edited.txt", "more")] {
                let file = format!("orchestra/task_001-1-fix:{file}");
                assert_eq!(show(&user, &file).trim_end(), text);
            }
            let files = show(&user, "orchestra/task_001-1-fix:");
            assert!(
                !files.contains("local") && !files.contains("context"),
                "{files}"
            );
        }
        let looked = task.workspace.look(&[], &[]).unwrap();
        assert_eq!(looked.entries.len(), 1, "{path}: {looked:#?}");
    }
}

#[test]
fn a_work_tree_that_is_not_looked_at_is_no_part_of_the_result_either() {
    let user = world();
    let task = user.start();
    task.write("own.txt", "own\n");
    for number in 0..18 {
        let path = format!(".claude/worktrees/t{number:02}");
        git(
            task.dir(),
            &["worktree", "add", "-q", "--detach", &path, "HEAD"],
        );
    }
    let tree = |name: &str| task.dir().join(".claude/worktrees").join(name);
    // One that is gone takes no place of another, and one on no commit is told apart, too.
    fs::remove_dir_all(tree("t03")).unwrap();
    fs::write(task.dir().join(".git/worktrees/t05/HEAD"), "nothing\n").unwrap();
    write(&tree("t05"), "edited.txt", "more\n");
    write(&tree("t17"), "edited.txt", "more\n");
    let collected = task.collect();
    let paths = |collected: &Collected| rows(collected).into_iter().map(|row| row.0);
    assert_eq!(paths(&collected).collect::<Vec<_>>(), ["own.txt"]);
    assert_eq!(
        collected.manifest.warnings,
        [
            "the agent has more work trees than are looked at; what is not committed there is not in the \
             result: `t17`",
            "edits in the agent's work tree `t05` are not in the result; they are the branch \
             `orchestra/task_001-1-t05`",
        ]
    );
    let looked = task.workspace.look(&[], &[]).unwrap();
    assert_eq!(looked.entries.len(), 1, "{looked:#?}");
}

#[test]
fn a_work_tree_on_nothing_sound_is_kept_on_what_the_agent_began_with() {
    let user = world();
    let task = user.start();
    git(task.dir(), &["worktree", "add", "-q", "--detach", "../new"]);
    // As `--orphan` makes it, which not every git has.
    let head = task.dir().join(".git/worktrees/new/HEAD");
    fs::write(head, "ref: refs/heads/new\n").unwrap();
    write(&task.area().join("new"), "edited.txt", "more\n");
    let collected = task.collect();
    assert_eq!(
        warning(&collected),
        "edits in the agent's work tree `new` are not in the result; they are the branch \
         `orchestra/task_001-1-new`"
    );
    import(&user, &collected);
    let text = show(&user, "orchestra/task_001-1-new:edited.txt");
    assert_eq!(text.trim_end(), "more");
}

#[test]
fn a_work_tree_that_was_moved_without_git_is_found_beside_its_place() {
    for path in ["../fix", ".claude/worktrees/fix"] {
        let user = world();
        let task = user.start();
        task.write("own.txt", "own\n");
        leave_tree(&task, path, &["-b", "fix"]);
        let moved = task.dir().join(path).with_file_name("moved");
        fs::rename(task.dir().join(path), &moved).unwrap();
        let paths = |collected: &Collected| rows(collected).into_iter().map(|row| row.0);
        let collected = task.collect();
        assert_eq!(paths(&collected).collect::<Vec<_>>(), ["own.txt"], "{path}");
        assert!(
            warning(&collected).starts_with("commits and edits on the agent's branch `fix`"),
            "{path}"
        );
        import(&user, &collected);
        assert_eq!(show(&user, "orchestra/task_001-1-fix:edited.txt"), "more");
        let looked = task.workspace.look(&[], &[]).unwrap();
        assert_eq!(looked.entries.len(), 1, "{path}: {looked:#?}");
    }
}

#[test]
fn what_was_moved_is_found_by_its_own_text_and_never_behind_a_link() {
    let user = world();
    let task = user.start();
    for name in ["a", "b"] {
        let path = format!("../{name}");
        git(task.dir(), &["worktree", "add", "-q", "-b", name, &path]);
        write(&task.area().join(name), &format!("of_{name}.txt"), "more\n");
    }
    leave_tree(&task, "../far", &["-b", "far"]);
    let area = |name: &str| task.area().join(name);
    // Each has the place of the other one.
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        fs::rename(area(from), area(to)).unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let away = elsewhere.path().join("far");
    fs::create_dir(&away).unwrap();
    fs::copy(area("far").join(".git"), away.join(".git")).unwrap();
    write(&away, "stolen.txt", "secret\n");
    fs::remove_dir_all(area("far")).unwrap();
    symlink(&away, area("linked")).unwrap();
    let collected = task.collect();
    let warnings = &collected.manifest.warnings;
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    import(&user, &collected);
    for (name, file) in [
        ("a", "of_a.txt"),
        ("b", "of_b.txt"),
        ("far", "committed.txt"),
    ] {
        let files = show(&user, &format!("orchestra/task_001-1-{name}:"));
        let files: Vec<&str> = files.lines().skip(2).collect();
        assert_eq!(files, ["a.txt", file], "{name}");
    }
}

#[test]
fn a_directory_that_is_no_work_tree_any_more_is_named_or_is_an_ordinary_one() {
    let user = world();
    let task = user.start();
    for path in ["../out", "in"] {
        git(task.dir(), &["worktree", "add", "-q", "--detach", path]);
        write(&task.dir().join(path), "edited.txt", "more\n");
        fs::remove_file(task.dir().join(path).join(".git")).unwrap();
    }
    let collected = task.collect();
    let said = warning(&collected);
    assert!(
        said.starts_with(
            "what is not committed in the agent's work tree `out` is not in the result"
        ) && said.ends_with("is no work tree any more"),
        "{said}"
    );
    let paths: Vec<String> = rows(&collected).into_iter().map(|row| row.0).collect();
    assert_eq!(paths, ["in/a.txt", "in/edited.txt"]);
}

#[test]
fn a_work_tree_in_another_one_is_a_branch_of_its_own_and_nothing_more() {
    let user = world();
    let task = user.start();
    leave_tree(&task, "../outer", &["-b", "outer"]);
    leave_tree(&task, "../outer/deep/inner", &["-b", "inner"]);
    let collected = task.collect();
    let warnings = &collected.manifest.warnings;
    let said = |name: &str| {
        format!(
            "commits and edits on the agent's branch `{name}` are not in the result; they are the branch \
             `orchestra/task_001-1-{name}`"
        )
    };
    assert_eq!(*warnings, ["inner", "outer"].map(said));
    import(&user, &collected);
    let files = show(&user, "orchestra/task_001-1-outer:");
    assert!(
        files.contains("edited.txt") && !files.contains("deep"),
        "{files}"
    );
}

#[test]
fn a_work_tree_is_said_to_hold_what_it_holds() {
    let user = world();
    let task = after_a_conflict(&user);
    leave_tree(&task, "../both", &["-b", "both"]);
    leave_tree(&task, "../commits", &["-b", "commits"]);
    git(&task.area().join("commits"), &["clean", "-fdq"]);
    git(
        task.dir(),
        &["worktree", "add", "-q", "../edits", "-b", "edits"],
    );
    git(
        task.dir(),
        &["worktree", "add", "-q", "../given", "orchestra/task_002"],
    );
    git(
        task.dir(),
        &["worktree", "add", "-q", "../loose", "--detach"],
    );
    for name in ["edits", "given", "loose"] {
        write(&task.area().join(name), "edited.txt", name);
    }
    let collected = task.collect();
    let warnings = collected.manifest.warnings.iter();
    let said: Vec<&str> = warnings
        .map(|text| text.split_once(" are not").unwrap().0)
        .collect();
    assert_eq!(
        said,
        [
            "commits and edits on the agent's branch `both`",
            "edits on the agent's branch `edits`",
            "edits on the agent's branch `orchestra/task_002`",
            "edits in the agent's work tree `loose`",
            "commits on the agent's branch `commits`",
        ]
    );
}

#[test]
fn of_very_many_work_trees_some_are_told_apart() {
    let user = world();
    let task = user.start();
    for number in 0..1001 {
        let about = task.dir().join(format!(".git/worktrees/{number}"));
        fs::create_dir_all(about).unwrap();
    }
    let collected = task.collect();
    assert!(warning(&collected).contains("more than 1000 work trees"));
}

#[test]
fn a_work_tree_on_no_branch_is_kept_by_its_name_and_one_without_a_change_is_not() {
    let user = world();
    let task = user.start();
    leave_tree(&task, "../loose", &["--detach"]);
    git(
        task.dir(),
        &["worktree", "add", "-q", "../same", "-b", "same"],
    );
    git(
        task.dir(),
        &["worktree", "add", "-q", "../gone", "-b", "gone"],
    );
    fs::remove_dir_all(task.area().join("gone")).unwrap();
    let collected = task.collect();
    assert_eq!(
        warning(&collected),
        "commits and edits in the agent's work tree `loose` are not in the result; they are the branch \
         `orchestra/task_001-1-loose`"
    );
    assert_eq!(names(&collected), ["orchestra/task_001-1-loose"]);
}

#[test]
fn of_many_branches_those_with_edits_are_kept() {
    let user = world();
    let task = user.start();
    for number in 0..20 {
        leave(&task, &format!("a{number:02}"), &format!("{number}.txt"));
    }
    git(task.dir(), &["worktree", "add", "-q", "../last", "-b", "z"]);
    write(&task.area().join("last"), "edited.txt", "more\n");
    let names = names(&task.collect());
    assert!(
        names.contains(&"orchestra/task_001-1-z".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_work_tree_elsewhere_is_never_looked_into() {
    let user = world();
    let task = user.start();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("tree");
    leave_tree(&task, secret.to_str().unwrap(), &["-b", "far"]);
    // The same place by a link.
    leave_tree(&task, "../near", &["-b", "near"]);
    fs::remove_dir_all(task.area().join("near")).unwrap();
    symlink(&secret, task.area().join("near")).unwrap();
    let collected = task.collect();
    let warnings = collected.manifest.warnings.join("\n");
    assert!(
        warnings.contains("outside of the attempt's own directory"),
        "{warnings}"
    );
    assert!(
        warnings.contains("commits on the agent's branch `near`"),
        "{warnings}"
    );
    import(&user, &collected);
    for name in ["far", "near"] {
        let files = show(&user, &format!("orchestra/task_001-1-{name}:"));
        assert!(
            files.contains("committed.txt") && !files.contains("edited.txt"),
            "{files}"
        );
    }
}
