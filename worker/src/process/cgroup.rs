//! A cgroup (v2) of an attempt's own.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, test_kill_process},
};

use super::{cage::KillMethod, family};

/// How many cgroups may lie below an attempt's before they are left to the administrator.
const NESTED_MAX: usize = 1000;
/// How long an empty cgroup lies there before nobody can be about to use it.
const LEFT_FOR: Duration = Duration::from_secs(60 * 60);
/// A cgroup of this name is the worker's own, and the one above it is the worker's to divide: then
/// nothing but cgroups lies there, as the kernel wants it before it gives controllers to them.
/// `deploy/systemd/orchestra-worker.service.d/limits.conf` sees to that.
const OURS: &str = "orchestra-worker";

/// A cgroup (v2) of our own.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    home: PathBuf,
}

impl Cgroup {
    /// One that is there already, below another.
    pub fn at(path: PathBuf) -> Self {
        let home = path.parent().unwrap_or(&path).to_owned();
        Self { path, home }
    }

    /// Makes one below the cgroup of this process; beside it, where that one is named [`OURS`].
    pub fn create(name: &str) -> io::Result<Self> {
        let home = home()?;
        let path = base(&home).join(name);
        fs::create_dir(&path)?;
        Ok(Self { path, home })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, for who is to be born in it.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
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
    pub fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        let me = getpid().as_raw_pid();
        for dir in self.all() {
            for pid in members(&dir).into_iter().filter(|pid| *pid != me) {
                // Who left, or ended by itself, is not meant.
                let _gone = family::signal(pid, Signal::KILL, |_| members(&dir).contains(&pid));
            }
        }
    }

