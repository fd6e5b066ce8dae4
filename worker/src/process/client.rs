//! The worker's side of an attempt's process.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use orchestra_config::open_files;
use orchestra_types::Exit;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{UnixStream, unix::pipe},
    process::Command,
    task::coop::consume_budget,
    time::timeout,
};

use super::{
    cage::{KillMethod, clear_abandoned},
    files::{self, EXIT, ExitRecord, RUNNING, Running, SPAWN, SUPERVISOR_LOG, Spawn},
    follow::{Follower, Line, Offsets, Stream, Writer},
    keeper,
    link::{self, Frame, PAYLOAD_BYTES_MAX},
    nursery::Nursery,
    supervisor::READY,
};
use crate::SelfCommand;

/// How long a supervisor may take to start the CLI.
const START_MAX: Duration = Duration::from_secs(30);
/// Most input that waits for a CLI that does not read it: 64 MiB.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often output is looked for even when nobody said that there is any.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why a process could not be started, found or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The supervisor could not be started.
    #[error("failed to start the supervisor `{}`", program.display())]
    Supervisor {
        /// Our own program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The supervisor ended before it had started anything.
    #[error("the supervisor ended at once: {log}")]
    EndedAtOnce {
        /// The end of its log.
        log: String,
    },
    /// There is no attempt in this directory.
    #[error("`{}` holds no started process", dir.display())]
    NotThere {
        /// The directory.
        dir: PathBuf,
    },
    /// The CLI does not read what it is sent.
    #[error("the CLI has not read {pending} bytes of input; nothing more is taken")]
    InputFull {
        /// How much waits.
        pending: usize,
    },
    /// A file of the attempt could not be read or written.
    #[error("failed to {what} in `{}`", dir.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The attempt's directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, ProcessError>;

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
    },
    Ended(ExitRecord),
}

