//! Accounts at providers.

use orchestra_proto::v1;
use serde::Serialize;

use super::{some, time::Time};

/// An account, in `ctl accounts --json` and, while it is parked, in `ctl status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Provider and fingerprint, a name of the configuration, or `runner@worker`.
    pub name: String,
    /// Attempts that work on it.
    pub in_use: u32,
    /// How many it may have at once; null is no limit.
    pub max: Option<u32>,
    /// How many it bears for a while, after it met its limit again and again.
    pub slowed_to: Option<u32>,
    /// Nothing is started on it before that.
    pub parked_until: Option<Time>,
    /// Why, in the provider's words.
    pub why: Option<String>,
    /// The runners that use it.
    pub runners: Vec<String>,
    /// The ids of the workers that have it.
    pub workers: Vec<String>,
}

impl Account {
    /// Reads the head's answer.
    pub fn read(wire: v1::Account) -> Self {
        Self {
            name: wire.name,
            in_use: wire.in_use,
            max: wire.max,
            slowed_to: wire.slowed_to,
            parked_until: wire.parked_until_ms.map(Time::from_ms),
            why: some(wire.why),
            runners: wire.runners,
            workers: wire.workers,
        }
    }

    /// How many attempts it may have now: `2`, `2 (slowed)`, `no limit`.
    pub fn limit(&self) -> String {
        match (self.max, self.slowed_to) {
            (max, Some(slow)) if max.is_none_or(|max| slow < max) => format!("{slow} (slowed)"),
            (Some(max), _) => max.to_string(),
            (None, _) => "no limit".to_owned(),
        }
    }
}
