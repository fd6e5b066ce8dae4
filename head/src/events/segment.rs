//! One segment: a file in which frames of all attempts stand in the order of their arrival.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use orchestra_types::{AttemptId, Timestamp};

use super::{
    frame::{Broken, Header, Kind, MAGIC},
    index::{Place, Places},
};
use crate::points;

/// A segment open for appending. Only one is.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    bytes: u32,
}

/// What a segment holds, found by reading all of it.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub places: Places,
    /// How many bytes of the file are to be kept.
    pub bytes: u32,
    pub newest: Timestamp,
    /// Where bytes that were durable are not what was written.
    pub damaged: Vec<u32>,
    /// Whether something stands behind the last mark of a clean end.
    pub unmarked: bool,
}

impl Writer {
    /// Makes a new segment, durably.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path)?;
        file.write_all(MAGIC)?;
        file.sync_all()?;
        let dir = path.parent().expect("a segment lies in a directory");
        File::open(dir)?.sync_all()?;
        Ok(Self {
            file,
            bytes: MAGIC.len() as u32,
        })
    }

    /// Opens a segment again and cuts off what is behind `bytes`.
    pub fn reopen(path: &Path, bytes: u32) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let found = file.metadata()?.len();
        if found > u64::from(bytes) {
            let torn = found - u64::from(bytes);
            tracing::warn!(path = %path.display(), bytes = torn, "cutting a torn tail off");
            file.set_len(u64::from(bytes))?;
            file.sync_data()?;
        }
        file.seek(SeekFrom::Start(u64::from(bytes)))?;
        Ok(Self { file, bytes })
    }

    /// How much of it is written.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Writes at the end. Of a write that failed nothing stays.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = points::reach("events.write").and_then(|()| self.file.write_all(bytes));
        if let Err(error) = written {
            self.file.set_len(u64::from(self.bytes))?;
            self.file.seek(SeekFrom::Start(u64::from(self.bytes)))?;
            return Err(error);
        }
        self.bytes += u32::try_from(bytes.len()).expect("a turn is smaller than 4 GiB");
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        points::reach("events.sync")?;
        self.file.sync_data()
    }
}

/// Reads a frame of an attempt. None when the bytes there are not what was written.
pub(super) fn read(path: &Path, attempt: AttemptId, place: Place) -> io::Result<Option<Bytes>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; place.length as usize];
    match file.read_exact_at(&mut bytes, u64::from(place.offset)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let Ok((header, length, body)) = Header::parse(&bytes) else {
        return Ok(None);
    };
    let right = header.attempt == attempt
        && header.kind == Kind::Events
        && (header.first, header.last) == (place.first, place.last)
        && length == bytes.len();
    let body = bytes.len() - body.len()..;
    Ok(right.then(|| Bytes::from(bytes).slice(body)))
}

/// Reads all of a segment.
pub(super) fn scan(path: &Path) -> io::Result<Scan> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(scan_bytes(&bytes))
}

/// A torn tail was never acknowledged and is not damage: no frame behind it knows it as durable.
fn scan_bytes(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    if bytes.get(..MAGIC.len()) != Some(MAGIC) && next_frame(bytes, 0).is_none() {
        return scan; // It was being made.
    }
    let mut at = MAGIC.len();
    while at < bytes.len() {
        match Header::parse(&bytes[at..]) {
            Ok((header, length, _)) => {
                scan.note(&header, at, length);
                at += length;
            }
            Err(Broken::Short | Broken::Wrong) => match next_frame(bytes, at) {
                Some(next) => {
                    scan.damaged.push(offset(at));
                    at = next;
                }
                None => break,
            },
        }
    }
    scan.bytes = offset(at);
    scan
}

/// Where the first frame behind `broken` begins that was written when `broken` was durable.
fn next_frame(bytes: &[u8], broken: usize) -> Option<usize> {
    let mut first = None;
    let mut at = broken + 1;
    while at < bytes.len() {
        let Ok((header, length, _)) = Header::parse(&bytes[at..]) else {
            at += 1;
            continue;
        };
        let found = *first.get_or_insert(at);
        if header.synced as usize > broken {
            return Some(found);
        }
        at += length;
    }
    None
}

impl Scan {
    fn note(&mut self, header: &Header, at: usize, length: usize) {
        self.newest = self.newest.max(header.time);
        self.unmarked = header.kind != Kind::Closed;
        let gap = match header.kind {
            Kind::Closed => return,
            Kind::Events => None,
            Kind::Gap(why) => Some(why),
        };
        let place = Place {
            gap,
            first: header.first,
            last: header.last,
            offset: offset(at),
            length: offset(length),
        };
        self.places.entry(header.attempt).or_default().push(place);
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Names of files: `0000000012.seg` and its index `0000000012.idx`; a segment that was written anew
/// without what is gone has a generation, as `0000000012.3.seg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub number: u64,
    pub generation: u32,
}

impl Name {
    /// The name that a file's name says; none for files of others and for indexes.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".seg")?;
        let (number, generation) = match name.split_once('.') {
            None => (name, 0),
            Some((number, generation)) => (number, generation.parse().ok()?),
        };
        let number = number.parse().ok()?;
        Some(Self { number, generation })
    }

    pub fn segment(self, root: &Path) -> PathBuf {
        root.join(self.file("seg"))
    }

    pub fn index(self, root: &Path) -> PathBuf {
        root.join(self.file("idx"))
    }

    fn file(self, kind: &str) -> String {
        match self.generation {
            0 => format!("{:010}.{kind}", self.number),
            generation => format!("{:010}.{generation}.{kind}", self.number),
        }
    }
}
