//! The runners of this machine: looked for at the start, and now and then again.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use orchestra_config::RunnerConfig;
use orchestra_repo::find_git;
use orchestra_types::{
    RunnerName,
    runner::{Readiness, RunnerInfo},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    account::Surroundings,
    cli::{Glance, Probe, glance, probe},
    clock, git,
};

/// How often it is looked whether a program or a login came, went or changed; a few dozen calls.
const GLANCE_EVERY: Duration = Duration::from_secs(5);
/// Every so many of these looks each program is looked for: one that was there and may be run only now has
/// changed no directory.
const WHOLE_ONE_IN: u32 = 12;
/// How often the runners are asked again although nothing has changed on the disk.
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// Looks for runners.
#[derive(Debug)]
pub struct Registry {
    /// The configured ones.
    pub runners: BTreeMap<RunnerName, RunnerConfig>,
    /// How many agents may run at once in all.
    pub slots: u32,
    /// The worker's name.
    pub worker: String,
    /// The worker's environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Registry {
    /// The runners as they are.
    pub async fn look(&self) -> Vec<RunnerInfo> {
        let mut found = self.found().await;
        self.name_accounts(&mut found);
        let lacking = git::lacking(&self.path()).await;
        git::limit(lacking.as_deref(), found)
    }

    /// Who pays, and whether somebody is logged in.
    fn name_accounts(&self, runners: &mut [RunnerInfo]) {
        let surroundings = self.surroundings();
        for info in runners {
            let config = self.runners.get(&info.name);
            if !info.agentic {
                // Nobody can tell what a command uses, unless it is said.
                info.account = config.and_then(|config| config.account.clone());
                continue;
            }
            info.account = Some(surroundings.account(&info.name, config));
            info.login = surroundings.login(&info.name, config);
        }
    }

    async fn found(&self) -> Vec<RunnerInfo> {
        let set = |name: &str| self.variable(name).is_some_and(|value| !value.is_empty());
        probe(&Probe {
            runners: &self.runners,
            slots: self.slots,
            path: &self.path(),
            has_env: &set,
        })
        .await
    }

    /// Keeps `runners` true, for ever. Asking a CLI for its version is a process of its own, and some
    /// are large: they are asked when the programs on the disk are others, and now and then.
    pub async fn keep(self, runners: watch::Sender<Vec<RunnerInfo>>) {
        let mut programs = self.programs();
        let mut surface = self.surface(&programs);
        let mut logins = self.logins();
        let mut asked = Instant::now();
        let mut beats: u32 = 0;
        loop {
            clock::beat(GLANCE_EVERY).await;
            beats = beats.wrapping_add(1);
            let surface_now = self.surface(&programs);
            let programs_now = match surface_now == surface && !beats.is_multiple_of(WHOLE_ONE_IN) {
                true => programs.clone(),
                false => self.programs(),
            };
            surface = surface_now;
            let logins_now = self.logins();
            let found = if programs_now != programs || asked.elapsed() >= AGAIN_AFTER {
                asked = Instant::now();
                self.look().await
            } else if logins_now != logins {
                let mut known = runners.borrow().clone();
                self.name_accounts(&mut known);
                known
            } else {
                continue;
            };
            (programs, logins) = (programs_now, logins_now);
            publish(&runners, found);
        }
    }

    fn programs(&self) -> Vec<Option<Glance>> {
        let path = self.path();
        let mut programs = glance(&self.runners, &path);
        programs.push(find_git(&path).and_then(Glance::at));
        programs
    }

    /// What is another thing when a program has come, gone or changed: the directories that are searched,
    /// and what was found. To look for each program in each of them would take ten times as many calls.
    fn surface(&self, programs: &[Option<Glance>]) -> Vec<Option<Glance>> {
        let path = self.path();
        let dirs: Vec<PathBuf> = env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .collect();
        let commands = self
            .runners
            .values()
            .filter_map(|runner| runner.command.as_deref());
        let own = commands
            .filter(|command| command.contains('/'))
            .map(PathBuf::from);
        let found = programs
            .iter()
            .flatten()
            .map(|found| found.path().to_owned());
        let all = dirs.into_iter().chain(own).chain(found);
        all.map(Glance::at).collect()
    }

