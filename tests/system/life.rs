//! The life of tasks: choices, priorities, times, recurring tasks, and workers that take nothing.

use std::fmt::Write;

use anyhow::{Context, ensure};
use orchestra_tests::{
    Background, Cluster, Deadline, GATE, Project, Setup, Test, kill_9, run, scene, until,
};
use serde_json::{Value, json};

/// Tasks in one submission.
const MANY: usize = 100_000;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_failed_task_blocks_cancels_or_frees_by_choice", choices),
        Test::new("a_cordon_stays_over_a_restart_and_ends_on_demand", cordon),
        Test::new(
            "a_worker_that_is_gone_is_removed_and_may_come_back",
            removed,
        ),
        Test::new("a_recurring_task_makes_runs_until_it_is_deleted", recurring),
        Test::new(
            "whose_a_schedule_is_and_by_which_clock_is_told",
            whose_schedule,
        ),
        Test::new(
            "a_task_that_nobody_takes_in_time_fails_with_advice",
            unwanted,
        ),
        Test::new(
            "what_waits_at_a_worker_for_too_long_fails_as_if_it_were_queued",
            waits_ahead,
        ),
        Test::new("a_silent_agent_is_stopped_where_the_task_says_so", silent),
        Test::new(
            "a_hundred_thousand_tasks_go_in_one_call_and_out_in_one",
            many,
        ),
    ]
}

fn add(
    cluster: &Cluster,
    project: &Project,
    command: &str,
    more: &[&str],
) -> anyhow::Result<String> {
    cluster.add(project, &[&[command, "--agent", "shell"], more].concat())
}

fn choices() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        cluster
            .ctl(&["workers", "cordon", &worker(cluster)?])?
            .ok()?;
        let first = add(cluster, &project, "exit 1", &[])?;
        let after = |choice: &str| {
            let more = ["--after", &first, "--on-dependency-failure", choice];
            add(cluster, &project, "true", &more)
        };
        let [blocked, cancelled, freed] = [after("block")?, after("cancel")?, after("run")?];
        cluster
            .ctl(&["workers", "uncordon", &worker(cluster)?])?
            .ok()?;
        cluster.wait_for(&first, &["failed"], Deadline::SOON)?;
        cluster.succeeded(&freed, Deadline::SOON)?;
        cluster.wait_for(&cancelled, &["cancelled"], Deadline::SOON)?;
        ensure!(cluster.status(&blocked)? == "blocked");
        let late = |choice: &str| {
            let choice = ["--on-dependency-failure", choice];
            let line = ["add", "true", "--agent", "shell", "--after", &first];
            cluster.ctl_in(project.dir(), &[&line[..], &choice].concat())
        };
        late("block")?.complains(&["waits", &first, "ctl retry"])?;
        late("cancel")?.complains(&["was cancelled at once", &first])?;
        let stuck = cluster.ctl(&["wait", &blocked])?.exits(7)?;
        ensure!(stuck.stdout.contains("blocked"), "{stuck}");
        let shown = cluster.ctl(&["show", &blocked])?.ok()?;
        let ways = format!("ctl retry {first}, ctl release {blocked}, or ctl cancel {blocked}");
        shown.complains(&[&ways])?;
        cluster
            .ctl(&["wait", &first, "--timeout", "0s"])?
            .exits(6)?;
        let refused = cluster.ctl(&["retry", &cancelled])?;
        refused.complains(&[&format!("ctl retry {first}")])?;
        let refused = cluster.ctl(&["release", &cancelled])?.exits(5)?;
        refused.complains(&["only a task that waits for another one can be let go"])?;
        cluster.ctl(&["release", &blocked])?.ok()?;
        let let_go = cluster.succeeded(&blocked, Deadline::SOON)?;
        ensure!(let_go["on_dependency_failure"] == "run", "{let_go:#}");
        Ok(())
    })
}

