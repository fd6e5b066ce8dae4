//! Workers change while agents work: another version, another program on PATH.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Cluster, Deadline, GATE, Setup, Test, alive, run, scene, until};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "an_upgrade_leaves_agents_running_and_the_new_version_finds_them",
            upgrade,
        ),
        Test::new(
            "agents_that_run_on_without_a_worker_are_told_and_can_be_stopped",
            left,
        ),
        Test::new(
            "an_agent_that_ended_while_no_worker_ran_has_not_used_the_time_since",
            ended_meanwhile,
        ),
        Test::new(
            "a_drained_worker_lets_its_agent_end_and_takes_nothing_new",
            drain,
        ),
        Test::new(
            "a_cli_that_comes_changes_or_goes_is_noticed_while_the_worker_runs",
            comes_and_goes,
        ),
        Test::new("a_worker_says_what_it_is_and_has", described),
        Test::new("a_stop_within_a_time_ends_what_takes_longer", stop_within),
        Test::new("a_stop_that_was_interrupted_is_told_by_all", interrupted),
        Test::new(
            "a_worker_that_must_stop_soon_kills_a_deaf_agent_and_keeps_its_work",
            deaf,
        ),
        Test::new(
            "a_wrong_time_to_stop_within_is_refused_with_advice",
            wrong_time,
        ),
    ]
}

fn upgrade() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = gated(cluster, &project, &[])?;
        let agent = agent_pid(cluster)?;
        let old = cluster.worker_pid()?;
        cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        ensure!(!alive(old), "the worker did not end");
        ensure!(alive(agent), "the agent ended with its worker");
        let newer = cluster.path("newer-ctl");
        fs::copy(Binaries::get().ctl(), &newer)?;
        let start = cluster.command(&cluster.path(""), &["start", "--detach"]);
        let mut again = Command::new(&newer);
        again
            .args(start.get_args())
            .current_dir(cluster.path(""))
            .env_clear();
        again.envs(
            start
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        run(again, b"")?.ok()?;
        let program = fs::read_link(format!("/proc/{}/exe", cluster.worker_pid()?))?;
        ensure!(program == newer, "the worker is {}", program.display());
        ensure!(alive(agent), "the new worker ended the agent");
        cluster.open_gate()?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(document["attempt"] == 1, "it was run again: {document:#}");
        ensure!(
            fs::read_to_string(cluster.path("ran"))? == "ran\n",
            "it ran twice"
        );
        ensure!(document["files"][0]["path"] == "file.txt", "{document:#}");
        Ok(())
    })
}

fn left() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let counted = ["start", "--detach", "--agents", "shell:3"];
        cluster.ctl(&["stop"])?.ok()?;
        cluster.ctl(&counted)?.ok()?;
        let project = cluster.repository("project")?;
        let task = gated(cluster, &project, &[])?;
        let agent = agent_pid(cluster)?;
        let stopped = cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        stopped.complains(&["1 agent goes on", "ctl stop --now"])?;
        let refused = cluster.ctl(&["stop"])?.exits(5)?;
        refused.complains(&["1 agent goes on", "--now"])?;
        ensure!(alive(agent), "it was stopped");
        // An upgrade changes nothing of what was asked for.
        let started = cluster.ctl(&["start", "--detach"])?.ok()?;
        started.complains(&["--agents shell:3"])?;
        ensure!(worker(cluster)?["slots"] == 3, "{:#}", worker(cluster)?);
        cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        let stopped = cluster.ctl(&["stop", "--now"])?.ok()?;
        stopped.complains(&["1 agent goes on without a worker"])?;
        ensure!(!alive(agent), "it runs on");
        cluster.ctl(&["start", "--detach"])?.ok()?;
        ensure!(worker(cluster)?["slots"] != 3, "{:#}", worker(cluster)?);
        let document = cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
        Ok(())
    })
}

fn ended_meanwhile() -> anyhow::Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(8);
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let timeout = format!("{}s", TIMEOUT.as_secs());
        let task = gated(cluster, &project, &["--timeout", &timeout])?;
        let began = Instant::now();
        let agent = agent_pid(cluster)?;
        cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        cluster.open_gate()?;
        until("the agent has ended", Deadline::SOON, || {
            Ok((!alive(agent)).then_some(()))
        })?;
        until("its time is over", Deadline::SOON, || {
            Ok((began.elapsed() > TIMEOUT).then_some(()))
        })?;
        cluster.ctl(&["start", "--detach"])?.ok()?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(document["attempt"] == 1, "it was run again: {document:#}");
        let spent = &document["attempts"][0];
        let at = |key: &str| -> anyhow::Result<_> {
            let text = spent[key].as_str().context("a time")?;
            Ok(text.parse::<jiff::Timestamp>()?)
        };
        let ran = at("finished_at")?.duration_since(at("started_at")?);
        ensure!(
            ran.unsigned_abs() < TIMEOUT,
            "it is said to have worked for {ran}"
        );
        Ok(())
    })
}

