//! Holds the processes of an attempt together, so that none outlives it: in a cgroup where that
//! is possible, and by descent in any case.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt, fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use serde::{Deserialize, Serialize};

use super::identity;

/// How long processes may take to die once they were killed.
const EMPTY_MAX: Duration = Duration::from_secs(10);
/// How often the remaining processes are killed again and counted.
const ROUND: Duration = Duration::from_millis(5);
/// How many cgroups may lie below an attempt's before they are left to the administrator.
const NESTED_MAX: usize = 1000;

/// How the processes of an attempt are held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMethod {
    /// A cgroup that the kernel empties at once.
    Cgroup,
    /// A cgroup that is emptied process by process.
    CgroupProcs,
    /// By descent: orphans come to the supervisor.
    Subreaper,
}

impl fmt::Display for KillMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "cgroup",
            Self::CgroupProcs => "cgroup-procs",
            Self::Subreaper => "subreaper",
        })
    }
}

/// How this machine can hold the processes of an attempt together.
#[must_use]
pub fn kill_method() -> KillMethod {
    let name = format!("orchestra-probe-{}", getpid());
    match Cgroup::create(&name) {
        Ok(cgroup) => {
            let method = cgroup.method();
            cgroup.remove();
            method
        }
        Err(_) => KillMethod::Subreaper,
    }
}

/// A cgroup (v2) of our own.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    home: PathBuf,
}

impl Cgroup {
    /// Makes one below the cgroup of this process.
    pub fn create(name: &str) -> io::Result<Self> {
        let mounts = fs::read("/proc/self/mountinfo")?;
        let own = fs::read("/proc/self/cgroup")?;
        let home = own_cgroup(&mounts, &own)
            .ok_or_else(|| io::Error::other("there is no cgroup v2 here"))?;
        let path = home.join(name);
        fs::create_dir(&path)?;
        Ok(Self { path, home })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn method(&self) -> KillMethod {
        match self.path.join("cgroup.kill").exists() {
            true => KillMethod::Cgroup,
            false => KillMethod::CgroupProcs,
        }
    }

    /// Moves this process into it; what is started then is born there.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
    }

    /// Moves this process back.
    pub fn leave(&self) -> io::Result<()> {
        fs::write(self.home.join("cgroup.procs"), "0")
    }

    /// Ends everything in it, once.
    fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        for dir in self.all() {
            let me = getpid().as_raw_pid();
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            let pids = text.lines().filter_map(|line| line.parse().ok());
            pids.filter(|pid| *pid != me).for_each(kill_pid);
        }
    }

    fn is_empty(&self) -> bool {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(text) => text.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// It and those below, the deepest last.
    fn all(&self) -> Vec<PathBuf> {
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while next < found.len() && found.len() < NESTED_MAX {
            let entries = fs::read_dir(&found[next]).into_iter().flatten().flatten();
            let dirs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            let dirs: Vec<_> = dirs.map(|e| e.path()).collect();
            found.extend(dirs);
            next += 1;
        }
        found
    }

    fn remove(&self) {
        for dir in self.all().iter().rev() {
            // What is not empty stays; the record of the exit says that something survived.
            let _stays = fs::remove_dir(dir);
        }
    }
}

/// The processes of one attempt.
#[derive(Debug)]
pub(super) struct Cage {
    cgroup: Option<Cgroup>,
}

impl Cage {
    /// Makes the best cage that there is here. `name` must be new on this machine.
    pub fn new(name: &str) -> Self {
        let cgroup = Cgroup::create(name).ok().filter(|cgroup| {
            // IMPORTANT: who cannot leave again would be killed with the rest.
            let usable = cgroup.enter().and_then(|()| cgroup.leave()).is_ok();
            if !usable {
                cgroup.remove();
            }
            usable
        });
        Self { cgroup }
    }

    pub fn method(&self) -> KillMethod {
        self.cgroup
            .as_ref()
            .map_or(KillMethod::Subreaper, Cgroup::method)
    }

    pub fn cgroup(&self) -> Option<OsString> {
        self.cgroup.as_ref().map(|cgroup| cgroup.path().into())
    }

