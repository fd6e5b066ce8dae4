//! The runners of this machine: looked for at the start, and now and then again.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use orchestra_config::RunnerConfig;
use orchestra_types::{
    RunnerName,
    runner::{Readiness, RunnerInfo},
};
use tokio::{sync::watch, time::sleep};

use crate::{
    account::Surroundings,
    cli::{Probe, probe},
};

/// How often the runners are looked for again: someone may have installed or updated one.
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
        let surroundings = Surroundings {
            environment: &self.environment,
            worker: &self.worker,
        };
        for info in found.iter_mut().filter(|info| info.agentic) {
            let config = self.runners.get(&info.name);
            info.account = Some(surroundings.account(&info.name, config));
        }
        found
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

    /// Keeps `runners` true, for ever.
    pub async fn keep(self, runners: watch::Sender<Vec<RunnerInfo>>) {
        loop {
            sleep(AGAIN_AFTER).await;
            let found = self.look().await;
            runners.send_if_modified(|known| {
                let changed = *known != found;
                *known = found;
                changed
            });
        }
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        let mut all = self.environment.iter();
        all.find(|(n, _)| n == name).map(|(_, value)| value)
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