fn cordon() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let name = worker(cluster)?;
        let drained = cluster.json(&["workers", "drain", &name])?;
        ensure!(
            drained["workers"][0]["availability"] == "drained",
            "{drained:#}"
        );
        let task = add(cluster, &project, "echo raw; exit", &[])?;
        let low = add(cluster, &project, "true", &["--priority", "low"])?;
        let changed = cluster.json(&["priority", &low, "high"])?;
        ensure!(changed["tasks"][0]["priority"] == "high", "{changed:#}");
        cluster.stop()?.ok()?;
        cluster.start()?;
        let workers = cluster.json(&["workers"])?;
        ensure!(
            workers["workers"][0]["availability"] == "drained",
            "{workers:#}"
        );
        ensure!(cluster.status(&task)? == "queued");
        let told = cluster.ctl(&["status"])?.ok()?.stdout;
        let opens = format!("{name} is drained; `ctl workers uncordon {name}` ends that");
        ensure!(told.contains(&opens), "{told}");
        let log = begun_later(cluster, &task)?;
        cluster.ctl(&["workers", "uncordon", &name])?.ok()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        shows_all(log)?;
        ensure!(cluster.json(&["status"])?["workers_closed"].is_null());
        cluster.succeeded(&low, Deadline::SOON)?;
        let unknown = cluster.ctl(&["workers", "drain", "nobody"])?;
        unknown.complains(&["there is no worker `nobody`"])?;
        Ok(())
    })
}

/// Follows the raw log of a task that waits for a worker.
fn begun_later(cluster: &Cluster, task: &str) -> anyhow::Result<Background> {
    let log = cluster.begin(&cluster.path(""), &["logs", "--raw", "-f", task])?;
    log.says("has not been started yet")?;
    Ok(log)
}

fn shows_all(mut log: Background) -> anyhow::Result<()> {
    let log = log.end()?.ok()?;
    ensure!(log.stdout.lines().any(|line| line == "raw"), "{log}");
    Ok(())
}

fn removed() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = add(cluster, &project, "true", &[])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let name = worker(cluster)?;
        let refused = cluster.ctl(&["workers", "remove", &name])?;
        refused.complains(&[
            &format!("worker `{name}` is connected"),
            "stop `orchestra-worker`",
        ])?;
        kill_9(cluster.worker_pid()?)?;
        let gone = || {
            let workers = cluster.json(&["workers"])?;
            Ok((workers["workers"][0]["state"] != "connected").then_some(()))
        };
        until("the worker leaves", Deadline::SOON, gone)?;
        let removed = cluster.json(&["workers", "remove", &name])?;
        ensure!(removed["workers"][0]["name"] == *name, "{removed:#}");
        let left = cluster.json(&["workers"])?;
        ensure!(left["workers"] == json!([]), "{left:#}");
        ensure!(cluster.status(&task)? == "succeeded");
        // What it did is kept, under the name that it had.
        for words in [&["tasks"][..], &["show", &task]] {
            let said = cluster.ctl(words)?.ok()?;
            ensure!(said.stdout.contains(&name), "{}", said.stdout);
        }
        let unknown = cluster.ctl(&["workers", "remove", &name])?;
        unknown.complains(&["there is no worker"])?;
        cluster.start()?;
        let task = add(cluster, &project, "true", &[])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(worker(cluster)? == name);
        Ok(())
    })
}

