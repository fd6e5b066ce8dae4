use std::{fs, os::unix::fs::symlink};

use super::*;

fn names(manifest: &Manifest) -> Vec<(String, &'static str)> {
    manifest
        .entries
        .iter()
        .map(|e| (e.path.clone(), e.change.as_str()))
        .collect()
}

#[test]
fn two_looks_at_a_directory_show_what_changed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("sub/.git")).unwrap();
    fs::create_dir(at("context")).unwrap();
    for name in [
        "same",
        "touched",
        "edited",
        "gone",
        "sub/mode",
        "sub/.git/x",
        "context/y",
    ] {
        fs::write(at(name), name).unwrap();
    }
    let exclude = ["context".to_owned()];
    let before = Snapshot::take(dir.path(), &exclude).unwrap();
    fs::write(at("touched"), "touched").unwrap();
    fs::write(at("edited"), "other").unwrap();
    fs::write(at("context/y"), "other").unwrap();
    fs::write(at("sub/.git/x"), "other").unwrap();
    fs::remove_file(at("gone")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(at("sub/mode"), mode).unwrap();
    symlink("/etc/passwd", at("link")).unwrap();
    let manifest = changes_since(&before, dir.path(), &exclude).unwrap();
    let expected = [
        ("edited", "modified"),
        ("gone", "deleted"),
        ("link", "added"),
        ("sub/mode", "mode_changed"),
    ];
    assert_eq!(names(&manifest), expected.map(|(n, c)| (n.to_owned(), c)));
    assert!(manifest.warnings.is_empty(), "{:?}", manifest.warnings);
    assert_eq!(manifest.entries[2].sha256, None, "a link is never followed");
}

#[test]
fn a_stored_look_is_the_same_after_a_restart_whatever_the_names() {
    use std::os::unix::ffi::OsStringExt;

    let dir = tempfile::tempdir().unwrap();
    for name in [b"plain".to_vec(), b"not utf-8 \xff".to_vec()] {
        fs::write(dir.path().join(std::ffi::OsString::from_vec(name)), "x").unwrap();
    }
    let before = Snapshot::take(dir.path(), &[]).unwrap();
    let stored = serde_json::to_vec(&before).unwrap();
    assert_eq!(serde_json::from_slice::<Snapshot>(&stored).unwrap(), before);
}
