//! A tree of files as a value: written to a directory, and read from one.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;

/// One file. Git knows no other modes than these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    File { bytes: Vec<u8>, executable: bool },
    Link(Vec<u8>),
}

impl Node {
    /// The mode that git gives it.
    pub fn mode(&self) -> u32 {
        match self {
            Self::File {
                executable: true, ..
            } => 0o100_755,
            Self::File {
                executable: false, ..
            } => 0o100_644,
            Self::Link(_) => 0o120_000,
        }
    }

    /// What a blob of it holds.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::File { bytes, .. } => bytes,
            Self::Link(target) => target,
        }
    }
}

/// Files by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Vec<u8>, Node>);

impl Tree {
    /// Puts a file there, in the place of what stands in its way.
    pub fn insert(&mut self, path: Vec<u8>, node: Node) {
        let in_the_way = |known: &Vec<u8>| is_below(known, &path) || is_below(&path, known);
        self.0.retain(|known, _| !in_the_way(known));
        self.0.insert(path, node);
    }

    /// Writes all of it below `dir`.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        self.0
            .iter()
            .try_for_each(|(path, node)| write(dir, path, node))
    }

    /// Everything below `dir` but directories and what is named `.git` at the top.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let mut tree = Self::default();
        let mut dirs = vec![Vec::new()];
        while let Some(below) = dirs.pop() {
            let full = at(dir, &below);
            let entries =
                fs::read_dir(&full).with_context(|| format!("failed to read {full:?}"))?;
            for entry in entries {
                let name = entry?.file_name().into_vec();
                if below.is_empty() && name == b".git" {
                    continue;
                }
                let path = [&below[..], &name].concat();
                match read(&at(dir, &path))? {
                    Some(node) => drop(tree.0.insert(path, node)),
                    None => dirs.push([&path[..], b"/"].concat()),
                }
            }
        }
        Ok(tree)
    }

    /// Where two trees differ, in words; none when they are the same.
    pub fn difference(&self, other: &Self, of: &str) -> Option<String> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let path = paths
            .into_iter()
            .find(|path| self.0.get(*path) != other.0.get(*path))?;
        let shown = |node: Option<&Node>| match node {
            None => "nothing".to_owned(),
            Some(node) => format!("mode {:o} with {} bytes", node.mode(), node.bytes().len()),
        };
        Some(format!(
            "{of} has {} at {:?}, and the agent's tree {}",
            shown(other.0.get(path)),
            String::from_utf8_lossy(path),
            shown(self.0.get(path)),
        ))
    }
}

/// Where a path of a tree lies below a directory.
pub fn at(dir: &Path, path: &[u8]) -> PathBuf {
    match path {
        b"" => dir.to_owned(),
        path => dir.join(OsString::from_vec(path.to_vec())),
    }
}

/// Writes one file below `dir`, which has nothing in its way.
pub fn write(dir: &Path, path: &[u8], node: &Node) -> anyhow::Result<()> {
    let full = at(dir, path);
    let parent = full.parent().unwrap_or(dir);
    fs::create_dir_all(parent).with_context(|| format!("failed to make {parent:?}"))?;
    match node {
        Node::Link(target) => symlink(OsStr::from_bytes(target), &full)
            .with_context(|| format!("failed to link {full:?}"))?,
        Node::File { bytes, executable } => {
            fs::write(&full, bytes).with_context(|| format!("failed to write {full:?}"))?;
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(&full, PermissionsExt::from_mode(mode))?;
        }
    }
    Ok(())
}

/// A file or link; none for a directory.
fn read(path: &Path) -> anyhow::Result<Option<Node>> {
    let stat = fs::symlink_metadata(path)?;
    if stat.is_dir() {
        return Ok(None);
    }
    if stat.is_symlink() {
        let target = fs::read_link(path)?;
        return Ok(Some(Node::Link(target.into_os_string().into_vec())));
    }
    anyhow::ensure!(stat.is_file(), "{path:?} is no file");
    Ok(Some(Node::File {
        bytes: fs::read(path)?,
        executable: stat.permissions().mode() & 0o100 != 0,
    }))
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with(b"/"))
}
