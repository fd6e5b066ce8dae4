//! One system call that fails: of which kind, and how manieth.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::Campaign;
use crate::helper::{self, CALLS, Fault};

pub(super) const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const ERRORS: [(i32, &str); 2] = [(EIO, "EIO"), (ENOSPC, "ENOSPC")];
/// Each kind of call fails at so many places at most, spread over all that one round makes.
const PLACES_MAX: u64 = 60;

/// What fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub calls: &'static str,
    pub errno: i32,
    pub error: &'static str,
    pub at: u64,
}

impl Case {
    /// Nothing fails; calls are counted.
    pub const NONE: Self = Self {
        calls: "",
        errno: 0,
        error: "nothing",
        at: 0,
    };
}

/// Each kind of call, with each error, at places spread over all that were made.
pub(super) fn cases(calls: &[u64]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, made) in CALLS.into_iter().zip(calls) {
        let places = PLACES_MAX.min(*made);
        for place in 1..=places {
            cases.extend(ERRORS.map(|(errno, error)| Case {
                calls: kind,
                errno,
                error,
                at: place * made / places,
            }));
        }
    }
    cases
}

/// The library that makes calls fail, and what it tells.
#[derive(Debug)]
pub(super) struct Faults {
    library: PathBuf,
    hits: PathBuf,
    counts: PathBuf,
}

impl Faults {
    pub fn new(campaign: &Campaign) -> anyhow::Result<Self> {
        let tools = campaign.dir("tools")?;
        Ok(Self {
            library: helper::fault_library(&tools)?,
            hits: tools.join("hits"),
            counts: tools.join("counts"),
        })
    }

    /// The environment of a process that meets `case` on files whose path contains `path`. It counts from
    /// the beginning, together with those that it starts.
    pub fn environment(&self, case: Case, path: &Path) -> anyhow::Result<Vec<(String, String)>> {
        self.forget_hits()?;
        helper::new_counts(&self.counts)?;
        let fault = Fault {
            path,
            calls: &format!(",{},", case.calls),
            at: case.at,
            count: 1,
            errno: case.errno,
            log: &self.hits,
            counts: Some(&self.counts),
        };
        Ok(fault.environment(&self.library))
    }

    /// What was hit; empty when nothing was.
    pub fn hits(&self) -> String {
        fs::read_to_string(&self.hits).unwrap_or_default()
    }

    pub fn forget_hits(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.hits) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("failed to remove the list of hits")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// How often each kind of call was made since [`Self::environment`].
    pub fn counts(&self) -> anyhow::Result<Vec<u64>> {
        helper::counts(&self.counts)
    }
}
