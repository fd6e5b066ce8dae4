//! What an attempt finds in its place before it begins: ports of its own, and what its project sets up.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, alive, kill_9, scene, until};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("attempts_beside_each_other_never_have_the_same_port", ports),
        Test::new("attempts_at_once_are_set_up_each_for_itself", at_once),
        Test::new(
            "what_the_user_has_git_ignore_everywhere_is_no_result",
            ignored,
        ),
        Test::new("a_set_up_that_fails_is_the_reason", failing),
        Test::new("a_set_up_outlives_kill_9_of_its_worker", killed),
        Test::new("a_set_up_may_be_silent_and_an_agent_may_not", silent),
    ]
}

fn at_once() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let project = with_set_up(
            cluster,
            "project",
            "setup:\n  copy: [.env, missing]\n  run: |\n    echo preparing\n    . ./.env\n    mkdir made\n    \
             echo $SECRET > made/secret\n    echo $ORCHESTRA_PORT $ORCHESTRA_PORT_1 $ORCHESTRA_PORT_2 > made/ports\n    \
             sleep 300 &\nports: 2\n",
        )?;
        project.write(".env", "SECRET=hush-hush\n")?;
        let script = format!(
            "cat made/ports >> {}/ports; {gate}; test $(cat made/secret) = hush-hush && \
             git add -f .env && git commit -qm mine && echo done > out.txt",
            dir.display()
        );
        let first = ["add", &script, "--agent", "shell", "--repo"];
        let added = cluster
            .ctl(&[&first[..], &[&project.dir().to_string_lossy()]].concat())?
            .ok()?;
        ensure!(added.stderr.contains("agents get .env"), "{added}");
        ensure!(added.stderr.contains("matches `missing`"), "{added}");
        let tasks = [
            added.stdout.trim().to_owned(),
            cluster.add(&project, &[script.as_str(), "--agent", "shell"])?,
        ];
        let given = told(cluster, 2)?;
        ensure!(given.len() == 4, "they share a port: {given:?}");
        cluster.open_gate()?;
        for task in &tasks {
            let document = cluster.succeeded(task, Deadline::SOON)?;
            let files = document["files"].as_array().context("there are files")?;
            ensure!(
                files.len() == 1 && files[0]["path"] == "out.txt",
                "{document:#}"
            );
            let diff = cluster.ctl(&["diff", task])?.ok()?.stdout;
            ensure!(diff.contains("out.txt") && !diff.contains("hush"), "{diff}");
            let logs = cluster.ctl(&["logs", task])?.ok()?.stdout;
            let prepared = logs.find("preparing").context("it was set up")?;
            let started = logs.find("shell started").context("it was started")?;
            ensure!(prepared < started, "{logs}");
            ensure!(logs.find("set-up command runs") < Some(prepared), "{logs}");
        }
        let branch = format!("orchestra/{}", tasks[0]);
        let known = project.git(&["log", "--name-only", "--format=", &branch])?;
        ensure!(
            known.contains("out.txt") && !known.contains(".env"),
            "{known}"
        );
        ensure!(!project.has("made"), "it was set up in the user's checkout");
        Ok(())
    })
}

/// In the configuration of the user, and for the one checkout: the worker has neither.
fn ignored() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let global = cluster.path("home/.config/git");
        fs::create_dir_all(&global)?;
        fs::write(global.join("ignore"), ".idea/\n")?;
        project.write(".git/info/exclude", "/venv/\n")?;
        let script =
            "mkdir .idea venv && touch .idea/a venv/b out.txt && git add -A && git commit -qm all";
        let task = cluster.add(&project, &[script, "--agent", "shell"])?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        let files = document["files"].as_array().context("there are files")?;
        ensure!(
            files.len() == 1 && files[0]["path"] == "out.txt",
            "{document:#}"
        );
        Ok(())
    })
}

fn failing() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let run = |name: &str, run: &str| -> anyhow::Result<Value> {
            let file = format!("setup:\n  timeout: 1s\n  run: {run}\n");
            let project = with_set_up(cluster, name, &file)?;
            let task = cluster.add(
                &project,
                &["echo x > ran", "--agent", "shell", "--retries", "2"],
            )?;
            let document = cluster.wait_for(
                &task,
                &["failed", "succeeded", "needs_review"],
                Deadline::SOON,
            )?;
            ensure!(
                document["attempt"] == 1,
                "it was tried again: {}",
                document["attempt"]
            );
            ensure!(
                document["files"].as_array().is_none_or(Vec::is_empty),
                "it ran"
            );
            Ok(document["reason"].clone())
        };
        let reason = run("first", "echo no such package; exit 4")?;
        ensure!(reason["code"] == "setup_failed", "{reason}");
        let message = reason["message"].as_str().unwrap_or_default();
        ensure!(
            message.ends_with("exit status: 4: no such package"),
            "{reason}"
        );
        let reason = run("second", "sleep 300 & sleep 300")?;
        ensure!(reason["code"] == "setup_failed", "{reason}");
        let message = reason["message"].as_str().unwrap_or_default();
        ensure!(message.contains("ran longer than 1 s"), "{reason}");
        let project = with_set_up(cluster, "refused", "setup: {copy: [../x]}\n")?;
        let refused = cluster.ctl_in(project.dir(), &["add", "true", "--agent", "shell"])?;
        refused.complains(&[".orchestra.yaml:1", "below the project"])?;
        let project = cluster.repository("misnamed")?;
        project.write(".orchestra.yml", "setup: {run: make}\n")?;
        let warned = ["`mv .orchestra.yml .orchestra.yaml`"];
        let add = ["add", "true", "--agent", "shell"];
        for line in [&add[..], &["config", "check"]] {
            let said = cluster.ctl_in(project.dir(), line)?.ok()?;
            said.complains(&warned)?;
        }
        Ok(())
    })
}

