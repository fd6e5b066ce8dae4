//! A supervisor is started, by the nursery or by ourselves.

use std::{io, os::fd::OwnedFd, path::Path, process::Stdio, time::Duration};

use orchestra_config::{durable, open_files};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Take},
    net::unix::pipe,
    process::Command,
    time::timeout,
};

use super::{
    super::{
        files::{self, SPAWN, SUPERVISOR_LOG, Spawn},
        follow::Offsets,
        link,
        nursery::Nursery,
        supervisor::READY,
    },
    Process, ProcessError,
    error::{Result, at, unordered},
};
use crate::{SelfCommand, blocking::blocking};

/// How long a supervisor may take to start the CLI.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a nursery may take to make one that has read its order.
const NURSERY_MAX: Duration = Duration::from_secs(10);

impl Process {
    /// Has a supervisor started, and in it the CLI. A CLI that cannot be started is no error here: its
    /// process ends with `Exit::NotStarted`.
    ///
    /// # Errors
    /// When the supervisor itself cannot be started.
    pub async fn start(nursery: &Nursery, spawn: &Spawn) -> Result<Self> {
        let dir = spawn.dir.as_path();
        spawn.write().map_err(unordered("write what to run", dir))?;
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
            link::unlisten(dir);
            let ready = start_alone(nursery.me(), dir).map_err(failed)?;
            heard = Ready::of(ready).listen(START_MAX).await;
        }
        // Nothing was begun as long as the order is there.
        let began = !dir.join(SPAWN).exists();
        let place = dir.to_owned();
        // It takes long where the supervisor is gone, or stopped.
        let found = blocking(move || Self::reattach(&place, Offsets::default())).await;
        if heard == Heard::Nothing && !began {
            let log = std::fs::read(dir.join(SUPERVISOR_LOG)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim().to_owned();
            return Err(ProcessError::EndedAtOnce { log });
        }
        match found {
            Err(ProcessError::NotThere { .. }) => Err(failed(io::ErrorKind::TimedOut.into())),
            // Also one that was lost as soon as it ran: what it did is gathered.
            found => Ok(found?.process()),
        }
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
    let log = durable::create_private(&dir.join(SUPERVISOR_LOG))?;
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
    std::fs::remove_dir_all(dir).map_err(unordered("make room for another start", dir))?;
    durable::create_private_dir(dir).map_err(unordered("make another start", dir))?;
    spawn.write().map_err(unordered("write what to run", dir))?;
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
