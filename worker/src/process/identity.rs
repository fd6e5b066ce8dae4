//! Who a process is. A pid alone is reused; a pid, its start time and the boot are not.

use std::{fs, io, sync::OnceLock};

use rustix::process::{Pid, Signal, getppid};
use serde::{Deserialize, Serialize};

use super::family;

/// The variable in which a CLI and all that it starts have the mark of their supervisor.
pub(super) const MARK: &str = "ORCHESTRA_SUPERVISED_BY";

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
    /// Dead, all of it: a program whose first thread has ended goes on with the others.
    pub zombie: bool,
    /// By a signal, or by who traces it.
    pub stopped: bool,
    /// Clock ticks since the boot.
    pub start: u64,
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

    /// The parent of this process.
    pub fn parent() -> io::Result<Self> {
        let parent = getppid().ok_or_else(|| io::Error::other("there is no parent"))?;
        Self::of(parent)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot) && stat(self.pid).is_ok_and(|now| self.is(now))
    }

    /// Whether what has its pid in this boot is it, and lives.
    fn is(&self, now: Stat) -> bool {
        now.start == self.start && !now.zombie
    }

    /// Sends a signal to it and to nobody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let here = boot()? == self.boot;
        family::signal(self.pid, signal, |now| here && self.is(now))
    }

    /// Continues it where it is stopped; whether it was.
    pub fn wake(&self) -> bool {
        let stopped = self.is_alive() && stat(self.pid).is_ok_and(|now| now.stopped);
        if stopped {
            // It may be gone by now.
            let _gone = self.signal(Signal::CONT);
        }
        stopped
    }

    /// Kills every living descendant of it that one look at the machine finds; which.
    pub fn kill_below(&self) -> Vec<i32> {
        match self.is_alive() {
            true => family::kill(self.pid, self.start),
            false => Vec::new(),
        }
    }

    /// Whether the machine was restarted since: nothing of then lives.
    pub fn is_of_another_boot(&self) -> bool {
        boot().is_ok_and(|boot| boot != self.boot)
    }

    /// What it puts into the environment of what it starts, as no other process does.
    pub fn mark(&self) -> String {
        format!("{}.{}.{}", self.boot, self.pid, self.start)
    }

    /// Kills every living process that has its mark, as far as one look finds and sees it; which.
    pub fn kill_marked(&self) -> Vec<i32> {
        family::kill_marked(&format!("{MARK}={}", self.mark()))
    }

    /// Its number, for people.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

/// This boot. No process lives through two of them.
pub(super) fn boot() -> io::Result<String> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot.clone());
    }
    let boot = orchestra_config::boot_id()?;
    Ok(BOOT.get_or_init(|| boot).clone())
}

/// Reads `/proc/PID/stat`.
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&String::from_utf8_lossy(&text))
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has another form")))
}

/// The name of the program stands in brackets and may hold anything, brackets too.
fn parse_stat(text: &str) -> Option<Stat> {
    const THREADS: usize = 17;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?;
    let (ended, stopped) = (matches!(state, "Z" | "X"), matches!(state, "T" | "t"));
    let parent = words.next()?.parse().ok()?;
    let threads: u32 = words.nth(THREADS - 2)?.parse().ok()?;
    let start = words.nth(1)?.trim().parse().ok()?;
    Some(Stat {
        parent,
        zombie: ended && threads <= 1,
        stopped,
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
                stopped: false,
                start: 12345
            }
        );
    }

    #[test]
    fn a_program_goes_on_when_its_first_thread_has_ended() {
        let text = |threads| {
            format!("7 (a) Z 42 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 12345 9")
        };
        assert!(parse_stat(&text(1)).unwrap().zombie);
        assert!(!parse_stat(&text(2)).unwrap().zombie);
    }

    #[test]
    fn who_is_stopped_is_known_and_goes_on_when_it_is_woken() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let who = Identity::of(Pid::from_child(&child)).unwrap();
        assert!(!who.wake(), "it runs");
        who.signal(Signal::STOP).unwrap();
        while !stat(who.pid).unwrap().stopped {
            std::thread::yield_now();
        }
        assert!(who.wake());
        while stat(who.pid).unwrap().stopped {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!who.wake());
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
