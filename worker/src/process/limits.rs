//! What an attempt may use of its machine, and what it means when it wants more.

use std::fmt;

use orchestra_types::{Exit, Failure, FailureCode};
use serde::{Deserialize, Serialize};

/// What one attempt may use, all of its processes together. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processor time, in thousandths of a processor.
    pub cpu_millis: Option<u64>,
}

/// How often an attempt met its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Processes that the kernel ended because the memory was used up.
    pub oom_kills: u64,
    /// Processes that could not be started because there were too many.
    pub forks_refused: u64,
    /// Whether output could not be kept, or its directory could not be written to, because the
    /// disk or the quota was full.
    #[serde(default)]
    pub disk_full: bool,
}

impl Limits {
    /// These, and `others` where there is none.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            memory: self.memory.or(others.memory),
            processes: self.processes.or(others.processes),
            cpu_millis: self.cpu_millis.or(others.cpu_millis),
        }
    }

    /// Those that `given` has not.
    #[must_use]
    pub fn without(self, given: Self) -> Self {
        let lacking = |own: Option<u64>, given: Option<u64>| own.filter(|_| given.is_none());
        Self {
            memory: lacking(self.memory, given.memory),
            processes: lacking(self.processes, given.processes),
            cpu_millis: lacking(self.cpu_millis, given.cpu_millis),
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// As `memory 4096 MiB, 512 processes, 1.5 processors`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self
            .memory
            .map(|bytes| format!("memory {} MiB", bytes >> 20));
        let processes = self.processes.map(|count| format!("{count} processes"));
        let cpu = self
            .cpu_millis
            .map(|millis| format!("{} processors", millis as f64 / 1000.0));
        let all: Vec<String> = [memory, processes, cpu].into_iter().flatten().collect();
        match all.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&all.join(", ")),
        }
    }
}

/// Why an attempt failed, when it was for a limit: what it met stands above what its CLI says of
/// it, which knows nothing of limits. Nothing where it did not fail, or was stopped.
#[must_use]
pub fn failure(met: Met, limits: Limits, exit: &Exit, said: &Failure) -> Option<Failure> {
    if *exit == Exit::Stopped || is_of_the_provider(said.code) {
        return None;
    }
    let (code, why) = if met.oom_kills > 0 {
        let memory = limits.memory.map_or_else(String::new, |bytes| {
            format!("; an attempt may use {} MiB", bytes >> 20)
        });
        let why = format!(
            "{} of its processes ended for lack of memory{memory}",
            met.oom_kills
        );
        (FailureCode::Oom, why)
    } else if met.forks_refused > 0 {
        let most = limits.processes.map_or_else(String::new, |count| {
            format!("; an attempt may have {count} processes")
        });
        let why = format!("{}{most}", refused_forks(met.forks_refused));
        (FailureCode::Pids, why)
    } else if met.disk_full {
        let why = "the disk of its workspace is full, or its quota is used up";
        (FailureCode::DiskFull, why.to_owned())
    } else {
        return None;
    };
    Some(Failure::new(code, format!("{why} ({})", said.message)))
}

/// What the provider said is the reason, whatever else was short.
fn is_of_the_provider(code: FailureCode) -> bool {
    code.fault() == orchestra_types::Fault::Provider
}

/// How many processes could not be started, in words.
#[must_use]
pub fn refused_forks(count: u64) -> String {
    match count {
        1 => "1 process could not be started".to_owned(),
        _ => format!("{count} processes could not be started"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Limits = Limits {
        memory: Some(512 << 20),
        processes: Some(100),
        cpu_millis: Some(1500),
    };

    fn code(met: Met, exit: Exit, said: FailureCode) -> Option<FailureCode> {
        let said = Failure::new(said, "it ended with signal 9");
        failure(met, ALL, &exit, &said).map(|failure| failure.code)
    }

    #[test]
    fn a_limit_that_was_met_is_the_reason_and_the_rest_is_not_lost() {
        let met = Met {
            oom_kills: 1,
            ..Met::default()
        };
        let said = Failure::new(FailureCode::AgentCrashed, "it ended with signal 9");
        let why = failure(met, ALL, &Exit::Signal(9), &said).unwrap();
        assert_eq!(why.code, FailureCode::Oom);
        assert!(
            why.message.contains("512 MiB") && why.message.contains("signal 9"),
            "{why}"
        );
    }

    #[test]
    fn memory_stands_above_processes_above_the_disk() {
        let mut met = Met {
            oom_kills: 1,
            forks_refused: 1,
            disk_full: true,
        };
        let crashed = FailureCode::AgentCrashed;
        assert_eq!(code(met, Exit::Code(1), crashed), Some(FailureCode::Oom));
        met.oom_kills = 0;
        assert_eq!(code(met, Exit::Code(1), crashed), Some(FailureCode::Pids));
        met.forks_refused = 0;
        assert_eq!(
            code(met, Exit::Code(1), crashed),
            Some(FailureCode::DiskFull)
        );
        met.disk_full = false;
        assert_eq!(code(met, Exit::Code(1), crashed), None);
    }

    #[test]
    fn who_was_stopped_or_sent_away_by_a_provider_did_not_fail_for_a_limit() {
        let met = Met {
            oom_kills: 1,
            ..Met::default()
        };
        assert_eq!(code(met, Exit::Stopped, FailureCode::AgentCrashed), None);
        assert_eq!(code(met, Exit::Code(1), FailureCode::RateLimited), None);
    }

    #[test]
    fn limits_are_said_in_words() {
        assert_eq!(
            ALL.to_string(),
            "memory 512 MiB, 100 processes, 1.5 processors"
        );
        assert_eq!(Limits::default().to_string(), "none");
        let lacking = ALL.without(Limits {
            processes: Some(100),
            ..Limits::default()
        });
        assert_eq!(lacking.to_string(), "memory 512 MiB, 1.5 processors");
    }
}
