//! Where supervisors come from: a small process of the worker's that has everything behind it that
//! a supervisor needs before it knows its attempt, and makes each by a fork.
//!
//! ```text
//! worker ──order── nursery ──fork── supervisor ── CLI ── …
//! ```
//!
//! It never reads what an attempt is to run, so that no supervisor has anything of another one. It
//! ends with its worker, whatever ends that; supervisors live on. Without it the worker starts them
//! itself.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    io::{self, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::OpenOptionsExt,
        },
    },
    panic,
    path::Path,
    process::{ExitCode, Stdio},
    sync::{Mutex, PoisonError},
};

use orchestra_config::{open_files, program};
use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, poll},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, WaitOptions, fchdir, pidfd_open, setsid, wait},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use tokio::process::{Child, Command};

use super::{
    birth, cage,
    files::SUPERVISOR_LOG,
    identity::{self, Identity},
    signals, supervisor,
};
use crate::SelfCommand;

/// The subcommand of this.
const NURSERY: &str = "nursery";
/// The subcommand of a supervisor, for a keeper that starts one.
const SUPERVISE: &str = "supervise";
/// The longest name of a directory.
const NAME_BYTES_MAX: usize = 4096;

/// The worker's side of it.
#[derive(Debug)]
pub struct Nursery {
    me: SelfCommand,
    door: Mutex<Option<Door>>,
}

/// A nursery that runs. It ends when this is dropped.
#[derive(Debug)]
struct Door {
    orders: OwnedFd,
    /// tokio takes the exit of a child that was dropped.
    process: Child,
    /// None where it was gone at once.
    who: Option<Identity>,
}

impl Nursery {
    /// One that is started when it is needed. `me` is how to run ourselves.
    #[must_use]
    pub fn new(me: SelfCommand) -> Self {
        Self {
            me,
            door: Mutex::new(None),
        }
    }

    /// How to run ourselves.
    pub(super) fn me(&self) -> &SelfCommand {
        &self.me
    }

    /// Starts it ahead, so that the first attempt need not wait for that. Must be called where
    /// there is a runtime.
    pub fn open(&self) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if door.is_none() {
            *door = Door::open(&self.me)
                .inspect_err(|error| tracing::warn!(%error, "supervisors are started one by one"))
                .ok();
        }
    }

    /// Has a supervisor made for the attempt in `dir`. What it says comes from the pipe; one that
    /// says nothing was not made.
    pub(super) fn raise(&self, dir: &Path) -> io::Result<OwnedFd> {
        let (ready, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        // IMPORTANT: the directory itself, and not its name: a supervisor that is late must never
        // touch another one that was made in its place.
        let held = openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let order = [held.as_fd(), tell.as_fd()];
        let send = || {
            let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            let door = door.as_ref().ok_or(Errno::NOTCONN)?;
            door.wake();
            send_order(door.orders.as_fd(), dir.as_os_str().as_bytes(), &order)
        };
        self.open();
        if send().is_err() {
            // It was killed, or has not read hundreds of orders: another one.
            self.end();
            self.open();
            send()?;
        }
        Ok(ready)
    }

    /// Ends it, whatever it does. The supervisors that it has made live on, and another is opened when it is needed.
    pub(super) fn end(&self) {
        let door = self
            .door
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut door) = door {
            // It may have ended before.
            let _gone = door.process.start_kill();
        }
    }
}

