//! What keeps a change from being applied is named as a person finds it.

use std::fs;

use orchestra_repo::ApplyError;

use crate::common::{World, apply};

/// What is named where the user has made these files meanwhile, which the change has no room beside.
fn named(files: &[&str]) -> Vec<String> {
    let tracked = [("d/e/a", "a\n"), ("d/b", "b\n"), (".gitignore", "*.o\n")];
    let user = World::with(&tracked);
    let task = user.start();
    fs::remove_dir_all(task.dir().join("d")).unwrap();
    task.write("d", "now a file\n");
    task.write("n/new", "new\n");
    let collected = task.collect();
    files.iter().for_each(|file| user.write(file, "user\n"));
    let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    for file in files {
        let there = fs::read_to_string(user.user().join(file)).unwrap();
        assert_eq!(there, "user\n", "{file}");
    }
    match refused {
        ApplyError::InTheWay { paths } => paths,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_is_in_the_way_for_what_it_holds() {
    assert_eq!(named(&["d/e/x.o"]), ["d/e/x.o"]);
    let several = ["d/e/x.o", "d/y.o", "d/z/new"];
    assert_eq!(named(&several), several);
}

#[test]
fn a_repository_of_its_own_is_named_as_a_whole() {
    assert_eq!(named(&["d/own/.git/HEAD", "d/own/x"]), ["d/own"]);
}

#[test]
fn a_file_above_the_place_of_a_new_one_is_named() {
    assert_eq!(named(&["n"]), ["n"]);
}
