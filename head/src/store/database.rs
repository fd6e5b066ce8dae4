//! sled 0.34.7: opening it, and the few operations that it is used for.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Error, Result,
    error::{io_error, is_there},
};
use crate::{disk::Full, points};

/// After a killed head its lock can linger for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Not a bound: sled takes somewhat more. The core decides from memory, so that little is read.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Drives sled's collection of garbage; durability does not depend on it.
const BACKGROUND_FLUSH_MS: u64 = 2000;

/// The database.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    sled: std::result::Result<Sled, Full>,
}

#[derive(Debug)]
struct Sled {
    db: sled::Db,
    tree: sled::Tree,
    /// The database's file, for syncs. IMPORTANT: opened once, before anything is written that a sync
    /// stands for. sled's own thread syncs too and drops the error, and the kernel does not tell a
    /// failed sync again to who opens the file afterwards; who had it open is told.
    file: Arc<File>,
}

impl Database {
    /// Opens the database in `path`, and makes it when it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        let prepared = remove_torn_settings(path).and_then(|()| remove_torn_snapshots(path));
        prepared.map_err(|source| io_error("prepare", path, source))?;
        let db = open_patiently(path)?;
        let tree = db.open_tree("state").map_err(Error::Database)?;
        let file = OpenOptions::new().write(true).open(path.join("db"));
        let file = Arc::new(file.map_err(|source| io_error("open", path, source))?);
        let database = Self {
            path: path.to_owned(),
            sled: Ok(Sled { db, tree, file }),
        };
        database.sync_settings()?;
        Ok(database)
    }

    /// Whether there is a database in `path`.
    pub fn is_in(path: &Path) -> Result<bool> {
        is_there(&path.join("db"))
    }

    pub fn is_open(&self) -> bool {
        self.sled.is_ok()
    }

    /// Until it is opened again, reading it gives this answer.
    pub fn close(&mut self, full: Full) {
        self.sled = Err(full);
    }

    /// Opens it again. It has at least what was synced.
    pub fn reopen(&mut self) -> Result<()> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    fn sled(&self) -> Result<&Sled> {
        self.sled.as_ref().map_err(|full| full.clone().into())
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>> {
        let sled = self.sled()?;
        self.guarded(|| sled.tree.get(key))
    }

    /// The rows from `from` on, in the order of their keys.
    pub fn from(&self, from: &[u8]) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec)>> {
        let mut rows = self.sled().map(|sled| sled.tree.range(from..));
        std::iter::from_fn(move || match &mut rows {
            Ok(rows) => self.guarded(|| rows.next().transpose()).transpose(),
            Err(_) => self.sled().err().map(Err),
        })
    }

    /// Puts rows into the database's memory. More than 256 in one batch poison sled.
    pub fn apply(&self, batch: sled::Batch) -> Result<()> {
        points::reach("database.apply").map_err(|source| io_error("write", &self.path, source))?;
        let sled = self.sled()?;
        self.guarded(|| sled.tree.apply_batch(batch))
    }

    /// Writes everything out, which on loss of power is not enough: see `syncer`.
    pub fn flush(&self) -> Result<()> {
        points::reach("database.flush").map_err(|source| io_error("flush", &self.path, source))?;
        let sled = self.sled()?;
        self.guarded(|| sled.db.flush()).map(drop)
    }

    /// What makes durable what was flushed. It does not touch sled, only its file.
    pub fn syncer(&self) -> impl FnOnce() -> Result<()> + Send + use<> {
        let path = self.path.join("db");
        let file = self.sled().map(|sled| Arc::clone(&sled.file));
        move || {
            let file = file?;
            let synced = points::reach("database.sync");
            let synced = synced.and_then(|()| file.sync_data());
            synced.map_err(|source| io_error("sync", &path, source))
        }
    }

    /// Flushed, and durable.
    pub fn sync(&self) -> Result<()> {
        self.flush()?;
        self.syncer()()
    }

    /// Some damage makes sled panic instead of saying so.
    fn guarded<T>(&self, work: impl FnOnce() -> sled::Result<T>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(database_error(&self.path, error)),
            Err(panic) => Err(damaged(&self.path, panic_text(panic.as_ref()))),
        }
    }

    /// sled's settings, which it does not sync, and the names of new files, which are durable only with
    /// their directory.
    fn sync_settings(&self) -> Result<()> {
        let settings = self.path.join("conf");
        let above = self.path.parent().unwrap_or(Path::new("/"));
        for path in [settings.as_path(), self.path.as_path(), above] {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|source| io_error("sync", path, source))?;
        }
        Ok(())
    }
}

/// sled writes its settings first, in place, and then makes the file that holds the rows. A process that
/// ended in between may have left a part of the settings, which no later one could read; without the
/// other file there is nothing yet that they are the settings of.
fn remove_torn_settings(path: &Path) -> io::Result<()> {
    if path.join("db").try_exists()? {
        return Ok(());
    }
    match fs::remove_file(path.join("conf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A process that is killed while sled writes a snapshot leaves a torn one, which the next opening
/// would take for the newest.
fn remove_torn_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "removing a torn snapshot of the database");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_patiently(path: &Path) -> Result<sled::Db> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match open_once(path) {
            Err(Error::InUse { .. }) if Instant::now() < until => thread::sleep(LOCK_RETRY),
            done => return done,
        }
    }
}

fn open_once(path: &Path) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(BACKGROUND_FLUSH_MS));
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => {
            close_to_others(path);
            Ok(db)
        }
        Ok(Err(error)) if is_locked(&error) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Ok(Err(error)) => Err(database_error(path, error)),
        Err(panic) => Err(damaged(path, panic_text(panic.as_ref()))),
    }
}

/// sled makes its files as the umask says. Nobody else gets into the directory anyway: where a mode cannot be
/// set, nothing is lost.
fn close_to_others(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        let own = match found.is_dir() {
            true => 0o700,
            false => 0o600,
        };
        if found.permissions().mode() & 0o777 != own {
            let _stays = fs::set_permissions(entry.path(), fs::Permissions::from_mode(own));
        }
    }
}

fn database_error(path: &Path, error: sled::Error) -> Error {
    match error {
        // Ours never change, so an option that sled does not accept is a damaged `conf`.
        sled::Error::Corruption { .. } | sled::Error::Unsupported(_) => {
            damaged(path, error.to_string())
        }
        // sled does not say which file; it is not the disk, whatever it is.
        sled::Error::Io(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            io_error("use the files of the database in", path, source)
        }
        error => Error::Database(error),
    }
}

fn damaged(path: &Path, why: String) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        why,
    }
}

/// sled says it only in words.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_may_not_be_opened_are_told_with_their_place() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = database_error(Path::new("/s/head/db"), sled::Error::Io(denied));
        assert!(error.is_denied());
        assert!(error.to_string().contains("`/s/head/db`"), "{error}");
    }

    #[test]
    fn syncs_go_to_the_file_as_it_was_opened_with_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        fs::create_dir(&path).unwrap();
        let database = Database::open(&path).unwrap();
        // Who opened the file again would not hear of an error that sled's own sync has met.
        fs::rename(path.join("db"), path.join("away")).unwrap();
        database.syncer()().unwrap();
    }
}
