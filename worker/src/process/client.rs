//! The worker's side of an attempt's process.

mod error;
mod find;
mod start;
mod talk;

use std::path::{Path, PathBuf};

use orchestra_types::Exit;
use rustix::net::{SendFlags, send};
use tokio::{net::UnixStream, task::coop::consume_budget, time::Instant};

use super::{
    files::{EXIT, ExitRecord, Running},
    follow::{Follower, Line, Offsets, Stream, Writer},
    insist::{Insistence, bury},
    keeper,
    link::{Frame, PAYLOAD_BYTES_MAX},
};
use crate::blocking::blocking_unless_stopping;
use error::{Result, at};
use find::{find_buried, read_exit, read_running};
use talk::{Word, flush, is_gone, listen, stream, unless_due};

pub use error::ProcessError;

/// Most input that waits for a CLI that does not read it: 64 MiB.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a process did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It printed a line.
    Line(Line),
    /// It ended and nothing of it is left. All lines came before; this comes again if asked.
    Exited(ExitRecord),
}

/// What was found in an attempt's directory. In every case [`Process::next`] gives the lines
/// that were not read yet, and then the end.
#[derive(Debug)]
pub enum Reattach {
    /// It still runs.
    Running(Process),
    /// It has ended.
    Ended(Process),
    /// The supervisor was lost; what it had started was ended, as far as it can be found. Its
    /// exit is `Unknown`.
    Lost(Process),
}

impl Reattach {
    /// The process, whatever became of it.
    #[must_use]
    pub fn process(self) -> Process {
        match self {
            Self::Running(process) | Self::Ended(process) | Self::Lost(process) => process,
        }
    }
}

/// The process of an attempt. Dropping this does not end it.
#[derive(Debug)]
pub struct Process {
    dir: PathBuf,
    stdout: Follower,
    stderr: Follower,
    first: Stream,
    state: State,
    /// Input that the supervisor has not taken yet.
    pending: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Running {
        orders: UnixStream,
        /// None until there is input: most attempts never have any.
        input: Option<UnixStream>,
        /// Who it was when it was found.
        who: Box<Running>,
        /// Once its end was ordered.
        insistence: Option<Insistence>,
    },
    Ended(ExitRecord),
}

impl Process {
    /// Which output comes first where both have something. Standard output does, unless told.
    pub fn read_first(&mut self, first: Stream) {
        self.first = first;
    }