fn recurring() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let args = ["add", "echo again", "--agent", "shell", "--every", "1s"];
        let output = cluster.ctl_in(project.dir(), &args)?.ok()?;
        ensure!(
            output.stdout.trim() == "schedule_001",
            "it said {}",
            output.stdout
        );
        until("three runs have been made", Deadline::SOON, || {
            let schedules = cluster.json(&["schedules"])?;
            let runs = schedules["schedules"][0]["runs"].as_u64().unwrap_or(0);
            Ok((runs >= 3).then_some(()))
        })?;
        let run = cluster.succeeded("task_001", Deadline::SOON)?;
        ensure!(run["schedule"] == "schedule_001", "{run:#}");
        shown_whole(cluster, &project)?;
        let none = cluster.ctl(&["schedules", "delete", "1", "99"])?;
        none.exits(4)?
            .complains(&["schedule_099", "nothing was changed"])?;
        let paused = cluster.json(&["schedules", "pause", "1", "schedule_001"])?;
        ensure!(paused["schedules"][0]["next_at"].is_null(), "{paused:#}");
        ensure!(paused["schedules"][1].is_null(), "{paused:#}");
        let deleted = cluster.ctl(&["schedules", "delete", "schedule_001"])?;
        let deleted = deleted.ok()?.stdout;
        ensure!(deleted.trim() == "deleted schedule_001", "{deleted}");
        let none = cluster.json(&["schedules"])?;
        ensure!(
            none["schedules"].as_array().is_some_and(Vec::is_empty),
            "{none:#}"
        );
        for gone in [["schedules", "resume", "1"], ["schedules", "show", "1"]] {
            let gone = cluster.ctl(&gone)?.exits(4)?;
            gone.complains(&["there is no schedule_001"])?;
        }
        // What it made is there still.
        let runs = cluster.json(&["tasks", "--schedule", "1", "--limit", "2"])?;
        let two = runs["tasks"].as_array().is_some_and(|runs| runs.len() == 2);
        ensure!(two && runs["truncated"] == true, "{runs:#}");
        cluster.ctl(&["tasks", "--schedule", "99"])?.exits(4)?;
        cluster.stop()?;
        cluster.start()?;
        let next = cluster.ctl_in(project.dir(), &args)?.ok()?.stdout;
        ensure!(next.trim() == "schedule_002", "{next} was given again");
        Ok(())
    })
}

/// One schedule with its order and its runs, and the list of them; another task is none of them.
fn shown_whole(cluster: &Cluster, project: &Project) -> anyhow::Result<()> {
    let other = add(cluster, project, "true", &[])?;
    let whole = cluster.json(&["schedules", "show", "1"])?;
    ensure!(whole["description"] == "echo again", "{whole:#}");
    let order = whole["project_dir"].is_string() && whole["timeout_seconds"].is_number();
    ensure!(order && whole["offset"].is_null(), "{whole:#}");
    let ids = |document: &Value| {
        let tasks = document["tasks"].as_array().into_iter().flatten();
        let ids = tasks.filter_map(|task| task["id"].as_str().map(str::to_owned));
        ids.collect::<Vec<String>>()
    };
    let latest = ids(&whole);
    ensure!((3..=5).contains(&latest.len()), "{whole:#}");
    let all = ["--after-id", "0", "--limit", "1000000"];
    let runs = cluster.json(&[&["tasks", "--schedule", "schedule_001"][..], &all].concat())?;
    ensure!(runs["truncated"] == false, "{runs:#}");
    let runs = ids(&runs);
    ensure!(runs[0] == "task_001", "{runs:?}");
    ensure!(latest.iter().all(|run| runs.contains(run)), "{runs:?}");
    ensure!(!runs.contains(&other), "{other} is no run");
    let shown = cluster.ctl(&["schedules", "show", "1"])?.ok()?;
    for word in ["every 1s", "echo again", "time limit", "STATUS"] {
        ensure!(shown.stdout.contains(word), "{word}\n{shown}");
    }
    Ok(())
}

