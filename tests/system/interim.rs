//! What a running agent has changed so far.

use anyhow::ensure;
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, kill_9, scene, until};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "files_of_a_running_agent_are_listed_and_again_after_each_restart",
            repository,
        ),
        Test::new("files_of_a_running_agent_in_place_are_listed", in_place),
    ]
}

fn repository() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = work(cluster, &project, &[])?;
        let first = listed(cluster, &task, &["file.txt", "new.txt"])?;
        ensure!(first["warnings"] == Value::Array(vec![]), "{first:#}");

        // Kept nowhere: the worker says it again to a new head, and another worker looks again.
        restart(cluster, cluster.head_pid()?)?;
        listed(cluster, &task, &["file.txt", "new.txt"])?;
        restart(cluster, cluster.worker_pid()?)?;
        listed(cluster, &task, &["file.txt", "new.txt"])?;

        let shown = cluster.ctl(&["files", &task])?.ok()?;
        ensure!(shown.stderr.contains("so far"), "{shown}");
        finish(cluster, &task, &["file.txt", "last.txt", "new.txt"])
    })
}

fn in_place() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = work(cluster, &project, &["--in-place"])?;
        listed(cluster, &task, &["file.txt", "new.txt"])?;
        finish(cluster, &task, &["file.txt", "last.txt", "new.txt"])
    })
}

/// A task that changes two files, waits at the gate and changes one more.
fn work(cluster: &Cluster, project: &Project, more: &[&str]) -> anyhow::Result<String> {
    let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
    let command = format!("echo 1 > new.txt; echo 2 > file.txt; {gate}; echo 3 > last.txt");
    cluster.add(project, &[&[&*command, "--agent", "shell"], more].concat())
}

fn listed(cluster: &Cluster, task: &str, names: &[&str]) -> anyhow::Result<Value> {
    until("its files are listed while it runs", Deadline::SOON, || {
        let answer = cluster.ctl(&["files", task, "--json"])?;
        if answer.code != Some(0) {
            return Ok(None);
        }
        let files: Value = serde_json::from_str(&answer.stdout)?;
        ensure!(files["interim_at"].is_string(), "it is over: {files:#}");
        Ok((paths(&files) == names).then_some(files))
    })
}

fn restart(cluster: &Cluster, pid: u32) -> anyhow::Result<()> {
    kill_9(pid)?;
    cluster.start()
}

fn finish(cluster: &Cluster, task: &str, names: &[&str]) -> anyhow::Result<()> {
    cluster.open_gate()?;
    cluster.succeeded(task, Deadline::SOON)?;
    let files = cluster.json(&["files", task])?;
    ensure!(files["interim_at"].is_null(), "{files:#}");
    ensure!(paths(&files) == names, "{files:#}");
    Ok(())
}

fn paths(files: &Value) -> Vec<&str> {
    let files = files["files"].as_array().map(Vec::as_slice);
    let paths = files.unwrap_or_default().iter();
    paths.filter_map(|file| file["path"].as_str()).collect()
}
