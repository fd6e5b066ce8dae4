//! The patch that was told, and the change in the bundle.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use orchestra_types::{FileChange, ManifestEntry, limits::ARTIFACT_BYTES_MAX};

use super::differs;
use crate::{
    error::{Error, IoContext, Result},
    git::{Git, Input, records},
    manifest::{Raw, Renames, diff, parse_counts, patch_of},
    names::shown,
    quarantine::Quarantine,
};

/// A change between two commits.
type Sides<'a> = (&'a str, &'a str);

/// Whether git writes the change as this patch, byte for byte. None is what is empty, or too large to be
/// kept.
pub(super) fn is_made_of(
    git: &Git,
    (old, new): Sides<'_>,
    renames: Renames,
    patch: Option<&Path>,
) -> Result<bool> {
    let args = patch_of(old, new, renames);
    let Some(path) = patch else {
        let count = |out: &mut dyn Read| io::copy(out, &mut io::sink());
        let bytes = git.stream(&args, Input::Nothing, count)?;
        return Ok(bytes == 0 || bytes > ARTIFACT_BYTES_MAX);
    };
    let mut file = BufReader::new(File::open(path).at("open", path)?);
    git.stream(&args, Input::Nothing, |out| is_same(out, &mut file))
}

/// Reads all of `out`, whatever it finds: git is not to be cut off.
fn is_same(out: &mut dyn Read, file: &mut dyn Read) -> io::Result<bool> {
    let (mut made, mut told) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let count = out.read(&mut made)?;
        if count == 0 {
            return Ok(file.read(&mut told[..1])? == 0);
        }
        let is_whole = match file.read_exact(&mut told[..count]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            read => read.map(|()| true)?,
        };
        if !is_whole || made[..count] != told[..count] {
            io::copy(out, &mut io::sink())?;
            return Ok(false);
        }
    }
}

/// Requires that the patch makes the files of `new` of those of `old`, and shows as text what is text.
/// The lines of each of its files. `raw` and `here` are what the bundle does, without renames.
pub(super) fn require(
    quarantine: &Quarantine,
    (old, new): Sides<'_>,
    patch: &Path,
    raw: &[Raw],
    here: &[ManifestEntry],
) -> Result<Vec<ManifestEntry>> {
    let patch = std::path::absolute(patch).at("find", patch)?;
    let git = quarantine
        .git()
        .clone()
        .env("GIT_INDEX_FILE", quarantine.path().join("told-index"));
    git.output(&["read-tree", old])?;
    applied(&git, &["--cached", "--whitespace=nowarn"], &patch)?;
    let tree = git.line(&["write-tree"])?;
    if let Some(file) = diff(&git, &tree, new, Renames::Ignore)?.first() {
        return Err(differs(format!(
            "the patch makes something else of `{}`",
            shown(&file.path)
        )));
    }
    let counted = counted(&git, &patch)?;
    let is_binary = raw.iter().zip(here).filter(|(_, entry)| entry.binary);
    let binary: BTreeSet<&[u8]> = is_binary.map(|(file, _)| file.path.as_slice()).collect();
    let hidden = counted
        .iter()
        .find(|(path, lines)| lines.is_none() && !binary.contains(path.as_slice()));
    if let Some((path, _)) = hidden {
        return Err(differs(format!(
            "`{}` is text, and the patch shows none of it",
            shown(path)
        )));
    }
    Ok(counted
        .iter()
        .map(|(path, lines)| entry(path, *lines))
        .collect())
}

/// What the patch itself says: each path, and its lines.
type Counted = Vec<(Vec<u8>, Option<(u64, u64)>)>;

fn counted(git: &Git, patch: &Path) -> Result<Counted> {
    let output = applied(git, &["--numstat", "-z"], patch)?;
    let mut fields = records(&output);
    let mut counted = Vec::new();
    while let Some(field) = fields.next() {
        counted.push(
            parse_counts(field, &mut fields).ok_or_else(|| Error::Output {
                command: "apply --numstat".to_owned(),
                what: "a line that is no count".to_owned(),
            })?,
        );
    }
    Ok(counted)
}

/// Only its path and lines are of use.
fn entry(path: &[u8], lines: Option<(u64, u64)>) -> ManifestEntry {
    ManifestEntry {
        path: shown(path),
        path_quoted: None,
        renamed_from_quoted: None,
        change: FileChange::Modified,
        size: 0,
        mode: 0,
        sha256: None,
        lines_added: lines.map(|(added, _)| added),
        lines_removed: lines.map(|(_, removed)| removed),
        binary: lines.is_none(),
    }
}

/// What `git apply` says of the patch, which is to fit.
fn applied(git: &Git, how: &[&str], patch: &Path) -> Result<Vec<u8>> {
    let mut args: Vec<&std::ffi::OsStr> = vec!["apply".as_ref()];
    args.extend(how.iter().map(std::ffi::OsStr::new));
    args.extend(["--".as_ref(), patch.as_os_str()]);
    let ended = git.ended(&args, Input::Nothing)?;
    if ended.code == 0 {
        return Ok(ended.value);
    }
    let why = ended.stderr.lines().next().unwrap_or("git refuses it");
    Err(differs(format!("the patch is none of its change: {why}")))
}