    /// The next thing that it did. This may be dropped at any time without losing anything; input
    /// goes on its way while this is awaited.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn next(&mut self) -> Result<ProcessEvent> {
        loop {
            // A CLI that prints without end must not keep others from their turn.
            consume_budget().await;
            self.insist_when_due().await;
            if let Some(line) = self.line()? {
                return Ok(ProcessEvent::Line(line));
            }
            self.reach_input();
            match &self.state {
                State::Ended(record) => return Ok(ProcessEvent::Exited(record.clone())),
                State::Running {
                    orders,
                    input,
                    insistence,
                    ..
                } => {
                    let due = insistence.as_ref().map(Insistence::due);
                    let heard = listen(orders, input.as_ref(), &mut self.pending);
                    if let Some(Word::Closed) = unless_due(due, heard).await {
                        self.find_end().await?;
                    }
                }
            }
        }
    }

    /// Sends bytes to its standard input. They are taken at once and go on their way while
    /// [`Process::next`] is awaited.
    ///
    /// # Errors
    /// When too much input waits already. After its end input is dropped.
    pub fn write_stdin(&mut self, bytes: &[u8]) -> Result<()> {
        if self.pending.len() + bytes.len() > PENDING_BYTES_MAX {
            return Err(ProcessError::InputFull {
                pending: self.pending.len(),
            });
        }
        for part in bytes.chunks(PAYLOAD_BYTES_MAX) {
            self.queue(&Frame::Input(part.to_vec()));
        }
        Ok(())
    }

    /// Closes its standard input behind everything that was sent.
    pub fn close_stdin(&mut self) {
        self.queue(&Frame::CloseInput);
    }

    /// Sends SIGINT to its process group.
    pub fn interrupt(&mut self) {
        self.order(&Frame::Interrupt);
    }

    /// Sends SIGTERM to its process group.
    pub fn terminate(&mut self) {
        self.order(&Frame::Terminate);
    }

    /// Ends it and everything that it started. May be called again; after the end it does nothing.
    ///
    /// What its supervisor does not do, this and [`Process::next`] do when they are called later.
    pub async fn kill(&mut self) {
        self.order(&Frame::Kill);
        if let State::Running { insistence, .. } = &mut self.state {
            insistence.get_or_insert_with(|| Insistence::begin(Instant::now()));
        }
        self.insist_when_due().await;
    }

    /// Ends it as [`Process::kill`] does, and waits until its supervisor has ended too. No file need be there.
    pub async fn end(&mut self) {
        self.kill().await;
        while let State::Running {
            orders,
            who,
            insistence,
            ..
        } = &self.state
        {
            let due = insistence.as_ref().map(Insistence::due);
            let mut nothing = Vec::new();
            let heard = listen(orders, None, &mut nothing);
            if let Some(Word::Closed) = unless_due(due, heard).await {
                let of = who.clone();
                if insistence.as_ref().is_some_and(|i| i.silence().is_some()) {
                    blocking_unless_stopping(move || bury(&of)).await;
                }
                return;
            }
            self.insist_when_due().await;
        }
    }

    /// How far the output was given out by `next`, for a later [`Process::reattach`].
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        Offsets {
            stdout: self.stdout.offset(),
            stderr: self.stderr.offset(),
        }
    }

    /// Whether nothing of it is left, which may be so before [`Process::next`] says it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_)) || self.dir.join(EXIT).exists()
    }

    /// The attempt's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn line(&mut self) -> Result<Option<Line>> {
        let writer = match self.state {
            State::Running { .. } => Writer::Running,
            State::Ended(_) => Writer::Ended,
        };
        let failed = at("read the output", &self.dir);
        let (first, second) = match self.first {
            Stream::Stdout => (&mut self.stdout, &mut self.stderr),
            Stream::Stderr => (&mut self.stderr, &mut self.stdout),
        };
        match first.next(writer) {
            Ok(Some(line)) => Ok(Some(line)),
            Ok(None) => second.next(writer).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    fn queue(&mut self, frame: &Frame) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        self.pending.extend_from_slice(&frame.encode());
        self.reach_input();
        if let State::Running {
            input: Some(input), ..
        } = &self.state
        {
            // What does not go now goes while `next` is awaited.
            let _later = flush(input, &mut self.pending);
        }
    }

    /// Makes the way for input once there is some.
    fn reach_input(&mut self) {
        let State::Running { input, .. } = &mut self.state else {
            return;
        };
        if self.pending.is_empty() || input.is_some() {
            return;
        }
        match stream(&self.dir) {
            Ok(stream) => *input = Some(stream),
            Err(error) if is_gone(&error) => self.pending.clear(),
            // Trouble of our own, such as too many open files: again at the next look.
            Err(error) => tracing::warn!(%error, "the input of an agent waits"),
        }
    }

    fn order(&mut self, frame: &Frame) {
        let State::Running { orders, who, .. } = &self.state else {
            return;
        };
        // An order is five bytes: they go in one piece. A supervisor that is gone needs none, and one that
        // has not read hundreds of them none more.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _unheard = send(orders, &frame.encode(), flags);
        if who.supervisor.wake() {
            tracing::warn!(dir = %self.dir.display(), "a supervisor that was stopped goes on");
        }
    }

    /// Does what the supervisor should have done since its end was ordered.
    async fn insist_when_due(&mut self) {
        let State::Running {
            who, insistence, ..
        } = &mut self.state
        else {
            return;
        };
        let Some(insistence) = insistence
            .as_mut()
            .filter(|insistence| insistence.due() <= Instant::now())
        else {
            return;
        };
        // The CLI may have been started after it was found.
        if let Ok(Some(now)) = read_running(&self.dir) {
            **who = now;
        }
        if !insistence.look(who).await {
            let (of, silence) = (who.clone(), insistence.silence());
            let Some(mut record) = blocking_unless_stopping(move || bury(&of)).await else {
                return;
            };
            record.silence = silence;
            self.is_over(record);
        }
    }

    /// The supervisor has hung up: it wrote how it ended, or it was lost.
    async fn find_end(&mut self) -> Result<()> {
        let silence = match &self.state {
            State::Running { insistence, .. } => insistence.as_ref().and_then(Insistence::silence),
            State::Ended(_) => None,
        };
        let mut record = match read_exit(&self.dir)? {
            Some(record) => {
                if let State::Running { who, .. } = &self.state {
                    keeper::let_end(who);
                }
                record
            }
            None => {
                let dir = self.dir.clone();
                match blocking_unless_stopping(move || find_buried(&dir)).await {
                    Some(buried) => buried?,
                    // The worker is stopping.
                    None => return std::future::pending().await,
                }
            }
        };
        // Else the supervisor has had the last word all the same.
        if record.exit == Exit::Unknown {
            record.silence = silence;
        }
        self.is_over(record);
        Ok(())
    }

    fn is_over(&mut self, record: ExitRecord) {
        self.pending.clear();
        self.state = State::Ended(record);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{
        super::{files, identity::Identity, link},
        find::connect,
        *,
    };

    /// A supervisor that is nobody's: no test here ends it.
    fn nobody() -> Running {
        Running::begun_by(Identity::parent().unwrap())
    }

    fn running(dir: &Path) -> Process {
        Process {
            dir: dir.to_owned(),
            stdout: Follower::new(Stream::Stdout, dir.join(files::STDOUT), 0),
            stderr: Follower::new(Stream::Stderr, dir.join(files::STDERR), 0),
            first: Stream::Stdout,
            state: connect(dir, &nobody()).unwrap(),
            pending: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_way_for_input_is_made_when_there_is_some() {
        let dir = tempfile::tempdir().unwrap();
        let listener = link::listen(dir.path()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut process = running(dir.path());
        let (_orders, _) = listener.accept().unwrap();
        let none = listener.accept().unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        process.write_stdin(b"hello").unwrap();
        let (mut input, _) = listener.accept().unwrap();
        input.set_nonblocking(false).unwrap();
        let read = tokio::task::spawn_blocking(move || Frame::read(&mut input).unwrap());
        let frame = tokio::select! {
            frame = read => frame.unwrap(),
            event = process.next() => panic!("{event:?}"),
        };
        assert_eq!(frame, Some(Frame::Input(b"hello".to_vec())));
    }

    #[tokio::test]
    async fn input_for_who_is_gone_is_dropped_and_trouble_of_our_own_costs_none() {
        let dir = tempfile::tempdir().unwrap();
        let listener = link::listen(dir.path()).unwrap();
        let mut process = running(dir.path());
        let socket = dir.path().join(files::SOCKET);
        // A path that cannot be gone through is no sign of an end.
        std::fs::rename(&socket, dir.path().join("aside")).unwrap();
        std::os::unix::fs::symlink(files::SOCKET, &socket).unwrap();
        process.write_stdin(b"hello").unwrap();
        assert!(!process.pending.is_empty());
        std::fs::rename(dir.path().join("aside"), &socket).unwrap();
        drop(listener);
        process.close_stdin();
        assert!(process.pending.is_empty());
    }

    #[test]
    fn a_directory_where_nothing_was_started_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = Process::reattach(dir.path(), Offsets::default()).unwrap_err();
        assert!(matches!(error, ProcessError::NotThere { .. }), "{error}");
    }
}