impl Door {
    fn open(me: &SelfCommand) -> io::Result<Self> {
        let (orders, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = Command::new(&me.exe)
            .args(&me.prefix)
            .arg(NURSERY)
            // IMPORTANT: for the allocator, before it begins: each thread of a supervisor would have
            // memory of its own else. No CLI gets this: it inherits nothing.
            .env("MALLOC_ARENA_MAX", "1")
            // For its supervisors: it has a file for each of them itself.
            .envs(open_files::variable())
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        Ok(Self {
            orders,
            process,
            who: pid.and_then(|pid| Identity::of(pid).ok()),
        })
    }

    /// Continues it where it is stopped: neither orders nor its end would reach it.
    fn wake(&self) {
        if self.who.as_ref().is_some_and(Identity::wake) {
            tracing::warn!("the process that makes supervisors was stopped; it goes on");
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.wake();
    }
}

fn send_order(to: BorrowedFd<'_>, name: &[u8], order: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(order)) {
        return Err(Errno::NOBUFS);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(to, &[io::IoSlice::new(name)], &mut control, flags).map(drop)
}

/// What the nursery is told of an attempt.
struct Order {
    /// Its directory's name, for people.
    name: OsString,
    dir: OwnedFd,
    tell: OwnedFd,
}

/// The whole life of a nursery.
#[must_use]
pub fn nursery_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nursery: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    signals::reset()?;
    // A terminal's signals and hang-up are not meant for supervisors.
    let _leader = setsid();
    cage::try_births();
    let _known_to_all = identity::boot();
    program::let_go();
    let orders = rustix::stdio::stdin();
    let mut children = Vec::new();
    loop {
        let asked = wait_for_order(orders, &children)?;
        reap(&mut children);
        if asked {
            match receive(orders)? {
                Some(order) => children.extend(raise(order)),
                // The worker is gone.
                None => return Ok(()),
            }
        }
    }
}

/// A supervisor that was made here, and what tells that it has ended.
type Made = (Pid, Option<OwnedFd>);

/// Waits until there is an order, or the end of the worker, or the end of a supervisor; false for the last.
fn wait_for_order(orders: BorrowedFd<'_>, children: &[Made]) -> io::Result<bool> {
    let ends = children.iter().filter_map(|(_, end)| end.as_ref());
    let mut all = vec![PollFd::from_borrowed_fd(orders, PollFlags::IN)];
    all.extend(ends.map(|end| PollFd::new(end, PollFlags::IN)));
    match poll(&mut all, None) {
        Ok(_) => Ok(!all[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the exits of supervisors.
fn reap(children: &mut Vec<Made>) {
    while let Ok(Some((ended, _))) = wait(WaitOptions::NOHANG) {
        children.retain(|(pid, _)| *pid != ended);
    }
}

fn receive(from: BorrowedFd<'_>) -> io::Result<Option<Order>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = vec![0; NAME_BYTES_MAX];
    let mut parts = [io::IoSliceMut::new(&mut name)];
    let got = recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut held = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            held.extend(rights);
        }
    }
    name.truncate(got.bytes);
    match <[OwnedFd; 2]>::try_from(held) {
        Ok([dir, tell]) => Ok(Some(Order {
            name: OsString::from_vec(name),
            dir,
            tell,
        })),
        Err(none) if none.is_empty() && got.bytes == 0 => Ok(None),
        Err(_) => Err(io::Error::other("an order of another kind")),
    }
}

/// Makes a supervisor. One that cannot be made closes the pipe, and the worker sees that.
fn raise(order: Order) -> Option<Made> {
    let name = order.name.clone();
    let made = birth::fork(|| {
        become_supervisor(order)?;
        supervisor::supervise(&keeper_args(&name)).inspect_err(|error| log(&error.to_string()))
    });
    let pid = made
        .inspect_err(|error| eprintln!("nursery: no supervisor was made: {error}"))
        .ok()?;
    Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()))
}

/// In the child: what `exec` would have done.
fn become_supervisor(order: Order) -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    fchdir(&order.dir)?;
    dup2_stdin(&null)?;
    dup2_stdout(&order.tell)?;
    dup2_stderr(&null)?;
    panic::set_hook(Box::new(|what| log(&what.to_string())));
    Ok(())
}

/// Says why an attempt has no supervisor, where its worker looks. There is no log without a reason.
fn log(text: &str) {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(SUPERVISOR_LOG);
    // When even that fails, nobody is left to tell.
    let _unheard = file.and_then(|mut file| writeln!(file, "supervisor: {text}"));
}

/// How a keeper starts the supervisor of a directory by this program.
fn keeper_args(name: &OsStr) -> Vec<OsString> {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    args.pop_if(|last| last == NURSERY);
    args.extend([SUPERVISE.into(), name.to_owned()]);
    args
}
