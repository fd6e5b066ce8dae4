//! What is left of commands: nothing.

use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, test_kill_process};

use super::harness::{Bench, until};
use crate::{args::Provider, failure::Code, session::Ended};

/// A command that leaves a process in the background and goes on for ever.
const ENDLESS: &str = "rules:\n- steps:\n  - tool: {bash: {command: 'sleep 300 & echo $! $$ > pids; echo begun; sleep 300'}}\n  - say: done\n";

fn pids(root: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(root.join("pids")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

fn gone(root: &Path) -> bool {
    pids(root).len() == 2 && pids(root).iter().all(|pid| !is_alive(*pid))
}

/// A process that ended but was not reaped by its new parent yet is not alive.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
    test_kill_process(pid).is_ok() && !zombie
}

#[tokio::test]
async fn a_command_over_its_time_is_killed_with_all_its_children() {
    let mut bench = Bench::new(Provider::Anthropic, ENDLESS).await;
    bench.settings.command_timeout = Duration::from_millis(300);
    assert_eq!(bench.run("go").await, Ended::Finished);
    let result = &bench.events_of("tool_result")[0];
    assert_eq!(result["status"], "error");
    let output = result["output"].as_str().expect("text");
    assert!(
        output.contains("begun") && output.contains("killed after 0.3 seconds"),
        "{output}"
    );
    until("the command's processes are gone", || gone(bench.root())).await;
}

#[tokio::test]
async fn a_stop_kills_the_command_and_tells_the_end() {
    let bench = Bench::new(Provider::Anthropic, ENDLESS).await;
    let begun = until("the command has begun", || pids(bench.root()).len() == 2);
    assert_eq!(
        bench.run_until("go", begun).await,
        Ended::Failed(Code::Cancelled)
    );
    until("the command's processes are gone", || gone(bench.root())).await;
    let events = bench.events();
    let [.., aborted, end] = events.as_slice() else {
        panic!("too few events")
    };
    assert_eq!(
        (&aborted["type"], &aborted["status"]),
        (&"tool_result".into(), &"aborted".into())
    );
    assert_eq!(
        (&end["type"], &end["code"]),
        (&"error".into(), &"cancelled".into())
    );
}

#[tokio::test]
async fn a_command_that_ends_leaves_nothing_in_the_background() {
    let script = "rules:\n- steps:\n  - tool: {bash: {command: 'sleep 300 & echo $! $$ > pids; echo fast'}}\n  - \
                  say: done\n";
    let bench = Bench::new(Provider::Openai, script).await;
    assert_eq!(bench.run("go").await, Ended::Finished);
    assert_eq!(bench.events_of("tool_result")[0]["output"], "fast\n");
    until("the command's processes are gone", || gone(bench.root())).await;
}

#[tokio::test]
async fn a_flood_of_output_is_cut() {
    let script = "rules:\n- steps:\n  - tool: {bash: {command: 'head -c 5000000 /dev/zero | tr \"\\0\" x; echo \
                  last'}}\n  - say: done\n";
    let bench = Bench::new(Provider::Openai, script).await;
    assert_eq!(bench.run("go").await, Ended::Finished);
    let output = bench.events_of("tool_result")[0]["output"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(output.len() < 40_000 && output.contains("bytes cut") && output.ends_with("last\n"));
}
