//! The options of a worker that was not stopped in order: an upgrade (`ctl stop --leave-agents`) and a crash
//! change nothing of how many agents may run. `ctl stop` forgets them.

use std::{fs, io, path::PathBuf};

use orchestra_config::{StateDir, durable};
use orchestra_types::time::millis;
use serde::{Deserialize, Serialize};

use super::{Args, agents::AgentCount};
use crate::error::{OrFailed, Result};

/// What the local worker is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    #[serde(default)]
    agents: Vec<String>,
    #[serde(default)]
    slots: Option<u32>,
    #[serde(default)]
    stop_within_ms: Option<u64>,
}

impl Options {
    /// As the command line says.
    pub fn of(args: &Args) -> Self {
        Self {
            agents: args.agents.iter().map(AgentCount::to_string).collect(),
            slots: args.slots,
            stop_within_ms: args.stop_within.map(millis),
        }
    }

    /// With those of the last start where there are none. Who says how many agents may run says it anew as a
    /// whole: slots are the sum of agents where nobody names them.
    fn or(self, last: Self) -> Self {
        let count = !self.agents.is_empty() || self.slots.is_some();
        let (agents, slots) = match count {
            true => (self.agents, self.slots),
            false => (last.agents, last.slots),
        };
        Self {
            agents,
            slots,
            stop_within_ms: self.stop_within_ms.or(last.stop_within_ms),
        }
    }

    /// As arguments of `ctl worker`.
    pub fn arguments(&self) -> Vec<String> {
        let agents = (!self.agents.is_empty()).then(|| self.agents.join(","));
        let slots = self.slots.map(|slots| slots.to_string());
        let within = self.stop_within_ms.map(|ms| format!("{ms}ms"));
        let options = [
            ("--agents", agents),
            ("--slots", slots),
            ("--stop-within", within),
        ];
        let given = options
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?]));
        given.flatten().collect()
    }

    /// Those of `args`, else those of the last start; and which of them are of that one, in words.
    pub fn or_of(args: &Args, last: Self) -> (Self, Option<String>) {
        let given = Self::of(args);
        let known = given.arguments();
        let all = given.or(last);
        let pairs = all.arguments();
        let taken = pairs.chunks(2).filter(|pair| !known.contains(&pair[0]));
        let taken: Vec<String> = taken.map(|pair| pair.join(" ")).collect();
        (all, Some(taken.join(" ")).filter(|taken| !taken.is_empty()))
    }

    /// Those of the last start that was not followed by a stop in order.
    pub fn of_last(state: &StateDir) -> Result<Self> {
        match fs::read(path(state)) {
            Ok(text) => serde_json::from_slice(&text).or_failed(|| failed(state)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).or_failed(|| failed(state)),
        }
    }

    /// Keeps them for the next start.
    pub fn keep(&self, state: &StateDir) -> Result<()> {
        if *self == Self::default() {
            return forget(state);
        }
        let text = serde_json::to_vec(self).expect("texts and numbers are JSON");
        let kept = durable::replace(&path(state), &text, durable::Access::Private);
        kept.or_failed(|| failed(state))
    }
}

fn path(state: &StateDir) -> PathBuf {
    state.worker().join("options.json")
}

fn failed(state: &StateDir) -> String {
    format!(
        "failed to read, write or remove `{}`",
        path(state).display()
    )
}

/// The next start is as its own command line says.
pub fn forget(state: &StateDir) -> Result<()> {
    match fs::remove_file(path(state)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).or_failed(|| failed(state))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(agents: &[&str], slots: Option<u32>, within: Option<u64>) -> Options {
        Options {
            agents: agents.iter().map(ToString::to_string).collect(),
            slots,
            stop_within_ms: within,
        }
    }

    #[test]
    fn what_is_said_anew_goes_before_what_was_said_last() {
        let last = options(&["claude:1", "codex:1"], None, Some(5000));
        assert_eq!(Options::default().or(last.clone()), last);
        let all = options(&[], Some(3), None).or(last.clone());
        assert_eq!(all, options(&[], Some(3), Some(5000)), "four of each kind");
        let all = options(&["claude:2"], None, Some(1)).or(last);
        assert_eq!(
            all.arguments(),
            ["--agents", "claude:2", "--stop-within", "1ms"]
        );
    }

    #[test]
    fn they_are_kept_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        fs::create_dir(state.worker()).unwrap();
        let some = options(&["shell:2"], Some(2), None);
        assert_eq!(Options::of_last(&state).unwrap(), Options::default());
        some.keep(&state).unwrap();
        assert_eq!(Options::of_last(&state).unwrap(), some);
        forget(&state).unwrap();
        forget(&state).unwrap();
        assert_eq!(Options::of_last(&state).unwrap(), Options::default());
    }
}
