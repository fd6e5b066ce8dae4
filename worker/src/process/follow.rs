//! Reads a log that is still being written, line by line.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{buffer::spare_capacity, io::Errno};
use serde::{Deserialize, Serialize};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most room that is kept for what comes next.
const ROOM_BYTES_MAX: usize = 8 * CHUNK_BYTES;
/// Longest line that is kept whole: 8 MiB. A longer one is cut and says so.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far each log was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it was printed.
    pub stream: Stream,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
    /// Where it starts in its log.
    pub offset: u64,
    /// Where the next one starts: the offset to go on from.
    pub end: u64,
    /// Whether it was longer than is kept.
    pub cut: bool,
}

/// Whether a last line without a newline counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Running,
    Ended,
}

/// A reader of one log.
#[derive(Debug)]
pub(super) struct Follower {
    stream: Stream,
    path: PathBuf,
    file: Option<File>,
    /// What was read. Its first `given` bytes were given out, and `scanned` bytes hold no newline behind
    /// them.
    buffer: Vec<u8>,
    given: usize,
    scanned: usize,
    /// Where the first line that was not given out starts in the log.
    start: u64,
    /// Bytes of the current line that were dropped after the buffer.
    dropped: u64,
}

impl Follower {
    pub fn new(stream: Stream, path: PathBuf, from: u64) -> Self {
        Self {
            stream,
            path,
            file: None,
            buffer: Vec::new(),
            given: 0,
            scanned: 0,
            start: from,
            dropped: 0,
        }
    }

    /// Where the first line that was not given out starts.
    pub fn offset(&self) -> u64 {
        self.start
    }

    /// The next line, if it is there.
    pub fn next(&mut self, writer: Writer) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.read()? == 0 {
                return Ok(match writer {
                    Writer::Running => None,
                    Writer::Ended => self.take_rest(),
                });
            }
        }
    }

    /// Reads a part of the log behind the buffer. Memory is bounded by the longest line.
    fn read(&mut self) -> io::Result<usize> {
        self.tidy();
        let Some(file) = open(&mut self.file, &self.path)? else {
            return Ok(0);
        };
        let at = self.start + self.buffer.len() as u64 + self.dropped;
        // Not cleared before, as many a read is of one line.
        self.buffer.reserve(CHUNK_BYTES);
        let count = loop {
            match rustix::io::pread(file, spare_capacity(&mut self.buffer), at) {
                Err(Errno::INTR) => {}
                count => break count?,
            }
        };
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        Ok(count)
    }

    /// Lets go of what was given out.
    fn tidy(&mut self) {
        self.buffer.drain(..self.given);
        self.given = 0;
        if self.buffer.capacity() > ROOM_BYTES_MAX {
            self.buffer.shrink_to(CHUNK_BYTES);
        }
    }

    /// The bytes of the current line that are there, and perhaps of others behind it.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.given..]
    }

    fn take(&mut self) -> Option<Line> {
        let unseen = &self.rest()[self.scanned..];
        let newline = unseen.iter().position(|b| *b == b'\n');
        let Some(newline) = newline.map(|at| self.scanned + at) else {
            self.drop_surplus();
            return None;
        };
        let cut = self.dropped > 0 || newline > LINE_BYTES_MAX;
        let keep = if self.dropped > 0 {
            self.scanned
        } else {
            newline
        }
        .min(LINE_BYTES_MAX);
        Some(self.finish(newline + 1, keep, cut))
    }

    fn take_rest(&mut self) -> Option<Line> {
        let length = self.rest().len();
        if length == 0 && self.dropped == 0 {
            return None;
        }
        let (keep, cut) = (length.min(LINE_BYTES_MAX), self.dropped > 0);
        Some(self.finish(length, keep, cut))
    }

    /// Gives out a line that is `length` bytes long in the buffer, `keep` of which are kept.
    fn finish(&mut self, length: usize, keep: usize, cut: bool) -> Line {
        let bytes = self.rest()[..keep].to_vec();
        let end = self.start + self.dropped + length as u64;
        let offset = std::mem::replace(&mut self.start, end);
        self.given += length;
        self.scanned = 0;
        self.dropped = 0;
        Line {
            stream: self.stream,
            bytes,
            offset,
            end,
            cut,
        }
    }

    /// Without a newline in sight: keeps what a line may have, and counts the rest.
    fn drop_surplus(&mut self) {
        let surplus = self.rest().len().saturating_sub(LINE_BYTES_MAX);
        self.dropped += surplus as u64;
        self.buffer.truncate(self.given + LINE_BYTES_MAX);
        self.scanned = self.rest().len();
    }
}

