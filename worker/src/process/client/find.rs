//! A process is found again in the directory of its attempt, or what is left of it.

use std::{io, path::Path, time::Duration};

use super::{
    super::{
        cage,
        files::{self, EXIT, ExitRecord, RUNNING, Running},
        follow::{Follower, Offsets, Stream},
        insist::bury,
        keeper,
    },
    Process, Reattach, State,
    error::{Result, at, not_there},
    talk::{is_gone, stream},
};

/// How long a supervisor may take no connection while others wait for it too.
const ACCEPT_MAX: Duration = Duration::from_secs(5);

impl Process {
    /// Finds the process of an attempt again, and goes on reading where `from` says.
    ///
    /// # Errors
    /// When nothing was started in `dir`; then nothing ever will be.
    pub fn reattach(dir: &Path, from: Offsets) -> Result<Reattach> {
        let make = |state| Self {
            dir: dir.to_owned(),
            stdout: Follower::new(Stream::Stdout, dir.join(files::STDOUT), from.stdout),
            stderr: Follower::new(Stream::Stderr, dir.join(files::STDERR), from.stderr),
            first: Stream::Stdout,
            state,
            pending: Vec::new(),
        };
        if let Some(record) = read_exit(dir)? {
            if let Ok(Some(running)) = read_running(dir) {
                keeper::let_end(&running);
            }
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
}

/// The supervisor was lost: its keeper ends what it has left, or we do.
pub(super) fn find_buried(dir: &Path) -> Result<ExitRecord> {
    let running = read_running(dir)?.ok_or_else(|| not_there(dir))?;
    keeper::wait_for(&running);
    Ok(read_exit(dir)?.unwrap_or_else(|| bury(&running)))
}

pub(super) fn connect(dir: &Path, running: &Running) -> io::Result<State> {
    Ok(State::Running {
        orders: stream(dir)?,
        input: None,
        who: Box::new(running.clone()),
        insistence: None,
    })
}

/// The same, where it may be stopped: too many wait for it then. One that takes nobody though it was continued
/// counts as gone: nobody could ever tell it anything.
pub(super) fn connect_in_time(dir: &Path, running: &Running) -> io::Result<State> {
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

pub(super) fn read_exit(dir: &Path) -> Result<Option<ExitRecord>> {
    files::read_json(dir, EXIT).map_err(at("read how it ended", dir))
}

pub(super) fn read_running(dir: &Path) -> Result<Option<Running>> {
    files::read_json(dir, RUNNING).map_err(at("read who runs", dir))
}