    /// Whether no process is in it.
    pub fn is_empty(&self) -> bool {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(text) => text.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// The processes in it and in those below.
    pub fn living(&self) -> Vec<i32> {
        self.all().iter().flat_map(|dir| members(dir)).collect()
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

    /// Takes it down, with those below.
    pub fn remove(&self) {
        for dir in self.all().iter().rev() {
            // What is not empty stays; the record of the exit says that something survived.
            let _stays = fs::remove_dir(dir);
        }
    }
}

/// Lets the cgroups of attempts have the controllers that ours has. What is refused stays without:
/// a cgroup with processes in it, as one of a login is, cannot give controllers to those below.
pub(super) fn share_controllers() {
    let Ok(home) = own_dir() else { return };
    let base = base(&home);
    for controller in ["memory", "pids", "cpu"] {
        let _stays = fs::write(
            base.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

/// Removes what is left of supervisors that were killed after they had made a cgroup and before they
/// had written down which.
pub(super) fn sweep() {
    if let Ok(home) = own_dir() {
        sweep_below(base(&home), LEFT_FOR);
    }
}

/// Only what lies there for long, of our names, with nothing in it, and made by a process that is gone.
fn sweep_below(base: &Path, left_for: Duration) {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    for entry in entries {
        let made = entry.metadata().and_then(|meta| meta.modified());
        let age = made.map(|made| made.elapsed().unwrap_or_default());
        let is_gone = |pid| test_kill_process(pid) == Err(Errno::SRCH);
        if maker(&entry.file_name()).is_some_and(is_gone) && age.is_ok_and(|age| age >= left_for) {
            // The kernel keeps one with processes or cgroups in it.
            let _stays = fs::remove_dir(entry.path());
        }
    }
}

/// Who made the cgroup of this name, if one of us did.
fn maker(name: &OsStr) -> Option<Pid> {
    let rest = name.to_str()?.strip_prefix("orchestra-")?;
    let rest = rest.strip_prefix("probe-").unwrap_or(rest);
    let pid = rest.split('-').next()?.parse().ok()?;
    Pid::from_raw(pid).filter(|pid| pid.as_raw_pid() > 0)
}

/// Below which cgroup those of attempts are made.
fn base(home: &Path) -> &Path {
    match (home.file_name(), home.parent()) {
        (Some(name), Some(parent)) if name == OURS => parent,
        (Some(_) | None, _) => home,
    }
}

/// Where this process was when it, or the one that it was forked from, was first asked.
fn home() -> io::Result<PathBuf> {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    if let Some(home) = HOME.get() {
        return Ok(home.clone());
    }
    let found = own_dir()?;
    Ok(HOME.get_or_init(|| found).clone())
}

fn own_dir() -> io::Result<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo")?;
    let own = fs::read("/proc/self/cgroup")?;
    own_cgroup(&mounts, &own).ok_or_else(|| io::Error::other("there is no cgroup v2 here"))
}

/// The directory of this process in the hierarchy of a controller of the first version.
pub(super) fn v1_dir(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let own = fs::read("/proc/self/cgroup").ok()?;
    own_v1_cgroup(&mounts, &own, controller)
}

/// The processes in a cgroup.
fn members(dir: &Path) -> BTreeSet<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The directory of the cgroup (v2) that a process is in, from its `mountinfo` and `cgroup`.
fn own_cgroup(mounts: &[u8], own: &[u8]) -> Option<PathBuf> {
    let own = own
        .split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))?;
    find(mounts, own, |mount| mount.kind == b"cgroup2")
}

/// The same of the first version, for one controller.
fn own_v1_cgroup(mounts: &[u8], own: &[u8], controller: &str) -> Option<PathBuf> {
    let has = |names: &[u8]| {
        let mut names = names.split(|b| *b == b',');
        names.any(|name| name == controller.as_bytes())
    };
    let own = own.split(|b| *b == b'\n').find_map(|line| {
        let mut parts = line.splitn(3, |b| *b == b':').skip(1);
        parts.next().filter(|names| has(names))?;
        parts.next()
    })?;
    find(mounts, own, |mount| {
        mount.kind == b"cgroup" && has(mount.options)
    })
}

/// Where `own` lies in the first of the mounts that are meant and show it.
fn find(mounts: &[u8], own: &[u8], is_meant: impl Fn(&Mount<'_>) -> bool) -> Option<PathBuf> {
    let mounts = mounts.split(|b| *b == b'\n').filter_map(Mount::parse);
    let mut found = mounts.filter(|mount| is_meant(mount));
    found.find_map(|mount| {
        let root = &mount.root;
        let below = own.strip_prefix(root.strip_suffix(b"/").unwrap_or(root))?;
        let below = below.strip_prefix(b"/").unwrap_or(below);
        Some(PathBuf::from(OsString::from_vec(mount.place)).join(OsStr::from_bytes(below)))
    })
}

/// One line of `mountinfo`.
struct Mount<'l> {
    root: Vec<u8>,
    place: Vec<u8>,
    kind: &'l [u8],
    /// Of the file system: for the first version of cgroups, its controllers.
    options: &'l [u8],
}

impl<'l> Mount<'l> {
    fn parse(line: &'l [u8]) -> Option<Self> {
        let mut words = line.split(|b| *b == b' ');
        let root = unescape(words.nth(3)?);
        let place = unescape(words.next()?);
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        Some(Self {
            root,
            place,
            kind: words.next()?,
            options: words.nth(1)?,
        })
    }
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
    fn a_controller_of_the_first_version_is_found_by_its_name() {
        let mounts = "36 31 0:36 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      37 31 0:37 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let own = b"9:name=systemd:/x\n4:memory:/a:b\n2:cpu,cpuacct:/\n0::/\n";
        let found = |name| own_v1_cgroup(mounts.as_bytes(), own, name);
        assert_eq!(found("memory"), Some("/sys/fs/cgroup/memory/a:b".into()));
        assert_eq!(found("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/".into()));
        assert_eq!(found("pids"), None);
    }

    #[test]
    fn only_what_dead_supervisors_left_is_swept_away() {
        let base = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (dead, me) = (child.id(), getpid().as_raw_pid());
        child.wait().unwrap();
        let make = |name: String| fs::create_dir_all(base.path().join(name)).unwrap();
        make(format!("orchestra-{dead}-1795644013076"));
        make(format!("orchestra-probe-{dead}"));
        make(format!("orchestra-{dead}-1/of-the-agent"));
        for kept in [
            format!("orchestra-{me}-1795644013076"),
            format!("other-{dead}-1"),
            "orchestra-worker".to_owned(),
            "orchestra--1".to_owned(),
        ] {
            make(kept);
        }
        let left = || {
            let names = fs::read_dir(base.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        sweep_below(base.path(), LEFT_FOR);
        assert_eq!(left().len(), 7, "all are young");
        sweep_below(base.path(), Duration::ZERO);
        let expected = [
            format!("orchestra-{dead}-1"),
            format!("orchestra-{me}-1795644013076"),
            format!("other-{dead}-1"),
            "orchestra-worker".to_owned(),
            "orchestra--1".to_owned(),
        ];
        assert_eq!(left(), BTreeSet::from(expected));
    }

    #[test]
    fn attempts_lie_beside_a_worker_whose_cgroup_is_its_own() {
        let delegated = Path::new("/sys/fs/cgroup/system.slice/w.service/orchestra-worker");
        assert_eq!(base(delegated), delegated.parent().unwrap());
        let session = Path::new("/sys/fs/cgroup/user.slice/session-2.scope");
        assert_eq!(base(session), session);
    }
}
