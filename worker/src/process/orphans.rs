//! What a worker that was killed has left running for itself: its calls of git. Agents are not
//! meant: they belong to their supervisors, and run on.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpid};

use super::identity::Identity;

/// How long they may take to end; a process in the middle of writing to a slow disk takes a while.
const END_MAX: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_millis(5);

/// Ends every git that works on a repository below one of `dirs`. False when one cannot be ended.
///
/// Only for directories of an attempt whose agent does not run: its git would be meant as well.
pub fn end_orphans(dirs: &[&Path]) -> bool {
    let deadline = Instant::now() + END_MAX;
    loop {
        let orphans = orphans(dirs);
        for orphan in &orphans {
            // It may have ended by itself.
            let _gone = orphan.signal(Signal::KILL);
        }
        if orphans.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(ROUND);
    }
}

fn orphans(dirs: &[&Path]) -> Vec<Identity> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let others = pids.filter(|pid| *pid != getpid());
    let identities = others.filter_map(|pid| Some((Identity::of(pid).ok()?, pid)));
    // The identity was taken first: who has got the pid since then is not signalled.
    let ours = identities.filter(|(_, pid)| works_below(*pid, dirs));
    ours.map(|(identity, _)| identity)
        .filter(Identity::is_alive)
        .collect()
}

/// Whether the repository in its environment lies below one of `dirs`.
fn works_below(pid: Pid, dirs: &[&Path]) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap_or_default();
    let mut repositories = environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(b"GIT_DIR="))
        .map(|value| Path::new(OsStr::from_bytes(value)));
    repositories.any(|repository| dirs.iter().any(|dir| repository.starts_with(dir)))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn git(dir: &Path) -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").env("GIT_DIR", dir);
        command.spawn().unwrap()
    }

    #[test]
    fn what_works_on_another_attempt_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let [ours, other] = ["task_001.1", "task_001.10"].map(|name| tmp.path().join(name));
        let (mut orphan, mut bystander) = (git(&ours.join("git")), git(&other.join("git")));
        assert!(end_orphans(&[&ours]));
        assert!(bystander.try_wait().unwrap().is_none(), "it was ended too");
        bystander.kill().unwrap();
        assert!(!orphan.wait().unwrap().success());
        bystander.wait().unwrap();
    }
}
