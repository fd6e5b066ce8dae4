//! A start while head or worker are ending: it waits for that, and then both run.

use std::fs;

use anyhow::{Context, ensure};
use orchestra_tests::{
    Background, Cluster, Deadline, GATE, Setup, Test, alive, freeze, scene, terminate, thaw, until,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_start_while_the_worker_is_ending_waits_and_starts_another",
            worker_ends,
        ),
        Test::new(
            "a_start_while_a_stop_is_at_work_waits_and_starts_both_anew",
            stop_at_work,
        ),
        Test::new(
            "a_watcher_that_is_frozen_does_not_keep_the_head_from_stopping",
            frozen_watcher,
        ),
    ]
}

fn worker_ends() -> anyhow::Result<()> {
    scene(patient(), |cluster| {
        deaf(cluster)?;
        let old = cluster.worker_pid()?;
        terminate(old)?;
        says_that_it_stops(cluster)?;
        let start = cluster.begin(&cluster.path(""), &["start", "--detach", "--json"])?;
        start.says("the worker is ending")?;
        let report = ends_well(cluster, start)?;
        ensure!(report["head_already_running"] == true, "{report:#}");
        ensure!(report["worker_already_running"] == false, "{report:#}");
        ensure!(!alive(old), "the old worker runs");
        works(cluster)
    })
}

fn stop_at_work() -> anyhow::Result<()> {
    scene(patient(), |cluster| {
        deaf(cluster)?;
        let (head, worker) = (cluster.head_pid()?, cluster.worker_pid()?);
        let mut stop = cluster.begin(&cluster.path(""), &["stop", "--now"])?;
        says_that_it_stops(cluster)?;
        let start = cluster.begin(&cluster.path(""), &["start", "--detach", "--json"])?;
        start.says("`ctl stop` is at work")?;
        let report = ends_well(cluster, start)?;
        stop.end()?.ok()?;
        ensure!(report["head_already_running"] == false, "{report:#}");
        ensure!(report["worker_already_running"] == false, "{report:#}");
        ensure!(!alive(head) && !alive(worker), "the old ones run");
        works(cluster)
    })
}

fn frozen_watcher() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        // One that is over before the watcher is there would not be shown.
        let task = [
            "--no-repo",
            "true",
            "--agent",
            "shell",
            "--require",
            "who=nobody",
        ];
        let task = cluster.add(&cluster.repository("project")?, &task)?;
        let watch = cluster.begin(&cluster.path(""), &["watch", "--json"])?;
        watch.prints(&task)?;
        freeze(watch.pid())?;
        let head = cluster.head_pid()?;
        cluster.ctl(&["stop"])?.ok()?;
        ensure!(!alive(head), "the head runs");
        thaw(watch.pid())?;
        let log = fs::read_to_string(cluster.state().join("head/head.log"))?;
        ensure!(log.contains("the head has stopped"), "{log}");
        ensure!(!log.contains(" ERROR "), "{log}");
        Ok(())
    })
}

/// Agents have much time to end: they end when the gate is open.
fn patient() -> Setup {
    Setup::new().config("worker: {stop_within: 40s}\n")
}

/// An agent that no signal ends.
fn deaf(cluster: &Cluster) -> anyhow::Result<()> {
    let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
    let begun = cluster.path("begun");
    let command = format!("trap '' TERM INT HUP; echo > {}; {gate}", begun.display());
    let task = ["--no-repo", &command, "--agent", "shell"];
    cluster.add(&cluster.repository("project")?, &task)?;
    until("the agent works", Deadline::SOON, || {
        Ok(fs::exists(&begun)?.then_some(()))
    })
}

fn says_that_it_stops(cluster: &Cluster) -> anyhow::Result<()> {
    let log = cluster.state().join("worker/worker.log");
    until("the worker stops", Deadline::SOON, || {
        let log = fs::read_to_string(&log)?;
        Ok(log.contains("agents are stopped too").then_some(()))
    })
}

fn ends_well(cluster: &Cluster, mut start: Background) -> anyhow::Result<serde_json::Value> {
    ensure!(start.try_wait()?.is_none(), "it did not wait");
    cluster.open_gate()?;
    let output = start.end()?.ok()?;
    output.json().context("a report")
}

fn works(cluster: &Cluster) -> anyhow::Result<()> {
    let project = cluster.repository("another")?;
    let task = cluster.add(&project, &["true", "--agent", "shell"])?;
    cluster.succeeded(&task, Deadline::SOON)?;
    Ok(())
}