fn killed() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let run = format!(
            "setup:\n  run: |\n    echo began > {}/began; {gate}; echo ready\n",
            dir.display()
        );
        let project = with_set_up(cluster, "project", &run)?;
        let task = cluster.add(
            &project,
            &["echo rate limit >&2; echo done", "--agent", "shell"],
        )?;
        until("the set-up runs", Deadline::SOON, || {
            Ok(fs::exists(dir.join("began"))?.then_some(()))
        })?;
        kill_worker(cluster)?;
        cluster.open_gate()?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(document["attempt"] == 1, "{}", document["attempt"]);
        let logs = cluster.ctl(&["logs", &task])?.ok()?.stdout;
        ensure!(logs.contains("ready") && logs.contains("done"), "{logs}");
        ensure!(logs.find("ready") < logs.find("shell started"), "{logs}");
        ensure!(logs.matches("shell started").count() == 1, "{logs}");
        Ok(())
    })
}

fn silent() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        // Longer than the shortest silence that an attempt may be stopped for.
        let project = with_set_up(cluster, "project", "setup: {run: sleep 13}\n")?;
        let add = |script: &str| {
            let stalls = ["--agent", "shell", "--stall-timeout", "10s"];
            cluster.add(&project, &[&[script][..], &stalls].concat())
        };
        let (quick, stalls) = (add("true")?, add("sleep 600")?);
        cluster.succeeded(&quick, Deadline::SOON)?;
        let stalled = cluster.wait_for(&stalls, &["failed", "succeeded"], Deadline::SOON)?;
        ensure!(stalled["reason"]["code"] == "stalled", "{stalled:#}");
        let logs = cluster.ctl(&["logs", &stalls])?.ok()?.stdout;
        ensure!(logs.contains("shell started"), "{logs}");
        Ok(())
    })
}

/// A repository with a project file; git ignores `.env` and `made` there.
fn with_set_up(cluster: &Cluster, name: &str, file: &str) -> anyhow::Result<Project> {
    let project = cluster.repository(name)?;
    project.write(".gitignore", ".env\nmade/\n")?;
    project.write(".orchestra.yaml", file)?;
    project.git(&["add", "-A"])?;
    project.git(&["commit", "-q", "-m", "set-up"])?;
    Ok(project)
}

fn kill_worker(cluster: &Cluster) -> anyhow::Result<()> {
    let worker = cluster.worker_pid()?;
    kill_9(worker)?;
    until("it is dead", Deadline::SOON, || {
        Ok((!alive(worker)).then_some(()))
    })?;
    cluster.start()
}

fn ports() -> anyhow::Result<()> {
    let config = "worker: {slots: 4, ports: 21500-21504}\n";
    scene(Setup::new().config(config), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let mut tasks = vec![
            waiting(cluster, &project, &["--ports", "2"])?,
            waiting(cluster, &project, &["--ports", "2"])?,
        ];
        let given = told(cluster, 2)?;
        ensure!(given.len() == 4, "they share a port: {given:?}");
        // The next worker process knows what they have.
        kill_worker(cluster)?;
        tasks.push(waiting(cluster, &project, &[])?);
        let given = told(cluster, 3)?;
        ensure!(given == (21500..=21504).collect(), "{given:?}");
        let more = cluster.add(&project, &["true", "--agent", "shell", "--ports", "1"])?;
        let failed = cluster.wait_for(&more, &["failed", "succeeded"], Deadline::SOON)?;
        ensure!(
            failed["reason"]["code"] == "workspace_failed",
            "{}",
            failed["reason"]
        );
        // Who does not ask runs without one.
        let script = "test -z \"$ORCHESTRA_PORT\"";
        let modest = cluster.add(&project, &[script, "--agent", "shell"])?;
        cluster.succeeded(&modest, Deadline::SOON)?;
        cluster.open_gate()?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        // What is over has none.
        let all = cluster.add(&project, &["true", "--agent", "shell", "--ports", "5"])?;
        cluster.succeeded(&all, Deadline::SOON).map(drop)
    })
}

/// A task that tells its ports in a file and waits at the gate.
fn waiting(cluster: &Cluster, project: &Project, more: &[&str]) -> anyhow::Result<String> {
    let dir = cluster.path("");
    let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
    let script = format!(
        "echo $ORCHESTRA_PORT $ORCHESTRA_PORT_1 $ORCHESTRA_PORT_2 >> {}/ports; {gate}",
        dir.display()
    );
    cluster.add(project, &[&[&script, "--agent", "shell"], more].concat())
}

/// All ports that were told, once there are `attempts` lines.
fn told(cluster: &Cluster, attempts: usize) -> anyhow::Result<BTreeSet<u16>> {
    let path = cluster.path("ports");
    let text = until("they tell their ports", Deadline::SOON, || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        Ok((text.lines().count() == attempts).then_some(text))
    })?;
    let mut all = BTreeSet::new();
    for line in text.lines() {
        let ports: Vec<u16> = line
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("these are no ports: {line}"))?;
        ensure!(ports[0] == ports[1], "the first has two names: {line}");
        for port in &ports[1..] {
            ensure!(all.insert(*port), "a port was given twice:\n{text}");
        }
    }
    Ok(all)
}
