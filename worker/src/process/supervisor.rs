//! The supervisor: a small process that owns the CLI of one attempt.
//!
//! It outlives its worker, ends with its CLI, and leaves nothing of the CLI behind.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::{net::UnixListener, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use orchestra_config::open_files;
use orchestra_types::{Exit, Timestamp};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, set_child_subreaper, setsid,
        wait, waitid,
    },
};

use super::{
    cage::{Cage, EMPTY_MAX},
    files::{self, EXIT, ExitRecord, RUNNING, Running, SPAWN, SpawnFile, StreamRecord},
    identity::{Identity, MARK},
    keeper, link,
    pump::{News, Pump},
    serve::{Input, Shared, serve},
    set_up::why_not_started,
    signals,
};
use crate::{clock, room::Full};

/// What the supervisor prints when the CLI runs, or is known not to.
pub(super) const READY: &[u8] = b"ready\n";
/// How long output that was printed just before the end may take to arrive by itself.
const LAST_OUTPUT: Duration = Duration::from_millis(200);
/// How long the rest of the output may take once every process is gone.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How many parts of input may wait for a CLI that does not read: 64 of 64 KiB.
const INPUT_BOUND: usize = 64;

/// How long to wait for a disk that refuses before the end stays unwritten, and how often to try. One that
/// is full is waited for until somebody wants the end.
const DISK_MAX: Duration = Duration::from_secs(60);
const DISK_RETRY: Duration = Duration::from_millis(500);
/// How long all of the end may take at most once somebody wants it and the CLI is dead.
pub(super) const END_MAX: Duration =
    Duration::from_secs(EMPTY_MAX.as_secs() + DRAIN_MAX.as_secs() + DISK_MAX.as_secs());

/// Whether nobody waits for more output.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// The attempt's directory. IMPORTANT: the worker has made it the current one, so that a
/// supervisor that is late never touches another directory that was made in its place.
const HERE: &str = ".";

