//! What an attempt may use of its machine: who wants more fails with a reason, not with a riddle.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use orchestra_tests::{
    Cluster, Deadline, Mount, Need, Output, Project, Setup, Test, run, scene, until,
};
use serde_json::Value;

/// Where version 1 of cgroups has a controller, on machines that have both versions.
const FIRST: &str = "/sys/fs/cgroup";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("too_many_processes_are_the_reason", processes)
            .needs(&[Need::Root, Need::Controller("pids")]),
        Test::new("too_much_memory_is_the_reason", memory)
            .needs(&[Need::Root, Need::Controller("memory")]),
        Test::new("a_full_disk_is_the_reason", disk).needs(&[Need::Root, Need::Program("mount")]),
        Test::new("a_flood_of_output_is_bounded_and_costs_nothing_else", flood),
        Test::new("a_limit_that_cannot_be_kept_is_named", refused)
            .needs(&[Need::Root, Need::Program("unshare")]),
        Test::new("too_few_open_files_are_named_with_what_raises_them", files),
    ]
}

fn processes() -> anyhow::Result<()> {
    let limits = "worker: {limits: {processes: 40}}\n";
    in_own_cgroup(limits, |cluster| {
        let script = "i=0; while [ $i -lt 100 ]; do sleep 20 & i=$((i+1)); done; wait";
        let reason = fails(cluster, script)?;
        ensure!(reason["code"] == "pids", "{reason}");
        says(&reason, "an attempt may have 40 processes")?;
        let shown = cluster.ctl(&["workers", "-v"])?.ok()?.stdout;
        ensure!(shown.contains("40 processes"), "{shown}");
        // What keeps to it is left alone.
        let project = Project::plain(&cluster.path("other"))?;
        let modest = cluster.add(&project, &["true", "--agent", "shell"])?;
        cluster.succeeded(&modest, Deadline::SOON).map(drop)
    })
}

fn memory() -> anyhow::Result<()> {
    let limits = "worker: {limits: {memory: 48MiB}}\n";
    in_own_cgroup(limits, |cluster| {
        let reason = fails(cluster, "x=$(head -c 400M /dev/zero | tr '\\0' x)")?;
        ensure!(reason["code"] == "oom", "{reason}");
        says(&reason, "an attempt may use 48 MiB")?;
        let shown = cluster.ctl(&["workers", "-v"])?.ok()?.stdout;
        ensure!(shown.contains("memory 48 MiB"), "{shown}");
        Ok(())
    })
}

fn disk() -> anyhow::Result<()> {
    let small = tempfile::tempdir()?;
    let mount = Mount::tmpfs(small.path(), 4)?;
    let workspaces = small.path().display();
    let config = format!("worker: {{workspaces: \"{workspaces}\"}}\n");
    let told = scene(Setup::new().config(&config), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(
            &project,
            &[
                "echo kept > first; head -c 100M /dev/zero > big",
                "--agent",
                "shell",
            ],
        )?;
        let reason = failed(cluster, &task)?;
        ensure!(reason["code"] == "disk_full", "{reason}");
        // One that does not look whether it could write is no success either.
        let script = "head -c 100M /dev/zero > big; true";
        let careless = cluster.add(&project, &[script, "--agent", "shell"])?;
        let reason = failed(cluster, &careless)?;
        ensure!(reason["code"] == "disk_full", "{reason}");
        says(&reason, "it ended without an error")?;
        // A little room is there again, and the disk is full for whoever wants to write more.
        let script = "head -c 100M /dev/zero > big; truncate -s -200K big";
        let careless = cluster.add(&project, &[script, "--agent", "shell"])?;
        let reason = failed(cluster, &careless)?;
        ensure!(reason["code"] == "disk_full", "{reason}");
        let quiet = format!("({script}) 2> /dev/null");
        let quiet = cluster.add(&project, &[&quiet, "--agent", "shell"])?;
        cluster.succeeded(&quiet, Deadline::SOON)?;
        let events = cluster.events(&quiet)?;
        let told = |event: &Value| event["phase"] == "disk_full";
        ensure!(events.iter().any(told), "it is not told: {events:#?}");
        let told = fills_and_makes_room(cluster, &project)?;
        ensure!(told.contains("was full while it ran"), "{told}");
        Ok(())
    });
    drop(mount);
    told
}

/// What is told of an agent that makes room once the worker has seen that there was none, and says nothing.
fn fills_and_makes_room(cluster: &Cluster, project: &Project) -> anyhow::Result<String> {
    let seen = cluster.path("seen");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.1; done", seen.display());
    let script = format!("head -c 100M /dev/zero > big 2> /dev/null; {wait}; truncate -s 0 big");
    let task = cluster.add(project, &[&script, "--agent", "shell"])?;
    // It begins where the worker says that there is room: what it says after that is of this agent.
    cluster.wait_for(&task, &["running"], Deadline::SOON)?;
    until("the worker sees its disk full", Deadline::SOON, || {
        let workers = cluster.json(&["workers"])?.to_string();
        Ok(workers.contains("disk is full").then_some(()))
    })?;
    fs::write(&seen, "")?;
    cluster.succeeded(&task, Deadline::SOON)?;
    let events = cluster.events(&task)?;
    let told = events.iter().find(|event| event["phase"] == "disk_full");
    Ok(told.map(ToString::to_string).unwrap_or_default())
}

