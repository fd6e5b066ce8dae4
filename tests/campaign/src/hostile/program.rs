//! The hostile programs themselves: one process in one role.

use std::{
    fs, io,
    os::unix::net::UnixListener,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process, setsid};

use super::{
    kind::{Ending, Kind},
    tree::Tree,
};

/// How often a process looks whether its time is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a short-lived child lives.
const BLINK: Duration = Duration::from_millis(20);
/// How often there is another one.
const FORK_EVERY: Duration = Duration::from_millis(4);
/// How long one of those lives that only start the next.
const RELAY: Duration = Duration::from_micros(500);

/// Runs the process that the arguments ask for.
pub fn main(args: &[String]) -> ExitCode {
    let done = match args {
        [role, kind, ending, rest @ ..] if role == "main" => {
            match (Kind::of(kind), Ending::of(ending), Tree::parse(rest)) {
                (Some(kind), Some(ending), Some(tree)) => first(kind, ending, &tree),
                _ => Err(io::Error::other("unknown words")),
            }
        }
        [role, rest @ ..] => match Tree::parse(rest) {
            Some(tree) => play(role, &tree),
            None => Err(io::Error::other("unknown words")),
        },
        [] => Err(io::Error::other("no role")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Its output may be closed: that is its kind.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The first process of an attempt.
fn first(kind: Kind, ending: Ending, tree: &Tree) -> io::Result<()> {
    grow(kind, tree)?;
    wait_while(tree, || !tree.up_file().exists());
    let partial = tree.main_file().with_extension("partial");
    fs::write(&partial, getpid().as_raw_pid().to_string())?;
    fs::rename(partial, tree.main_file())?;
    match ending {
        Ending::Ends => wait_while(tree, || !tree.go_file().exists()),
        Ending::Cancelled | Ending::Deaf if kind == Kind::Stopped => stop_self()?,
        Ending::Cancelled | Ending::Deaf => wait_while(tree, || true),
    }
    Ok(())
}

/// Starts what shall outlive the first process.
fn grow(kind: Kind, tree: &Tree) -> io::Result<()> {
    match kind {
        Kind::Setsid => silent(&mut tree.role("session")).map(drop),
        Kind::HoldsStdout => tree.role("session").spawn().map(drop),
        Kind::DoubleFork => through(tree, "session"),
        Kind::IgnoresTerm => tree.deaf_role("sleeper").map(drop),
        Kind::Scrubbed => silent(tree.role("session").env_clear().current_dir("/")).map(drop),
        Kind::Stopped => silent(&mut tree.role("stopped")).map(drop),
        Kind::Daemon => through(tree, "daemon"),
        Kind::ForkLoop => {
            silent(&mut tree.role("relay"))?;
            silent(&mut tree.role("forker")).map(drop)
        }
    }
}

/// Starts a role from a process that ends at once.
fn through(tree: &Tree, role: &str) -> io::Result<()> {
    silent(&mut tree.role(&format!("middle-{role}")))?
        .wait()
        .map(drop)
}

fn silent(command: &mut Command) -> io::Result<Child> {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn play(role: &str, tree: &Tree) -> io::Result<()> {
    if let Some(next) = role.strip_prefix("middle-") {
        return tree.role(next).spawn().map(drop);
    }
    match role {
        "sleeper" => sleep(tree),
        "session" => {
            // It was started in the group of its parent, so that it may.
            setsid()?;
            sleep(tree)
        }
        "stopped" => {
            up(tree)?;
            stop_self()
        }
        "daemon" => daemon(tree),
        "forker" => fork_on(tree),
        "blink" => {
            thread::sleep(BLINK);
            Ok(())
        }
        "relay" => {
            thread::sleep(RELAY);
            match tree.left().is_zero() {
                true => Ok(()),
                false => silent(&mut tree.role("relay")).map(drop),
            }
        }
        _ => Err(io::Error::other("no such role")),
    }
}

fn up(tree: &Tree) -> io::Result<()> {
    fs::write(tree.up_file(), "")
}

fn sleep(tree: &Tree) -> io::Result<()> {
    up(tree)?;
    wait_while(tree, || true);
    Ok(())
}

fn stop_self() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::STOP)?)
}

/// As servers of tools are: a session of its own, a socket, and a helper that always comes back.
fn daemon(tree: &Tree) -> io::Result<()> {
    setsid()?;
    let _served = UnixListener::bind(tree.socket())?;
    let mut helper = tree.deaf_role("sleeper")?;
    wait_while(tree, || {
        if let Ok(Some(_)) = helper.try_wait()
            && let Ok(next) = tree.deaf_role("sleeper")
        {
            helper = next;
        }
        true
    });
    Ok(())
}

fn fork_on(tree: &Tree) -> io::Result<()> {
    setsid()?;
    up(tree)?;
    let mut children: Vec<Child> = Vec::new();
    while !tree.left().is_zero() {
        // Where no more can be made for a moment there are enough.
        children.extend(silent(&mut tree.role("blink")).ok());
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        thread::sleep(FORK_EVERY);
    }
    Ok(())
}

fn wait_while(tree: &Tree, mut go_on: impl FnMut() -> bool) {
    while !tree.left().is_zero() && go_on() {
        thread::sleep(LOOK_EVERY);
    }
}
