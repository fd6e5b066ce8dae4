//! One file of the journal: preallocated, so that making a frame durable writes no metadata.
//!
//! ```text
//! header: magic with the format 8 · number u64 · salt u32 · crc u32, then frames from byte 64 on
//! ```
//!
//! A segment gets its number only when its header and its length are durable, so that a header that
//! does not read, or a file that is shorter, is always damage.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    points,
    store::{Error, Result, error::io_error},
};

/// Size of each segment. Small in tests, so that they meet each of its edges.
pub(crate) const BYTES: u64 = if cfg!(any(test, feature = "fail-points")) {
    256
} else {
    4096
} * 1024;
/// Where the first frame is.
pub(super) const FIRST_FRAME: u64 = 64;
const MAGIC: &[u8; 8] = b"ORCHJNL\x01";
const HEADER_BYTES: usize = 24;
const EXTENSION: &str = "journal";

/// A segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    pub file: File,
    pub salt: u32,
    /// Where the next frame goes.
    pub end: u64,
}

/// How a new segment gets its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Written once, so that no later write has to note anything but the bytes.
    Zeros,
    /// Reserved only: quicker to make, slower to use.
    Reserved,
}

impl Segment {
    /// Makes a segment, out of a file of an earlier one if there is one. It is durable under its
    /// name when this returns.
    pub fn make(dir: &Path, number: u64, old: Option<PathBuf>, fill: Fill) -> Result<Self> {
        let path = path(dir, number);
        let temporary = path.with_extension("tmp");
        let salt = uuid::Uuid::new_v4().as_fields().0;
        let made = make(&temporary, &path, old, fill, &header(number, salt));
        let file = made.map_err(|source| io_error("make", &path, source))?;
        Ok(Self {
            number,
            path,
            file,
            salt,
            end: FIRST_FRAME,
        })
    }

    /// Opens a segment and reads it whole.
    pub fn open(dir: &Path, number: u64) -> Result<(Self, Vec<u8>)> {
        let path = path(dir, number);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = opened.map_err(|source| io_error("open", &path, source))?;
        let bytes = fs::read(&path).map_err(|source| io_error("read", &path, source))?;
        if (bytes.len() as u64) < BYTES {
            return Err(Error::Damaged {
                path,
                why: format!("it has {} bytes, and was made with {BYTES}", bytes.len()),
            });
        }
        let salt = salt(&bytes, number).ok_or_else(|| Error::Damaged {
            path: path.clone(),
            why: "its header is not what was written".to_owned(),
        })?;
        let segment = Self {
            number,
            path,
            file,
            salt,
            end: FIRST_FRAME,
        };
        Ok((segment, bytes))
    }

    pub fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        let written = points::reach("journal.write");
        let written = written.and_then(|()| self.file.write_all_at(bytes, at));
        written.map_err(|source| io_error("write", &self.path, source))
    }

    pub fn sync(&self) -> Result<()> {
        let synced = points::reach("journal.sync").and_then(|()| self.file.sync_data());
        synced.map_err(|source| io_error("sync", &self.path, source))
    }

    /// As many bytes as there are, at most `length`.
    pub fn read_up_to(&self, at: u32, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let read = self
                .file
                .read_at(&mut bytes[filled..], u64::from(at) + filled as u64);
            match read {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(io_error("read", &self.path, source)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    pub fn read(&self, at: u32, length: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        let read = self.file.read_exact_at(&mut bytes, u64::from(at));
        read.map_err(|source| io_error("read", &self.path, source))?;
        Ok(bytes)
    }
}

/// The numbers of the segments in `dir`, in order. What a crash left half-made, and files that
/// waited for a new use, are removed.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match number_of(&path) {
            Some(number) => numbers.push(number),
            None => fs::remove_file(path)?,
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{EXTENSION}"))
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    points::reach("journal.sync-directory")?;
    File::open(dir)?.sync_all()
}

fn number_of(path: &Path) -> Option<u64> {
    if path.extension()? != EXTENSION {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

fn make(
    temporary: &Path,
    path: &Path,
    old: Option<PathBuf>,
    fill: Fill,
    header: &[u8],
) -> io::Result<File> {
    points::reach("journal.make")?;
    let dir = path.parent().expect("a segment lies in a directory");
    match old {
        Some(old) => {
            // IMPORTANT: the old name is gone for good before the new header is written: a file
            // under a number always has the header of that number.
            fs::rename(old, temporary)?;
            sync_dir(dir)?;
        }
        // A sync that failed on an earlier try says nothing of the next one of the same file.
        None => match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        },
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(temporary)?;
    if file.metadata()?.len() != BYTES {
        allocate(&file, fill)?;
    }
    file.write_all_at(header, 0)?;
    file.sync_all()?;
    points::reach("journal.rename")?;
    fs::rename(temporary, path)?;
    sync_dir(dir)?;
    Ok(file)
}

fn allocate(file: &File, fill: Fill) -> io::Result<()> {
    let none = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, none, 0, BYTES) {
        Ok(()) => {}
        // Some file systems cannot; then the zeros are what reserves the room.
        Err(rustix::io::Errno::OPNOTSUPP) => return write_zeros(file),
        Err(error) => return Err(error.into()),
    }
    match fill {
        Fill::Zeros => write_zeros(file),
        Fill::Reserved => Ok(()),
    }
}

fn write_zeros(file: &File) -> io::Result<()> {
    let zeros = vec![0; 256 * 1024];
    (0..BYTES)
        .step_by(zeros.len())
        .try_for_each(|at| file.write_all_at(&zeros, at))
}

fn header(number: u64, salt: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..20].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn salt(bytes: &[u8], number: u64) -> Option<u32> {
    let salt = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
    (bytes[..HEADER_BYTES] == header(number, salt)).then_some(salt)
}
