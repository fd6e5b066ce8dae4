//! One segment: a file in which frames of all attempts stand in the order of their arrival.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use orchestra_types::{AttemptId, Timestamp};

use super::{
    frame::{Broken, FRAME_BYTES_MIN, Header, Kind, MAGIC},
    index::{Place, Places},
};
use crate::points;

/// A segment open for appending. Only one is.
///
/// Behind what is durable stands a seal, which says so: without it, damage to the last frame of a
/// head that was killed would read as a torn end. It is written into the page cache only, and the
/// next frames take its place: they know what was durable before them.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    bytes: u32,
    seal: Seal,
}

/// What stands behind the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    None,
    /// A kill does not take it away, a loss of power may.
    Written,
    Durable,
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
    /// Whether its last frame is a seal.
    pub sealed: bool,
    /// Whether it was durable beyond what reads.
    is_short: bool,
}

impl Writer {
    /// Makes a new segment, durably. Of one that could not be made nothing stays: a segment that has
    /// a next one is known to be whole.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = create(path).inspect_err(|_| {
            // The error that is told is the first one.
            let _ = fs::remove_file(path);
        })?;
        Ok(Self {
            file,
            bytes: MAGIC.len() as u32,
            seal: Seal::None,
        })
    }

    /// Opens a segment again and cuts off what is behind its frames. Afterwards all of it is
    /// durable, and sealed.
    pub fn reopen(path: &Path, scan: &Scan) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let torn = file.metadata()?.len().saturating_sub(scan.bytes.into());
        if torn > 0 {
            tracing::warn!(path = %path.display(), bytes = torn, "cutting a torn tail off");
            file.set_len(u64::from(scan.bytes))?;
        }
        let (bytes, seal) = match scan.sealed {
            true => (scan.bytes - FRAME_BYTES_MIN, Seal::Written),
            false => (scan.bytes, Seal::None),
        };
        let mut writer = Self { file, bytes, seal };
        if torn > 0 || !scan.sealed {
            // What a killed head wrote last may be in the page cache only.
            writer.sync()?;
        }
        writer.seal(scan.newest)?;
        Ok(writer)
    }

    /// Where the next frame goes.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// How long the file is: the seal counts.
    pub fn file_bytes(&self) -> u32 {
        match self.seal {
            Seal::None => self.bytes,
            Seal::Written | Seal::Durable => self.bytes + FRAME_BYTES_MIN,
        }
    }

    /// Writes at the end. Of a write that failed nothing stays.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write("events.write", bytes)?;
        self.bytes += u32::try_from(bytes.len()).expect("a turn is smaller than 4 GiB");
        self.seal = Seal::None;
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        points::reach("events.sync")?;
        self.file.sync_data()
    }

    /// Says behind the last frame that it is durable. To be called when it is. Without room for it
    /// the next start is less sharp-eyed, and that is all.
    pub fn seal(&mut self, now: Timestamp) -> io::Result<()> {
        if self.seal != Seal::None {
            return Ok(());
        }
        let mut seal = Vec::new();
        Header::closed(now, self.bytes).put(&[], &mut seal);
        match self.write("events.seal", &seal) {
            Ok(()) => self.seal = Seal::Written,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes the seal durable too.
    pub fn close(&mut self, now: Timestamp) -> io::Result<()> {
        self.seal(now)?;
        if self.seal == Seal::Written {
            self.sync()?;
            self.seal = Seal::Durable;
        }
        Ok(())
    }

    /// Frames are never shorter than a seal, so that nothing of one stays behind them.
    fn write(&mut self, point: &'static str, bytes: &[u8]) -> io::Result<()> {
        let at = u64::from(self.bytes);
        let written = points::reach(point).and_then(|()| self.file.write_all_at(bytes, at));
        written.or_else(|error| {
            self.file.set_len(at)?;
            self.seal = Seal::None;
            Err(error)
        })
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(MAGIC)?;
    file.sync_all()?;
    let dir = path.parent().expect("a segment lies in a directory");
    File::open(dir)?.sync_all()?;
    Ok(file)
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

/// How much of a segment is known to have been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// What its frames say of those before them. An end that nothing knows as durable is torn.
    Told,
    /// All of it: a next one was made, or it has an index.
    All,
    /// So many bytes; what is behind them is being written.
    UpTo(u32),
}

/// Reads all of a segment.
pub(super) fn scan(path: &Path, durable: Durable) -> io::Result<Scan> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let limit = match durable {
        Durable::Told | Durable::All => u64::MAX,
        Durable::UpTo(bytes) => u64::from(bytes),
    };
    file.take(limit).read_to_end(&mut bytes)?;
    let scan = scan_bytes(&bytes);
    Ok(match durable {
        Durable::Told => scan,
        Durable::All => scan.all_of(bytes.len()),
        Durable::UpTo(known) => scan.all_of(known as usize),
    })
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
    /// So many bytes were durable at least; whether that is more than reads.
    pub fn at_least(self, durable: u32) -> (Self, bool) {
        let is_cut = self.bytes < durable;
        (self.all_of(durable as usize), is_cut)
    }

    /// So many bytes were durable: what of them does not read is damage.
    fn all_of(mut self, durable: usize) -> Self {
        if (self.bytes as usize) < durable {
            if !self.is_short {
                self.damaged.push(self.bytes);
            }
            self.is_short = true;
            self.bytes = offset(durable);
        }
        self
    }

    fn note(&mut self, header: &Header, at: usize, length: usize) {
        self.newest = self.newest.max(header.time);
        self.sealed = header.kind == Kind::Closed;
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
        Self::parse_stem(name.strip_suffix(".seg")?)
    }

    /// The name of the segment that an index is of.
    pub fn parse_index(name: &str) -> Option<Self> {
        Self::parse_stem(name.strip_suffix(".idx")?)
    }

    fn parse_stem(name: &str) -> Option<Self> {
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