/// The log, once the supervisor has made it.
fn open<'f>(file: &'f mut Option<File>, path: &Path) -> io::Result<Option<&'f File>> {
    if file.is_none() {
        *file = match File::open(path) {
            Ok(opened) => Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
    }
    Ok(file.as_ref())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(follower: &mut Follower, writer: Writer) -> Vec<(u64, u64, usize, bool)> {
        std::iter::from_fn(|| follower.next(writer).unwrap())
            .map(|line| (line.offset, line.end, line.bytes.len(), line.cut))
            .collect()
    }

    #[test]
    fn lines_come_whole_and_the_last_one_when_the_writer_has_ended() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let mut follower = Follower::new(Stream::Stdout, log.path().to_owned(), 0);
        log.write_all(b"one\n\ntw").unwrap();
        assert_eq!(
            all(&mut follower, Writer::Running),
            [(0, 4, 3, false), (4, 5, 0, false)]
        );
        log.write_all(b"o\nthree").unwrap();
        assert_eq!(all(&mut follower, Writer::Running), [(5, 9, 3, false)]);
        assert_eq!(all(&mut follower, Writer::Ended), [(9, 14, 5, false)]);
        assert_eq!(all(&mut follower, Writer::Ended), []);
        let mut later = Follower::new(Stream::Stdout, log.path().to_owned(), 5);
        assert_eq!(
            all(&mut later, Writer::Ended),
            [(5, 9, 3, false), (9, 14, 5, false)]
        );
    }

    #[test]
    fn a_line_costs_no_more_where_many_wait_behind_it() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        log.write_all(&b"line\n".repeat(30_000)).unwrap();
        let mut follower = Follower::new(Stream::Stdout, log.path().to_owned(), 0);
        let mut count = 0;
        while let Some(line) = follower.next(Writer::Running).unwrap() {
            assert_eq!((line.offset, line.bytes.capacity()), (count * 5, 4));
            assert!(follower.buffer.capacity() <= 2 * CHUNK_BYTES);
            count += 1;
        }
        assert_eq!(count, 30_000);
        assert_eq!(
            follower.buffer.capacity(),
            0,
            "nothing is held while nothing comes"
        );
    }

    #[test]
    fn a_line_longer_than_is_kept_is_cut_and_the_next_one_is_whole() {
        const MAX: u64 = LINE_BYTES_MAX as u64;
        for extra in [0, 1, 100, 3_000_000] {
            let mut log = tempfile::NamedTempFile::new().unwrap();
            let long = vec![b'x'; LINE_BYTES_MAX + extra];
            log.write_all(&long).unwrap();
            log.write_all(b"\nnext\n").unwrap();
            let mut follower = Follower::new(Stream::Stdout, log.path().to_owned(), 0);
            let end = MAX + extra as u64 + 1;
            let expected = [
                (0, end, LINE_BYTES_MAX, extra > 0),
                (end, end + 5, 4, false),
            ];
            assert_eq!(all(&mut follower, Writer::Running), expected, "{extra}");
            assert!(follower.buffer.capacity() < 2 * LINE_BYTES_MAX);
        }
    }
}
