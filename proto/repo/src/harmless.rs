//! Defects of objects that old, honest histories have and that harm nobody. Everything else that git finds
//! fault with is refused wherever objects come from somebody else.
//!
//! ```text
//! bundle ──objects──► git index-pack --strict=…=ignore ──sound──► objects/pack ──refs──► git fetch
//! ```
//!
//! `git fetch` checks the objects of a bundle too, but takes no word about which defects to let pass, unlike when
//! it fetches from a repository; so the objects are there before it looks. Some of what is refused git finds only
//! once it has put all in place, and leaves it there, where the next fetch would take it for known: the check has
//! a place of its own.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, IoContext, Result},
    git::{Git, Input, quoted},
    temporary::private_in,
};

/// As git names them: names, dates and addresses that are not what they should be.
const HARMLESS: [&str; 14] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "emptyName",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "nulInCommit",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];
/// How a bundle begins, of every version that git writes.
const BUNDLE: [&[u8]; 2] = [b"# v2 git bundle\n", b"# v3 git bundle\n"];
/// How the name of a place for a check begins: `git gc` removes one that was left.
const PLACE: &str = "tmp_objdir-orchestra-";
/// What git says of an object that it finds fault with.
const UNSOUND: &str = "fsck error";
/// In this order: a pack is there for others once its index is.
const PARTS: [&str; 3] = ["pack", "rev", "idx"];
/// Longest list of refs in front of a bundle's objects that is read.
const HEADER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Options of a call that looks at objects that are there: `of` is `fsck` or `fetch.fsck`.
pub(crate) fn let_pass(git: &Git, of: &str) -> Git {
    HARMLESS.iter().fold(git.clone(), |git, defect| {
        git.option(format!("{of}.{defect}=ignore"))
    })
}

/// Puts a pack among the objects of `git`, all of them checked.
pub(crate) fn index_pack(git: &Git, pack: File, options: &[&str]) -> Result<()> {
    let pass: Vec<String> = HARMLESS
        .iter()
        .map(|defect| format!("{defect}=ignore"))
        .collect();
    let strict = format!("--strict={}", pass.join(","));
    let args = ["index-pack", "--stdin", "--fix-thin", &strict];
    git.output_of(&[&args[..], options].concat(), Input::File(pack))
        .map(drop)
}

/// Puts the objects of a bundle among those of `git`, if they are sound but for what is harmless. What else is
/// wrong with a bundle is left to `git fetch`, which says best what.
///
/// # Errors
/// When one is not sound: none of them is there then.
pub(crate) fn take_objects(git: &Git, bundle: &Path) -> Result<()> {
    let mut pack = File::open(bundle).at("open", bundle)?;
    let Some(begins) = objects_begin(&pack).at("read", bundle)? else {
        return Ok(());
    };
    pack.seek(SeekFrom::Start(begins)).at("read", bundle)?;
    let path = [
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "objects",
    ];
    let objects = PathBuf::from(git.line(&path)?);
    let place = private_in(PLACE, &objects)?;
    let apart = git
        .clone()
        .env("GIT_OBJECT_DIRECTORY", place.path())
        .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(&objects));
    match index_pack(&apart, pack, &[]) {
        Ok(()) => put_in_place(&place.path().join("pack"), &objects.join("pack")),
        Err(Error::Git { stderr, .. }) if !stderr.contains(UNSOUND) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Moves packs that are sound. One that is there already is the same.
fn put_in_place(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).at("create the directory", to)?;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let paths: Vec<PathBuf> = entries
        .at("read", from)?
        .iter()
        .map(fs::DirEntry::path)
        .collect();
    for part in PARTS {
        for path in paths
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == part))
        {
            let to = to.join(path.file_name().unwrap_or_default());
            if !to.try_exists().at("look at", &to)? {
                fs::rename(path, &to).at("write", &to)?;
            }
        }
    }
    Ok(())
}

/// Where the objects of a bundle begin: behind the first empty line. None when it is no bundle.
fn objects_begin(bundle: &File) -> io::Result<Option<u64>> {
    let mut header = BufReader::new(io::Read::take(bundle, HEADER_BYTES_MAX));
    let (mut begins, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = header.read_until(b'\n', &mut line)?;
        if length == 0 || (begins == 0 && !BUNDLE.contains(&&line[..])) {
            return Ok(None);
        }
        begins += length as u64;
        if line == b"\n" {
            return Ok(Some(begins));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn begins(bytes: &[u8]) -> Option<u64> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        objects_begin(&file).unwrap()
    }

    #[test]
    fn the_objects_of_a_bundle_are_behind_its_refs() {
        let header = b"# v2 git bundle\n-0123 before\n4567 refs/heads/main\n\n";
        let bundle = [&header[..], b"PACK\n\n"].concat();
        assert_eq!(begins(&bundle), Some(header.len() as u64));
        let header = b"# v3 git bundle\n@object-format=sha256\n4567 HEAD\n\n";
        assert_eq!(begins(header), Some(header.len() as u64));
    }

    #[test]
    fn what_is_no_bundle_has_none() {
        for other in [&b""[..], b"\n\n", b"# v2 git bundle\n4567 HEAD\n", b"PACK"] {
            assert_eq!(begins(other), None, "{other:?}");
        }
    }
}
