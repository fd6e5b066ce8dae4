//! The worker's side of an attempt's process.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use orchestra_config::{durable, open_files};
use orchestra_types::Exit;
use rustix::{
    net::{SendFlags, send},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Take},
    net::{UnixStream, unix::pipe},
    process::Command,
    task::coop::consume_budget,
    time::{Instant, timeout},
};

use super::{
    cage,
    files::{self, EXIT, ExitRecord, RUNNING, Running, SPAWN, SUPERVISOR_LOG, Spawn},
    follow::{Follower, Line, Offsets, Stream, Writer},
    insist::{Insistence, blocking, bury},
    keeper,
    link::{self, Frame, PAYLOAD_BYTES_MAX},
    nursery::Nursery,
    supervisor::READY,
};
use crate::SelfCommand;

/// How long a supervisor may take to start the CLI.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a nursery may take to make one that has read its order.
const NURSERY_MAX: Duration = Duration::from_secs(10);
/// Most input that waits for a CLI that does not read it: 64 MiB.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often output is looked for even when nobody said that there is any.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a supervisor may take no connection while others wait for it too.
const ACCEPT_MAX: Duration = Duration::from_secs(5);

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
        /// Who it was when it was found.
        who: Box<Running>,
        /// Once its end was ordered.
        insistence: Option<Insistence>,
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
            Ok(ready) => listen_to_nursery(nursery, spawn, ready).await?,
            Err(_) => Heard::Nothing,
        };
        // Nobody has taken the order, and who might have is gone.
        if heard == Heard::Nothing && dir.join(SPAWN).exists() {
            let ready = start_alone(nursery.me(), dir).map_err(failed)?;
            heard = Ready::of(ready).listen(START_MAX).await;
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
            match connect_in_time(dir, &running) {
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
                    blocking(move || bury(&of)).await;
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
            let Some(mut record) = blocking(move || bury(&of)).await else {
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
            Some(record) => record,
            None => {
                let dir = self.dir.clone();
                match blocking(move || find_buried(&dir)).await {
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

/// The supervisor was lost: its keeper ends what it has left, or we do.
fn find_buried(dir: &Path) -> Result<ExitRecord> {
    let running = read_running(dir)?.ok_or_else(|| not_there(dir))?;
    keeper::wait_for(&running);
    Ok(read_exit(dir)?.unwrap_or_else(|| bury(&running)))
}

/// Waits for something until a moment, if there is one.
async fn unless_due<T>(due: Option<Instant>, wait: impl Future<Output = T>) -> Option<T> {
    match due {
        Some(due) => tokio::time::timeout_at(due, wait).await.ok(),
        None => Some(wait.await),
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

/// Listens to a supervisor that a nursery was to make. When there is none for long the nursery is stopped, or hangs:
/// it is ended, and all is ready for another way. What it has of the order is of a directory that is gone.
async fn listen_to_nursery(nursery: &Nursery, spawn: &Spawn, ready: OwnedFd) -> Result<Heard> {
    let dir = spawn.dir.as_path();
    let mut ready = Ready::of(ready);
    let heard = ready.listen(NURSERY_MAX).await;
    if heard != Heard::Late {
        return Ok(heard);
    }
    // IMPORTANT: with the order gone nobody starts anything here.
    if !files::take_spawn(dir).map_err(at("take back what to run", dir))? {
        return Ok(ready.listen(START_MAX - NURSERY_MAX).await);
    }
    tracing::warn!("the process that makes supervisors does not; another one takes its place");
    nursery.end();
    std::fs::remove_dir_all(dir).map_err(at("make room for another start", dir))?;
    durable::create_private_dir(dir).map_err(at("make another start", dir))?;
    spawn.write().map_err(at("write what to run", dir))?;
    Ok(Heard::Nothing)
}

/// What a supervisor says once its CLI runs.
struct Ready {
    /// None where it cannot be listened to.
    from: Option<Take<BufReader<pipe::Receiver>>>,
    said: Vec<u8>,
}

impl Ready {
    fn of(from: OwnedFd) -> Self {
        let from = pipe::Receiver::from_owned_fd(from).ok();
        Self {
            from: from.map(|from| BufReader::new(from).take(READY.len() as u64)),
            said: Vec::new(),
        }
    }

    async fn listen(&mut self, max: Duration) -> Heard {
        let Some(from) = &mut self.from else {
            return Heard::Late;
        };
        match timeout(max, from.read_until(b'\n', &mut self.said)).await {
            Err(_) => Heard::Late,
            Ok(_) if self.said == READY => Heard::Ready,
            Ok(_) => Heard::Nothing,
        }
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

fn connect(dir: &Path, running: &Running) -> io::Result<State> {
    Ok(State::Running {
        orders: stream(dir)?,
        input: None,
        who: Box::new(running.clone()),
        insistence: None,
    })
}

/// The same, where it may be stopped: too many wait for it then. One that takes nobody though it was continued
/// counts as gone: nobody could ever tell it anything.
fn connect_in_time(dir: &Path, running: &Running) -> io::Result<State> {
    let mut found = connect(dir, running);
    let waits = |found: &io::Result<State>| {
        let error = found.as_ref().err();
        error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    cage::until(ACCEPT_MAX, || {
        if !waits(&found) {
            return true;
        }
        running.supervisor.wake();
        found = connect(dir, running);
        !waits(&found)
    });
    match waits(&found) {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => found,
    }
}

fn stream(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::from_std(link::connect(dir)?)
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

fn at(what: &'static str, dir: &Path) -> impl Fn(io::Error) -> ProcessError {
    move |source| ProcessError::Io {
        what,
        dir: dir.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::identity::Identity, *};

    /// A supervisor that is nobody's: no test here ends it.
    fn nobody() -> Running {
        Running {
            supervisor: Identity::parent().unwrap(),
            keeper: None,
            cli: None,
            cgroup: None,
            bounds: Vec::new(),
            started_at: files::now(),
        }
    }

    fn running(dir: &Path) -> Process {
        Process {
            dir: dir.to_owned(),
            stdout: Follower::new(Stream::Stdout, dir.join(files::STDOUT), 0),
            stderr: Follower::new(Stream::Stderr, dir.join(files::STDERR), 0),
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
