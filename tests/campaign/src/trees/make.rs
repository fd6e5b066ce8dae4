//! What lies in a tree, and what an agent does to it.

use std::{fs, os::unix::net::UnixListener, path::Path, process::Command};

use anyhow::ensure;
use fastrand::Rng;

use super::{
    model::{self, Node, Tree, at},
    names,
};

/// Attributes that ask for everything that could change a byte or start a program.
const ATTRIBUTES: &[&str] = &[
    "* text=auto eol=crlf\n",
    "* text eol=lf\n*.txt ident\n",
    "* filter=lfs diff=lfs merge=lfs -text\n",
    "* working-tree-encoding=UTF-16\n",
    "* export-subst export-ignore ident\n",
    "* -diff\n",
    "* binary\n",
    "* diff whitespace=fix\n",
    "[attr]x text\n* x\n",
];
/// A file that is larger than what is taken.
const HUGE: u64 = 20 << 30;

/// What a tree had before, and what an agent made of it.
pub struct Made {
    pub before: Tree,
    pub after: Tree,
    /// Whether there are attribute files: then plain git would change bytes.
    pub attributes: bool,
}

/// A tree and what becomes of it.
pub fn trees(rng: &mut Rng) -> Made {
    let attributes = rng.bool();
    let mut before = Tree::default();
    for _ in 0..rng.usize(1..40) {
        before.insert(names::path(rng), node(rng));
    }
    if attributes {
        let dir: &[u8] = if rng.bool() { b"" } else { b"d/" };
        before.insert([dir, b".gitattributes"].concat(), attribute_file(rng));
    }
    let mut after = before.clone();
    for _ in 0..rng.usize(0..25) {
        edit(rng, &mut after, attributes);
    }
    Made {
        before,
        after,
        attributes,
    }
}

fn attribute_file(rng: &mut Rng) -> Node {
    let lines = ATTRIBUTES[rng.usize(..ATTRIBUTES.len())];
    Node::File {
        bytes: lines.as_bytes().to_vec(),
        executable: false,
    }
}

fn node(rng: &mut Rng) -> Node {
    match rng.u32(0..10) {
        0 => link(rng),
        _ => Node::File {
            bytes: bytes(rng),
            executable: rng.u32(0..4) == 0,
        },
    }
}

fn link(rng: &mut Rng) -> Node {
    let targets: [&[u8]; 8] = [
        b"a",
        b"d/../b.txt",
        b"missing",
        b"\xff",
        b"new\nline",
        b".",
        b"d",
        b"x y",
    ];
    Node::Link(targets[rng.usize(..targets.len())].to_vec())
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(0..12) {
        0 => Vec::new(),
        1 => (0..rng.usize(1..9000)).map(|_| rng.u8(..)).collect(),
        2 => b"\xef\xbb\xbfbom\r\n".to_vec(),
        3 => b"$Id$ $Format:%H$\n".to_vec(),
        4 => b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec(),
        5 => b"-- \ndiff --git a/x b/x\n+++ b/x\n@@ -1 +1 @@\n-a\n".to_vec(),
        6 => vec![b'x'; rng.usize(1..200_000)],
        _ => lines(rng),
    }
}

fn lines(rng: &mut Rng) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..rng.usize(0..60) {
        text.extend((0..rng.usize(0..4)).map(|_| b"abc \t"[rng.usize(..5)]));
        text.extend_from_slice(if rng.u32(0..8) == 0 { b"\r\n" } else { b"\n" });
    }
    text.extend((0..rng.usize(0..3)).map(|_| b'e'));
    text
}

