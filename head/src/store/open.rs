//! Opening the database, and making it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use orchestra_config::durable;

use super::{Error, Result, Store, key, large};
use crate::blobs::Blobs;

/// After a killed head its lock can linger for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Not a bound: sled takes somewhat more.
const CACHE_BYTES: u64 = 256 * 1024 * 1024;
/// Drives sled's collection of garbage; durability does not depend on it.
const BACKGROUND_FLUSH_MS: u64 = 500;

impl Store {
    /// Opens the database in `path`, and makes it when it is not there.
    pub fn open(path: &Path, blobs: Blobs) -> Result<Self> {
        let failed = |source| io_error("prepare", path, source);
        durable::create_private_dir(path).map_err(failed)?;
        remove_torn_snapshots(path).map_err(failed)?;
        let db = open_patiently(path)?;
        let tree = db.open_tree("state").map_err(Error::Database)?;
        let file_path = path.join("db");
        let file = OpenOptions::new().write(true).open(&file_path);
        let file = file.map_err(|source| io_error("open", &file_path, source))?;
        let store = Self {
            path: path.to_owned(),
            db,
            tree,
            file,
            blobs,
        };
        store.check_format()?;
        store.sync_directories()?;
        Ok(store)
    }

    /// Writes everything out and waits until it is durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.db.flush().map_err(Error::Database)?;
        let path = self.path.join("db");
        let synced = self.file.sync_data();
        synced.map_err(|source| io_error("sync", &path, source))
    }

    fn check_format(&self) -> Result<()> {
        match self.tree.get(key::FORMAT).map_err(Error::Database)? {
            None => {
                let inserted = self.tree.insert(key::FORMAT, &[large::FORMAT]);
                inserted.map_err(Error::Database)?;
                self.sync()
            }
            Some(value) if value.as_ref() == [large::FORMAT] => Ok(()),
            Some(value) => Err(Error::Format {
                row: format!("the database in `{}`", self.path.display()),
                found: value.first().copied().unwrap_or(0),
                known: large::FORMAT,
            }),
        }
    }

    /// The names of new files are durable only with their directory.
    fn sync_directories(&self) -> Result<()> {
        let above = self.path.parent().unwrap_or(Path::new("/"));
        for dir in [self.path.as_path(), above] {
            let synced = File::open(dir).and_then(|dir| dir.sync_all());
            synced.map_err(|source| io_error("sync", dir, source))?;
        }
        Ok(())
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
    // Some damage makes sled panic instead of saying so.
    let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
    let damaged = |why| Error::Damaged {
        path: path.to_owned(),
        why,
    };
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) if is_locked(&error) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Ok(Err(error @ sled::Error::Corruption { .. })) => Err(damaged(error.to_string())),
        Ok(Err(error)) => Err(Error::Database(error)),
        Err(panic) => Err(damaged(panic_text(panic.as_ref()))),
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

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
