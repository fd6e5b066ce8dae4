//! A `.git` that git passes over.

use std::{fs, path::Path};

use crate::common::{World, git};
use orchestra_repo::{Checkout, Error};

#[test]
fn a_repository_that_git_does_not_take_for_one_is_named_and_no_plain_directory() {
    let user = World::with(&[("sub/a.txt", "one\n")]);
    let (top, tmp) = (user.user(), user.tmp.path());
    let head = fs::read(top.join(".git/HEAD")).unwrap();
    let git_dir = top.canonicalize().unwrap().join(".git");
    let broken = |dir: &Path| match Checkout::discover(dir) {
        Err(Error::Broken { path, said }) => {
            assert!(said.contains("not a git repository"), "{said}");
            assert_eq!(path, git_dir);
            true
        }
        Ok(_) => false,
        Err(error) => panic!("{error}"),
    };
    for damage in ["", "\0\0\0\0"] {
        fs::write(top.join(".git/HEAD"), damage).unwrap();
        assert!(broken(&top) && broken(&top.join("sub")));
        assert!(!broken(tmp), "above it");
    }
    // Git goes on to the one around it.
    git(tmp, &["init", "-q", "-b", "main"]);
    assert!(broken(&top) && !broken(tmp));
    fs::remove_file(top.join(".git/HEAD")).unwrap();
    assert!(broken(&top));
    fs::write(top.join(".git/HEAD"), head).unwrap();
    assert!(!broken(&top));
    // What a further work tree is of is gone.
    fs::rename(&git_dir, tmp.join("gone")).unwrap();
    fs::write(&git_dir, "gitdir: /nowhere\n").unwrap();
    assert!(broken(&top));
    // A directory that was never one.
    fs::remove_file(&git_dir).unwrap();
    fs::create_dir(&git_dir).unwrap();
    assert!(!broken(&top));
}
