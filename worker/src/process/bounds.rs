//! The kernel's side of limits: files of cgroups, of the second version where its controllers are
//! ours to use, else of the first.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    cgroup::v1_dir,
    limits::{Limits, Met},
};

/// How long the kernel counts processor time before it lets it be used again, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Whether controllers of the first version may be used where the second has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstVersion {
    /// For what somebody has asked for.
    Too,
    /// Not for defaults.
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Processes,
    Cpu,
}

/// One limit that the kernel keeps.
#[derive(Debug)]
struct Bound {
    controller: Controller,
    version: Version,
    dir: PathBuf,
}

/// The limits of one attempt that the kernel keeps.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    all: Vec<Bound>,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Processes, Self::Cpu];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "pids",
            Self::Cpu => "cpu",
        }
    }

    fn of(self, limits: Limits) -> Option<u64> {
        match self {
            Self::Memory => limits.memory,
            Self::Processes => limits.processes,
            Self::Cpu => limits.cpu_millis,
        }
    }

    /// What is written where; the first must be there, the rest need not.
    fn settings(self, version: Version, limit: u64) -> Vec<(&'static str, String)> {
        match (self, version) {
            (Self::Memory, Version::Second) => vec![
                ("memory.max", limit.to_string()),
                ("memory.swap.max", "0".to_owned()),
            ],
            (Self::Memory, Version::First) => vec![
                ("memory.limit_in_bytes", limit.to_string()),
                ("memory.memsw.limit_in_bytes", limit.to_string()),
            ],
            (Self::Processes, Version::First | Version::Second) => {
                vec![("pids.max", limit.to_string())]
            }
            (Self::Cpu, Version::Second) => {
                vec![("cpu.max", format!("{} {CPU_PERIOD}", cpu_quota(limit)))]
            }
            (Self::Cpu, Version::First) => vec![("cpu.cfs_quota_us", cpu_quota(limit).to_string())],
        }
    }

    /// Where the kernel counts how often the limit was met, and under which word.
    fn count(self, version: Version) -> Option<(&'static str, &'static str)> {
        match (self, version) {
            (Self::Memory, Version::Second) => Some(("memory.events", "oom_kill")),
            (Self::Memory, Version::First) => Some(("memory.oom_control", "oom_kill")),
            (Self::Processes, Version::First | Version::Second) => Some(("pids.events", "max")),
            (Self::Cpu, Version::First | Version::Second) => None,
        }
    }
}

impl Bound {
    /// Makes the limit hold, in the attempt's cgroup `second` or in one of the first version.
    fn make(
        controller: Controller,
        limit: u64,
        name: &str,
        second: Option<&Path>,
        first: FirstVersion,
    ) -> Option<Self> {
        let in_second = second.map(|dir| Self {
            controller,
            version: Version::Second,
            dir: dir.to_owned(),
        });
        if let Some(bound) = in_second.filter(|bound| bound.set(limit).is_ok()) {
            return Some(bound);
        }
        if first == FirstVersion::Not {
            return None;
        }
        let dir = v1_dir(controller.name())?.join(name);
        fs::create_dir(&dir).ok()?;
        let bound = Self {
            controller,
            version: Version::First,
            dir,
        };
        // IMPORTANT: as for the cgroup itself, who could not leave again must not enter.
        let usable = bound.set(limit).and_then(|()| bound.enter());
        if usable.and_then(|()| bound.leave()).is_err() {
            bound.remove();
            return None;
        }
        Some(bound)
    }

    fn set(&self, limit: u64) -> io::Result<()> {
        for (index, (file, value)) in self
            .controller
            .settings(self.version, limit)
            .into_iter()
            .enumerate()
        {
            let path = self.dir.join(file);
            // IMPORTANT: a file that is not there must not be made; in a cgroup none can be.
            let written = fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
            if index == 0 {
                written?;
            }
        }
        Ok(())
    }

    fn enter(&self) -> io::Result<()> {
        match self.version {
            Version::First => fs::write(self.dir.join("cgroup.procs"), "0"),
            Version::Second => Ok(()),
        }
    }

    fn leave(&self) -> io::Result<()> {
        match (self.version, self.dir.parent()) {
            (Version::First, Some(home)) => fs::write(home.join("cgroup.procs"), "0"),
            (Version::First, None) | (Version::Second, _) => Ok(()),
        }
    }

    fn remove(&self) {
        if self.version == Version::First {
            // One that is not empty stays, as the record of the exit says.
            let _stays = fs::remove_dir(&self.dir);
        }
    }

