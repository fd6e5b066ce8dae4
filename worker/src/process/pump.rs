//! Takes what the CLI prints and puts it into a log, whatever happens: a CLI must never wait for
//! somebody to read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::files::StreamRecord;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long to wait before writing again to a disk that refused. The CLI waits meanwhile.
const DISK_RETRY: Duration = Duration::from_millis(500);

/// One stream on its way into its log.
pub(super) struct Pump<'a> {
    log: File,
    max: u64,
    /// Set when the CLI has ended: a disk that still refuses then is given up.
    ended: &'a AtomicBool,
    record: StreamRecord,
    full: bool,
}

impl<'a> Pump<'a> {
    /// Into the log at `path`, of at most `max` bytes.
    pub fn new(path: &Path, max: u64, ended: &'a AtomicBool) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            log,
            max,
            ended,
            record: StreamRecord::default(),
            full: false,
        })
    }

    /// Takes everything until the end of the stream; says `grew` after each part.
    pub fn run(mut self, mut from: impl Read, grew: impl Fn(StreamRecord)) -> StreamRecord {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return self.record,
                Ok(count) => self.take(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.record,
            }
            grew(self.record);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.max - self.record.kept.min(self.max)).unwrap_or(usize::MAX);
        let (kept, dropped) = bytes.split_at(bytes.len().min(room));
        self.write(kept);
        self.record.dropped += dropped.len() as u64;
        if !dropped.is_empty() && !self.full {
            self.full = true;
            let max = self.max;
            let note = format!("\n{{\"orchestra\":\"truncated\",\"kept_bytes\":{max}}}\n");
            // The record of the exit counts what was dropped, with or without this line.
            let _full_disk = self.log.write_all(note.as_bytes());
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.log.write(bytes) {
                Ok(count @ 1..) => {
                    self.record.kept += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) if self.ended.load(Ordering::Relaxed) => {
                    self.record.dropped += bytes.len() as u64;
                    return;
                }
                Ok(_) | Err(_) => thread::sleep(DISK_RETRY),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_says_so_and_the_stream_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ended = AtomicBool::new(false);
        let pump = Pump::new(&path, 100_000, &ended).unwrap();
        let record = pump.run(io::repeat(b'x').take(300_000), |_| ());
        assert_eq!(
            record,
            StreamRecord {
                kept: 100_000,
                dropped: 200_000
            }
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("x\n{\"orchestra\":\"truncated\",\"kept_bytes\":100000}\n"));
    }

    #[test]
    fn a_disk_that_refuses_to_the_end_costs_output_but_not_the_end() {
        let ended = AtomicBool::new(true);
        let pump = Pump::new(Path::new("/dev/full"), 1000, &ended).unwrap();
        let record = pump.run(&b"hello"[..], |_| ());
        assert_eq!(
            record,
            StreamRecord {
                kept: 0,
                dropped: 5
            }
        );
    }
}
