//! Where there are no cgroups: a process above the supervisor that does nothing but wait for it.
//!
//! ```text
//! worker ── keeper ── supervisor ── CLI ── …
//! ```
//!
//! What descends from a supervisor can be found only by descent. When the supervisor itself is
//! killed, all of that would come to the machine's first process and be lost among others, even a
//! CLI that was started a moment before. With a keeper it comes to the keeper, which ends it.

use std::{
    env,
    ffi::OsString,
    io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use orchestra_types::Exit;

use super::{
    cage::{self, Cage, KillMethod},
    files::{self, EXIT, ExitRecord, RUNNING, Running},
    limits::Limits,
};

/// Says to a supervisor that it has a keeper.
const KEPT: &str = "ORCHESTRA_KEPT";
/// How long a keeper may take to end what a killed supervisor has left, and to say so.
const BURIED_WITHIN: Duration = Duration::from_secs(15);

/// Whether this supervisor has a keeper.
pub(super) fn is_kept() -> bool {
    env::var_os(KEPT).is_some()
}

/// Starts the supervisor of `dir` by these arguments of our own program, waits for its end, as its
/// keeper, and, when it did not say how its CLI ended, ends what it has left and says that instead.
pub(super) fn keep(dir: &Path, args: &[OsString]) -> io::Result<()> {
    // Our own program, also when another was installed in its place.
    let mut supervisor = Command::new("/proc/self/exe")
        .args(args)
        .env(KEPT, "1")
        .stdin(Stdio::null())
        .spawn()?;
    let status = supervisor.wait()?;
    let cage = Cage::by_descent("", Limits::default());
    let cleared = cage.clear();
    let ended = files::read_json::<ExitRecord>(dir, EXIT)?;
    let running = files::read_json::<Running>(dir, RUNNING)?;
    match running.filter(|_| ended.is_none()) {
        Some(running) => {
            let method = KillMethod::Subreaper;
            let mut record = ExitRecord::bare(Exit::Unknown, running.started_at, method);
            files::remove_dirs(&running.bounds);
            record.left_processes = true;
            record.survivors = !cleared;
            if !cleared {
                record.surviving = cage.living();
            }
            files::write_json(dir, EXIT, &record)
        }
        None if status.success() => Ok(()),
        None => Err(io::Error::other(format!("the supervisor: {status}"))),
    }
}

/// The supervisor has ended as it should, and so will its keeper, unless an agent has stopped that: nobody would
/// ever look after it.
pub(super) fn let_end(running: &Running) {
    if let Some(keeper) = &running.keeper {
        keeper.wake();
    }
}

/// Waits until the keeper of a supervisor that is gone has ended what that has left.
pub(super) fn wait_for(running: &Running) {
    if let Some(keeper) = &running.keeper {
        // One that hangs is not waited for for ever.
        let _hangs = cage::until(BURIED_WITHIN, || {
            keeper.wake();
            !keeper.is_alive()
        });
    }
}
