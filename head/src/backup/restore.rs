//! Putting a backup in place of a head that is not there.
//!
//! Everything is made beside the head's directory and takes its place at the end, in one rename: a
//! restore that is cut off leaves nothing but that directory, which the next one begins anew.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use orchestra_config::{
    StateDir,
    durable::{self, Access},
};
use orchestra_core::{Change, KeyRow};
use orchestra_types::{ScheduleId, TaskId, Timestamp};

use super::{
    Error, Input,
    format::{self, Head, PartRow, Summary},
    headless::require_same_cluster,
    origin::Origin,
    verify,
};
use crate::{
    blobs::{self, Blobs},
    lock::Lock,
    progress::Progress,
    security,
    store::{self, Store},
};

/// Rows that share one commit.
const COMMIT_ROWS: usize = 4096;
/// Rows that share one step.
const STEP_ROWS: usize = 128;

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Move aside what is there.
    pub force: bool,
    /// How many ids are passed over: as many tasks as may have been submitted after the backup.
    pub skip_ids: u64,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub head: Head,
    /// What was in it.
    pub summary: Summary,
    /// Tasks that are there now.
    pub tasks: u64,
    /// Stored files that tasks refer to and that the backup does not have, or has damaged.
    pub missing: u64,
    /// The next task's id.
    pub next: TaskId,
    /// Where the earlier state lies, when there was any.
    pub aside: Option<PathBuf>,
    /// Whether the port of an earlier head there is kept.
    pub port_kept: bool,
    /// Join tokens that were open at the time of the backup, and are not any more.
    pub tokens_ended: u64,
}

/// Restores `input` into the state directory. Blocks for as long as it takes.
///
/// When nobody waits for it any more before all of it is made, nothing is changed.
pub fn restore(
    state: &StateDir,
    input: &Input,
    options: Options,
    progress: &Progress,
) -> Result<Restored, Error> {
    let dir = state.head();
    // Who is refused anyway shall not have to read all of the backup first.
    let early = match dir.is_dir() {
        true => Some(claim(&dir, options)?),
        false => None,
    };
    let file = input.open(state.path(), progress)?;
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    progress.expect(2 * bytes);
    let (head, summary) = verify(&file, progress)?;
    require_same_cluster(state, &head)?;
    let _lock = match early {
        Some(lock) => lock,
        None => {
            let made = state
                .make()
                .and_then(|()| durable::create_private_dir(&dir));
            made.with_context(|| format!("failed to make `{}`", dir.display()))?;
            claim(&dir, options)?
        }
    };
    let beside = state.path().join("head.restoring");
    let filled = fill(&beside, &file, options, progress).inspect_err(|_| {
        // The error that is told is the first one; the next restore removes what is left.
        let _ = fs::remove_dir_all(&beside);
    })?;
    let port_kept = keep_port(&dir, &beside)?;
    let origin = Origin {
        at: now(),
        backup: Timestamp(head.created_at_ms),
    };
    origin.write(&beside)?;
    let aside = swap(state, &beside)?;
    Ok(Restored {
        head,
        tasks: filled.tasks,
        missing: summary.missing.saturating_add(filled.damaged),
        summary,
        next: filled.next,
        aside,
        port_kept,
        tokens_ended: filled.tokens_ended,
    })
}

/// Takes the place of a head, unless one runs there or may not be moved aside.
fn claim(dir: &Path, options: Options) -> Result<Lock, Error> {
    let lock = Lock::take(dir)?;
    if !is_new(dir)? && !options.force {
        let dir = dir.to_owned();
        return Err(Error::NotEmpty { dir });
    }
    Ok(lock)
}

/// The new head listens where the earlier one did: workers that joined look for it there. Whether there
/// was one.
fn keep_port(dir: &Path, beside: &Path) -> anyhow::Result<bool> {
    let from = dir.join("port");
    let text = match fs::read(&from) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            let failed = format!("failed to read `{}`", from.display());
            return Err(anyhow::Error::from(error).context(failed));
        }
    };
    let to = beside.join("port");
    durable::write(&to, &text, Access::Private)
        .with_context(|| format!("failed to write `{}`", to.display()))?;
    Ok(true)
}

