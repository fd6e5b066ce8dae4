//! A process by its number and start time, so that a number used again is never taken for it.

use std::{fs, io, os::fd::OwnedFd, time::Duration};

use orchestra_config::signals;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::signal::unix::SignalKind;

/// How often a process is looked at that shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process that lives: the file descriptor stays its own, whatever happens to the number.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// The process `pid` that started at `start_time` (clock ticks after boot, as in
    /// `/proc/PID/stat`), if it still lives.
    pub fn find(pid: u32, start_time: u64) -> io::Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(number, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // IMPORTANT: compare after the descriptor is open, so that it is this very process.
        match running_since(pid)? {
            Some(since) if since == start_time => Ok(Some(Self { pid, fd })),
            Some(_) | None => Ok(None),
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether a signal has stopped it, so that it does nothing until it is continued.
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| fields(&stat).next() == Some("T"))
    }

    /// Asks it to end.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Asks a worker to end without its agents, also one that was started with SIGHUP ignored.
    pub fn hang_up(&self) -> io::Result<()> {
        match signals::ignores(self.pid, SignalKind::hangup()) {
            Ok(true) => self.signal(Signal::USR1),
            // One that has ended needs no signal.
            Ok(false) | Err(_) => self.signal(Signal::HUP),
        }
    }

    /// Lets one that a signal has stopped go on.
    pub fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> io::Result<()> {
        while !self.has_ended()? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until it has ended, for `limit` at most. Says whether it has.
    pub async fn ended_within(&self, limit: Duration) -> io::Result<bool> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if self.has_ended()? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The descriptor becomes readable when the process ends.
    fn has_ended(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default()))?;
        Ok(!fds[0].revents().is_empty())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// When process `pid` started; none if it has ended (a zombie has).
fn running_since(pid: u32) -> io::Result<Option<u64>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(start_time(&stat)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The fields of `/proc/PID/stat` from the state on, the third. The program's name, the second, may hold
/// spaces and parentheses.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_ascii_whitespace()
}

/// Field 22 of `/proc/PID/stat`.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = fields(stat);
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 7777 1 1 1";
        assert_eq!(start_time(stat), Some(7777));
        assert_eq!(
            start_time("42 (x) Z 1 42 42 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 7777 1"),
            None
        );
        assert_eq!(start_time("nonsense"), None);
    }

    #[tokio::test]
    async fn a_number_with_another_start_time_is_another_process() {
        let me = std::process::id();
        let since = running_since(me).unwrap().unwrap();
        assert!(Process::find(me, since).unwrap().is_some());
        assert!(Process::find(me, since + 1).unwrap().is_none());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let since = running_since(child.id()).unwrap().unwrap();
        let process = Process::find(child.id(), since).unwrap().unwrap();
        assert!(!process.ended_within(Duration::ZERO).await.unwrap());
        process.terminate().unwrap();
        assert!(process.ended_within(Duration::from_secs(30)).await.unwrap());
        child.wait().unwrap();
        process.terminate().unwrap();
        assert!(Process::find(child.id(), since).unwrap().is_none());
    }
}
