//! Takes what the CLI prints and puts it into a log, whatever happens: a CLI must never wait for
//! somebody to read.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::files::StreamRecord;
use crate::room::Full;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How much of the end of a stream is kept when its log is full: enough for a final message.
const LAST_BYTES: usize = 256 * 1024;
/// How long to wait before writing again to a disk that refused. The CLI waits meanwhile.
const DISK_RETRY: Duration = Duration::from_millis(500);

/// How often a disk may refuse before more must be done than wait.
const REFUSALS_MAX: u32 = 10;

/// What a pump tells of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub record: StreamRecord,
    /// Whether the disk has been full for long, so that the CLI is likely to wait.
    pub is_stuck: bool,
}

/// One stream on its way into its log.
pub(super) struct Pump<'a> {
    path: PathBuf,
    /// None until there is something for it: most CLIs leave one of their streams empty.
    log: Option<File>,
    max: u64,
    /// Set when nobody waits for the rest any more: a disk that still refuses then is given up.
    given_up: &'a AtomicBool,
    record: StreamRecord,
    /// The last bytes of a stream whose log is full: a CLI says last what came of its work.
    last: Option<Vec<u8>>,
}

impl<'a> Pump<'a> {
    /// Into the log at `path`, of at most `max` bytes and its last lines.
    pub fn new(path: PathBuf, max: u64, given_up: &'a AtomicBool) -> Self {
        Self {
            path,
            log: None,
            max,
            given_up,
            record: StreamRecord::default(),
            last: None,
        }
    }

    /// Takes everything until the end of the stream; says `news` after each part, and whenever the disk
    /// refuses one.
    pub fn run(mut self, from: impl Read, news: impl Fn(News)) -> StreamRecord {
        // Of its memory only what is printed at once is ever touched.
        let mut from = BufReader::with_capacity(CHUNK_BYTES, from);
        loop {
            let count = match from.fill_buf() {
                Ok([]) => break,
                Ok(bytes) => {
                    self.take(bytes, &news);
                    bytes.len()
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            from.consume(count);
            news(self.news(false));
        }
        self.finish(&news);
        self.record
    }

    fn take(&mut self, bytes: &[u8], news: &impl Fn(News)) {
        let room = usize::try_from(self.max - self.record.kept.min(self.max)).unwrap_or(usize::MAX);
        let (kept, over) = bytes.split_at(bytes.len().min(room));
        self.write(kept, news);
        if over.is_empty() {
            return;
        }
        if self.last.is_none() {
            let max = self.max;
            self.note(&format!(
                "\n{{\"orchestra\":\"truncated\",\"kept_bytes\":{max}}}\n"
            ));
        }
        let last = self.last.get_or_insert_default();
        last.extend_from_slice(over);
        if last.len() > 2 * LAST_BYTES {
            let surplus = last.len() - LAST_BYTES;
            last.drain(..surplus);
            self.record.dropped += surplus as u64;
        }
    }

    fn news(&self, is_stuck: bool) -> News {
        News {
            record: self.record,
            is_stuck,
        }
    }

    /// Puts the last whole lines behind a log that was full.
    fn finish(&mut self, news: &impl Fn(News)) {
        let Some(last) = self.last.take() else { return };
        let from = last.len().saturating_sub(LAST_BYTES);
        let newline = last[from..].iter().position(|byte| *byte == b'\n');
        let from = newline.map_or(last.len(), |newline| from + newline + 1);
        self.record.dropped += from as u64;
        let dropped = self.record.dropped;
        self.note(&format!(
            "{{\"orchestra\":\"continued\",\"dropped_bytes\":{dropped}}}\n"
        ));
        self.write(&last[from..], news);
    }

    /// Says something in the log that is not of the CLI.
    fn note(&mut self, text: &str) {
        // The record of the exit counts what was dropped, with or without this line.
        let _full_disk = self.log().and_then(|log| log.write_all(text.as_bytes()));
    }

    fn log(&mut self) -> io::Result<&mut File> {
        let log = match self.log.take() {
            Some(log) => log,
            None => OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)?,
        };
        Ok(self.log.insert(log))
    }

    fn write(&mut self, mut bytes: &[u8], news: &impl Fn(News)) {
        let mut refusals = 0;
        while !bytes.is_empty() {
            match self.log().and_then(|log| log.write(bytes)) {
                Ok(count @ 1..) => {
                    self.record.kept += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                refused => {
                    let full = refused.is_err_and(|error| error.is_full());
                    self.record.disk_full |= full;
                    // Opened again the next time: it may be another one by then.
                    self.log = None;
                    refusals += u32::from(full);
                    news(self.news(full && refusals % REFUSALS_MAX == 0));
                    if self.given_up.load(Ordering::Relaxed) {
                        self.record.dropped += bytes.len() as u64;
                        return;
                    }
                    thread::sleep(DISK_RETRY);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pumped(max: u64, from: impl Read) -> (StreamRecord, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ended = AtomicBool::new(false);
        let record = Pump::new(path.clone(), max, &ended).run(from, |_| ());
        (record, std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn a_full_log_says_so_and_the_stream_is_read_to_its_end() {
        let (record, text) = pumped(100_000, io::repeat(b'x').take(3_000_000));
        assert_eq!((record.kept, record.dropped), (100_000, 2_900_000));
        assert!(text.starts_with('x') && text.len() < 100_200);
        assert!(text.contains("x\n{\"orchestra\":\"truncated\",\"kept_bytes\":100000}\n"));
    }

    #[test]
    fn the_last_lines_are_kept_whatever_came_before() {
        let lines: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
        let all = lines.len() as u64;
        let (record, text) = pumped(10_000, lines.as_bytes());
        assert_eq!(record.kept + record.dropped, all);
        let (head, rest) = text.split_once("\n{\"orchestra\":\"truncated\"").unwrap();
        assert_eq!(head, &lines[..10_000]);
        let (_, rest) = rest.split_once("{\"orchestra\":\"continued\"").unwrap();
        let (note, tail) = rest.split_once('\n').unwrap();
        assert!(note.contains(&format!("\"dropped_bytes\":{}", record.dropped)));
        assert!(lines.ends_with(&format!("\n{tail}")), "whole lines");
        assert!(tail.len() > LAST_BYTES - 100 && tail.len() <= LAST_BYTES);
    }

    #[test]
    fn a_stream_that_fits_is_kept_as_it_is() {
        let (record, text) = pumped(7, &b"one\ntwo"[..]);
        assert_eq!(
            (record.kept, record.dropped, text.as_str()),
            (7, 0, "one\ntwo")
        );
    }

    #[test]
    fn a_stream_of_nothing_has_no_log() {
        let dir = tempfile::tempdir().unwrap();
        let ended = AtomicBool::new(false);
        let pump = Pump::new(dir.path().join("log"), 7, &ended);
        assert_eq!(pump.run(io::empty(), |_| ()), StreamRecord::default());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_that_refuses_to_the_end_costs_output_but_not_the_end() {
        let ended = AtomicBool::new(true);
        let pump = Pump::new("/dev/full".into(), 1000, &ended);
        let record = pump.run(&b"hello"[..], |_| ());
        assert_eq!((record.kept, record.dropped), (0, 5));
        assert!(record.disk_full);
    }
}
