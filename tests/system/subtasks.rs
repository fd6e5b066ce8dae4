//! Tasks that an agent queues while it works on another one.

use std::path::Path;

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Cluster, Deadline, GATE, Setup, Test, scene, until};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_subtask_is_of_its_parents_project", project),
        Test::new("an_agent_does_not_wait_for_its_own_task", own),
        Test::new("a_subtask_that_outlives_its_parents_attempt", outlives),
        Test::new(
            "an_agent_that_is_cancelled_leaves_nothing_to_come",
            cancelled,
        ),
    ]
}

/// `ctl ARGS` as an agent calls it, where nothing but the worker says which cluster it works for.
fn ctl(args: &str) -> String {
    let ctl = Binaries::get().ctl();
    format!("env -u HOME -u XDG_STATE_HOME {} {args}", ctl.display())
}

/// The subtask of a task that is there already.
fn subtask(cluster: &Cluster, parent: &str) -> anyhow::Result<Value> {
    let listed = cluster.json(&["tasks", "--project", "api"])?;
    let tasks = listed["tasks"].as_array().context("a list")?;
    let of_it = tasks.iter().find(|task| task["parent"] == parent);
    of_it.cloned().with_context(|| format!("{listed:#}"))
}

fn project() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("api")?;
        let add = "add --agent shell --apply --wait 'echo inner > inner.txt'";
        let command = format!("{} && test -e inner.txt", ctl(add));
        let parent = cluster.add(&project, &["--agent", "shell", &command])?;
        let end = cluster.succeeded(&parent, Deadline::SOON)?;
        ensure!(end["files"][0]["path"] == "inner.txt", "{end:#}");
        let files = cluster.json(&["files", &parent])?;
        ensure!(files["warnings"] == json!([]), "{files:#}");
        let sub = subtask(cluster, &parent)?;
        ensure!(sub["project"]["name"] == "api", "{sub:#}");
        ensure!(sub["project"]["id"] == end["project"]["id"], "{sub:#}");
        let dir = sub["project"]["dir"].as_str().context("a directory")?;
        ensure!(dir.ends_with(&format!("{parent}.1")), "{sub:#}");
        Ok(())
    })
}

fn own() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("api")?;
        let script = cluster.path("own.sh");
        let never = [
            "wait $ORCHESTRA_TASK",
            "logs -f $ORCHESTRA_TASK",
            "logs -f --raw $ORCHESTRA_TASK",
            "add --agent shell --after $ORCHESTRA_TASK --wait true",
            "add --agent shell --after $ORCHESTRA_TASK --follow true",
        ];
        let never_later = [
            "wait $LATER",
            "wait --any $LATER $ORCHESTRA_TASK",
            "logs -f $LATER",
            "add --agent shell --after $LATER --wait true",
        ];
        let refused = |args: &&str| format!("{}; test $? = 5 || exit 1", ctl(args));
        let mut lines: Vec<String> = never.iter().map(refused).collect();
        // Nobody waits for these.
        lines.push(format!(
            "NEXT=$({})",
            ctl("add --agent shell --after $ORCHESTRA_TASK true")
        ));
        lines.push(format!(
            "LATER=$({})",
            ctl("add --agent shell --after $NEXT true")
        ));
        lines.extend(never_later.iter().map(refused));
        // That one ends before the others.
        lines.push(format!("FREE=$({})", ctl("add --agent shell true")));
        lines.push(format!("{} || exit 1", ctl("wait --any $LATER $FREE")));
        std::fs::write(&script, lines.join("\n"))?;
        let command = format!("sh {}", script.display());
        let task = cluster.add(&project, &["--agent", "shell", &command])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let said = cluster.ctl(&["logs", &task, "--stderr"])?.ok()?;
        let direct = format!("{task} is the task of the agent that calls this");
        let direct = said.stdout.matches(&direct).count();
        ensure!(direct == never.len(), "{said}");
        let through = format!("task_003 comes after task_002, that after {task}, the task of");
        let through = said.stdout.matches(&through).count();
        ensure!(through == never_later.len(), "{said}");
        for id in ["task_002", "task_003"] {
            cluster.succeeded(id, Deadline::SOON)?;
        }
        let tasks = cluster.json(&["tasks"])?;
        ensure!(
            tasks["tasks"].as_array().map(Vec::len) == Some(4),
            "{tasks:#}"
        );
        Ok(())
    })
}

fn outlives() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("api")?;
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let script = cluster.path("late.sh");
        std::fs::write(&script, format!("{gate} && echo late > late.txt"))?;
        let add = format!("add --agent shell --apply 'sh {}'", script.display());
        let parent = cluster.add(&project, &["--agent", "shell", &ctl(&add)])?;
        cluster.succeeded(&parent, Deadline::SOON)?;
        let sub = subtask(cluster, &parent)?;
        let dir = sub["project"]["dir"].as_str().context("a directory")?;
        until("the workspace is gone", Deadline::SOON, || {
            Ok((!Path::new(dir).exists()).then_some(()))
        })?;
        cluster.open_gate()?;
        let id = sub["id"].as_str().context("an id")?;
        let end = cluster.wait_for(id, &["needs_review"], Deadline::SOON)?;
        let (reason, advice) = (&end["reason"]["message"], &end["reason"]["advice"]);
        let says = |text: &Value, part: &str| text.as_str().is_some_and(|t| t.contains(part));
        ensure!(says(reason, &format!("{parent}.1, whose agent")), "{end:#}");
        let apply = format!("`ctl apply {id}`");
        ensure!(says(reason, &apply) && says(advice, &apply), "{end:#}");
        ensure!(!says(advice, "edits of yours"), "{end:#}");
        cluster.ctl_in(project.dir(), &["apply", id])?.ok()?;
        ensure!(project.read("late.txt")? == "late\n");
        Ok(())
    })
}

/// It queues another task when it is told to end, and had made one that recurs.
fn cancelled() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("api")?;
        let dir = cluster.path("");
        let recurs = ctl("add --agent shell --every 1h true");
        let more = ctl("add --agent shell true");
        let script = format!(
            "trap '{more} 2> {0}/refused; exit 1' INT TERM; {recurs}; touch {0}/ready; \
             while true; do sleep 0.05; done",
            dir.display()
        );
        let parent = cluster.add(&project, &["--agent", "shell", &script])?;
        until("it has begun", Deadline::SOON, || {
            Ok(std::fs::exists(dir.join("ready"))?.then_some(()))
        })?;
        let said = cluster.ctl(&["cancel", &parent])?.ok()?;
        said.complains(&["schedule_001", "is paused"])?;
        cluster.wait_for(&parent, &["cancelled"], Deadline::SOON)?;
        let refused = std::fs::read_to_string(dir.join("refused"))?;
        ensure!(
            refused.contains(&format!("part of {parent}, which was cancelled")),
            "{refused}"
        );
        let schedules = cluster.json(&["schedules"])?;
        ensure!(schedules["schedules"][0]["paused"] == true, "{schedules:#}");
        let tasks = cluster.json(&["tasks"])?;
        let all = tasks["tasks"].as_array().context("a list")?;
        ensure!(
            all.iter()
                .all(|task| task["status"] == "cancelled" || task["parent"] == parent.as_str()),
            "{tasks:#}"
        );
        ensure!(all.len() <= 2, "{tasks:#}");
        Ok(())
    })
}
