//! What the tests of the whole worker share: a fake head on loopback, and the real worker process.

mod fake_head;
mod pki;
mod worker;

pub use fake_head::FakeHead;
pub use pki::Pki;
pub use worker::{OPEN_FILES, Worker};

use std::time::{Duration, Instant};

use orchestra_proto::v1;
use orchestra_types::{Place, ShellCommand, TaskSpec};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `look` gives something; `state` is shown when it never does.
pub async fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    state: impl Fn() -> String,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{what} did not happen:\n{}",
            state()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a process with this id lives, zombies left out.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim();
    !state.is_empty() && !state.starts_with('Z')
}

/// An order to run a shell line as attempt 1 of a task.
pub fn shell(task: u64, line: &str, place: Place, timeout: Duration) -> v1::Start {
    let spec = TaskSpec {
        runner: Some("shell".parse().unwrap()),
        timeout,
        place,
        command: Some(ShellCommand::Line(line.to_owned())),
        ..TaskSpec::new(format!("run {line}"))
    };
    v1::Start {
        predecessors: Vec::new(),
        below: Vec::new(),
        resume: None,
        attempt: Some(v1::AttemptId { task, number: 1 }),
        spec: Some(spec.into()),
        context: vec![],
        traceparent: String::new(),
        runner: "shell".to_owned(),
    }
}
