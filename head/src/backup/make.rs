//! Making a backup while the head serves. Blocking code for a thread of its own; rows are read a
//! page at a time between the engine's turns, so nothing waits for the copy.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use anyhow::Context;
use orchestra_types::Digest;

use super::{
    Touched,
    format::{self, Hashed, Head, Summary},
};
use crate::{
    blobs::Blobs,
    engine::Handle,
    events::{Events, Share},
    store::{self, Row},
};

/// How much is read in one turn of the engine.
const PAGE_BYTES: usize = 512 * 1024;
/// How often a directory is looked through for files that were not there before.
const ROUNDS_MAX: usize = 10;
/// How many rows that have changed are read again in one turn.
const AGAIN_MAX: usize = 1024;

/// What a backup is made of.
pub struct Source {
    /// The rows.
    pub engine: Handle,
    /// The engine is asked from here.
    pub runtime: tokio::runtime::Handle,
    /// Stored bytes.
    pub blobs: Blobs,
    /// What attempts did.
    pub events: Events,
    /// The head's directory.
    pub dir: PathBuf,
    /// What the backup says of itself.
    pub head: Head,
}

struct Copy<W: Write> {
    tar: tar::Builder<Hashed<W>>,
    /// Time of all entries: seconds since 1970.
    mtime: u64,
    part: Vec<u8>,
    parts: u64,
    references: BTreeSet<Digest>,
    copied: BTreeSet<PathBuf>,
    summary: Summary,
}

impl Source {
    /// About how many bytes it will be: what lies in files. Rows are few beside them, or they are
    /// most of it and nobody knows before they are read.
    pub fn about_bytes(&self) -> u64 {
        let blobs = self.blobs.stored().into_iter().flatten().flatten();
        let blobs: u64 = blobs.flatten().map(|stored| stored.size).sum();
        let trees = format::TREES.map(|tree| bytes_below(&self.dir.join(tree)));
        blobs + trees.iter().sum::<u64>()
    }

    /// Writes everything to `out`. Nothing may be removed meanwhile.
    pub fn copy_to(&self, out: impl Write) -> anyhow::Result<Summary> {
        let mut copy = Copy::new(out, self.head.created_at_ms / 1000);
        let head = serde_json::to_vec(&self.head).context("failed to describe the backup")?;
        copy.small(format::HEAD, &head)?;
        self.copy_rows(&mut copy)?;
        copy.copy_blobs(&self.blobs)?;
        self.copy_events(&mut copy)?;
        self.copy_changing(&mut copy, Path::new(format::CONTEXT))?;
        if self.head.keys {
            copy.copy_tree(&self.dir, Path::new(format::KEYS), &whole)?;
        }
        copy.end()
    }

    /// The events as they are at one moment, while more come.
    fn copy_events<W: Write>(&self, copy: &mut Copy<W>) -> anyhow::Result<()> {
        let root = Path::new(format::EVENTS);
        let reached = self.events.reached();
        let share = |path: &Path| match path.strip_prefix(root) {
            Ok(below) => reached.share_of(below),
            Err(_) => Share::Whole,
        };
        copy.copy_tree(&self.dir, root, &share)
    }

    /// A file that takes the place of another one while these are copied must not be missed.
    fn copy_changing<W: Write>(&self, copy: &mut Copy<W>, tree: &Path) -> anyhow::Result<()> {
        let mut before = u64::MAX;
        for _ in 0..ROUNDS_MAX {
            if copy.summary.files == before {
                break;
            }
            before = copy.summary.files;
            copy.copy_tree(&self.dir, tree, &whole)?;
        }
        Ok(())
    }

    fn copy_rows<W: Write>(&self, copy: &mut Copy<W>) -> anyhow::Result<()> {
        let touched = Arc::new(Mutex::new(Touched::default()));
        let noted = self.engine.note_touched(Arc::downgrade(&touched));
        self.runtime.block_on(noted)?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let touched = Arc::clone(&touched);
            let page = self.engine.read(move |view| {
                let page = view.store.page(after.as_deref(), PAGE_BYTES)?;
                lock(&touched).read_up_to(page.next.as_deref());
                Ok(page)
            });
            let page = self.runtime.block_on(page)?;
            page.rows.iter().try_for_each(|row| copy.row(row))?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.copy_changed(&touched, copy)
    }

    /// Reads again what has changed, until at one moment nothing has.
    fn copy_changed<W: Write>(
        &self,
        touched: &Arc<Mutex<Touched>>,
        copy: &mut Copy<W>,
    ) -> anyhow::Result<()> {
        loop {
            let touched = Arc::clone(touched);
            let read = self.engine.read(move |view| {
                let mut touched = lock(&touched);
                let keys = match touched.take(AGAIN_MAX) {
                    Ok(keys) => keys,
                    Err(too_many) => return Ok(Err(too_many)),
                };
                let rows = keys.into_iter().map(|key| {
                    let row = view.store.one(&key)?;
                    Ok((key, row))
                });
                let rows: Vec<_> = rows.collect::<store::Result<_>>()?;
                Ok(Ok((rows, touched.is_settled())))
            });
            let (rows, settled) = self.runtime.block_on(read)??;
            for (key, row) in rows {
                match row {
                    Some(row) => copy.row(&row)?,
                    None => copy.gone(&key)?,
                }
            }
            if settled {
                return copy.close_part();
            }
        }
    }
}

/// So many bytes of a file, with zeros where it has become shorter.
fn filled(file: File, size: u64) -> impl Read {
    file.chain(io::repeat(0)).take(size)
}

/// What nothing is appended to is copied as it is.
fn whole(_: &Path) -> Share {
    Share::Whole
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(match meta.is_dir() {
            true => bytes_below(&entry.path()),
            false => meta.len(),
        })
    });
    bytes.sum()
}