    fn logins(&self) -> Vec<Option<SystemTime>> {
        let files = self.surroundings().files().into_iter();
        let changed = |file: PathBuf| file.metadata().and_then(|found| found.modified()).ok();
        files.map(changed).collect()
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            environment: &self.environment,
            worker: &self.worker,
        }
    }

    fn path(&self) -> OsString {
        self.variable("PATH").cloned().unwrap_or_default()
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        let mut all = self.environment.iter();
        all.find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

fn publish(runners: &watch::Sender<Vec<RunnerInfo>>, found: Vec<RunnerInfo>) {
    let changed = *runners.borrow() != found;
    if changed {
        log(&found);
        runners.send_replace(found);
    }
}

/// Says in the log what was found.
pub fn log(runners: &[RunnerInfo]) {
    for info in runners {
        match &info.readiness {
            Readiness::Ready => {
                tracing::info!(runner = %info.name, version = info.version, slots = info.slots, "runner ready");
            }
            Readiness::NotReady { reason } => {
                tracing::info!(runner = %info.name, reason, "runner not ready");
            }
            Readiness::Missing => tracing::debug!(runner = %info.name, "runner not installed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn registry(path: &Path) -> Registry {
        Registry {
            runners: BTreeMap::new(),
            slots: 1,
            worker: "w".to_owned(),
            environment: vec![("PATH".into(), path.into())],
        }
    }

    /// A git that says this version.
    fn install(dir: &Path, version: &str) {
        let file = dir.join("git");
        // Not in its place: who just forked may hold that open for writing.
        let new = dir.join("new");
        fs::write(&new, format!("#!/bin/sh\necho git version {version}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, file).unwrap();
    }

    async fn readiness(registry: &Registry, name: &str) -> Readiness {
        let found = registry.look().await;
        let runner = found.into_iter().find(|info| info.name.as_str() == name);
        runner.unwrap().readiness
    }

    #[tokio::test]
    async fn an_account_that_is_named_counts_for_every_runner() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "2.47.3");
        let account = async |registry: &Registry, name: &str| {
            let found = registry.look().await;
            let runner = found.into_iter().find(|info| info.name.as_str() == name);
            runner.unwrap().account.map(|name| name.to_string())
        };
        let mut registry = registry(dir.path());
        assert_eq!(account(&registry, "shell").await, None);
        for name in ["shell", "agent", "claude"] {
            let config = RunnerConfig {
                account: Some("mine".parse().unwrap()),
                ..RunnerConfig::default()
            };
            registry.runners.insert(name.parse().unwrap(), config);
            assert_eq!(account(&registry, name).await.as_deref(), Some("mine"));
        }
        assert_eq!(account(&registry, "noop").await, None);
    }

    #[tokio::test]
    async fn without_a_git_that_will_do_no_runner_is_ready_and_one_that_comes_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(dir.path());
        let Readiness::NotReady { reason } = readiness(&registry, "shell").await else {
            panic!("it is ready without git");
        };
        assert!(reason.contains("install git 2.38 or newer"), "{reason}");
        assert_eq!(readiness(&registry, "noop").await, Readiness::Ready);

        let before = registry.programs();
        install(dir.path(), "2.30.1");
        let old = registry.programs();
        assert_ne!(before, old, "a look is worth it");
        let Readiness::NotReady { reason } = readiness(&registry, "shell").await else {
            panic!("it is ready with an old git");
        };
        assert!(reason.contains("2.30 is too old"), "{reason}");

        install(dir.path(), "2.47.3");
        assert_ne!(old, registry.programs());
        assert_eq!(readiness(&registry, "shell").await, Readiness::Ready);
    }
}
