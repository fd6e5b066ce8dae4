//! An append-only file of checksummed frames: what the spool and the event journals are made of.
//!
//! ```text
//! frame = length (u32, little endian) | CRC-32C of the payload (u32) | payload
//! ```
//! A process that dies while it appends leaves a torn frame at the end; opening the file cuts it
//! off. What a frame means is not known here.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use orchestra_config::durable;
use rustix::fs::{FallocateFlags, fallocate};

/// Largest payload of one frame: 16 MiB. A longer length is a torn one.
pub const PAYLOAD_MAX: usize = 16 * 1024 * 1024;
/// Length and checksum.
const HEAD_BYTES: u64 = 8;

/// Why a file of frames cannot be used. After a failed write or sync the file must not be
/// written again: a second sync would lie.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} `{path}`")]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// What the system said.
    #[must_use]
    pub fn cause(&self) -> &io::Error {
        &self.source
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error {
        doing,
        path,
        source,
    }
}

/// Appends frames.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Writer {
    /// Opens or makes the file, hands every whole frame to `each`, and cuts off a torn tail.
    pub fn open(path: &Path, mut each: impl FnMut(&[u8])) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("open", path))?;
        let mut reader = Reader::open(path, 0)?;
        while let Some(payload) = reader.next()? {
            each(&payload);
        }
        let len = reader.position();
        let found = file.metadata().map_err(failed("read", path))?.len();
        if found > len {
            tracing::warn!(path = %path.display(), bytes = found - len, "torn tail cut off");
            file.set_len(len).map_err(failed("cut the end of", path))?;
            file.sync_data().map_err(failed("sync", path))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
        })
    }

    /// Appends one frame. It is in the file for every reader, but not yet safe from power loss.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.append_all([payload])
    }

    /// Appends frames with one write.
    pub fn append_all<P: AsRef<[u8]>>(
        &mut self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for payload in payloads {
            let frame = frame(payload.as_ref()).map_err(failed("append to", &self.path))?;
            bytes.extend(frame);
        }
        if let Err(e) = self.file.write_all(&bytes) {
            // A part may be there; the next append must not follow it.
            self.file
                .set_len(self.len)
                .map_err(failed("cut the end of", &self.path))?;
            return Err(failed("append to", &self.path)(e));
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes all appended frames durable.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(failed("sync", &self.path))
    }

    /// Takes room on the disk for so many bytes behind the last frame, where there is some and the file
    /// system can: they can be appended later although the disk is full then.
    pub fn reserve(&self, bytes: u64) {
        let keep = FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(&self.file, keep, self.len, bytes) {
            tracing::debug!(path = %self.path.display(), %error, "no room is reserved");
        }
    }

    /// The size of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.len
    }
}

/// Replaces the file at `path` by one with these frames, durably: after a crash there is the old
/// file or the new one.
pub fn replace<'a>(
    path: &Path,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Writer, Error> {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend(frame(payload).map_err(failed("replace", path))?);
    }
    durable::write(path, &bytes, durable::Access::Private).map_err(failed("replace", path))?;
    Writer::open(path, |_| {})
}

/// What a payload of this size takes in a file, in bytes.
pub fn bytes_of(payload: usize) -> u64 {
    HEAD_BYTES + payload as u64
}

fn frame(payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.len() > PAYLOAD_MAX {
        return Err(io::Error::other("a frame is larger than 16 MiB"));
    }
    let length = u32::try_from(payload.len()).expect("checked above");
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Reads frames from any frame's position on, also while a writer appends.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    position: u64,
}

impl Reader {
    /// Opens the file at `position`, which must be the start of a frame.
    pub fn open(path: &Path, position: u64) -> Result<Self, Error> {
        let file = File::open(path).map_err(failed("open", path))?;
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(position))
            .map_err(failed("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            position,
        })
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next whole frame; none when there is no further one yet.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let payload = self.read().map_err(failed("read", &self.path))?;
        match &payload {
            Some(payload) => self.position += HEAD_BYTES + payload.len() as u64,
            // The buffer may hold a part of a frame that is being written: forget it.
            None => {
                self.file
                    .seek(SeekFrom::Start(self.position))
                    .map_err(failed("read", &self.path))?;
            }
        }
        Ok(payload)
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; HEAD_BYTES as usize];
        if !fill(&mut self.file, &mut head)? {
            return Ok(None);
        }
        let (length, crc) = head.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let length = number(length) as usize;
        // IMPORTANT: never allocate for what is not there. Most frames are in the buffer as a whole.
        let is_read = self.file.buffer().len() >= length;
        if length > PAYLOAD_MAX || !is_read && self.left()? < length as u64 {
            return Ok(None);
        }
        let mut payload = vec![0; length];
        let whole = fill(&mut self.file, &mut payload)? && crc32c::crc32c(&payload) == number(crc);
        Ok(whole.then_some(payload))
    }

    /// Bytes behind the head of the frame at the position.
    fn left(&self) -> io::Result<u64> {
        let size = self.file.get_ref().metadata()?.len();
        Ok(size.saturating_sub(self.position + HEAD_BYTES))
    }
}

/// Whether all of `buffer` could be read.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(path: &Path) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        Writer::open(path, |payload| found.push(payload.to_vec())).unwrap();
        found
    }

    #[test]
    fn wherever_a_write_is_torn_every_frame_before_it_is_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frames");
        let mut writer = Writer::open(&path, |_| {}).unwrap();
        let mut ends = vec![0];
        for payload in [&b"one"[..], b"", b"three"] {
            writer.append(payload).unwrap();
            ends.push(writer.size());
        }
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let kept = ends[1..].iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(frames(&path).len(), kept, "cut at {cut}");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), ends[kept]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_file_before_its_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frames");
        let mut writer = Writer::open(&path, |_| {}).unwrap();
        writer.append(b"first").unwrap();
        writer.append(b"second").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(frames(&path), [b"first".to_vec()]);
    }

    #[test]
    fn a_reader_follows_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frames");
        let mut writer = Writer::open(&path, |_| {}).unwrap();
        let mut reader = Reader::open(&path, 0).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        writer.append(b"one").unwrap();
        assert_eq!(reader.next().unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(reader.next().unwrap(), None);
        writer.append(b"two").unwrap();
        let mut later = Reader::open(&path, reader.position()).unwrap();
        assert_eq!(later.next().unwrap().as_deref(), Some(&b"two"[..]));
    }
}
