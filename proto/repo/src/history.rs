//! The agent's own commits. Its `.git` is read as data: the text of HEAD and a ref, and objects
//! that are packed, checked and named anew. No git process ever runs on it.

use std::{error::Error as _, fs, fs::File, io::Read, os::fd::OwnedFd, time::Duration};

use rustix::fs::FileType;

use crate::{
    beneath,
    error::{Error, IoContext, Result},
    git::{Git, Input, check_commit, quoted},
    harmless,
    merge::contains,
    workspace::Workspace,
};

/// Largest text of a ref file that is looked at.
pub(crate) const REF_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most commits of an agent that are kept one by one.
const COMMITS_MAX: usize = 10_000;
/// Most bytes of an agent's own commits: 4 GiB.
const PACK_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most files that may hold an agent's objects.
const OBJECTS_MAX: usize = 1_000_000;
/// Why commits are refused that hold a secret.
pub(crate) const SECRET: &str = "they hold files that were put there for the agent alone";
/// Why commits are refused that do not come after what it was given.
const ELSEWHERE: &str = "they do not come after the commit that it began with";
/// How deep symbolic refs may point at each other.
const SYMREFS_MAX: usize = 4;
/// Longest time for reading the agent's objects: some of them may be pipes that never end.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(120);

impl Workspace {
    /// The agent's HEAD, when it is the base or a sound history on top of it and its objects
    /// have been taken over; else none, with the reason. A history in which one of the `secret` paths
    /// ever was is not sound: a bundle would carry it.
    pub(crate) fn take_history(&self, secret: &[String]) -> Result<Option<String>, String> {
        let Some(head) = self
            .agent_head()
            .map_err(|e| format!("its HEAD cannot be read: {e}"))?
        else {
            return Ok(None);
        };
        if head == self.base {
            return Ok(None);
        }
        match self
            .lent()
            .and_then(|lent| contains(&lent, &head, &self.base))
        {
            Ok(true) => {}
            Ok(false) => return Err(ELSEWHERE.to_owned()),
            Err(error) => return Err(reason(&error)),
        }
        self.import(&head).map_err(|error| reason(&error))?;
        match self.touches(&head, &[&self.base], secret) {
            Ok(false) => Ok(Some(head)),
            Ok(true) => Err(SECRET.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether one of the `secret` paths was ever in the commits since those that are `known`.
    pub(crate) fn touches(&self, head: &str, known: &[&str], secret: &[String]) -> Result<bool> {
        if secret.is_empty() {
            return Ok(false);
        }
        let range = ["rev-list", "--full-history", "--max-count=1", head, "--not"];
        let mut args = [&range, known, &["--"]].concat();
        args.extend(secret.iter().map(String::as_str));
        Ok(!self.bare().output(&args)?.is_empty())
    }

    /// What a ref of the agent's names, if it is there and names a commit itself.
    pub(crate) fn agent_ref(&self, name: &str) -> std::io::Result<Option<String>> {
        let root = beneath::root(&self.dir)?;
        let text = read_ref(&root, name)?;
        Ok(text.filter(|text| check_commit(text).is_ok()))
    }

    pub(crate) fn agent_head(&self) -> std::io::Result<Option<String>> {
        let root = beneath::root(&self.dir)?;
        match beneath::lstat(&root, b".git") {
            Ok(Some(stat)) if beneath::kind(&stat) == FileType::Directory => {}
            Ok(_) | Err(_) => return Ok(None),
        }
        let mut name = "HEAD".to_owned();
        for _ in 0..SYMREFS_MAX {
            let Some(text) = read_ref(&root, &name)? else {
                return Ok(None);
            };
            match text.strip_prefix("ref: ") {
                Some(target) if is_ref_name(target) => name = target.to_owned(),
                Some(_) => return Ok(None),
                None => return Ok(check_commit(&text).is_ok().then_some(text)),
            }
        }
        Ok(None)
    }

    fn import(&self, head: &str) -> Result<()> {
        let lent = self.lent()?;
        self.take_over(&lent, head, &[&self.base], PACK_BYTES_MAX)
            .map(drop)
    }

    /// git on the worker's own directory that sees the agent's objects.
    pub(crate) fn lent(&self) -> Result<Git> {
        let objects = self.dir.join(".git/objects");
        self.require_plain_objects().at("trust", &objects)?;
        Ok(self
            .bare()
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(&objects))
            .time_limit(TIME_MAX))
    }

    /// Makes the commits since those that are `known` the worker's own, in at most so many bytes. How
    /// many it took.
    pub(crate) fn take_over(
        &self,
        lent: &Git,
        head: &str,
        known: &[&str],
        bytes_max: u64,
    ) -> Result<u64> {
        let count = lent.line(&[&["rev-list", "--count", head, "--not"], known].concat())?;
        if count
            .parse::<usize>()
            .is_ok_and(|count| count > COMMITS_MAX)
        {
            return Err(Error::Output {
                command: "rev-list --count".to_owned(),
                what: format!("{count} commits, more than {COMMITS_MAX}"),
            });
        }
        let (pack, bytes) = self.pack(lent, head, known, bytes_max)?;
        let max = format!("--max-input-size={PACK_BYTES_MAX}");
        let own = self.bare();
        harmless::index_pack(&own, pack, &[&max])?;
        // All of it must be here without the agent's objects.
        let reachable = ["rev-list", "--objects", "--quiet", head, "--not"];
        own.output(&[&reachable, known].concat())?;
        Ok(bytes)
    }

    /// The agent's objects must be its own: files in directories, without a link or a pipe, and with
    /// no other lender than the one that the workspace was made with.
    fn require_plain_objects(&self) -> std::io::Result<()> {
        let root = beneath::root(&self.dir)?;
        let lenders = read_text(&root, ".git/objects/info/alternates")?.unwrap_or_default();
        if lenders != fs::read_to_string(self.git_dir.join("objects/info/alternates"))? {
            return Err(std::io::Error::other("it borrows objects from elsewhere"));
        }
        let mut dirs = vec![b".git/objects".to_vec()];
        let mut count = 0;
        while let Some(dir) = dirs.pop() {
            for (name, kind) in beneath::list(&root, &dir)? {
                let path = [&dir, &b"/"[..], &name].concat();
                match kind {
                    FileType::Directory => dirs.push(path),
                    FileType::RegularFile => count += 1,
                    _ => return Err(std::io::Error::other("something in it is not a file")),
                }
                if count + dirs.len() > OBJECTS_MAX {
                    return Err(std::io::Error::other("it has too many files"));
                }
            }
        }
        Ok(())
    }

    fn pack(&self, lent: &Git, head: &str, known: &[&str], bytes_max: u64) -> Result<(File, u64)> {
        let mut pack =
            tempfile::tempfile_in(&self.git_dir).at("create a file in", &self.git_dir)?;
        let mut revisions = format!("{head}\n");
        for commit in known {
            revisions.push_str(&format!("^{commit}\n"));
        }
        let args = [
            "pack-objects",
            "--quiet",
            "--revs",
            "--thin",
            "--stdout",
            "--delta-base-offset",
        ];
        let copied = lent.stream(&args, Input::Bytes(revisions.as_bytes()), |out| {
            let copied = std::io::copy(&mut out.take(bytes_max + 1), &mut pack)?;
            if copied > bytes_max {
                return Err(std::io::Error::other("the agent's commits are too large"));
            }
            std::io::Seek::rewind(&mut pack)?;
            Ok(copied)
        })?;
        Ok((pack, copied))
    }
}

/// Why it did not work, with what caused it.
pub(crate) fn reason(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The text of a ref, loose or packed.
fn read_ref(root: &OwnedFd, name: &str) -> std::io::Result<Option<String>> {
    if let Some(text) = read_text(root, &format!(".git/{name}"))? {
        return Ok(Some(text.trim_ascii().to_owned()));
    }
    let packed = read_text(root, ".git/packed-refs")?.unwrap_or_default();
    let line = packed
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(_, n)| *n == name));
    Ok(line.map(|(id, _)| id.to_owned()))
}

fn read_text(root: &OwnedFd, path: &str) -> std::io::Result<Option<String>> {
    let file = match beneath::open_regular(root, path.as_bytes()) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(REF_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/") && crate::names::refusal(name.as_bytes()).is_none()
}
