//! The list of changed files between two trees, or a tree and an index, from git's objects alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, BufReader},
    path::Path,
};

use orchestra_types::{Digest, FileChange, Manifest, ManifestEntry, limits::MANIFEST_ENTRIES_MAX};

use crate::{
    beneath::digest,
    error::{Error, IoContext, Result},
    git::{Git, Input, records},
    names::{quoted, shown},
};

const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const KIND: u32 = 0o170_000;
const SUBMODULE: u32 = 0o160_000;

/// One line of `diff-tree --raw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub old_mode: u32,
    pub new_mode: u32,
    pub old_id: String,
    pub new_id: String,
    pub status: u8,
    /// The old path of a rename.
    pub from: Option<Vec<u8>>,
    pub path: Vec<u8>,
}

impl Raw {
    pub fn is_deleted(&self) -> bool {
        self.status == b'D'
    }

    /// Whether it is a file from now on, not a link.
    pub fn is_file(&self) -> bool {
        self.new_mode & KIND == REGULAR
    }

    pub fn is_submodule(&self) -> bool {
        self.old_mode & KIND == SUBMODULE || self.new_mode & KIND == SUBMODULE
    }

    fn has_blob(&self) -> bool {
        !self.is_deleted() && self.new_mode & KIND != SUBMODULE
    }
}

/// Lines added and removed; none for binary files.
pub(crate) type Counts = Option<(u64, u64)>;
type Lines = BTreeMap<Vec<u8>, Counts>;

/// Whether a file that vanished and one that appeared may be one that was renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renames {
    Find,
    Ignore,
}

impl Renames {
    fn option(self) -> &'static str {
        match self {
            Self::Find => "--find-renames",
            Self::Ignore => "--no-renames",
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sides<'a> {
    Trees { old: &'a str, new: &'a str },
    Index { old: &'a str },
}

impl<'a> Sides<'a> {
    /// The command, and what it compares.
    fn args(self) -> (&'static [&'static str], Vec<&'a str>) {
        match self {
            Self::Trees { old, new } => (&["diff-tree", "-r"], vec![old, new]),
            Self::Index { old } => (&["diff-index", "--cached"], vec![old]),
        }
    }
}

/// A manifest, and the files as git tells them.
pub(crate) struct Listed {
    pub manifest: Manifest,
    pub files: Vec<Raw>,
}

/// The files that differ between two trees.
pub(crate) fn diff(git: &Git, old: &str, new: &str, renames: Renames) -> Result<Vec<Raw>> {
    read_diff(git, Sides::Trees { old, new }, renames, &["--raw"]).map(|(raw, _)| raw)
}

/// The manifest of a change.
pub(crate) fn manifest(git: &Git, sides: Sides<'_>) -> Result<Listed> {
    let (files, mut entries) = entries(git, sides, Renames::Find)?;
    let more = entries.len().saturating_sub(MANIFEST_ENTRIES_MAX);
    entries.truncate(MANIFEST_ENTRIES_MAX);
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let warnings = match more {
        0 => Vec::new(),
        more => vec![format!("{more} more files changed; the patch has them")],
    };
    Ok(Listed {
        manifest: Manifest { entries, warnings },
        files,
    })
}

/// All entries of a change, in git's order, and the files as git tells them.
pub(crate) fn entries(
    git: &Git,
    sides: Sides<'_>,
    renames: Renames,
) -> Result<(Vec<Raw>, Vec<ManifestEntry>)> {
    let (raw, lines) = read_diff(git, sides, renames, &["--raw", "--numstat"])?;
    let ids: BTreeSet<&str> = raw
        .iter()
        .filter(|r| r.has_blob())
        .map(|r| r.new_id.as_str())
        .collect();
    let blobs = read_blobs(git, &ids)?;
    let entries = raw.iter().map(|file| entry(file, &lines, &blobs));
    let entries = entries.collect();
    Ok((raw, entries))
}

/// How a patch can tell the renames of a change: where a directory comes in the place of a link
/// that has another name now, `git apply` takes it for files beyond a link and refuses it all.
pub(crate) fn renames_in_patch(manifest: &Manifest) -> Renames {
    let link = |entry: &ManifestEntry| entry.mode & KIND == LINK;
    let renamed = |entry: &ManifestEntry| matches!(entry.change, FileChange::Renamed { .. });
    match manifest.entries.iter().any(|e| link(e) && renamed(e)) {
        true => Renames::Ignore,
        false => Renames::Find,
    }
}

/// Writes the change from `old` to `new` to a file, as `git apply` takes it.
pub(crate) fn write_patch(
    git: &Git,
    old: &str,
    new: &str,
    renames: Renames,
    to: &Path,
) -> Result<()> {
    let mut file = std::fs::File::create(to).at("create", to)?;
    git.stream(&patch_of(old, new, renames), Input::Nothing, |out| {
        io::copy(out, &mut file)?;
        file.sync_all()
    })
}

/// The command that prints the change from `old` to `new` as a patch.
pub(crate) fn patch_of<'a>(old: &'a str, new: &'a str, renames: Renames) -> [&'a str; 13] {
    [
        "diff-tree",
        "-r",
        "-p",
        "--binary",
        "--full-index",
        renames.option(),
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        old,
        new,
    ]
}