impl Process {
    /// Has a supervisor started, and in it the CLI. A CLI that cannot be started is no error here: its
    /// process ends with `Exit::NotStarted`.
    ///
    /// # Errors
    /// When the supervisor itself cannot be started.
    pub async fn start(nursery: &Nursery, spawn: &Spawn) -> Result<Self> {
        let dir = spawn.dir.as_path();
        spawn.write().map_err(at("write what to run", dir))?;
        let failed = |source| ProcessError::Supervisor {
            program: nursery.me().exe.clone(),
            source,
        };
        let mut heard = match nursery.raise(dir) {
            Ok(ready) => listen_for_ready(ready).await,
            Err(_) => Heard::Nothing,
        };
        // Nobody has taken the order, and who might have is gone.
        if heard == Heard::Nothing && dir.join(SPAWN).exists() {
            let ready = start_alone(nursery.me(), dir).map_err(failed)?;
            heard = listen_for_ready(ready).await;
        }
        let found = Self::reattach(dir, Offsets::default());
        if heard == Heard::Nothing {
            let log = std::fs::read(dir.join(SUPERVISOR_LOG)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim().to_owned();
            return Err(ProcessError::EndedAtOnce { log });
        }
        match found {
            Err(ProcessError::NotThere { .. }) => Err(failed(io::ErrorKind::TimedOut.into())),
            found => Ok(found?.process()),
        }
    }

    /// Finds the process of an attempt again, and goes on reading where `from` says.
    ///
    /// # Errors
    /// When nothing was started in `dir`; then nothing ever will be.
    pub fn reattach(dir: &Path, from: Offsets) -> Result<Reattach> {
        let make = |state| Self {
            dir: dir.to_owned(),
            stdout: Follower::new(Stream::Stdout, dir.join(files::STDOUT), from.stdout),
            stderr: Follower::new(Stream::Stderr, dir.join(files::STDERR), from.stderr),
            state,
            pending: Vec::new(),
        };
        if let Some(record) = read_exit(dir)? {
            return Ok(Reattach::Ended(make(State::Ended(record))));
        }
        let running = match read_running(dir)? {
            Some(running) => running,
            None if files::take_spawn(dir).map_err(at("take back what to run", dir))? => {
                return Err(not_there(dir));
            }
            // A supervisor was faster.
            None => read_running(dir)?.ok_or_else(|| not_there(dir))?,
        };
        if running.supervisor.is_alive() {
            match connect(dir) {
                Ok(state) => return Ok(Reattach::Running(make(state))),
                Err(error) if is_gone(&error) => {}
                // IMPORTANT: trouble of our own, such as too many open files, must not end it.
                Err(error) => return Err(at("reach the supervisor", dir)(error)),
            }
        }
        keeper::wait_for(&running);
        // It may have ended between the two looks.
        match read_exit(dir)? {
            Some(record) => Ok(Reattach::Ended(make(State::Ended(record)))),
            None => Ok(Reattach::Lost(make(State::Ended(bury(&running))))),
        }
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
            if let Some(line) = self.line()? {
                return Ok(ProcessEvent::Line(line));
            }
            self.reach_input();
            match &self.state {
                State::Ended(record) => return Ok(ProcessEvent::Exited(record.clone())),
                State::Running { orders, input } => {
                    let input = input.as_ref();
                    if let Word::Closed = listen(orders, input, &mut self.pending).await {
                        self.find_end()?;
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
    pub async fn interrupt(&mut self) {
        self.order(&Frame::Interrupt).await;
    }

    /// Sends SIGTERM to its process group.
    pub async fn terminate(&mut self) {
        self.order(&Frame::Terminate).await;
    }

    /// Ends it and everything that it started. May be called again; after the end it does nothing.
    pub async fn kill(&mut self) {
        self.order(&Frame::Kill).await;
    }

    /// Ends it as [`Process::kill`] does, and waits until its supervisor has ended too. No file is read.
    pub async fn end(&mut self) {
        self.kill().await;
        let State::Running { orders, .. } = &self.state else {
            return;
        };
        while let Word::Grew = listen(orders, None, &mut Vec::new()).await {}
    }

    /// How far the output was given out by `next`, for a later [`Process::reattach`].
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        Offsets {
            stdout: self.stdout.offset(),
            stderr: self.stderr.offset(),
        }
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
        match self.stdout.next(writer) {
            Ok(Some(line)) => Ok(Some(line)),
            Ok(None) => self.stderr.next(writer).map_err(failed),
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

    async fn order(&mut self, frame: &Frame) {
        let bytes = frame.encode();
        let State::Running { orders, .. } = &self.state else {
            return;
        };
        let mut rest = bytes.as_slice();
        // An order is five bytes: they go in one piece. A supervisor that is gone needs none.
        while !rest.is_empty() && orders.writable().await.is_ok() {
            match orders.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// The supervisor has hung up: it wrote how it ended, or it was lost.
    fn find_end(&mut self) -> Result<()> {
        let record = match read_exit(&self.dir)? {
            Some(record) => record,
            None => self.find_buried()?,
        };
        self.pending.clear();
        self.state = State::Ended(record);
        Ok(())
    }

    /// The supervisor was lost: its keeper ends what it has left, or we do.
    fn find_buried(&self) -> Result<ExitRecord> {
        let running = read_running(&self.dir)?.ok_or_else(|| not_there(&self.dir))?;
        keeper::wait_for(&running);
        Ok(read_exit(&self.dir)?.unwrap_or_else(|| bury(&running)))
    }
}

/// What was heard of a supervisor that was to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Ready,
    /// It ended, or was never made.
    Nothing,
    /// Nothing yet.
    Late,
}

/// Starts a supervisor as a child of our own.
fn start_alone(me: &SelfCommand, dir: &Path) -> io::Result<OwnedFd> {
    let log = File::create(dir.join(SUPERVISOR_LOG))?;
    let (ready, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    // tokio takes the exit of a child that is dropped.
    Command::new(&me.exe)
        .args(&me.prefix)
        .arg("supervise")
        .arg(dir)
        .envs(open_files::variable())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(tell)
        .stderr(log)
        .spawn()?;
    Ok(ready)
}

async fn listen_for_ready(from: OwnedFd) -> Heard {
    let Ok(from) = pipe::Receiver::from_owned_fd(from) else {
        return Heard::Late;
    };
    let mut said = Vec::new();
    let read = BufReader::new(from);
    let mut read = read.take(READY.len() as u64);
    match timeout(START_MAX, read.read_until(b'\n', &mut said)).await {
        Err(_) => Heard::Late,
        Ok(_) if said == READY => Heard::Ready,
        Ok(_) => Heard::Nothing,
    }
}

/// What a supervisor said.
enum Word {
    /// There may be more output.
    Grew,
    /// It is gone.
    Closed,
}

/// Waits for a word, and sends pending input meanwhile.
async fn listen(orders: &UnixStream, input: Option<&UnixStream>, pending: &mut Vec<u8>) -> Word {
    loop {
        tokio::select! {
            ready = orders.readable() => {
                if ready.is_err() {
                    return Word::Closed;
                }
                let mut words = [0; 256];
                match orders.try_read(&mut words) {
                    Ok(0) => return Word::Closed,
                    Ok(_) => return Word::Grew,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Word::Closed,
                }
            }
            sent = send_pending(input, pending), if !pending.is_empty() => {
                if sent.is_err() {
                    pending.clear();
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => return Word::Grew,
        }
    }
}

/// Waits until some of it can be sent, and sends that; for ever while there is no way for it.
async fn send_pending(input: Option<&UnixStream>, pending: &mut Vec<u8>) -> io::Result<()> {
    match input {
        Some(input) => {
            input.writable().await?;
            flush(input, pending)
        }
        None => std::future::pending().await,
    }
}

/// Sends what goes without waiting.
fn flush(input: &UnixStream, pending: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    let result = loop {
        match input.try_write(&pending[sent..]) {
            Ok(0) => break Ok(()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    pending.drain(..sent);
    result
}

/// Whether nobody listens on the socket any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

fn connect(dir: &Path) -> io::Result<State> {
    Ok(State::Running {
        orders: stream(dir)?,
        input: None,
    })
}

fn stream(dir: &Path) -> io::Result<UnixStream> {
    let stream = link::connect(dir)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn read_exit(dir: &Path) -> Result<Option<ExitRecord>> {
    files::read_json(dir, EXIT).map_err(at("read how it ended", dir))
}

fn read_running(dir: &Path) -> Result<Option<Running>> {
    files::read_json(dir, RUNNING).map_err(at("read who runs", dir))
}

fn not_there(dir: &Path) -> ProcessError {
    ProcessError::NotThere {
        dir: dir.to_owned(),
    }
}

/// Ends what a lost supervisor has left.
fn bury(running: &Running) -> ExitRecord {
    // Somebody else's supervisor of that pid is not touched; our own may only hang.
    let _gone = running.supervisor.signal(Signal::KILL);
    let _gone = running.cli.as_ref().map(|cli| cli.signal(Signal::KILL));
    let (method, cleared) = match &running.cgroup {
        Some(path) => (KillMethod::Cgroup, clear_abandoned(PathBuf::from(path))),
        None => (KillMethod::Subreaper, false),
    };
    files::remove_dirs(&running.bounds);
    let mut record = ExitRecord::bare(Exit::Unknown, running.started_at, method);
    record.survivors = !cleared;
    record
}

fn at(what: &'static str, dir: &Path) -> impl Fn(io::Error) -> ProcessError {
    move |source| ProcessError::Io {
        what,
        dir: dir.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(dir: &Path) -> Process {
        Process {
            dir: dir.to_owned(),
            stdout: Follower::new(Stream::Stdout, dir.join(files::STDOUT), 0),
            stderr: Follower::new(Stream::Stderr, dir.join(files::STDERR), 0),
            state: connect(dir).unwrap(),
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
