//! Whatever an agent makes of a tree: patch, bundle, branch and the user's files end up the same.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::{
        ffi::OsStringExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
};

use crate::common::{BRANCH, World, apply, git, import_branch};

use proptest::{collection::btree_map, prelude::*, sample::select, test_runner::Config};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File { bytes: Vec<u8>, executable: bool },
    Link(&'static str),
}

type Tree = BTreeMap<Vec<u8>, Node>;

fn name() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&[u8]> = vec![
        b"a",
        b"b.txt",
        b" lead",
        b"trail ",
        b"new\nline",
        b"tab\there",
        b"quo\"te",
        b"back\\slash",
        b"-dash",
        b":(glob)x",
        b"*?[",
        b"\xff\xfe",
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
        b"CON",
        b".gitkeep",
        b"\x1b[31m",
        "\u{202e}rtl".as_bytes(),
        b"#x",
        b"!y",
        b"~",
    ];
    select(names).prop_map(<[u8]>::to_vec)
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    // Directories have names of their own, so that no file is in the way of another.
    let dirs: Vec<&[u8]> = vec![b"", b"d/", b"d/e/", b"odd\n dir/", b"\xfe/"];
    (select(dirs), name()).prop_map(|(dir, name)| [dir, &name].concat())
}

fn node() -> impl Strategy<Value = Node> {
    let text = "([a-c]{0,3}\r?\n){0,12}[a-c]{0,2}".prop_map(String::into_bytes);
    let binary = prop::collection::vec(any::<u8>(), 0..200);
    let bytes = prop_oneof![4 => text, 1 => binary];
    prop_oneof![
        8 => (bytes, any::<bool>()).prop_map(|(bytes, executable)| Node::File { bytes, executable }),
        1 => select(vec!["a", "d/../b.txt", "missing"]).prop_map(Node::Link),
    ]
}

fn put(dir: &Path, tree: &Tree) {
    for (path, node) in tree {
        let path = dir.join(OsString::from_vec(path.clone()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::File { bytes, executable } => {
                fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
        }
    }
}

fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == ".git" => {}
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
}

/// The tree that plain git makes of a directory.
fn tree_of(dir: &Path) -> String {
    git(dir, &["add", "-A"]);
    git(dir, &["write-tree"])
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, ..Config::default() })]

    #[test]
    fn patch_bundle_and_applied_files_are_the_agents_tree(
        before in btree_map(path(), node(), 1..12),
        changed in btree_map(path(), prop::option::of(node()), 0..12),
        moved in any::<bool>(),
    ) {
        let user = World::without_commit();
        put(&user.user(), &before);
        user.commit("before");
        let mut after = before.clone();
        for (path, node) in changed {
            match node {
                Some(node) => drop(after.insert(path, node)),
                None => drop(after.remove(&path)),
            }
        }
        if moved && let Some((_, node)) = after.pop_first() {
            after.insert(b"moved/here".to_vec(), node);
        }
        let task = user.start();
        clear(task.dir());
        put(task.dir(), &after);
        let collected = task.collect();
        prop_assert!(collected.manifest.warnings.is_empty(), "{:?}", collected.manifest.warnings);
        let wanted = tree_of(task.dir());
        let clone = user.tmp.path().join("clone");
        git(user.tmp.path(), &["clone", "-q", "user", "clone"]);
        if collected.bundle.is_some() {
            git(&clone, &["apply", "--whitespace=nowarn", collected.patch.to_str().unwrap()]);
            import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
            let branch = git(&user.user(), &["rev-parse", &format!("{BRANCH}^{{tree}}")]);
            prop_assert_eq!(&branch, &wanted);
            apply(&user.checkout(), &task.change(&collected)).unwrap();
        }
        prop_assert_eq!(tree_of(&clone), wanted.clone());
        prop_assert_eq!(tree_of(&user.user()), wanted);
        prop_assert_eq!(collected.manifest.entries.is_empty(), before == after);
    }
}