fn drain() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = gated(cluster, &project, &[])?;
        let name = worker(cluster)?["name"]
            .as_str()
            .context("a name")?
            .to_owned();
        cluster.ctl(&["workers", "drain", &name])?.ok()?;
        let waits = cluster.add(&project, &["true", "--agent", "shell"])?;
        ensure!(
            worker(cluster)?["availability"] == "draining",
            "{:#}",
            worker(cluster)?
        );
        cluster.open_gate()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        until("it is drained", Deadline::SOON, || {
            Ok((worker(cluster)?["availability"] == "drained").then_some(()))
        })?;
        ensure!(
            cluster.status(&waits)? == "queued",
            "it was given something new"
        );
        cluster.ctl(&["workers", "uncordon", &name])?.ok()?;
        cluster.succeeded(&waits, Deadline::SOON)?;
        Ok(())
    })
}

fn comes_and_goes() -> anyhow::Result<()> {
    let dir = tempfile::TempDir::with_prefix("orchestra-bin-")?;
    let program = dir.path().join("claude");
    let yaml = format!("{{command: {}}}", program.display());
    scene(Setup::new().runner("claude", &yaml), |cluster| {
        claude_is(cluster, "missing", None)?;
        install(&program, "2.1.0")?;
        claude_is(cluster, "ready", Some("2.1.0"))?;
        install(&program, "2.2.0")?;
        claude_is(cluster, "ready", Some("2.2.0"))?;
        let config = cluster.path("home/.claude.json");
        ensure!(claude(cluster)?["login"] == "no", "{:#}", claude(cluster)?);
        fs::write(config, r#"{"oauthAccount": {"accountUuid": "me"}}"#)?;
        until("somebody is logged in", Deadline::SOON, || {
            Ok((claude(cluster)?["login"] == "yes").then_some(()))
        })?;
        fs::remove_file(&program)?;
        claude_is(cluster, "missing", None)
    })
}

fn described() -> anyhow::Result<()> {
    let config = "worker: {slots: 3, labels: {zone: a}}\n";
    let setup = Setup::new().config(config).agents("shell:2");
    scene(setup, |cluster| {
        let worker = worker(cluster)?;
        let positive = [
            "cores",
            "memory_bytes",
            "disk_bytes",
            "disk_free_bytes",
            "pid",
        ];
        for key in positive {
            ensure!(worker[key].as_u64() > Some(0), "{key} is {}", worker[key]);
        }
        ensure!(worker["labels"]["zone"] == "a", "{worker:#}");
        ensure!(worker["isolation"] == "none", "{worker:#}");
        let methods = ["cgroup", "subreaper"];
        let method = worker["kill_method"].as_str().unwrap_or_default();
        ensure!(
            methods.iter().any(|known| method.starts_with(known)),
            "it ends by {method}"
        );
        let shell = runner(&worker, "shell")?;
        ensure!(
            shell["slots"] == 2 && shell["state"] == "ready",
            "{shell:#}"
        );
        ensure!(
            shell["login"] == "unknown" && shell["model"].is_null(),
            "{shell:#}"
        );
        Ok(())
    })
}

/// A task that waits at the gate.
fn stop_within() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = gated(cluster, &project, &[])?;
        let agent = agent_pid(cluster)?;
        let stopped = cluster.ctl(&["stop", "--within", "1s"])?.ok()?;
        stopped.complains(&["at most", "time is over"])?;
        ensure!(!alive(agent), "the agent runs on");
        let left = cluster.marker().processes();
        ensure!(left.is_empty(), "these are left: {left:?}");
        cluster.start()?;
        let document = cluster.show(&task)?;
        let reason = &document["reason"];
        ensure!(
            document["status"] == "failed" && document["attempt"] == 1,
            "{document:#}"
        );
        ensure!(reason["code"] == "worker_lost", "{reason}");
        let says = |field: &str, word| reason[field].as_str().is_some_and(|s| s.contains(word));
        ensure!(says("message", "told to stop while it ran"), "{reason}");
        ensure!(
            says("advice", "where nobody stopped the worker"),
            "{reason}"
        );
        Ok(())
    })
}