/// Whether nothing but what a refused start leaves is there.
pub(super) fn is_new(dir: &Path) -> anyhow::Result<bool> {
    let failed = || format!("failed to look into `{}`", dir.display());
    for entry in fs::read_dir(dir).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        if !matches!(name.to_str(), Some("lock" | "head.log" | "port")) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Filled {
    tasks: u64,
    damaged: u64,
    next: TaskId,
    tokens_ended: u64,
}

fn fill(
    dir: &Path,
    mut file: &File,
    options: Options,
    progress: &Progress,
) -> Result<Filled, Error> {
    let failed = || format!("failed to prepare `{}`", dir.display());
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(anyhow::Error::from(error).context(failed()).into());
        }
        Ok(()) | Err(_) => {}
    }
    durable::create_private_dir(dir).with_context(failed)?;
    let blobs = Blobs::open(&dir.join("blobs")).context("failed to prepare the stored bytes")?;
    let store = Store::open(&dir.join("db"), blobs.clone()).context("failed to make the store")?;
    let mut target = Target {
        dir,
        blobs,
        store,
        waiting: Vec::new(),
        gone: BTreeSet::new(),
        damaged: 0,
        last: TaskId(0),
    };
    file.rewind().context("failed to read the backup")?;
    let file = progress.counting(file);
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, file));
    for entry in archive.entries().context("failed to read the backup")? {
        target.take(entry.context("failed to read the backup")?)?;
    }
    Ok(target.finish(options.skip_ids)?)
}

/// What is being filled.
struct Target<'a> {
    dir: &'a Path,
    blobs: Blobs,
    store: Store,
    waiting: Vec<Change>,
    /// Rows that were copied and have gone since.
    gone: BTreeSet<Vec<u8>>,
    /// How many stored files were not what they were named by.
    damaged: u64,
    last: TaskId,
}