fn lock(touched: &Mutex<Touched>) -> MutexGuard<'_, Touched> {
    touched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Write> Copy<W> {
    fn new(out: W, mtime: u64) -> Self {
        Self {
            tar: tar::Builder::new(Hashed::new(out)),
            mtime,
            part: Vec::new(),
            parts: 0,
            references: BTreeSet::new(),
            copied: BTreeSet::new(),
            summary: Summary {
                rows: 0,
                blobs: 0,
                missing: 0,
                damaged: 0,
                files: 0,
                bytes: 0,
                sha256: Digest([0; 32]),
            },
        }
    }

    /// A row that cannot be read ends the copy: a backup that hides damage is worse than none.
    fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        let change = row.change().context("`ctl check` says what is damaged")?;
        let references = store::references(&change);
        self.references.extend(references.iter().map(|r| r.digest));
        self.put(&row.key, row.message.as_ref().ok().map(Vec::as_slice))
    }

    fn gone(&mut self, key: &[u8]) -> anyhow::Result<()> {
        self.put(key, None)
    }

    fn put(&mut self, key: &[u8], message: Option<&[u8]>) -> anyhow::Result<()> {
        self.summary.rows += 1;
        format::put_row(&mut self.part, key, message);
        if self.part.len() < format::PART_BYTES {
            return Ok(());
        }
        self.close_part()
    }

    fn close_part(&mut self) -> anyhow::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        self.parts += 1;
        let name = format!("{}/{:06}", format::ROWS, self.parts);
        let part = std::mem::take(&mut self.part);
        self.small(&name, &part)
    }

    fn copy_blobs(&mut self, blobs: &Blobs) -> anyhow::Result<()> {
        for digest in std::mem::take(&mut self.references) {
            match File::open(blobs.path(&digest)) {
                Ok(file) => {
                    if self.blob(&digest, file)? != digest {
                        tracing::error!(%digest, "stored bytes are damaged; a restore leaves them out");
                        self.summary.damaged += 1;
                    }
                    self.summary.blobs += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(%digest, "stored bytes that a row refers to are not there");
                    self.summary.missing += 1;
                }
                Err(error) => return Err(error).context("failed to read stored bytes"),
            }
        }
        Ok(())
    }

    /// Copies the regular files below `path`, which is relative to `dir`, as far as `share` says. What
    /// goes meanwhile is not copied.
    fn copy_tree(
        &mut self,
        dir: &Path,
        path: &Path,
        share: &impl Fn(&Path) -> Share,
    ) -> anyhow::Result<()> {
        let below = dir.join(path);
        let failed = || format!("failed to read `{}`", below.display());
        let entries = match fs::read_dir(&below) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(failed),
        };
        for entry in entries {
            let entry = entry.with_context(failed)?;
            let path = path.join(entry.file_name());
            let kind = entry.file_type().with_context(failed)?;
            if kind.is_dir() {
                self.copy_tree(dir, &path, share)?;
                continue;
            }
            let share = share(&path);
            if !kind.is_file() || share == Share::Nothing || !self.copied.insert(path.clone()) {
                continue;
            }
            match File::open(dir.join(&path)) {
                Ok(file) => {
                    self.file(&path, file, &share)?;
                    self.summary.files += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(failed),
            }
        }
        Ok(())
    }

    /// A file that grows meanwhile is copied up to where it was, or as far as its share says. One
    /// that is shorter is filled up with zeros: a check tells of it.
    fn file(&mut self, path: impl AsRef<Path>, file: File, share: &Share) -> anyhow::Result<()> {
        let path = path.as_ref();
        let failed = || format!("failed to copy `{}`", path.display());
        let looked = file.metadata().with_context(failed)?;
        let (size, end) = match share {
            Share::Whole => (looked.len(), [].as_slice()),
            Share::Begin { bytes, seal } => (u64::from(*bytes), seal.as_slice()),
            Share::Nothing => return Ok(()),
        };
        let bytes = filled(file, size).chain(end);
        let mut header = self.header(size + end.len() as u64);
        // What is kept by its age is as old where the backup is restored.
        let written = looked.modified().ok();
        let written = written.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        if let Some(written) = written {
            header.set_mtime(written.as_secs());
        }
        self.tar
            .append_data(&mut header, path, bytes)
            .with_context(failed)
    }

    /// Copies stored bytes. What they hash to.
    fn blob(&mut self, digest: &Digest, file: File) -> anyhow::Result<Digest> {
        let path = format!("{}/{digest}", format::BLOBS);
        let failed = || format!("failed to copy `{path}`");
        let size = file.metadata().with_context(failed)?.len();
        let mut bytes = Hashed::new(filled(file, size));
        let mut header = self.header(size);
        self.tar
            .append_data(&mut header, &path, &mut bytes)
            .with_context(failed)?;
        let (_, found) = bytes.so_far();
        Ok(found)
    }

    fn small(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let mut header = self.header(bytes.len() as u64);
        self.tar
            .append_data(&mut header, path, bytes)
            .with_context(|| format!("failed to write `{path}`"))
    }

    fn header(&self, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.mtime);
        header
    }

    fn end(mut self) -> anyhow::Result<Summary> {
        let (bytes, sha256) = self.tar.get_ref().so_far();
        let summary = Summary {
            bytes,
            sha256,
            ..self.summary.clone()
        };
        let end = serde_json::to_vec(&summary).context("failed to describe the backup")?;
        self.small(format::END, &end)?;
        let mut out = self.tar.into_inner().context("failed to end the backup")?;
        out.flush().context("failed to end the backup")?;
        Ok(summary)
    }
}
