//! Who a process is. A pid alone is reused; a pid, its start time and the boot are not.

use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, for as long as the machine is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pid: i32,
    /// Clock ticks since the boot.
    start: u64,
    boot: String,
}

/// One line of `/proc/PID/stat`, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub parent: i32,
    pub zombie: bool,
    start: u64,
}

impl Identity {
    /// The process that has this pid.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let pid = pid.as_raw_pid();
        let start = stat(pid)?.start;
        Ok(Self {
            pid,
            start,
            boot: boot()?,
        })
    }

    /// This process.
    pub fn me() -> io::Result<Self> {
        Self::of(rustix::process::getpid())
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
            && stat(self.pid).is_ok_and(|stat| stat.start == self.start && !stat.zombie)
    }

    /// Sends a signal to it and to nobody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid = Pid::from_raw(self.pid).ok_or_else(gone)?;
        // IMPORTANT: the descriptor first; then the identity that is checked is what it holds.
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        if !self.is_alive() {
            return Err(gone());
        }
        Ok(pidfd_send_signal(fd, signal)?)
    }
}

fn boot() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Reads `/proc/PID/stat`.
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&String::from_utf8_lossy(&text))
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has another form")))
}

/// The name of the program stands in brackets and may hold anything, brackets too.
fn parse_stat(text: &str) -> Option<Stat> {
    const START: usize = 19;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    let zombie = matches!(words.next()?, "Z" | "X");
    let parent = words.next()?.parse().ok()?;
    let start = words.nth(START - 2)?.trim().parse().ok()?;
    Some(Stat {
        parent,
        zombie,
        start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_forge_its_stat() {
        let text = "7 (a) R 1 (x) Z) S 42 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9 9";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                parent: 42,
                zombie: false,
                start: 12345
            }
        );
    }

    #[test]
    fn a_reused_pid_is_somebody_else() {
        let me = Identity::me().unwrap();
        assert!(me.is_alive());
        let other = Identity {
            start: me.start + 1,
            ..me.clone()
        };
        assert!(!other.is_alive() && other.signal(Signal::CONT).is_err());
        let earlier_boot = Identity {
            boot: "another".to_owned(),
            ..me
        };
        assert!(!earlier_boot.is_alive());
    }
}