impl Target<'_> {
    fn take(&mut self, entry: tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let path = entry
            .path()
            .context("failed to read a name in the backup")?;
        let path = path.into_owned();
        let mut parts = path.components().map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        });
        let strange = || {
            Error::damaged(format!(
                "`{}` does not belong into a backup",
                path.display()
            ))
        };
        let first = parts.next().flatten().ok_or_else(strange)?;
        let rest: Option<Vec<&str>> = parts.collect();
        let rest = rest.ok_or_else(strange)?;
        match (first, rest.as_slice()) {
            (format::HEAD | format::END, []) => Ok(()),
            (format::ROWS, [_]) => self.rows(entry),
            (format::BLOBS, [name]) => {
                let digest = name.parse().map_err(|_| strange())?;
                Ok(self.blob(digest, entry)?)
            }
            (first, [_, ..]) if first == format::KEYS || format::TREES.contains(&first) => {
                Ok(self.file(&path, entry)?)
            }
            _ => Err(strange()),
        }
    }

    fn rows(&mut self, entry: tar::Entry<'_, impl Read>) -> Result<(), Error> {
        let mut part = Vec::new();
        let read = entry.take(format::PART_BYTES_MAX).read_to_end(&mut part);
        read.context("failed to read the backup")?;
        let rows = format::rows_of(&part).ok_or_else(|| Error::damaged("a part is not rows"))?;
        for row in rows {
            self.row(&row)
                .context("a row of the backup cannot be read")?;
        }
        Ok(())
    }

    fn row(&mut self, row: &PartRow<'_>) -> store::Result<()> {
        let Some(message) = row.message else {
            self.gone.insert(row.key.to_vec());
            return Ok(());
        };
        self.gone.remove(row.key);
        let change = store::change_of(row.key, message)?;
        if let Change::Key(key) = &change {
            let last = key.first.0.saturating_add(key.count.saturating_sub(1));
            self.last = self.last.max(TaskId(last));
        }
        self.waiting.push(change);
        if self.waiting.len() >= COMMIT_ROWS {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> store::Result<()> {
        let mut rest = std::mem::take(&mut self.waiting).into_iter().peekable();
        let mut steps = Vec::new();
        while rest.peek().is_some() {
            steps.push(rest.by_ref().take(STEP_ROWS).collect());
        }
        self.store.commit(&steps)?;
        self.store.keep_pace()
    }

    /// What was damaged already when the backup was made costs itself alone: all else is there.
    fn blob(
        &mut self,
        digest: orchestra_types::Digest,
        mut entry: tar::Entry<'_, impl Read>,
    ) -> anyhow::Result<()> {
        let mut writer = self.blobs.writer(digest, entry.size())?;
        let mut chunk = vec![0; 256 * 1024];
        loop {
            match entry
                .read(&mut chunk)
                .context("failed to read the backup")?
            {
                0 => break,
                read => writer.write(&chunk[..read])?,
            }
        }
        match writer.finish() {
            Err(blobs::Error::WrongHash { .. }) => {
                tracing::warn!(%digest, "stored bytes of the backup are damaged; they are left out");
                self.damaged += 1;
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn file(&self, path: &Path, mut entry: tar::Entry<'_, impl Read>) -> anyhow::Result<()> {
        let path = self.dir.join(path);
        let failed = || format!("failed to write `{}`", path.display());
        if let Some(above) = path.parent() {
            durable::create_private_dir(above).with_context(failed)?;
        }
        let mut file = private_file(&path).with_context(failed)?;
        // A backup says at least when it was made.
        let written = Duration::from_secs(entry.header().mtime().unwrap_or_default());
        let written = SystemTime::UNIX_EPOCH.checked_add(written);
        let written = written.map_or_else(SystemTime::now, |at| at.min(SystemTime::now()));
        io::copy(&mut entry, &mut file).with_context(failed)?;
        file.flush()
            .and_then(|()| file.set_modified(written))
            .and_then(|()| file.sync_all())
            .with_context(failed)
    }

    /// Passes over the ids that may have been given since, and closes the store.
    fn finish(mut self, skip_ids: u64) -> anyhow::Result<Filled> {
        let now = now();
        let mut next = TaskId(self.last.0.saturating_add(1));
        if skip_ids > 0 {
            self.waiting.push(Change::Key(KeyRow {
                key: format!("restored-{}-{}", now.0, std::process::id()),
                first: next,
                count: skip_ids,
                at: now,
            }));
            next = TaskId(next.0.saturating_add(skip_ids));
        }
        self.commit().context("failed to write the store")?;
        let gone: Vec<Vec<u8>> = self.gone.iter().cloned().collect();
        self.store
            .discard(&gone)
            .context("failed to write the store")?;
        let rows = self.store.load().context("failed to read the store")?;
        if skip_ids > 0 {
            let last = rows.last_schedule().map_or(0, |last| last.0);
            let last = ScheduleId(last.saturating_add(skip_ids));
            self.waiting.push(Change::ScheduleIds { last });
            self.commit().context("failed to write the store")?;
        }
        let tasks = rows.tasks.len() as u64;
        let dir = self.dir;
        let tokens_ended = security::forget_unused_tokens(&dir.join(format::KEYS), now)
            .context("failed to end the join tokens of the backup")?;
        self.store.close().context("failed to write the store")?;
        sync_dirs(dir).with_context(|| format!("failed to sync `{}`", dir.display()))?;
        let damaged = self.damaged;
        Ok(Filled {
            tasks,
            damaged,
            next,
            tokens_ended: tokens_ended as u64,
        })
    }
}

fn now() -> Timestamp {
    Timestamp(0).plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn sync_dirs(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dirs(&entry.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Puts the new directory in the place of the old one. What was there is moved aside, or removed
/// when there was nothing.
fn swap(state: &StateDir, beside: &Path) -> anyhow::Result<Option<PathBuf>> {
    let dir = state.head();
    let failed = || format!("failed to put `{}` in place", dir.display());
    let aside = if is_new(&dir)? {
        fs::remove_dir_all(&dir).with_context(failed)?;
        None
    } else {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let aside = state.path().join(format!("head.before-{}", now.as_secs()));
        fs::rename(&dir, &aside).with_context(failed)?;
        Some(aside)
    };
    fs::rename(beside, &dir).with_context(failed)?;
    File::open(state.path())
        .and_then(|dir| dir.sync_all())
        .with_context(failed)?;
    Ok(aside)
}
