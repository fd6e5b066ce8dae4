//! Keeps the file tools inside the working directory.
//!
//! This guards against mistakes; it is no sandbox, since a command may touch what the user may.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

/// The file that `path` names below `root`, with every link on the way resolved.
///
/// `root` is absolute and has no links itself.
pub fn inside(root: &Path, path: &str) -> Result<PathBuf, String> {
    if path.is_empty() {
        return Err("the path is empty".to_owned());
    }
    let resolved =
        resolve(&root.join(path)).map_err(|why| format!("cannot use `{path}`: {why}"))?;
    if resolved.starts_with(root) {
        return Ok(resolved);
    }
    Err(format!(
        "`{path}` is outside of the working directory `{}`",
        root.display()
    ))
}

/// Resolves the part that exists, and appends the rest.
fn resolve(path: &Path) -> Result<PathBuf, String> {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                resolved.push(component);
                resolved = existing(resolved)?;
            }
        }
    }
    Ok(resolved)
}

/// The path without links where it exists, and as it is where it does not.
fn existing(path: PathBuf) -> Result<PathBuf, String> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => path
            .canonicalize()
            .map_err(|error| format!("`{}` is a link that leads nowhere: {error}", path.display())),
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_outside_can_be_named() {
        let base = tempfile::tempdir().expect("a directory");
        let base = base.path().canonicalize().expect("it exists");
        let root = base.join("work");
        fs::create_dir_all(root.join("sub")).expect("created");
        fs::create_dir(base.join("work2")).expect("created");
        symlink(&base, root.join("up")).expect("linked");
        symlink(base.join("missing"), root.join("dangling")).expect("linked");
        symlink("sub", root.join("inner")).expect("linked");

        for bad in [
            "..",
            "../work2/x",
            "/etc/passwd",
            "sub/../../x",
            "up/x",
            "dangling",
            "new/../../x",
            "",
        ] {
            assert!(inside(&root, bad).is_err(), "{bad}");
        }
        for (good, file) in [
            ("a", "a"),
            ("new/dir/a", "new/dir/a"),
            ("sub/../b", "b"),
            ("inner/c", "sub/c"),
        ] {
            assert_eq!(inside(&root, good), Ok(root.join(file)), "{good}");
        }
        let absolute = root.join("sub/d");
        assert_eq!(inside(&root, &absolute.to_string_lossy()), Ok(absolute));
    }
}
