//! A log file that standard error goes to, and that does not grow without end.
//!
//! When it has become long, what is in it moves to a file beside it, whose name ends in `.1`, in place of
//! what was there; so there are at most two of that length. Processes that write to the same file go on
//! at its new beginning, since all of them append.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

/// How long the file becomes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where log lines go.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard error, whatever that is.
    Stderr,
    /// Standard error, which is this file.
    File(Mutex<LogFile>),
}

impl Output {
    /// Standard error; bounded if it is the file at `path`.
    pub fn new(path: Option<&Path>) -> Self {
        let file = path.and_then(|path| LogFile::open(path, BYTES_MAX).ok());
        let file = file.filter(|file| is_stderr(&file.file));
        file.map_or(Self::Stderr, |file| Self::File(Mutex::new(file)))
    }
}

fn is_stderr(file: &File) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (file.metadata(), fs::metadata("/proc/self/fd/2")) {
        (Ok(file), Ok(stderr)) => same(file, stderr),
        (_, _) => false,
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        match self {
            Self::Stderr => Line::Stderr(io::stderr().lock()),
            Self::File(file) => Line::File(file.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// One line on its way.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    Stderr(io::StderrLock<'a>),
    File(MutexGuard<'a, LogFile>),
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    max: u64,
}

impl LogFile {
    fn open(path: &Path, max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            length: file.metadata()?.len(),
            file,
            max,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length >= self.max {
            // Where it cannot move, as on a full disk, the log goes on: it is tried again much later.
            self.length = match self.turn() {
                Ok(()) => 0,
                Err(_) => self.length.saturating_sub(self.max / 2),
            };
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    /// Moves what is there to the other file.
    fn turn(&mut self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        let mut old = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(name)?;
        io::copy(&mut File::open(&self.path)?, &mut old)?;
        self.file.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_has_an_end_and_the_latest_lines_are_there_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("head.log"), dir.path().join("head.log.1"));
        fs::write(&path, "from before\n").unwrap();
        let mut log = LogFile::open(&path, 1000).unwrap();
        for number in 0..1000 {
            log.write_line(number);
            for file in [&path, &old] {
                let length = file.metadata().map_or(0, |m| m.len());
                assert!(length < 1100, "{}: {length}", file.display());
            }
        }
        let text = fs::read_to_string(&old).unwrap() + &fs::read_to_string(&path).unwrap();
        let numbers: Vec<u32> = text
            .lines()
            .map(|line| line[5..].parse().unwrap())
            .collect();
        let expected: Vec<u32> = (numbers[0]..1000).collect();
        assert_eq!(numbers, expected);
        assert!(numbers.len() > 90, "only {}", numbers.len());
    }

    impl LogFile {
        fn write_line(&mut self, number: u32) {
            let line = format!("line {number}\n");
            assert_eq!(self.write(line.as_bytes()).unwrap(), line.len());
        }
    }

    #[test]
    fn what_is_not_standard_error_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.log");
        fs::write(&path, "").unwrap();
        assert!(matches!(Output::new(Some(&path)), Output::Stderr));
        assert!(matches!(Output::new(None), Output::Stderr));
        assert!(matches!(
            Output::new(Some(&dir.path().join("none"))),
            Output::Stderr
        ));
    }
}
