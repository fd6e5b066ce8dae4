//! What an agent does with a git of its own, under the user's configuration.

use std::{fs, path::Path, process::Command};

use crate::common::{World, apply, git, rows};

/// git as an agent runs it, for whom the configuration of its user counts.
fn agents(dir: &Path, config: &Path, args: &[&str]) -> bool {
    let mut git = Command::new("git");
    git.current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", config)
        .env("GIT_CONFIG_NOSYSTEM", "1");
    git.args(args).output().unwrap().status.success()
}

#[test]
fn files_that_an_agent_takes_back_by_git_are_as_they_were() {
    let user = World::with(&[("other.txt", "one\n")]);
    for (key, value) in [
        ("clean", "tr a-z A-Z"),
        ("smudge", "exit 1"),
        ("required", "true"),
    ] {
        git(&user.user(), &["config", &format!("filter.f.{key}"), value]);
    }
    let rules = "*.bat eol=crlf\n*.u working-tree-encoding=UTF-16LE\n*.id ident\n*.f filter=f\n";
    user.write(".gitattributes", rules);
    user.write("x.bat", "one\r\n");
    user.write("y.u", "o\0\n\0");
    user.write("z.id", "$Id$\n");
    user.write("w.f", "word\n");
    user.commit("converted");
    let task = user.start();
    let config = user.tmp.path().join("config");
    let filter = "[filter \"f\"]\nclean = tr a-z A-Z\nsmudge = exit 1\nrequired = true\n";
    let text = format!("[core]\nautocrlf = true\n[commit]\ngpgSign = true\n{filter}");
    fs::write(&config, text).unwrap();
    let git = |args: &[&str]| assert!(agents(task.dir(), &config, args), "git {args:?}");
    for name in ["other.txt", "x.bat", "y.u", "z.id", "w.f"] {
        fs::remove_file(task.dir().join(name)).unwrap();
    }
    git(&["checkout", "--", "."]);
    task.write("x.bat", "two\n");
    git(&["stash"]);
    git(&["stash", "pop"]);
    task.write("x.bat", "one\n");
    git(&["reset", "--hard", "-q"]);
    assert_eq!(rows(&task.collect()), [], "it took back what it did");
    // What it commits is what it wrote, also where the user's git would keep something else.
    task.write("w.f", "new\n");
    git(&["commit", "-q", "-a", "-m", "mine"]);
    let collected = task.collect();
    let changed = |name: &str| (name.to_owned(), "modified", Some(1), Some(1));
    assert_eq!(rows(&collected), [changed("w.f")]);
    assert_eq!(fs::read_to_string(task.dir().join("w.f")).unwrap(), "new\n");
}

#[test]
fn a_workspace_is_a_repository_for_other_programs_than_git_too() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    // Only git itself reads a quoted path there.
    let lenders = task.dir().join(".git/objects/info/alternates");
    let lenders = fs::read_to_string(lenders).unwrap();
    assert!(Path::new(lenders.trim_end()).is_dir(), "{lenders}");
    git(task.dir(), &["clone", "-q", ".", "../copy"]);
    assert!(task.area().join("copy/a.txt").exists());
}

#[test]
fn a_repository_that_an_agent_made_is_named_and_kept_with_its_history() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("tool/a", "1\n");
    let tool = task.dir().join("tool");
    git(&tool, &["init", "-q"]);
    let collected = task.collect();
    assert!(!collected.only_there, "there is no history");
    git(&tool, &["add", "-A"]);
    git(&tool, &["commit", "-q", "-m", "one"]);
    let collected = task.collect();
    assert_eq!(rows(&collected).len(), 1, "its files are collected");
    let warned = collected.manifest.warnings.join("\n");
    assert!(
        warned.starts_with("`tool` is a repository of its own"),
        "{warned}"
    );
    assert!(collected.only_there);
}

#[test]
fn a_bare_repository_comes_with_the_change_and_with_a_warning() {
    let user = World::with(&[("a.txt", "one\n"), ("docs/HEAD", "no repository\n")]);
    let task = user.start();
    task.write("docs/HEAD", "still none\n");
    let dir = task.dir().join("sub/mirror.git");
    let to = dir.to_str().unwrap();
    git(task.dir(), &["clone", "-q", "--bare", ".", to]);
    let collected = task.collect();
    let warnings = &collected.manifest.warnings;
    let [said] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    assert!(said.contains("look at `sub/mirror.git` before"), "{said}");
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert!(user.user().join("sub/mirror.git/HEAD").exists());
}
