//! Which adapter drives which runner.

use orchestra_config::{Protocol, RunnerConfig};
use orchestra_types::RunnerName;

use super::{
    acp::{self, Acp},
    adapter::Adapter,
    agent::Agent,
    claude::Claude,
    codex::Codex,
    json_lines::JsonLines,
    shell::Shell,
    text::Text,
};

/// The adapter for `runner`, or none when nobody says how to drive it.
///
/// A configured `protocol` wins over the built-in adapter of that name.
#[must_use]
pub fn adapter_for(runner: &RunnerName, config: Option<&RunnerConfig>) -> Option<Box<dyn Adapter>> {
    let name = runner.as_str();
    if let Some(protocol) = config.and_then(|c| c.protocol) {
        return Some(of_protocol(name, protocol));
    }
    Some(match name {
        "claude" => Box::new(Claude::default()),
        "codex" => Box::new(Codex::default()),
        "agent" => Box::new(Agent::default()),
        "shell" => Box::new(Shell::default()),
        name => Box::new(Acp::new(acp::profile(name)?)),
    })
}

fn of_protocol(name: &str, protocol: Protocol) -> Box<dyn Adapter> {
    match protocol {
        Protocol::Acp => Box::new(Acp::new(acp::profile(name).unwrap_or(&acp::PLAIN))),
        Protocol::JsonLines => Box::new(JsonLines::default()),
        Protocol::Text => Box::new(Text::default()),
    }
}

/// The program that a runner is, as it is found on PATH.
pub(super) fn program_of(name: &str) -> &str {
    acp::profile(name).map_or(name, |profile| profile.program)
}

#[cfg(test)]
mod tests {
    use orchestra_types::runner::{FURTHER_RUNNERS, KNOWN_RUNNERS};

    use super::*;

    #[test]
    fn every_known_runner_has_an_adapter_and_a_stranger_needs_a_protocol() {
        let driven = |name: &str, config| adapter_for(&name.parse().unwrap(), config).is_some();
        for name in KNOWN_RUNNERS.into_iter().chain(FURTHER_RUNNERS) {
            assert!(driven(name, None), "{name}");
        }
        assert!(!driven("stranger", None));
        let text = RunnerConfig {
            protocol: Some(Protocol::Text),
            ..RunnerConfig::default()
        };
        assert!(driven("stranger", Some(&text)));
    }
}
