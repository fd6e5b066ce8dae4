//! Names that are not UTF-8 are told apart.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::PathBuf};

use orchestra_repo::{
    ApplyError, Collected, Error,
    scan::{Snapshot, changes_since},
};
use orchestra_types::{FileChange, ManifestEntry};

use crate::common::{LINES, Task, World, apply, git};

fn at(dir: &std::path::Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

/// Two files that look the same where they cannot be quoted, and one that has another name than before.
fn renamed() -> (World, Task) {
    let user = World::with(&[("a.txt", "one\n")]);
    fs::write(at(&user.user(), b"old\xc3"), LINES).unwrap();
    user.commit("odd");
    let task = user.start();
    fs::write(at(task.dir(), b"bad\xfe"), "x\n").unwrap();
    fs::write(at(task.dir(), b"bad\xff"), "yy\n").unwrap();
    fs::rename(
        at(task.dir(), b"old\xc3"),
        at(task.dir(), b"\"\t\xc3\xbc\xc3"),
    )
    .unwrap();
    task.write("ü", "utf-8\n");
    (user, task)
}

fn names(entry: &ManifestEntry) -> (&str, Option<&str>, Option<&str>) {
    let (path, from) = (&entry.path_quoted, &entry.renamed_from_quoted);
    (&entry.path, path.as_deref(), from.as_deref())
}

#[test]
fn what_is_not_utf_8_is_quoted_as_git_does_it() {
    let (user, task) = renamed();
    let collected = task.collect();
    let entries = &collected.manifest.entries;
    let mut all: Vec<_> = entries.iter().map(names).collect();
    all.sort_unstable();
    let renamed = (
        "\"\tü\u{fffd}",
        Some(r#""\"\t\303\274\303""#),
        Some(r#""old\303""#),
    );
    let expected = [
        renamed,
        ("bad\u{fffd}", Some(r#""bad\376""#), None),
        ("bad\u{fffd}", Some(r#""bad\377""#), None),
        ("ü", None, None),
    ];
    assert_eq!(all, expected);
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let said = git(
        &user.user(),
        &["status", "--short", "--untracked-files=all"],
    );
    for (_, quoted, from) in expected {
        for name in [quoted, from].into_iter().flatten() {
            assert!(said.contains(name), "git has no {name}: {said}");
        }
    }
}

#[test]
fn a_list_that_quotes_other_names_than_the_bundle_has_is_refused_and_one_that_quotes_none_is_not() {
    let (user, task) = renamed();
    let honest = task.collect();
    type Forge = fn(&mut ManifestEntry);
    let with = |forge: Forge| {
        let mut collected: Collected = honest.clone();
        collected.manifest.entries.iter_mut().for_each(forge);
        apply(&user.checkout(), &task.change(&collected))
    };
    let lies: [Forge; 3] = [
        |entry| {
            if entry.path == "bad\u{fffd}" {
                entry.path_quoted = Some(r#""bad\376""#.to_owned());
            }
        },
        |entry| {
            if let FileChange::Renamed { .. } = entry.change {
                entry.renamed_from_quoted = Some(r#""old\304""#.to_owned());
            }
        },
        |entry| {
            if entry.path == "ü" {
                entry.renamed_from_quoted = Some("x".to_owned());
            }
        },
    ];
    for lie in lies {
        let refused = with(lie).unwrap_err();
        let is_told = matches!(&refused, ApplyError::Repo(Error::NotAsTold { what }) if what.contains("is called"));
        assert!(is_told, "{refused}");
    }
    let of_before: Forge = |entry| {
        entry.path_quoted = None;
        entry.renamed_from_quoted = None;
    };
    with(of_before).unwrap();
}

#[test]
fn so_it_is_in_a_directory_that_is_no_repository() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(at(dir.path(), b"gone\xfe"), "x\n").unwrap();
    let before = Snapshot::take(dir.path(), &[]).unwrap();
    fs::remove_file(at(dir.path(), b"gone\xfe")).unwrap();
    fs::write(at(dir.path(), b"new\xff"), "y\n").unwrap();
    let changes = changes_since(&before, dir.path(), &[]).unwrap();
    let entries = changes
        .entries
        .iter()
        .map(|entry| entry.path_quoted.clone().unwrap());
    let mut entries: Vec<String> = entries.collect();
    entries.sort_unstable();
    assert_eq!(entries, [r#""gone\376""#, r#""new\377""#]);
}
