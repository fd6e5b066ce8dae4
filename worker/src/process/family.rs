//! The descendants of a process, found by descent: orphans come to it where it is their subreaper, as a
//! supervisor is, and a keeper.
//!
//! IMPORTANT: a number that was seen a moment ago may be another's now. A process is signalled only
//! through a descriptor, and only after it was seen, with the descriptor open, to be the child of
//! one that is known to be ours and has not been replaced meanwhile.

use std::{collections::BTreeMap, fs, io};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, pidfd_send_signal, wait,
};

use super::identity::{Stat, stat};

/// Processes that are known to be ours, with when each was started.
type Family = BTreeMap<i32, u64>;

/// Kills every living descendant of this process that one look at the machine finds.
pub(super) fn kill_own() {
    kill(getpid().as_raw_pid(), 0);
}

/// Kills every living descendant of the process `root`, which was started at `start`, that one look at the
/// machine finds; which.
///
/// A descendant is killed as soon as it is seen: a process that only forks and ends is another one
/// a moment later.
pub(super) fn kill(root: i32, start: u64) -> Vec<i32> {
    let mut family = Family::from([(root, start)]);
    let mut killed = Vec::new();
    let mut rest = Vec::new();
    for pid in pids().filter(|pid| *pid != root) {
        let Ok(stat) = stat(pid) else { continue };
        match family.contains_key(&stat.parent) {
            true => killed.extend(meet(&mut family, pid, stat)),
            false => rest.push((pid, stat)),
        }
    }
    // Numbers wrap: a child may have been listed before its parent.
    loop {
        let (children, others): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|(_, stat)| family.contains_key(&stat.parent));
        if children.is_empty() {
            return killed;
        }
        for (pid, stat) in children {
            killed.extend(meet(&mut family, pid, stat));
        }
        rest = others;
    }
}

/// Kills every living process whose environment has this line, as far as one look at the machine finds it and
/// may read it; which.
pub(super) fn kill_marked(line: &str) -> Vec<i32> {
    let marked = pids().filter(|pid| {
        let Ok(seen) = stat(*pid) else { return false };
        if seen.zombie || !has_line(*pid, line) {
            return false;
        }
        // It may be gone by now, or another have its number: then it is none of ours.
        let is_ours = |now: Stat| now.start == seen.start && has_line(*pid, line);
        signal(*pid, Signal::KILL, is_ours).is_ok()
    });
    marked.collect()
}

/// Whether it was started with this in its environment, and has not written over it.
fn has_line(pid: i32, line: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ"));
    environment.is_ok_and(|all| {
        all.split(|byte| *byte == 0)
            .any(|one| one == line.as_bytes())
    })
}

/// Whether this process has descendants that live. Takes the exit of every child that has ended,
/// so it is only for who waits for none of them.
///
/// Who has no child has no descendant: the child of one that ended came here.
pub(super) fn is_gone() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Takes a child of the family in, and kills it; its number if it was there to be killed.
fn meet(family: &mut Family, pid: i32, seen: Stat) -> Option<i32> {
    if seen.zombie {
        return None;
    }
    let met = signal(pid, Signal::KILL, |now| {
        now.start == seen.start && is_child(family, now)
    });
    met.ok()?;
    family.insert(pid, seen.start);
    Some(pid)
}

/// Whether the parent of a process is the one that the family knows by that number. IMPORTANT: it
/// is looked at after the child, so that it had the number when the child was seen.
fn is_child(family: &Family, child: Stat) -> bool {
    match family.get(&child.parent) {
        None => false,
        Some(_) if child.parent == getpid().as_raw_pid() => true,
        Some(start) => stat(child.parent).is_ok_and(|parent| parent.start == *start),
    }
}

/// Sends a signal to the process that has `pid` now, if `is_ours` says so of it.
pub(super) fn signal(
    pid: i32,
    signal: Signal,
    is_ours: impl FnOnce(Stat) -> bool,
) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let number = Pid::from_raw(pid).ok_or_else(gone)?;
    // IMPORTANT: the descriptor first; then what is looked at is what it holds.
    let held = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(held) => Some(held),
        // A filter of system calls that knows no such call: what is left is to be quick.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => None,
        Err(error) => return Err(error.into()),
    };
    if !is_ours(stat(pid)?) {
        return Err(gone());
    }
    match held {
        Some(held) => pidfd_send_signal(held, signal)?,
        None => kill_process(number, signal)?,
    }
    Ok(())
}

/// Every process of the machine, in the order of numbers.
fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_what_has_the_mark_is_killed() {
        let mark = format!("ORCHESTRA_TEST_MARK={}", std::process::id());
        let marked = |value: &str| {
            let (name, value) = value.split_once('=').unwrap();
            let mut child = Command::new("sleep");
            child.arg("60").env(name, value).spawn().unwrap()
        };
        let (mut ours, mut another) = (marked(&mark), marked(&format!("{mark}0")));
        assert_eq!(kill_marked(&mark), [i32::try_from(ours.id()).unwrap()]);
        assert!(!ours.wait().unwrap().success());
        assert!(another.try_wait().unwrap().is_none(), "it was another's");
        another.kill().unwrap();
        another.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_not_the_one_that_was_seen_is_not_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let seen = stat(pid).unwrap();
        let earlier = Stat {
            start: seen.start - 1,
            ..seen
        };
        let me = getpid().as_raw_pid();
        let mut family = Family::from([(me, 0)]);
        assert_eq!(
            meet(&mut family, pid, earlier),
            None,
            "another had its number"
        );
        // Its parent was replaced by one that took the number.
        let mut strangers = Family::from([(me, 0), (seen.parent + 1, 0)]);
        strangers.remove(&seen.parent);
        assert_eq!(
            meet(&mut strangers, pid, seen),
            None,
            "it is nobody's child"
        );
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(meet(&mut family, pid, seen), Some(pid));
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_parent_whose_number_went_to_another_has_no_children_here() {
        let parent = 1;
        let start = stat(parent).unwrap().start;
        let child = Stat {
            parent,
            zombie: false,
            stopped: false,
            start: 5,
        };
        assert!(is_child(&Family::from([(parent, start)]), child));
        assert!(!is_child(&Family::from([(parent, start + 1)]), child));
    }
}
