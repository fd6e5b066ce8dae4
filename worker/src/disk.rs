//! Removing what agents leave behind.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// Removes a directory with all that is in it; not finding it is fine.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Agents make read-only directories (module caches): their owner may open them again.
fn make_writable(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    fs::read_dir(path)?.try_for_each(|entry| make_writable(&entry?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_tree_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(tree.join("inner/file"), "x").unwrap();
        fs::set_permissions(tree.join("inner"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_dir(&tree).unwrap();
        assert!(!tree.exists());
        remove_dir(&tree).unwrap();
    }
}