fn interrupted() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let running = gated(cluster, &project, &[])?;
        let agent = agent_pid(cluster)?;
        let status = cluster.json(&["status"])?;
        ensure!(status["stopping_since"].is_null(), "{status}");
        let waits = cluster.begin(project.dir(), &["stop"])?;
        until("the head is stopping", Deadline::SOON, || {
            let status = cluster.json(&["status"])?;
            Ok((!status["stopping_since"].is_null()).then_some(()))
        })?;
        waits.kill()?;

        let said = [
            "the head is stopping",
            "1 running task has ended",
            "ctl stop --now",
        ];
        let added = ["add", "true", "--agent", "shell"];
        let added = cluster.ctl_in(project.dir(), &added)?.ok()?;
        let queued = added.stdout.trim().to_owned();
        added.complains(&said)?;
        for command in [vec!["status"], vec!["show", &queued]] {
            cluster.ctl(&command)?.ok()?.complains(&said)?;
        }
        let refused = cluster.ctl(&["start", "--detach"])?.exits(5)?;
        refused.complains(&said)?;

        let stopped = cluster.ctl(&["stop", "--now"])?.ok()?;
        ensure!(!stopped.stderr.contains("does not answer"), "{stopped}");
        ensure!(!alive(agent), "the agent runs on");
        let left = cluster.marker().processes();
        ensure!(left.is_empty(), "these are left: {left:?}");
        cluster.start()?;
        cluster.succeeded(&queued, Deadline::SOON)?;
        cluster.wait_for(&running, &["failed"], Deadline::SOON)?;
        Ok(())
    })
}

fn deaf() -> anyhow::Result<()> {
    // The environment stands above the file.
    let configured = Setup::new().config("worker:\n  stop_within: 1h\n");
    scene(configured.env("ORCHESTRA_STOP_WITHIN", "1s"), |cluster| {
        let project = cluster.repository("project")?;
        let dir = cluster.path("");
        let command = format!(
            "trap '' INT TERM; echo work > file.txt; echo $$ > {0}/pid; echo ran >> {0}/ran; \
             while :; do sleep 0.1; done",
            dir.display()
        );
        let task = cluster.add(&project, &[command.as_str(), "--agent", "shell"])?;
        until("it works", Deadline::SOON, || {
            Ok(fs::exists(dir.join("ran"))?.then_some(()))
        })?;
        let agent = agent_pid(cluster)?;
        cluster.ctl(&["stop", "--now"])?.ok()?;
        ensure!(!alive(agent), "the agent runs on");
        let left = cluster.marker().processes();
        ensure!(left.is_empty(), "these are left: {left:?}");
        cluster.start()?;
        let document = cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        ensure!(document["attempt"] == 1, "{document:#}");
        ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
        ensure!(document["attempts"][0]["exit"] == "stopped", "{document:#}");
        ensure!(document["files"][0]["path"] == "file.txt", "{document:#}");
        ensure!(
            fs::read_to_string(dir.join("ran"))? == "ran\n",
            "it ran twice"
        );
        Ok(())
    })
}

fn wrong_time() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let refused = cluster.ctl(&["start", "--detach", "--stop-within", "2h"])?;
        refused.complains(&["--stop-within", "must be 1s to 1h, as 30s"])?;
        let mut worker = Command::new(Binaries::get().worker());
        worker
            .env_clear()
            .args(["run", "--state"])
            .arg(cluster.path("none"));
        worker.env("ORCHESTRA_STOP_WITHIN", "soon");
        run(worker, b"")?.complains(&["soon"])?;
        Ok(())
    })
}

fn gated(
    cluster: &Cluster,
    project: &orchestra_tests::Project,
    more: &[&str],
) -> anyhow::Result<String> {
    let dir = cluster.path("");
    let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
    let command = format!(
        "echo $$ > {0}/pid; echo ran >> {0}/ran; {gate}; echo done > file.txt",
        dir.display()
    );
    let args = [&[command.as_str(), "--agent", "shell"], more].concat();
    let task = cluster.add(project, &args)?;
    cluster.wait_for(&task, &["running"], Deadline::SOON)?;
    until("it works", Deadline::SOON, || {
        Ok(fs::exists(dir.join("ran"))?.then_some(()))
    })?;
    Ok(task)
}

fn agent_pid(cluster: &Cluster) -> anyhow::Result<u32> {
    Ok(fs::read_to_string(cluster.path("pid"))?.trim().parse()?)
}

fn worker(cluster: &Cluster) -> anyhow::Result<Value> {
    Ok(cluster.json(&["workers"])?["workers"][0].clone())
}

fn runner(worker: &Value, name: &str) -> anyhow::Result<Value> {
    let mut runners = worker["runners"].as_array().into_iter().flatten();
    let found = runners.find(|runner| runner["name"] == name).cloned();
    found.with_context(|| format!("no runner {name}: {worker:#}"))
}

fn claude(cluster: &Cluster) -> anyhow::Result<Value> {
    runner(&worker(cluster)?, "claude")
}

fn claude_is(cluster: &Cluster, state: &str, version: Option<&str>) -> anyhow::Result<()> {
    let mut last = Value::Null;
    let found = until(&format!("claude is {state}"), Deadline::SOON, || {
        last = claude(cluster)?;
        let right = last["state"] == state && version.is_none_or(|v| last["version"] == v);
        Ok(right.then_some(()))
    });
    found.with_context(|| format!("last seen: {last:#}"))
}

/// Puts a program that tells this version in its place at once, as a package manager does.
fn install(program: &PathBuf, version: &str) -> anyhow::Result<()> {
    let new = program.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\necho '{version} (Claude Code)'\n"))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(new, program).context("failed to install it")
}