fn flood() -> anyhow::Result<()> {
    let config = "worker: {limits: {output: 4MiB}}\n";
    scene(Setup::new().config(config), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let script = "echo kept > result.txt; head -c 32M /dev/zero | tr '\\0' x | fold -w 8000; \
                      head -c 16M /dev/zero | tr '\\0' y; echo; echo the end";
        let task = cluster.add(&project, &[script, "--agent", "shell"])?;
        let document = cluster.succeeded(&task, Deadline::secs(90))?;
        ensure!(document["files"][0]["path"] == "result.txt", "{document:#}");
        let events = cluster.ctl(&["logs", &task, "--json"])?.ok()?.stdout;
        ensure!(
            events.contains("bytes of output were not kept"),
            "it does not say so"
        );
        ensure!(events.contains("the end"), "its last word is lost");
        let raw = cluster.ctl(&["logs", &task, "--raw"])?.ok()?.stdout;
        ensure!(
            raw.len() < (4 << 20) + (300 << 10),
            "{} bytes are kept",
            raw.len()
        );
        ensure!(
            raw.ends_with("\nthe end\n"),
            "the end of the raw log is lost"
        );
        Ok(())
    })
}

fn refused() -> anyhow::Result<()> {
    let config = "worker: {limits: {memory: 1GiB}}\n";
    let cluster = Cluster::new(Setup::new().config(config))?;
    // It sees no cgroups at all.
    start(&cluster, "umount -R /sys/fs/cgroup", &["unshare", "-m"])?;
    let told = check_refused(&cluster);
    let told = told.map_err(|error| error.context(cluster.picture()));
    let stopped = cluster.stop();
    told.and(stopped.map(drop)).and(cluster.expect_no_process())
}

fn check_refused(cluster: &Cluster) -> anyhow::Result<()> {
    let shown = cluster.ctl(&["workers", "-v"])?.ok()?.stdout;
    ensure!(shown.contains("not kept here: memory 1024 MiB"), "{shown}");
    let project = Project::plain(&cluster.path("plain"))?;
    let task = cluster.add(&project, &["true", "--agent", "shell"])?;
    cluster.succeeded(&task, Deadline::SOON).map(drop)
}

/// Runs `body` on a cluster that was started in a cgroup of its own, below which the worker may make
/// others, whichever version the machine has.
fn in_own_cgroup(
    config: &str,
    body: impl FnOnce(&Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new().config(config))?;
    let name = cluster.marker().name().to_owned();
    let mut enter = String::from("true");
    let mut dirs = Vec::new();
    for controller in ["memory", "pids"] {
        let dir = format!("{FIRST}/{controller}/{name}");
        if Path::new(FIRST)
            .join(controller)
            .join("cgroup.procs")
            .exists()
        {
            enter += &format!(" && mkdir {dir} && echo 0 > {dir}/cgroup.procs");
            dirs.push(dir);
        }
    }
    if dirs.is_empty() {
        let dir = format!("{FIRST}/{name}");
        enter += &format!(
            " && echo '+memory +pids' > {FIRST}/cgroup.subtree_control \
             && mkdir -p {dir}/orchestra-worker && echo 0 > {dir}/orchestra-worker/cgroup.procs"
        );
        dirs.extend([format!("{dir}/orchestra-worker"), dir]);
    }
    start(&cluster, &enter, &[])?;
    let told = body(&cluster).map_err(|error| error.context(cluster.picture()));
    let stopped = cluster.stop();
    let left = cluster.expect_no_process();
    for dir in &dirs {
        fs::remove_dir(dir).with_context(|| format!("something is left in `{dir}`"))?;
    }
    told.and(stopped.map(drop)).and(left)
}

fn files() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let refused = started(&cluster, "ulimit -n 32", &[])?.exits(1)?;
    refused.complains(&["too few open files", "`ulimit -Hn` is 32", "LimitNOFILE"])?;
    let refused = started(&cluster, "ulimit -n 8", &[])?.exits(1)?;
    refused.complains(&["hint: `ulimit -Hn` is 8"])?;
    // Up to the hard limit nobody has to do anything.
    started(&cluster, "ulimit -Sn 32", &[])?.ok()?;
    cluster.stop()?;
    cluster.expect_no_process()
}

/// `ctl start --detach` from a shell that runs `before` first, which works.
fn start(cluster: &Cluster, before: &str, around: &[&str]) -> anyhow::Result<()> {
    started(cluster, before, around)?.ok().map(drop)
}

/// The same, whatever comes of it.
fn started(cluster: &Cluster, before: &str, around: &[&str]) -> anyhow::Result<Output> {
    let start = cluster.command(&cluster.path(""), &["start", "--detach"]);
    let script = format!("{before} && exec \"$0\" \"$@\"");
    let mut words = around.iter().copied().chain(["sh", "-c", &script]);
    let mut command = Command::new(words.next().context("there is a program")?);
    command
        .args(words)
        .arg(start.get_program())
        .args(start.get_args())
        .current_dir(cluster.path(""))
        .env_clear();
    for (name, value) in start.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    run(command, b"")
}

/// Runs a command line that must fail; the reason.
fn fails(cluster: &Cluster, script: &str) -> anyhow::Result<Value> {
    let project = Project::plain(&cluster.path("plain"))?;
    let task = cluster.add(&project, &[script, "--agent", "shell"])?;
    failed(cluster, &task)
}

fn failed(cluster: &Cluster, task: &str) -> anyhow::Result<Value> {
    let ended = ["succeeded", "failed", "needs_review"];
    let document = cluster.wait_for(task, &ended, Deadline::secs(60))?;
    ensure!(
        document["status"] != "succeeded",
        "it did not fail: {document:#}"
    );
    Ok(document["reason"].clone())
}

fn says(reason: &Value, text: &str) -> anyhow::Result<()> {
    let message = reason["message"].as_str().unwrap_or_default();
    ensure!(message.contains(text), "it does not say {text:?}: {reason}");
    Ok(())
}