/// One thing that an agent does.
fn edit(rng: &mut Rng, tree: &mut Tree, attributes: bool) {
    let known: Vec<Vec<u8>> = tree.0.keys().cloned().collect();
    let Some(path) = (!known.is_empty()).then(|| known[rng.usize(..known.len())].clone()) else {
        return tree.insert(names::path(rng), node(rng));
    };
    match rng.u32(0..11) {
        0 | 1 => tree.insert(names::path(rng), node(rng)),
        2 => drop(tree.0.remove(&path)),
        3 | 4 => rename(rng, tree, &path),
        5 => swap(rng, tree, &path, &known),
        6 if !path.ends_with(b".gitattributes") => {
            tree.insert([&path[..], b"/inside"].concat(), node(rng));
        }
        6 => {}
        7 if attributes => tree.insert(b".gitattributes".to_vec(), attribute_file(rng)),
        7 => tree.insert(path, link(rng)),
        8 => chmod(tree, &path),
        // What git does not take as an attribute file is left out by name: no other edit of it.
        _ if path.ends_with(b".gitattributes") => tree.insert(path, attribute_file(rng)),
        _ => rewrite(rng, tree, &path),
    }
}

fn rename(rng: &mut Rng, tree: &mut Tree, path: &[u8]) {
    let Some(mut node) = tree.0.remove(path) else {
        return;
    };
    if let Node::File { bytes, .. } = &mut node
        && rng.bool()
    {
        bytes.extend_from_slice(b"one more line\n");
    }
    tree.insert(names::path(rng), node);
}

fn swap(rng: &mut Rng, tree: &mut Tree, path: &[u8], known: &[Vec<u8>]) {
    let other = &known[rng.usize(..known.len())];
    if [path, other].iter().any(|p| p.ends_with(b".gitattributes")) {
        return;
    }
    if let (Some(one), Some(two)) = (tree.0.get(path).cloned(), tree.0.get(other).cloned()) {
        tree.insert(path.to_vec(), two);
        tree.insert(other.clone(), one);
    }
}

fn chmod(tree: &mut Tree, path: &[u8]) {
    if let Some(Node::File { executable, .. }) = tree.0.get_mut(path) {
        *executable = !*executable;
    }
}

fn rewrite(rng: &mut Rng, tree: &mut Tree, path: &[u8]) {
    let Some(Node::File { bytes: known, .. }) = tree.0.get_mut(path) else {
        return;
    };
    match rng.u32(0..4) {
        0 => known.clear(),
        1 => known.extend_from_slice(b"no end of line"),
        2 => known.splice(..known.len() / 2, *b"top\n").for_each(drop),
        _ => *known = bytes(rng),
    }
}

/// Makes `dir` hold `after`, as an agent would: what is the same is not touched.
pub fn act(dir: &Path, before: &Tree, after: &Tree) -> anyhow::Result<()> {
    for (path, node) in &before.0 {
        if after.0.get(path) != Some(node) {
            fs::remove_file(at(dir, path))?;
            remove_empty_parents(dir, &at(dir, path));
        }
    }
    for (path, node) in &after.0 {
        if before.0.get(path) != Some(node) {
            model::write(dir, path, node)?;
        }
    }
    Ok(())
}

fn remove_empty_parents(dir: &Path, path: &Path) {
    let above = path.ancestors().skip(1).take_while(|above| *above != dir);
    for above in above {
        if fs::remove_dir(above).is_err() {
            return;
        }
    }
}

/// Puts things there that no result can carry; those that a warning must name.
pub fn litter(rng: &mut Rng, dir: &Path, tree: &Tree) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut named = Vec::new();
    for _ in 0..rng.usize(0..3) {
        let path = names::refused(rng);
        let first = path.split(|b| *b == b'/').next().unwrap_or_default();
        if first == b"d" && tree.0.contains_key(first) || at(dir, &path).exists() {
            continue;
        }
        let node = Node::File {
            bytes: b"x\n".to_vec(),
            executable: true,
        };
        if model::write(dir, &path, &node).is_ok() {
            named.push(path);
        }
    }
    if rng.u32(0..4) == 0 {
        fs::create_dir_all(dir.join("empty directory/inner"))?;
        fifo(&dir.join("a pipe"))?;
        drop(UnixListener::bind(dir.join("a socket"))?);
    }
    if rng.u32(0..4) == 0 {
        fs::File::create(dir.join("huge"))?.set_len(HUGE)?;
        named.push(b"huge".to_vec());
    }
    Ok(named)
}

fn fifo(path: &Path) -> anyhow::Result<()> {
    let made = Command::new("mkfifo").arg(path).status()?;
    ensure!(made.success(), "mkfifo failed");
    Ok(())
}
