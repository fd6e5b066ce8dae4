//! Signals that end a process, unless whoever started it wants them ignored.
//!
//! `nohup` ignores SIGHUP for what it starts, and a shell without job control ignores SIGINT for what it
//! starts with `&`: the end of the terminal, and Ctrl-C for the command in front, are not meant for it. So
//! by the convention of Unix, what was ignored at the start stays ignored.

use std::{fs, future, io, sync::OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What this process ignored before it took any handler, as a set of bits.
static IGNORED: OnceLock<u64> = OnceLock::new();

/// A signal that is listened for, or that stays ignored.
#[derive(Debug)]
pub struct Heard(Option<Signal>);

/// Listens for a signal from now on, unless this process was started with it ignored.
pub fn hear(kind: SignalKind) -> io::Result<Heard> {
    // IMPORTANT: asked before the handler is there, after which it is not ignored any more.
    match is_ignored(kind) {
        true => Ok(Heard(None)),
        false => signal(kind).map(Some).map(Heard),
    }
}

impl Heard {
    /// Waits for the signal; for ever for one that is ignored.
    pub async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => future::pending().await,
        }
    }
}

/// Whether this process was started with that signal ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let ignored = *IGNORED.get_or_init(|| ignored_by("self").unwrap_or_default());
    has(ignored, kind)
}

/// Whether another process ignores it.
pub fn ignores(pid: u32, kind: SignalKind) -> io::Result<bool> {
    ignored_by(&pid.to_string()).map(|ignored| has(ignored, kind))
}

/// Lets what this process starts have the usual SIGHUP, SIGINT and SIGQUIT, whatever it ignores itself: for a
/// daemon in a session of its own, which no terminal sends any. A handler is not inherited as "ignore" is.
pub fn usual_for_children() -> io::Result<()> {
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ] {
        if is_ignored(kind) {
            // The handler is what counts; nobody waits for the signal itself.
            drop(signal(kind)?);
        }
    }
    Ok(())
}

fn ignored_by(process: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    Ok(ignored(&status).unwrap_or_default())
}

/// The line `SigIgn` of `/proc/PID/status`.
fn ignored(status: &str) -> Option<u64> {
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

fn has(ignored: u64, kind: SignalKind) -> bool {
    let bit = u32::try_from(kind.as_raw_value() - 1).ok();
    let bit = bit.and_then(|bit| 1_u64.checked_shl(bit));
    bit.is_some_and(|bit| ignored & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_what_is_ignored_are_read() {
        let status = "Name:\tcat\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        let ignored = ignored(status).unwrap();
        assert!(has(ignored, SignalKind::hangup()));
        assert!(has(ignored, SignalKind::pipe()));
        assert!(!has(ignored, SignalKind::interrupt()));
        assert!(!has(ignored, SignalKind::terminate()));
        assert_eq!(super::ignored("Name:\tcat\n"), None);
    }
}