    /// Runs `start` inside of the cage.
    pub fn start<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(cgroup) = &self.cgroup else {
            return start();
        };
        cgroup.enter()?;
        let started = start();
        cgroup.leave()?;
        started
    }

    /// Ends every process once, from a supervisor: in the cgroup, and every descendant of this process.
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        descendants().into_iter().for_each(kill_pid);
    }

    /// Whether nothing is left. Zombies are nothing.
    pub fn is_empty(&self) -> bool {
        self.cgroup.as_ref().is_none_or(Cgroup::is_empty) && descendants().is_empty()
    }

    /// Ends everything and takes the cage down. False when something could not be ended.
    pub fn clear(&self) -> bool {
        let empty = until_empty(|| {
            self.kill();
            reap();
            self.is_empty()
        });
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| empty) {
            cgroup.remove();
        }
        empty
    }
}

/// Ends what a supervisor that is gone has left in its cgroup. Nothing else can be found then:
/// orphans belong to somebody else. False when something could not be ended.
pub(super) fn clear_abandoned(cgroup: PathBuf) -> bool {
    let home = cgroup.parent().unwrap_or(&cgroup).to_owned();
    let cgroup = Cgroup { path: cgroup, home };
    let empty = until_empty(|| {
        cgroup.kill();
        cgroup.is_empty()
    });
    if empty {
        cgroup.remove();
    }
    empty
}

/// Kills again and again until nothing is left, or it has taken too long.
fn until_empty(mut kill: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + EMPTY_MAX;
    while !kill() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(ROUND);
    }
    true
}

/// Takes the exit of every child that has ended.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

fn kill_pid(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// Every living process that descends from this one.
fn descendants() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all: Vec<_> = pids
        .filter_map(|pid| Some((pid, identity::stat(pid).ok()?)))
        .collect();
    let mut family = BTreeSet::from([getpid().as_raw_pid()]);
    loop {
        let before = family.len();
        for (pid, stat) in &all {
            if family.contains(&stat.parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    let living = all
        .iter()
        .filter(|(_, stat)| !stat.zombie)
        .map(|(pid, _)| *pid);
    let me = getpid().as_raw_pid();
    living
        .filter(|pid| *pid != me && family.contains(pid))
        .collect()
}

/// The directory of the cgroup (v2) that a process is in, from its `mountinfo` and `cgroup`.
fn own_cgroup(mounts: &[u8], own: &[u8]) -> Option<PathBuf> {
    let own = own
        .split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))?;
    let mut found = mounts.split(|b| *b == b'\n').filter_map(cgroup2_mount);
    found.find_map(|(root, place)| {
        let below = own.strip_prefix(root.strip_suffix(b"/").unwrap_or(&root))?;
        let below = below.strip_prefix(b"/").unwrap_or(below);
        Some(PathBuf::from(OsString::from_vec(place)).join(std::ffi::OsStr::from_bytes(below)))
    })
}

/// Root and place of a mount, when it is one of cgroup2.
fn cgroup2_mount(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut words = line.split(|b| *b == b' ');
    let root = unescape(words.nth(3)?);
    let place = unescape(words.next()?);
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    (kind == b"cgroup2").then_some((root, place))
}

/// `mountinfo` writes spaces and the like as `\040`.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            Some(_) | None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_in_every_layout() {
        let hybrid = "36 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let own = "8:pids:/\n0::/user.slice/a\n";
        let found = own_cgroup(hybrid.as_bytes(), own.as_bytes());
        assert_eq!(found, Some("/sys/fs/cgroup/unified/user.slice/a".into()));
        let container = "30 23 0:26 /docker/x /sys/fs/my\\040cgroup rw - cgroup2 cgroup rw\n";
        let found = own_cgroup(container.as_bytes(), b"0::/docker/x/y\n");
        assert_eq!(found, Some("/sys/fs/my cgroup/y".into()));
        assert_eq!(own_cgroup(b"", b"0::/\n"), None);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let method = kill_method();
        assert_eq!(method, kill_method());
        assert!(!method.to_string().is_empty());
    }
}
