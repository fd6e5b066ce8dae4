//! Holds the processes of an attempt together, so that none outlives it: in a cgroup where that
//! is possible, and by descent in any case.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt, io,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, getpid};
use serde::{Deserialize, Serialize};

use super::{
    birth,
    bounds::{Bounds, FirstVersion},
    cgroup::{self, Cgroup},
    family,
    limits::{Limits, Met},
};

/// How long processes may take to die once they were killed.
pub(super) const EMPTY_MAX: Duration = Duration::from_secs(10);
/// How long the first look after a kill is waited for; each later one a little longer, so that what
/// dies at once is noticed at once.
const ROUND: Duration = Duration::from_micros(500);
/// The longest time between two looks.
const ROUND_MAX: Duration = Duration::from_millis(5);

/// How the processes of an attempt are held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMethod {
    /// A cgroup that the kernel empties at once.
    Cgroup,
    /// A cgroup that is emptied process by process.
    CgroupProcs,
    /// By descent: orphans come to the supervisor, and when that is killed to its keeper.
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

/// What this machine can do for attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// How it can hold the processes of one together.
    pub kill_method: KillMethod,
    /// The limits that each gets: those that were asked for, and defaults, as far as the kernel
    /// keeps them.
    pub limits: Limits,
    /// Those that were asked for and that the kernel does not keep here.
    pub refused: Limits,
}

impl Abilities {
    /// The limits in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self.refused.is_empty() {
            true => self.limits.to_string(),
            false => format!("{}; not kept here: {}", self.limits, self.refused),
        }
    }
}

/// Looks at what this machine can do for attempts of which each shall have the limits `asked`, and
/// `defaults` where that costs nothing. Makes the cgroup of the worker ready for it, and removes what was
/// left there.
#[must_use]
pub fn abilities(asked: Limits, defaults: Limits) -> Abilities {
    cgroup::share_controllers();
    cgroup::sweep();
    let name = format!("orchestra-probe-{}", getpid());
    let cgroup = Cgroup::create(&name).ok();
    let path = cgroup.as_ref().map(Cgroup::path);
    let kept = |limits, first| {
        let bounds = Bounds::make(limits, &name, path, first);
        bounds.remove();
        bounds.kept(limits)
    };
    let own = kept(asked, FirstVersion::Too);
    let others = kept(defaults.without(asked), FirstVersion::Not);
    let kill_method = cgroup
        .as_ref()
        .map_or(KillMethod::Subreaper, Cgroup::method);
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    Abilities {
        kill_method,
        limits: own.or(others),
        refused: asked.without(own),
    }
}

/// Finds out, once for this process and those that are forked from it, whether programs can be born
/// in a cgroup. Only for a process that has one thread.
pub(super) fn try_births() {
    let Ok(cgroup) = Cgroup::create(&format!("orchestra-probe-{}", getpid())) else {
        return;
    };
    let _known = cgroup.open().map(|dir| birth::is_possible(&dir));
    cgroup.remove();
}

/// The processes of one attempt.
#[derive(Debug)]
pub(super) struct Cage {
    cgroup: Option<Cgroup>,
    bounds: Bounds,
}

impl Cage {
    /// Makes the best cage that there is here, with the limits that the kernel keeps. `name` must be
    /// new on this machine.
    pub fn new(name: &str, limits: Limits) -> Self {
        let cgroup = Cgroup::create(name).ok().filter(|cgroup| {
            // IMPORTANT: who cannot leave again would be killed with the rest.
            let usable = cgroup.open().is_ok_and(|dir| birth::is_possible(&dir))
                || cgroup.enter().and_then(|()| cgroup.leave()).is_ok();
            if !usable {
                cgroup.remove();
            }
            usable
        });
        let path = cgroup.as_ref().map(Cgroup::path);
        let bounds = Bounds::make(limits, name, path, FirstVersion::Too);
        Self { cgroup, bounds }
    }

    /// A cage that holds by descent, with the limits that need no cgroup of the second version.
    pub fn by_descent(name: &str, limits: Limits) -> Self {
        Self {
            cgroup: None,
            bounds: Bounds::make(limits, name, None, FirstVersion::Too),
        }
    }

    /// Directories that only [`Cage::clear`] takes down.
    pub fn bounds(&self) -> Vec<PathBuf> {
        self.bounds.dirs()
    }

    /// How often limits were met. Before [`Cage::clear`].
    pub fn met(&self) -> Met {
        self.bounds.met()
    }

    pub fn method(&self) -> KillMethod {
        self.cgroup
            .as_ref()
            .map_or(KillMethod::Subreaper, Cgroup::method)
    }

    pub fn cgroup(&self) -> Option<OsString> {
        self.cgroup.as_ref().map(|cgroup| cgroup.path().into())
    }

    /// Starts a program inside of the cage. For a supervisor that has one thread yet.
    pub fn start(&self, command: &mut Command) -> io::Result<Pid> {
        let cgroup = self.cgroup.as_ref();
        if let Some(cgroup) = cgroup.filter(|_| self.bounds.are_in_the_cgroup()) {
            match birth::spawn_into(&cgroup.open()?, command) {
                Ok(pid) => return Ok(pid),
                Err(birth::Error::Program(error)) => return Err(error),
                Err(birth::Error::NotThere) => {}
            }
        }
        self.bounds.enter()?;
        cgroup.map_or(Ok(()), Cgroup::enter)?;
        let started = command.spawn();
        cgroup.map_or(Ok(()), Cgroup::leave)?;
        self.bounds.leave()?;
        Ok(Pid::from_child(&started?))
    }

    /// Ends every process once, from a supervisor: in the cgroup, and every descendant of this process.
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        family::kill_own();
    }

    /// Whether nothing is left. For who waits for no child: see [`family::is_gone`].
    pub fn is_empty(&self) -> bool {
        self.cgroup.as_ref().is_none_or(Cgroup::is_empty) && family::is_gone()
    }

    /// What is in it, as far as one look finds it. Nothing of that is spared.
    pub fn living(&self) -> Vec<i32> {
        let below = family::kill(getpid().as_raw_pid(), 0);
        let inside = self.cgroup.iter().flat_map(Cgroup::living);
        let all: BTreeSet<i32> = below.into_iter().chain(inside).collect();
        all.into_iter().collect()
    }

    /// Ends everything and takes the cage down. False when something could not be ended.
    pub fn clear(&self) -> bool {
        let empty = until(EMPTY_MAX, || {
            self.is_empty() || {
                self.kill();
                self.is_empty()
            }
        });
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| empty) {
            cgroup.remove();
        }
        self.bounds.remove();
        empty
    }
}

/// Ends what a supervisor that is gone has left in its cgroup. Nothing else can be found then:
/// orphans belong to somebody else. None where it was ended, else what is known of the rest.
pub(super) fn clear_abandoned(cgroup: PathBuf) -> Option<Vec<i32>> {
    let cgroup = Cgroup::at(cgroup);
    let empty = until(EMPTY_MAX, || {
        cgroup.kill();
        cgroup.is_empty()
    });
    match empty {
        true => {
            cgroup.remove();
            None
        }
        false => Some(cgroup.living()),
    }
}

/// Tries again and again until it is done, or has taken longer than `max`.
pub(super) fn until(max: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + max;
    let mut round = ROUND;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(round);
        round = (round * 2).min(ROUND_MAX);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let abilities = || abilities(Limits::default(), Limits::default());
        assert_eq!(abilities(), abilities());
        assert!(abilities().limits.is_empty() && abilities().refused.is_empty());
        assert!(!abilities().kill_method.to_string().is_empty());
    }
}
