//! The supervisor's side of the connections to workers.

use std::{
    io::BufReader,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
};

use rustix::{
    net::{SendFlags, send},
    process::{Pid, Signal, kill_process_group},
};

use super::{
    cage::Cage,
    link::{Frame, GREW},
};
use crate::ballast;

/// Most workers that are told of new output; there is one, and another after a restart.
const LISTENERS_MAX: usize = 8;

/// How many files of ballast one attempt may take: one while it runs, the others for its end.
const BALLAST_FILES: u32 = 2;

/// What the threads of a supervisor share.
pub(super) struct Shared {
    pub cage: Cage,
    /// A worker wants the end of everything: no last output is waited for.
    killed: AtomicBool,
    /// How many files of ballast may still be removed, and where they are.
    ballast: Mutex<(u32, PathBuf)>,
    /// The CLI's process group; none once the CLI was reaped and its pid may be another's.
    group: Mutex<Option<Pid>>,
    listeners: Mutex<Vec<UnixStream>>,
}

/// What is done to the CLI's standard input.
pub(super) enum Input {
    Bytes(Vec<u8>),
    Close,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(cage: Cage, ballast: PathBuf) -> Self {
        Self {
            cage,
            killed: AtomicBool::new(false),
            ballast: Mutex::new((BALLAST_FILES, ballast)),
            group: Mutex::new(None),
            listeners: Mutex::new(Vec::new()),
        }
    }

    /// The disk has no room for output, and the CLI waits with it: it may know what to remove.
    pub fn make_room_to_go_on(&self) {
        self.release(BALLAST_FILES - 1);
    }

    /// The disk has no room for the end, and nothing runs any more that would take it.
    pub fn make_room_to_end(&self) {
        self.release(0);
    }

    /// Removes a file of ballast, unless no more than these may be removed later.
    fn release(&self, left: u32) {
        let (files, dir) = &mut *lock(&self.ballast);
        // Where there is none, room is waited for.
        if *files > left && ballast::release(dir) {
            *files -= 1;
        }
    }

    /// The CLI runs.
    pub fn set_group(&self, pid: Pid) {
        *lock(&self.group) = Some(pid);
    }

    /// Calls `reap`, which may make a pid free, while nobody sends signals. When it returns true,
    /// nobody sends any afterwards.
    pub fn reap(&self, reap: impl FnOnce() -> bool) {
        let mut group = lock(&self.group);
        if reap() {
            *group = None;
        }
    }

    /// Tells every worker that there may be more output. A worker that does not read has been
    /// told before.
    pub fn tell(&self) {
        lock(&self.listeners).retain(|stream| {
            let sent = send(stream, &[GREW], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            matches!(sent, Ok(_) | Err(rustix::io::Errno::AGAIN))
        });
    }

    /// Tells every worker that this is the end, which is written down. The end of this process would
    /// tell it too, but only behind all of its memory.
    pub fn hang_up(&self) {
        for stream in lock(&self.listeners).drain(..) {
            // A worker that is gone needs no word.
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether a worker has ended everything.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.cage.kill();
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = *lock(&self.group) {
            // The group may have ended by itself.
            let _gone = kill_process_group(group, signal);
        }
    }

    fn add_listener(&self, stream: &UnixStream) {
        let Ok(stream) = stream.try_clone() else {
            return;
        };
        let mut listeners = lock(&self.listeners);
        if listeners.len() >= LISTENERS_MAX {
            listeners.remove(0);
        }
        listeners.push(stream);
    }
}

/// Takes connections for ever: the threads end with the process.
pub(super) fn serve(listener: UnixListener, shared: Arc<Shared>, input: SyncSender<Input>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (shared, input) = (Arc::clone(&shared), input.clone());
            thread::spawn(move || converse(&stream, &shared, &input));
        }
    });
}

fn converse(stream: &UnixStream, shared: &Shared, input: &SyncSender<Input>) {
    shared.add_listener(stream);
    shared.tell();
    let mut from = BufReader::new(stream);
    // A worker that breaks off in the middle of a frame, or speaks nonsense, is only hung up on.
    while let Ok(Some(frame)) = Frame::read(&mut from) {
        match frame {
            // After the CLI's end nobody takes input any more.
            Frame::Input(bytes) => drop(input.send(Input::Bytes(bytes))),
            Frame::CloseInput => drop(input.send(Input::Close)),
            Frame::Interrupt => shared.signal(Signal::INT),
            Frame::Terminate => shared.signal(Signal::TERM),
            Frame::Kill => shared.kill(),
        }
    }
}
