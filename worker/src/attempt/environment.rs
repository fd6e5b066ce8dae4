//! The environment of a CLI. Pure: the worker's own environment is passed in.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use orchestra_types::AttemptId;

/// Variables of the worker that would mislead an agent: those of a git that started us, the mark
/// of a claude session around us, our own, and our telemetry's.
fn is_ours(name: &str) -> bool {
    let prefixes = ["GIT_", "ORCHESTRA_", "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "TRACEPARENT"
}

/// What is an attempt's own in its environment.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Who it is.
    pub attempt: AttemptId,
    /// The state directory of its cluster on this machine: its `ctl` would ask another one.
    pub state: &'a Path,
    /// The configuration file that its worker was started with, where that is not the one of the state
    /// directory: its `ctl` would submit with other defaults.
    pub config: Option<&'a Path>,
    /// The span that its own spans belong to; empty where there is none.
    pub traceparent: &'a str,
    /// Its ports.
    pub ports: &'a [u16],
}

/// What the CLI is started with: the worker's environment without what misleads, what is the attempt's
/// own, and what its command line asks for. What is not UTF-8 cannot be passed on.
#[must_use]
pub fn compose(
    worker: impl IntoIterator<Item = (OsString, OsString)>,
    own: Own<'_>,
    command: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let Own {
        attempt,
        state,
        config,
        traceparent,
        ports,
    } = own;
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let inherited = worker.into_iter().filter_map(text);
    let mut all: BTreeMap<_, _> = inherited.filter(|(name, _)| !is_ours(name)).collect();
    all.insert("ORCHESTRA_TASK".to_owned(), attempt.task.to_string());
    all.insert("ORCHESTRA_ATTEMPT".to_owned(), attempt.to_string());
    if let Some(state) = state.to_str() {
        all.insert("ORCHESTRA_STATE".to_owned(), state.to_owned());
    }
    if let Some(config) = config.and_then(Path::to_str) {
        all.insert("ORCHESTRA_CONFIG".to_owned(), config.to_owned());
    }
    if !traceparent.is_empty() {
        all.insert("TRACEPARENT".to_owned(), traceparent.to_owned());
    }
    if let Some(first) = ports.first() {
        all.insert("ORCHESTRA_PORT".to_owned(), first.to_string());
    }
    for (number, port) in (1..).zip(ports) {
        all.insert(format!("ORCHESTRA_PORT_{number}"), port.to_string());
    }
    all.extend(command.clone());
    all
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    #[test]
    fn an_agent_inherits_what_does_not_mislead_it_and_knows_its_task() {
        let worker = [
            ("PATH", "/bin"),
            ("GIT_DIR", "/x"),
            ("CLAUDECODE", "1"),
            ("ORCHESTRA_STATE", "/y"),
            ("ORCHESTRA_CONFIG", "z.yaml"),
            ("TRACEPARENT", "old"),
            ("LANG", "C"),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let attempt = AttemptId {
            task: TaskId(3),
            number: 2,
        };
        let command = [("LANG".to_owned(), "C.UTF-8".to_owned())].into();
        let own = Own {
            attempt,
            state: Path::new("/own"),
            config: Some(Path::new("/etc/own.yaml")),
            traceparent: "new",
            ports: &[20_000, 20_007],
        };
        let without = Own {
            config: None,
            ..own
        };
        let without = compose(worker.clone(), without, &command);
        assert_eq!(without.get("ORCHESTRA_CONFIG"), None);
        let all = compose(worker, own, &command);
        let all: Vec<_> = all.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            all,
            [
                "LANG=C.UTF-8",
                "ORCHESTRA_ATTEMPT=task_003.2",
                "ORCHESTRA_CONFIG=/etc/own.yaml",
                "ORCHESTRA_PORT=20000",
                "ORCHESTRA_PORT_1=20000",
                "ORCHESTRA_PORT_2=20007",
                "ORCHESTRA_STATE=/own",
                "ORCHESTRA_TASK=task_003",
                "PATH=/bin",
                "TRACEPARENT=new"
            ]
        );
    }
}