/// Runs the attempt in the current directory to its end. This is the whole life of a supervisor
/// process. `dir` is that directory's name for people.
#[must_use]
pub fn supervise_main(dir: &Path) -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    match signals::reset().and_then(|()| supervise(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the supervisor's log; when even that fails, nobody is left to tell.
            let _unheard = writeln!(io::stderr(), "supervisor of {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// The same, after [`signals::reset`]. `args` start such a supervisor by our program.
pub(super) fn supervise(args: &[OsString]) -> io::Result<()> {
    let dir = Path::new(HERE);
    // A session of its own, so that a terminal's signals and hang-up do not reach it. It is
    // refused to the leader of a group, which is as good.
    let _leader = setsid();
    open_files::give_back();
    set_child_subreaper(Some(getpid()))?;
    let spawn: SpawnFile = files::read_json(dir, SPAWN)?
        .ok_or_else(|| io::Error::other("there is no spawn.json; was it supervised before?"))?;
    let name = format!("orchestra-{}-{}", getpid(), files::now().0);
    let cage = match keeper::is_kept() {
        true => Cage::by_descent(&name, spawn.limits),
        false => Cage::new(&name, spawn.limits),
    };
    if cage.cgroup().is_none() && !keeper::is_kept() {
        cage.clear();
        return keeper::keep(dir, args);
    }
    let listener = link::listen(dir)?;
    let shared = Arc::new(Shared::new(cage, spawn.ballast.clone().into()));
    let claimed = claim(dir, &shared.cage);
    if !matches!(claimed, Ok(true)) {
        shared.cage.clear();
    }
    if !claimed? {
        return Err(io::Error::other("the worker does not want it any more"));
    }
    let stdin = files::take_stdin(dir)?;
    let cli = match start(&spawn, &shared.cage) {
        Ok(cli) => cli,
        Err(error) => return not_started(dir, &spawn, &shared, &error),
    };
    let followed = follow(dir, cli, stdin, &spawn, listener, &shared);
    if followed.is_err() {
        // Nobody would ever look after the CLI.
        shared.cage.clear();
    }
    let record = followed?;
    write_exit(dir, &record, &shared)?;
    shared.hang_up();
    Ok(())
}

/// Makes the attempt ours, unless a worker has taken its order back.
///
/// IMPORTANT: first it is written who we are, then the order is taken: a worker that was restarted
/// meanwhile finds either us or the order, and with the order gone nobody starts anything.
fn claim(dir: &Path, cage: &Cage) -> io::Result<bool> {
    files::add_json(dir, RUNNING, &running(None, cage)?)?;
    files::take_spawn(dir)
}

fn running(cli: Option<Identity>, cage: &Cage) -> io::Result<Running> {
    Ok(Running {
        supervisor: Identity::me()?,
        keeper: keeper::is_kept().then(Identity::parent).transpose()?,
        marked: true,
        cli,
        cgroup: cage.cgroup(),
        bounds: cage.bounds(),
        started_at: files::now(),
    })
}

/// Looks after a CLI that was started, to its end.
fn follow(
    dir: &Path,
    cli: Cli,
    stdin: Option<File>,
    spawn: &SpawnFile,
    listener: UnixListener,
    shared: &Arc<Shared>,
) -> io::Result<ExitRecord> {
    let pid = cli.pid;
    shared.set_group(pid);
    let running = running(Some(Identity::of(pid)?), &shared.cage)?;
    let streams = Streams::start(dir, cli, stdin, spawn, listener, shared)?;
    write_running(dir, &running, pid, shared)?;
    say_ready();
    let status = wait_for(pid, shared);
    Ok(end(exit(status), running.started_at, shared, streams))
}

/// Writes who the CLI is, as soon as there is room for it: it runs already. Once it has ended, or is to,
/// its end is what there is to write.
fn write_running(dir: &Path, running: &Running, pid: Pid, shared: &Shared) -> io::Result<()> {
    loop {
        match files::add_json(dir, RUNNING, running) {
            Err(error) if error.is_full() => shared.make_room_to_go_on(),
            written => return written,
        }
        if shared.is_killed() || has_ended(pid) {
            return Ok(());
        }
        thread::sleep(DISK_RETRY);
    }
}

/// Whether a child has ended, which is left to be reaped.
fn has_ended(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
}

/// Writes how it ended, as soon as there is room for it.
fn write_exit(dir: &Path, record: &ExitRecord, shared: &Shared) -> io::Result<()> {
    let deadline = Instant::now() + DISK_MAX;
    loop {
        let written = files::write_json(dir, EXIT, record);
        let full = written.as_ref().is_err_and(Full::is_full);
        if full {
            shared.make_room_to_end();
        }
        match written {
            Err(_) if full && !shared.is_killed() => {}
            // The directory is gone, and nobody will look for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(_) if Instant::now() < deadline => {}
            other => return other,
        }
        thread::sleep(DISK_RETRY);
    }
}

/// The CLI, and our ends of its pipes.
struct Cli {
    pid: Pid,
    stdin: File,
    stdout: File,
    stderr: File,
}

fn start(spawn: &SpawnFile, cage: &Cage) -> io::Result<Cli> {
    if !fs::metadata(&spawn.cwd)?.is_dir() {
        return Err(io::Error::other("its working directory is no directory"));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (stdin, stdout, stderr) = (pipe()?, pipe()?, pipe()?);
    let mut command = Command::new(&spawn.program);
    command
        .args(&spawn.args)
        .env_clear()
        .envs(&spawn.env)
        .env(MARK, Identity::me()?.mark())
        .current_dir(&spawn.cwd)
        .process_group(0)
        .stdin(stdin.0)
        .stdout(stdout.1)
        .stderr(stderr.1);
    Ok(Cli {
        pid: cage.start(&mut command)?,
        stdin: stdin.1.into(),
        stdout: stdout.0.into(),
        stderr: stderr.0.into(),
    })
}

fn not_started(
    dir: &Path,
    spawn: &SpawnFile,
    shared: &Shared,
    error: &io::Error,
) -> io::Result<()> {
    let cwd = Path::new(&spawn.cwd);
    let reason = match cwd.is_dir() {
        true => why_not_started(Path::new(&spawn.program), error),
        false => format!("failed to start in `{}`: {error}", cwd.display()),
    };
    let method = shared.cage.method();
    shared.cage.clear();
    let record = ExitRecord::bare(Exit::NotStarted { reason }, files::now(), method);
    write_exit(dir, &record, shared)?;
    say_ready();
    Ok(())
}

fn say_ready() {
    let mut out = io::stdout();
    // A worker that is gone already reads the files later.
    let _gone = out.write_all(READY).and_then(|()| out.flush());
}

/// The threads that carry input and output.
struct Streams {
    done: Receiver<()>,
    records: Arc<Mutex<[StreamRecord; 2]>>,
}

impl Streams {
    fn start(
        dir: &Path,
        cli: Cli,
        first: Option<File>,
        spawn: &SpawnFile,
        listener: UnixListener,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let (sender, input) = sync_channel(INPUT_BOUND);
        let (stdin, keep) = (cli.stdin, spawn.keep_stdin);
        // Nothing is ever given to who is given nothing at once and then no more.
        if first.is_some() || keep {
            thread::spawn(move || feed(stdin, first, keep, &input));
        }
        serve(listener, Arc::clone(shared), sender);
        let (ended, done) = channel();
        let streams = Self {
            done,
            records: Arc::default(),
        };
        let max = spawn.log_bytes_max;
        let stdout = Pump::new(dir.join(files::STDOUT), max, &GIVEN_UP);
        let stderr = Pump::new(dir.join(files::STDERR), max, &GIVEN_UP);
        streams.pump(0, stdout, cli.stdout, shared, ended.clone());
        streams.pump(1, stderr, cli.stderr, shared, ended);
        Ok(streams)
    }

    fn pump(
        &self,
        which: usize,
        pump: Pump<'static>,
        from: impl io::Read + Send + 'static,
        shared: &Arc<Shared>,
        ended: Sender<()>,
    ) {
        let (shared, records) = (Arc::clone(shared), Arc::clone(&self.records));
        thread::spawn(move || {
            let set = |record| {
                records.lock().unwrap_or_else(PoisonError::into_inner)[which] = record;
            };
            let record = pump.run(from, |News { record, is_stuck }| {
                set(record);
                if is_stuck {
                    shared.make_room_to_go_on();
                }
                shared.tell();
            });
            set(record);
            // Nobody waits for it once the time for that is over.
            let _late = ended.send(());
        });
    }

    /// Waits until both streams have ended, but no longer than `max`; whether they have.
    fn drain(&self, max: Duration) -> bool {
        let deadline = Instant::now() + max;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.done.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// Takes the rest. A full disk is waited for once every process is `gone`, unless somebody wants the end.
    fn finish(&self, shared: &Shared, gone: bool) {
        let deadline = Instant::now() + DRAIN_MAX;
        let left = || deadline.saturating_duration_since(Instant::now());
        let lacks_room = || gone && self.records().iter().any(|stream| stream.disk_full);
        while !shared.is_killed() && (lacks_room() || !left().is_zero()) {
            if self.drain(DISK_RETRY) {
                return;
            }
            if lacks_room() {
                shared.make_room_to_end();
            }
        }
        GIVEN_UP.store(true, Ordering::Relaxed);
        self.drain(left().max(2 * DISK_RETRY));
    }

    fn records(&self) -> [StreamRecord; 2] {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the CLI its first input and then what workers send.
fn feed(mut stdin: File, first: Option<File>, keep: bool, input: &Receiver<Input>) {
    let given = first.is_none_or(|mut first| io::copy(&mut first, &mut stdin).is_ok());
    if given && keep {
        while let Ok(Input::Bytes(bytes)) = input.recv() {
            if stdin.write_all(&bytes).is_err() {
                break;
            }
        }
    }
    drop(stdin);
    // IMPORTANT: senders must not wait for ever on input that nobody takes.
    while input.recv().is_ok() {}
}

/// Waits for the end of the CLI, and takes the exits of orphans meanwhile.
fn wait_for(pid: Pid, shared: &Shared) -> Option<WaitStatus> {
    loop {
        // Waits without reaping, so that reaping can be done while nobody sends signals.
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
        let mut found = None;
        shared.reap(|| {
            let reaped = wait(WaitOptions::NOHANG).ok().flatten();
            found = reaped
                .filter(|(who, _)| *who == pid)
                .map(|(_, status)| status);
            found.is_some()
        });
        if found.is_some() {
            return found;
        }
    }
}

fn exit(status: Option<WaitStatus>) -> Exit {
    let code = status
        .and_then(|status| status.exit_status())
        .map(Exit::Code);
    let signal = status
        .and_then(|status| status.terminating_signal())
        .map(Exit::Signal);
    code.or(signal).unwrap_or(Exit::Unknown)
}

/// Empties the cage, whatever the end was, and takes the last output.
fn end(exit: Exit, started_at: Timestamp, shared: &Shared, streams: Streams) -> ExitRecord {
    let ended_at = files::now();
    let ended_since_boot = clock::since_boot();
    if !shared.is_killed() {
        streams.drain(LAST_OUTPUT);
    }
    let kill_method = shared.cage.method();
    let left_processes = !shared.cage.is_empty();
    let mut met = shared.cage.met();
    let cleared = shared.cage.clear();
    let surviving = if cleared {
        Vec::new()
    } else {
        shared.cage.living()
    };
    streams.finish(shared, cleared);
    let [stdout, stderr] = streams.records();
    met.disk_full = stdout.disk_full || stderr.disk_full;
    ExitRecord {
        exit,
        started_at,
        ended_at,
        ended_since_boot_ms: Some(clock::ms(ended_since_boot)),
        kill_method,
        left_processes,
        survivors: !cleared,
        surviving,
        silence: None,
        stdout,
        stderr,
        met,
    }
}
