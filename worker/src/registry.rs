//! The runners of this machine: looked for at the start, and now and then again.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use orchestra_config::RunnerConfig;
use orchestra_types::{
    RunnerName,
    runner::{Readiness, RunnerInfo},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    account::Surroundings,
    cli::{Glance, Probe, glance, probe},
    clock,
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
        found
    }

    /// Who pays, and whether somebody is logged in.
    fn name_accounts(&self, runners: &mut [RunnerInfo]) {
        let surroundings = self.surroundings();
        for info in runners.iter_mut().filter(|info| info.agentic) {
            let config = self.runners.get(&info.name);
            info.account = Some(surroundings.account(&info.name, config));
            info.login = surroundings.login(&info.name, config);
        }
    }

    async fn found(&self) -> Vec<RunnerInfo> {
        let set = |name: &str| self.variable(name).is_some_and(|value| !value.is_empty());
        let path = self.variable("PATH").cloned().unwrap_or_default();
        probe(&Probe {
            runners: &self.runners,
            slots: self.slots,
            path: &path,
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
        let path = self.variable("PATH").cloned().unwrap_or_default();
        glance(&self.runners, &path)
    }

    /// What is another thing when a program has come, gone or changed: the directories that are searched,
    /// and what was found. To look for each program in each of them would take ten times as many calls.
    fn surface(&self, programs: &[Option<Glance>]) -> Vec<Option<Glance>> {
        let path = self.variable("PATH").cloned().unwrap_or_default();
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
