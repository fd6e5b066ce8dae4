//! Births into a cgroup: a process that is there from its first moment.
//!
//! To move a process into a cgroup the kernel waits for all processors, some ten milliseconds on a
//! machine that was at rest, which would be most of the time that a start takes. A process that is
//! born there waits for nothing. No safe interface has this call.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::OnceLock,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};

/// Why nothing runs.
#[derive(Debug)]
pub(super) enum Error {
    /// The kernel has no such births, or not into this cgroup: another way may do.
    NotThere,
    /// The program cannot be started at all.
    Program(io::Error),
}

/// What one try has shown: a process that was forked later need not try again.
static POSSIBLE: OnceLock<bool> = OnceLock::new();

/// Whether a process can be born in the cgroup whose directory is `cgroup`, or could be in one
/// beside it. Only for a process that has one thread.
pub(super) fn is_possible(cgroup: &File) -> bool {
    *POSSIBLE.get_or_init(|| match fork_into(cgroup, || ()) {
        Ok(pid) => matches!(waitpid(Some(pid), WaitOptions::empty()), Ok(Some(_))),
        Err(_) => false,
    })
}

/// Makes a process that does `child`, with what this one has in memory, and ends. Only for a process
/// that has one thread.
#[expect(unsafe_code, reason = "no safe interface forks")]
pub(super) fn fork(child: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    debug_assert!(has_one_thread(), "{LOCKS}");
    // SAFETY: there is one thread, so that no lock is held by one that the child does not have.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // IMPORTANT: a panic must not go on in the parent's functions.
        let done = catch_unwind(AssertUnwindSafe(child));
        // SAFETY: it ends the child at once, whatever its threads wait for.
        unsafe { libc::_exit(i32::from(!matches!(done, Ok(Ok(()))))) }
    }
    Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error)
}

const LOCKS: &str = "a lock of another thread would never be free in the child";

fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Starts a program in the cgroup whose directory is `cgroup`. Only for a process that has one
/// thread.
pub(super) fn spawn_into(cgroup: &File, command: &mut Command) -> Result<Pid, Error> {
    let (told, tell) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::Program(error.into()))?;
    let (mut told, mut tell) = (File::from(told), File::from(tell));
    let born = fork_into(cgroup, || {
        // It comes back only with an error.
        let error = command.exec().raw_os_error().unwrap_or(0);
        // Whoever does not hear it sees an early end.
        let _unheard = tell.write_all(&error.to_le_bytes());
    });
    let pid = born.map_err(|_| Error::NotThere)?;
    drop(tell);
    let mut error = [0; 4];
    match told.read_exact(&mut error) {
        Ok(()) => {
            // The one that could not become the program has ended.
            let _reaped = waitpid(Some(pid), WaitOptions::empty());
            let error = io::Error::from_raw_os_error(i32::from_le_bytes(error));
            Err(Error::Program(error))
        }
        // The pipe closed by itself when the program began.
        Err(_) => Ok(pid),
    }
}

/// Makes a process in the cgroup that does `child` and ends.
#[expect(unsafe_code, reason = "no safe interface makes a process in a cgroup")]
fn fork_into(cgroup: &File, child: impl FnOnce()) -> io::Result<Pid> {
    debug_assert!(has_one_thread(), "{LOCKS}");
    let refused = || io::Error::from(io::ErrorKind::Unsupported);
    let fd = u64::try_from(cgroup.as_raw_fd()).map_err(|_| refused())?;
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::try_from(libc::SIGCHLD).map_err(|_| refused())?,
        cgroup: fd,
        ..CloneArguments::default()
    };
    // SAFETY: the arguments live until the call is over and have the size that is said. Without
    // CLONE_VM the child has a copy of the memory, as after fork; nothing here has more than one
    // thread, so that no lock is held by one that the child does not have.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    if pid == 0 {
        child();
        // SAFETY: it ends the child at once. Nothing of the parent's, of which it has a copy, may
        // be undone a second time.
        unsafe { libc::_exit(127) }
    }
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    pid.and_then(Pid::from_raw)
        .ok_or_else(io::Error::last_os_error)
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of the kernel.
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}