    fn met(&self) -> u64 {
        let Some((file, word)) = self.controller.count(self.version) else {
            return 0;
        };
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        count(&text, word)
    }
}

/// Microseconds of each period that so many thousandths of a processor are.
fn cpu_quota(millis: u64) -> u64 {
    millis.saturating_mul(CPU_PERIOD / 1000)
}

/// The number behind a word, one of each on a line.
fn count(text: &str, word: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(name, _)| *name == word);
    found
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

impl Bounds {
    /// Makes those of `limits` hold that can be kept here. `second` is the attempt's cgroup; where
    /// another is needed it gets `name`, which must be new on this machine.
    pub fn make(limits: Limits, name: &str, second: Option<&Path>, first: FirstVersion) -> Self {
        let wanted = Controller::ALL.into_iter();
        let wanted = wanted.filter_map(|c| Some((c, c.of(limits)?)));
        let made = wanted.filter_map(|(c, limit)| Bound::make(c, limit, name, second, first));
        Self {
            all: made.collect(),
        }
    }

    /// Those of `limits` that the kernel keeps.
    pub fn kept(&self, limits: Limits) -> Limits {
        let has = |controller| self.all.iter().any(|bound| bound.controller == controller);
        Limits {
            memory: limits.memory.filter(|_| has(Controller::Memory)),
            processes: limits.processes.filter(|_| has(Controller::Processes)),
            cpu_millis: limits.cpu_millis.filter(|_| has(Controller::Cpu)),
        }
    }

    /// How often they were met.
    pub fn met(&self) -> Met {
        let of = |controller| {
            let bounds = self
                .all
                .iter()
                .filter(|bound| bound.controller == controller);
            bounds.map(Bound::met).sum()
        };
        Met {
            oom_kills: of(Controller::Memory),
            forks_refused: of(Controller::Processes),
            disk_full: false,
        }
    }

    /// Whether all of them hold in the attempt's cgroup.
    pub fn are_in_the_cgroup(&self) -> bool {
        self.all
            .iter()
            .all(|bound| bound.version == Version::Second)
    }

    /// Moves this process below them, where that is not done with its cgroup.
    pub fn enter(&self) -> io::Result<()> {
        self.all.iter().try_for_each(Bound::enter)
    }

    /// Moves this process back.
    pub fn leave(&self) -> io::Result<()> {
        self.all.iter().try_for_each(Bound::leave)
    }

    /// Takes down what lies outside of the attempt's cgroup.
    pub fn remove(&self) {
        self.all.iter().for_each(Bound::remove);
    }

    /// What [`Bounds::remove`] takes down, for when nobody is left to call it.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let first = self
            .all
            .iter()
            .filter(|bound| bound.version == Version::First);
        first.map(|bound| bound.dir.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_word_in_both_versions() {
        assert_eq!(
            count("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n", "oom_kill"),
            1
        );
        assert_eq!(
            count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"),
            3
        );
        assert_eq!(count("max 12\n", "max"), 12);
        assert_eq!(count("", "max"), 0);
    }

    #[test]
    fn a_directory_without_controllers_keeps_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            memory: Some(1 << 30),
            processes: Some(100),
            cpu_millis: Some(500),
        };
        let bounds = Bounds::make(limits, "x", Some(dir.path()), FirstVersion::Not);
        assert!(bounds.kept(limits).is_empty());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "it made files"
        );
        assert_eq!(bounds.met(), Met::default());
    }

    #[test]
    fn limits_are_written_in_the_words_of_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["memory.max", "pids.max", "cpu.max"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let limits = Limits {
            memory: Some(1 << 30),
            processes: Some(100),
            cpu_millis: Some(1500),
        };
        let bounds = Bounds::make(limits, "x", Some(dir.path()), FirstVersion::Not);
        assert_eq!(bounds.kept(limits), limits);
        let read = |file| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(read("memory.max"), "1073741824");
        assert_eq!(read("pids.max"), "100");
        assert_eq!(read("cpu.max"), "150000 100000");
        fs::write(dir.path().join("memory.events"), "oom 1\noom_kill 2\n").unwrap();
        assert_eq!(bounds.met().oom_kills, 2);
    }

    #[test]
    fn a_limit_beyond_all_machines_is_written_as_it_is() {
        for controller in Controller::ALL {
            for version in [Version::First, Version::Second] {
                let settings = controller.settings(version, u64::MAX);
                let (_, value) = &settings[0];
                assert!(value.starts_with(&u64::MAX.to_string()), "{settings:?}");
            }
        }
    }
}