fn entry(file: &Raw, lines: &Lines, blobs: &BTreeMap<String, (u64, Digest)>) -> ManifestEntry {
    let blob = blobs.get(&file.new_id).filter(|_| file.has_blob());
    let counts = lines.get(&file.path).copied().flatten();
    ManifestEntry {
        path: shown(&file.path),
        path_quoted: quoted(&file.path),
        renamed_from_quoted: renamed_from(file).and_then(quoted),
        change: change(file),
        size: blob.map_or(0, |(size, _)| *size),
        mode: if file.is_deleted() { 0 } else { file.new_mode },
        sha256: blob
            .filter(|_| file.new_mode & KIND == REGULAR)
            .map(|(_, digest)| *digest),
        lines_added: counts.map(|(added, _)| added),
        lines_removed: counts.map(|(_, removed)| removed),
        binary: counts.is_none(),
    }
}

fn change(file: &Raw) -> FileChange {
    match (file.status, renamed_from(file)) {
        (b'A', _) => FileChange::Added,
        (b'D', _) => FileChange::Deleted,
        (_, Some(from)) => FileChange::Renamed { from: shown(from) },
        _ if file.old_id == file.new_id => FileChange::ModeChanged,
        _ => FileChange::Modified,
    }
}

/// The name that a renamed file had.
fn renamed_from(file: &Raw) -> Option<&[u8]> {
    file.from.as_deref().filter(|_| file.status == b'R')
}

fn read_diff(
    git: &Git,
    sides: Sides<'_>,
    renames: Renames,
    forms: &[&str],
) -> Result<(Vec<Raw>, Lines)> {
    let (command, compared) = sides.args();
    let mut args = command.to_vec();
    args.extend(["-z", "--no-ext-diff", "--no-textconv", renames.option()]);
    args.extend(forms);
    args.extend(compared);
    let output = git.output(&args)?;
    parse_diff(&output).ok_or_else(|| Error::Output {
        command: command.join(" "),
        what: "a line that is neither a change nor a count".to_owned(),
    })
}

fn parse_diff(output: &[u8]) -> Option<(Vec<Raw>, Lines)> {
    let mut raw = Vec::new();
    let mut lines = Lines::new();
    let mut fields = records(output);
    while let Some(field) = fields.next() {
        match field.strip_prefix(b":") {
            Some(head) => raw.push(parse_raw(head, &mut fields)?),
            None => {
                let (path, counts) = parse_counts(field, &mut fields)?;
                lines.insert(path, counts);
            }
        }
    }
    Some((raw, lines))
}

fn parse_raw<'a>(head: &[u8], rest: &mut impl Iterator<Item = &'a [u8]>) -> Option<Raw> {
    let head = std::str::from_utf8(head).ok()?;
    let mut words = head.split(' ');
    let mode = |text: &str| u32::from_str_radix(text, 8).ok();
    let old_mode = mode(words.next()?)?;
    let new_mode = mode(words.next()?)?;
    let old_id = words.next()?.to_owned();
    let new_id = words.next()?.to_owned();
    let status = *words.next()?.as_bytes().first()?;
    let first = rest.next()?.to_vec();
    let (from, path) = match status {
        b'R' | b'C' => (Some(first), rest.next()?.to_vec()),
        _ => (None, first),
    };
    Some(Raw {
        old_mode,
        new_mode,
        old_id,
        new_id,
        status,
        from,
        path,
    })
}

/// `added TAB removed TAB path`, or an empty path and then both paths of a rename.
pub(crate) fn parse_counts<'a>(
    field: &[u8],
    rest: &mut impl Iterator<Item = &'a [u8]>,
) -> Option<(Vec<u8>, Counts)> {
    let mut parts = field.splitn(3, |b| *b == b'\t');
    let added = parts.next()?;
    let removed = parts.next()?;
    let path = match parts.next()? {
        b"" => {
            let _from = rest.next()?;
            rest.next()?.to_vec()
        }
        path => path.to_vec(),
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    Some((path, number(added).zip(number(removed))))
}

/// Size and SHA-256 of blobs.
fn read_blobs(git: &Git, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, (u64, Digest)>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let input = ids.iter().map(|id| format!("{id}\n")).collect::<String>();
    git.stream(
        &["cat-file", "--batch", "--buffer"],
        Input::Bytes(input.as_bytes()),
        |out| {
            let mut out = BufReader::new(out);
            ids.iter()
                .map(|id| read_blob(&mut out).map(|found| ((*id).to_owned(), found)))
                .collect()
        },
    )
}

fn read_blob(out: &mut impl BufRead) -> io::Result<(u64, Digest)> {
    let mut header = String::new();
    out.read_line(&mut header)?;
    let size = header
        .trim_end()
        .rsplit(' ')
        .next()
        .and_then(|size| size.parse::<u64>().ok());
    let size = size.ok_or_else(|| io::Error::other(format!("no blob: {header:?}")))?;
    let digest = digest(out, size)?;
    let mut end = [0];
    out.read_exact(&mut end)?;
    Ok((size, digest))
}