fn whose_schedule() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let labelled = ["--label", "area=docs", "--priority", "low"];
        let daily = ["add", "echo daily", "--agent", "shell", "--every", "6:00"];
        let daily = [&daily[..], &labelled].concat();
        let mut in_new_york = cluster.command(project.dir(), &daily);
        in_new_york.env("TZ", "EST5");
        let added = run(in_new_york, b"")?.ok()?;
        ensure!(added.stdout.trim() == "schedule_001", "{added}");
        ensure!(!added.stderr.contains("each run begins"), "{added}");
        // It does not say when the clock changes: other programs guess, or take it for UTC.
        for more in [["--every", "6:00"], ["--at", "2031-01-01 06:00"]] {
            let line = [&["add", "true", "--agent", "shell"][..], &more].concat();
            let mut guesses = cluster.command(project.dir(), &line);
            guesses.env("TZ", "CET-1CEST");
            let refused = run(guesses, b"")?.exits(2)?;
            refused.complains(&["TZ='CET-1CEST,M3.5.0,M10.5.0/3'"])?;
        }
        let listed = cluster.json(&["schedules"])?["schedules"][0].clone();
        ensure!(listed["rule"] == "daily at 06:00 -05:00", "{listed:#}");
        ensure!(
            listed["project"] == "plain" && listed["runner"] == "shell",
            "{listed:#}"
        );
        ensure!(listed["priority"] == "low", "{listed:#}");
        ensure!(listed["labels"] == json!({"area": "docs"}), "{listed:#}");
        let submitter = listed["submitter"].as_str().context("a submitter")?;
        let shown = cluster.ctl(&["schedules", "-v"])?.ok()?.stdout;
        for word in [submitter, "plain", "low", "area=docs", "06:00 -05:00"] {
            ensure!(shown.contains(word), "{word}\n{shown}");
        }
        Ok(())
    })
}

fn unwanted() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let wants = ["--require", "gpu=yes", "--queue-timeout", "1s"];
        let task = add(cluster, &project, "true", &wants)?;
        let document = cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        ensure!(
            document["reason"]["code"] == "queue_timeout",
            "{document:#}"
        );
        let advice = document["reason"]["advice"].as_str().unwrap_or_default();
        ensure!(
            advice.contains(&format!("ctl retry {task}")),
            "the advice is {advice}"
        );
        Ok(())
    })
}

fn waits_ahead() -> anyhow::Result<()> {
    let setup = Setup::new().agents("shell:1");
    scene(setup.runner("shell", "{prefetch: 4}"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let long = add(cluster, &project, &gate, &[])?;
        cluster.wait_for(&long, &["running"], Deadline::SOON)?;
        let task = add(cluster, &project, "true", &["--queue-timeout", "1s"])?;
        let patient = add(cluster, &project, "true", &[])?;
        let document = cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        let reason = &document["reason"];
        ensure!(reason["code"] == "queue_timeout", "{document:#}");
        let words = "no worker took it within 1 s";
        ensure!(reason["message"] == words, "{document:#}");
        ensure!(document["attempt"] == 1, "it was given away: {document:#}");
        ensure!(document["started_at"].is_null(), "{document:#}");
        ensure!(cluster.status(&long)? == "running");
        cluster.open_gate()?;
        for task in [long, patient] {
            cluster.succeeded(&task, Deadline::SOON)?;
        }
        Ok(())
    })
}

fn silent() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = add(cluster, &project, "sleep 4242", &["--stall-timeout", "10s"])?;
        let document = cluster.wait_for(&task, &["failed"], Deadline::secs(60))?;
        ensure!(document["reason"]["code"] == "stalled", "{document:#}");
        Ok(())
    })
}

fn many() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let mut lines = String::new();
        for number in 0..MANY {
            let text = format!("echo {number} {}", "x".repeat(280));
            writeln!(
                lines,
                r#"{{"description": "{text}", "agent": "shell", "at": "+9h"}}"#
            )?;
        }
        project.write("tasks.jsonl", &lines)?;
        let output = cluster
            .ctl_in(project.dir(), &["add", "-f", "tasks.jsonl"])?
            .ok()?;
        ensure!(output.stdout.lines().count() == MANY);
        ensure!(output.stdout.ends_with("task_100000\n"));
        cluster.ctl(&["cancel", "--all"])?.ok()?;
        let status = cluster.json(&["status"])?;
        ensure!(status["tasks"]["cancelled"] == MANY, "{status:#}");
        Ok(())
    })
}

fn worker(cluster: &Cluster) -> anyhow::Result<String> {
    let workers = cluster.json(&["workers"])?;
    let name = workers["workers"][0]["name"].as_str().unwrap_or_default();
    Ok(name.to_owned())
}
