//! One attempt's file: a magic number, then records of length, CRC-32C and message.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use orchestra_proto::v1;
use orchestra_types::AttemptId;
use prost::Message;

use super::Error;

/// What each file begins with; the last byte is the format.
pub(super) const MAGIC: &[u8; 8] = b"ORCHEVT\x01";
/// Length and CRC before each message.
pub(super) const FRAME_BYTES: u64 = 8;
/// Largest message: a text and a raw line at their limits, and fields.
const MESSAGE_BYTES_MAX: u32 = 1024 * 1024;
/// Attempts of this many tasks share a directory.
const TASKS_IN_DIRECTORY: u64 = 1000;

/// What of a file is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// How many bytes; 0 before the first event.
    pub bytes: u64,
    /// The number of the last event.
    pub last: u64,
}

/// A file open for appending.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    tail: Tail,
}

/// Where an attempt's events lie.
pub(super) fn path(root: &Path, attempt: AttemptId) -> PathBuf {
    let directory = attempt.task.0 / TASKS_IN_DIRECTORY;
    root.join(directory.to_string())
        .join(format!("{attempt}.log"))
}

/// The attempts of which something is stored below `root`, in no order.
pub fn stored(root: &Path) -> io::Result<Vec<AttemptId>> {
    let mut all = Vec::new();
    for dir in fs::read_dir(root)? {
        let dir = dir?.path();
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".log"));
            all.extend(name.and_then(|name| name.parse::<AttemptId>().ok()));
        }
    }
    Ok(all)
}

/// What of an attempt's file is whole; the file is not made or changed.
pub(super) fn tail_of(path: &Path) -> Result<Tail, Error> {
    match File::open(path) {
        Ok(file) => whole(file).map_err(|source| io_error("read", path, source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tail::default()),
        Err(source) => Err(io_error("open", path, source)),
    }
}

impl Log {
    /// Opens a file whose whole part is `tail`, and makes it when it is not there. A torn tail is
    /// cut off: it was never acknowledged.
    pub fn open(path: PathBuf, tail: Tail) -> Result<Self, Error> {
        let (file, tail) =
            open_at(&path, tail).map_err(|source| io_error("open", &path, source))?;
        Ok(Self { path, file, tail })
    }

    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Writes those events that come next. They are durable only after `sync`.
    pub fn append(&mut self, events: &[v1::Event]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let mut last = self.tail.last;
        for event in events {
            if event.seq > last + 1 {
                break; // A gap: the worker sends again from the acknowledged number on.
            }
            if event.seq == last + 1 {
                put_record(event, &mut bytes);
                last = event.seq;
            }
        }
        let written = self.file.write_all(&bytes);
        written.map_err(|source| io_error("write", &self.path, source))?;
        self.tail = Tail {
            bytes: self.tail.bytes + bytes.len() as u64,
            last,
        };
        Ok(())
    }

    pub fn sync(&self) -> Result<(), Error> {
        let synced = self.file.sync_data();
        synced.map_err(|source| io_error("sync", &self.path, source))
    }
}

fn open_at(path: &Path, tail: Tail) -> io::Result<(File, Tail)> {
    let dir = path.parent().expect("a log lies in a directory");
    fs::create_dir_all(dir)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path)?;
    let torn = file.metadata()?.len().saturating_sub(tail.bytes);
    if torn > 0 {
        tracing::warn!(path = %path.display(), bytes = torn, "cutting a torn tail off");
        file.set_len(tail.bytes)?;
    }
    file.seek(SeekFrom::Start(tail.bytes))?;
    if tail.bytes > 0 {
        return Ok((file, tail));
    }
    file.write_all(MAGIC)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    if let Some(above) = dir.parent() {
        File::open(above)?.sync_all()?;
    }
    let bytes = MAGIC.len() as u64;
    Ok((file, Tail { bytes, last: 0 }))
}

fn put_record(event: &v1::Event, bytes: &mut Vec<u8>) {
    let message = event.encode_to_vec();
    let length = u32::try_from(message.len()).expect("convert has checked the sizes of its texts");
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc32c::crc32c(&message).to_le_bytes());
    bytes.extend(message);
}

/// The part of a file that reads without an error.
fn whole(file: File) -> io::Result<Tail> {
    let mut file = BufReader::new(file);
    let mut magic = [0; MAGIC.len()];
    if read_full(&mut file, &mut magic)? != Part::Whole || magic != *MAGIC {
        return Ok(Tail::default());
    }
    let mut tail = Tail {
        bytes: magic.len() as u64,
        last: 0,
    };
    while let Some(message) = next_message(&mut file)? {
        tail.bytes += FRAME_BYTES + message.len() as u64;
        tail.last += 1;
    }
    Ok(tail)
}

/// The next message; none at the end or where the bytes are not what was written.
pub(super) fn next_message(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut frame = [0; FRAME_BYTES as usize];
    if read_full(file, &mut frame)? != Part::Whole {
        return Ok(None);
    }
    let [a, b, c, d, crc @ ..] = frame;
    let length = u32::from_le_bytes([a, b, c, d]);
    if length > MESSAGE_BYTES_MAX {
        return Ok(None);
    }
    let mut message = vec![0; length as usize];
    let part = read_full(file, &mut message)?;
    let right = part == Part::Whole && crc32c::crc32c(&message) == u32::from_le_bytes(crc);
    Ok(right.then_some(message))
}

#[derive(PartialEq, Eq)]
enum Part {
    Whole,
    Short,
}

fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<Part> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(Part::Whole),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Part::Short),
        Err(error) => Err(error),
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
