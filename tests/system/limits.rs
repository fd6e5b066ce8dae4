//! Limits of accounts, and budgets.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, scene, until};
use serde_json::Value;

/// The first request of a task that says "limited" is refused for an hour.
const LIMITED: &str = "
rules:
- when: {prompt: limited}
  trouble: 1x429:3600
  steps: [{say: done}]
- when: {prompt: plain}
  steps: [{say: done}]
";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "one_tasks_rate_limit_holds_its_account_and_charges_nobody",
            rate_limit,
        ),
        Test::new(
            "a_fallback_runner_takes_over_while_the_account_is_parked",
            fallback,
        ),
        Test::new(
            "a_task_stops_at_its_budget_and_goes_on_from_its_work_after_a_raise",
            budget,
        ),
        Test::new(
            "an_attempt_that_never_began_leaves_the_work_of_the_one_before_it",
            never_began,
        ),
        Test::new(
            "a_projects_daily_budget_holds_its_tasks_until_it_is_raised",
            project_budget,
        ),
        Test::new(
            "a_raise_never_limits_what_has_no_limit",
            raise_without_limit,
        ),
        Test::new("the_time_of_an_agent_that_runs_is_spent", time_so_far),
        Test::new("a_name_that_two_projects_have_sets_no_budget", shared_name),
        Test::new("a_project_has_a_budget_before_its_first_task", first_budget),
    ]
}

/// Of its parent too, which has ended.
fn time_so_far() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let parent = cluster.add(&project, &["--agent", "shell", "true"])?;
        let ended = cluster.succeeded(&parent, Deadline::SOON)?;
        let seconds = |document: &Value| document["spent"]["time_seconds"].as_f64();
        let before = seconds(&ended).context("it has run")?;
        let task = cluster.add(&project, &["--agent", "shell", "--parent", &parent, &gate])?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;
        for (id, more_than) in [(&task, 0.0), (&parent, before)] {
            until("its time counts", Deadline::SOON, || {
                let now = seconds(&cluster.show(id)?);
                Ok(now.is_some_and(|now| now > more_than).then_some(()))
            })?;
        }
        cluster.open_gate()?;
        cluster.succeeded(&task, Deadline::SOON).map(drop)
    })
}

/// A runner of the user's own that succeeds at once.
fn with_other(setup: Setup) -> Setup {
    setup
        .runner("other", "{command: /bin/echo, protocol: text}")
        .agents("agent:2")
        .agents("other:1")
}

fn parked(cluster: &Cluster) -> anyhow::Result<Option<Value>> {
    let status = cluster.json(&["status"])?;
    let parked = status["parked_accounts"]
        .as_array()
        .context("there is a list")?;
    Ok(parked.first().cloned())
}

fn rate_limit() -> anyhow::Result<()> {
    let setup = with_other(Setup::new().model(LIMITED));
    scene(setup, |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let limited = cluster.add(&project, &["limited", "--agent", "agent"])?;
        let account = until("its account is parked", Deadline::SOON, || parked(cluster))?;
        let name = account["name"].as_str().context("it has a name")?;
        let second = cluster.add(&project, &["plain", "--agent", "agent"])?;
        let other = cluster.add(&project, &["plain", "--agent", "other"])?;
        cluster.succeeded(&other, Deadline::SOON)?;
        for task in [&limited, &second] {
            let document = cluster.wait_for(task, &["queued"], Deadline::SOON)?;
            let reason = &document["reason"];
            let message = reason["message"].as_str().unwrap_or_default();
            ensure!(
                message.contains(&format!("account {name} is parked until")),
                "{task} says {reason}"
            );
            ensure!(!reason["resets_at"].is_null(), "until when is not said");
        }
        let human = cluster.ctl(&["accounts"])?.ok()?.stdout;
        ensure!(human.contains(name) && human.contains("parked"), "{human}");
        cluster.ctl(&["accounts", "resume", name])?.ok()?;
        cluster.succeeded(&second, Deadline::SOON)?;
        let document = cluster.succeeded(&limited, Deadline::SOON)?;
        ensure!(document["attempt"] == 2, "it was tried again once");
        let refused = cluster.ctl(&["accounts", "resume", "nobody"])?;
        ensure!(
            refused.code == Some(4),
            "there is no such account\n{refused}"
        );
        Ok(())
    })
}

fn fallback() -> anyhow::Result<()> {
    let setup = with_other(Setup::new().model(LIMITED));
    scene(setup, |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let options = ["limited", "--agent", "agent", "--fallback", "other"];
        let task = cluster.add(&project, &options)?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        let runners = document["attempts"].as_array().context("there are some")?;
        let runners: Vec<&str> = runners
            .iter()
            .filter_map(|a| a["runner"].as_str())
            .collect();
        ensure!(runners == ["agent", "other"], "it ran with {runners:?}");
        Ok(())
    })
}

fn budget() -> anyhow::Result<()> {
    let script = format!(
        "
usage: {{input: 100, output: 20}}
rules:
- when: {{prompt: earlier attempt}}
  steps:
  - tool: {{bash: {{command: 'cat half.txt && echo whole > rest.txt'}}}}
  - say: 'The rest is done.'
- when: {{prompt: write}}
  steps:
  - tool: {{write: {{path: half.txt, content: half}}}}
  - tool: {{bash: {{command: '{GATE}'}}}}
  - say: done
"
    );
    scene(Setup::new().model(&script).agents("agent:1"), |cluster| {
        let project = cluster.repository("project")?;
        let options = ["write it", "--agent", "agent", "--budget", "150-tokens"];
        let task = cluster.add(&project, &options)?;
        let stopped = cluster.wait_for(&task, &["needs_review"], Deadline::SOON)?;
        let reason = &stopped["reason"];
        ensure!(reason["code"] == "budget_exceeded", "it ended by {reason}");
        let message = reason["message"].as_str().unwrap_or_default();
        ensure!(message.ends_with('?'), "it does not ask: {message}");
        let advice = reason["advice"].as_str().unwrap_or_default();
        ensure!(
            message.contains(&format!("`ctl budget {task} --tokens +100k`")),
            "{message}"
        );
        ensure!(advice.contains("--tokens +100k"), "{advice}");
        let spent = stopped["spent"]["tokens"].as_u64().unwrap_or_default();
        ensure!(spent >= 150, "{spent} tokens were counted");
        ensure!(
            has_file(&stopped, "half.txt"),
            "its work is gone: {stopped:#}"
        );

        // Queued again it would wait for the same.
        let again = cluster.ctl(&["retry", &task])?.exits(5)?;
        let raise = format!("`ctl budget {task} --tokens +100k`");
        again.complains(&[
            &format!("{task} would not start: the budget of {task}"),
            &raise,
        ])?;
        ensure!(cluster.status(&task)? == "needs_review");
        // Nor without a raise of what it does not have.
        let other = cluster
            .ctl(&["retry", &task, "--budget", "1usd"])?
            .exits(5)?;
        let other = other.complains(&["no limit of", &raise])?;
        ensure!(!other.stderr.contains("without a raise"), "{other}");
        // One that is too small is told.
        let still = cluster.ctl(&["budget", &task, "--tokens", "2"])?.ok()?;
        still.complains(&[
            &format!(
                "the budget of {task} is still used up at 2 tokens, {} tokens more",
                spent - 2
            ),
            &raise,
        ])?;
        ensure!(cluster.status(&task)? == "needs_review");

        cluster.ctl(&["budget", &task, "--tokens", "+100k"])?.ok()?;
        let done = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(done["result"] == "The rest is done.", "{}", done["result"]);
        ensure!(
            has_file(&done, "half.txt") && has_file(&done, "rest.txt"),
            "the change has {}",
            done["files"]
        );
        Ok(())
    })
}

fn never_began() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let tool = cluster.path("tool");
        let write = |line: &str| {
            std::fs::write(&tool, format!("#!/bin/sh\necho run >>log.txt\n{line}\n"))?;
            std::fs::set_permissions(&tool, Permissions::from_mode(0o755))
        };
        write("exec sleep 600")?;
        let command = tool.to_str().context("a plain path")?;
        let add = ["add", "--agent", "shell", "--budget", "1s", "--", command];
        let added = cluster.ctl_in(project.dir(), &add)?.ok()?;
        let task = added.stdout.trim().to_owned();
        cluster.wait_for(&task, &["needs_review"], Deadline::SOON)?;

        std::fs::remove_file(&tool)?;
        cluster.ctl(&["budget", &task, "--time", "+1h"])?.ok()?;
        let document = cluster.wait_for(&task, &["failed", "needs_review"], Deadline::SOON)?;
        let exit = &document["attempts"][1]["exit"];
        ensure!(!exit["not_started"].is_null(), "it ended by {exit}");
        ensure!(has_file(&document, "log.txt"), "{}", document["files"]);
        let diff = cluster.ctl(&["diff", &task])?.ok()?;
        ensure!(diff.stdout.contains("+run"), "{diff}");
        let which = format!("attempt 2 of {task} left no change; this is of attempt 1");
        diff.complains(&[&which])?;

        // What the next attempt goes on from is there already when it ends.
        cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        write("")?;
        cluster.ctl(&["retry", &task])?.ok()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        let log = std::fs::read_to_string(project.dir().join("log.txt"))?;
        ensure!(log == "run\nrun\n", "{log:?}");
        Ok(())
    })
}

fn has_file(task: &Value, name: &str) -> bool {
    let files = task["files"].as_array();
    files.is_some_and(|files| files.iter().any(|file| file["path"] == name))
}

fn project_budget() -> anyhow::Result<()> {
    let script = format!(
        "
usage: {{input: 100, output: 20}}
rules:
- when: {{prompt: earlier attempt}}
  steps: [{{say: 'The rest is done.'}}]
- when: {{prompt_ends: long}}
  steps:
  - tool: {{bash: {{command: '{GATE}'}}}}
  - say: done
- when: {{prompt_ends: short}}
  steps: [{{say: done}}]
"
    );
    let setup = Setup::new()
        .model(&script)
        .agents("agent:1")
        .config("budgets:\n  default: 200-tokens\n");
    scene(setup, |cluster| {
        let project = cluster.repository("website")?;
        let unused = cluster.ctl(&["budget"])?.ok()?;
        unused.complains(&["each project may use 200 tokens a day (`budgets.default`)"])?;
        let first = cluster.add(&project, &["short", "--agent", "agent"])?;
        cluster.succeeded(&first, Deadline::SOON)?;
        let second = cluster.add(&project, &["long", "--agent", "agent"])?;
        let waits = until("the day's budget stops it", Deadline::SOON, || {
            let document = cluster.show(&second)?;
            let is_back = document["status"] == "queued" && document["attempt"] == 1;
            Ok(is_back.then_some(document))
        })?;
        let reason = &waits["reason"];
        let message = reason["message"].as_str().unwrap_or_default();
        ensure!(message.contains("project website"), "it says {reason}");
        let list = cluster.json(&["budget"])?;
        let today = &list["projects"][0];
        ensure!(today["spent"]["tokens"] == 240, "counted: {today}");
        ensure!(!today["until"].is_null(), "it is not used up: {today}");
        cluster
            .ctl(&["budget", "--project", "website", "--tokens", "+1k"])?
            .ok()?;
        let done = cluster.succeeded(&second, Deadline::SOON)?;
        ensure!(done["result"] == "The rest is done.", "{}", done["result"]);
        Ok(())
    })
}

fn raise_without_limit() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let failed = ["false", "--agent", "shell"];
        let task = cluster.add(&project, &failed)?;
        cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        let list = cluster.json(&["budget"])?["projects"][0].clone();
        ensure!(
            list["name"] == "plain" && list["budget"].is_null(),
            "{list}"
        );
        ensure!(list["spent"]["attempts"] == 1, "{list}");
        let shown = cluster.ctl(&["budget"])?.ok()?.stdout;
        ensure!(shown.contains("unlimited"), "{shown}");
        let set = format!("`ctl budget {task} --time 2h`");
        for raise in [
            ["budget", &task, "--time", "+1s"],
            ["retry", &task, "--budget", "1s"],
        ] {
            let refused = cluster.ctl(&raise)?;
            ensure!(refused.code == Some(5), "it was not refused\n{refused}");
            refused.complains(&["no limit of wall time", &set])?;
        }
        let document = cluster.show(&task)?;
        ensure!(document["attempt"] == 1, "it was tried again");
        ensure!(document["budget"].is_null(), "{}", document["budget"]);
        let as_it_is = cluster.json(&["budget", &task])?;
        ensure!(as_it_is["tasks"][0]["id"] == task.as_str(), "{as_it_is}");
        let set = cluster.json(&["budget", &task, "--tokens", "5k", "--time", "2h"])?;
        ensure!(set["tasks"][0]["budget"]["tokens"] == 5000, "{set}");
        let lifted = cluster.json(&["budget", &task, "--tokens", "none", "--time", "none"])?;
        ensure!(lifted["tasks"][0]["budget"].is_null(), "{lifted}");
        Ok(())
    })
}

fn first_budget() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        let project = cluster.repository("website")?;
        let nameless = ["budget", "--project", "", "--attempts", "1"];
        cluster.ctl_in(project.dir(), &nameless)?.exits(2)?;
        let set = ["budget", "--project", "website", "--attempts", "1"];
        let elsewhere = cluster.ctl(&set)?.exits(4)?;
        elsewhere.complains(&["no project `website`", "in that directory"])?;
        let typo = ["budget", "--project", "websit", "--attempts", "1"];
        cluster.ctl_in(project.dir(), &typo)?.exits(4)?;
        let raise = ["budget", "--project", "website", "--attempts", "+1"];
        cluster.ctl_in(project.dir(), &raise)?.exits(5)?;
        let here = cluster.ctl_in(project.dir(), &set)?.ok()?;
        ensure!(here.stdout.contains("website"), "{here}");
        let first = cluster.add(&project, &["true", "--agent", "shell"])?;
        cluster.succeeded(&first, Deadline::SOON)?;
        let second = cluster.add(&project, &["true", "--agent", "shell"])?;
        let reason = cluster.show(&second)?["reason"].clone();
        ensure!(reason["code"] == "budget_exceeded", "{reason}");
        let known = cluster.json(&["budget"])?;
        let known = &known["projects"][0];
        ensure!(known["budget"]["attempts"] == 1, "{known}");
        ensure!(known["until"].is_string(), "{known}");
        ensure!(cluster.status(&second)? == "queued");
        Ok(())
    })
}

fn shared_name() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        let [one, two] = ["one", "two"].map(|above| cluster.path(above).join("web"));
        let mut ids = Vec::new();
        for dir in [&one, &two] {
            let project = Project::plain(dir)?;
            let task = cluster.add(&project, &["true", "--agent", "shell"])?;
            let human = cluster.ctl(&["show", &task])?.ok()?.stdout;
            let id = cluster.show(&task)?["project"]["id"].clone();
            let id = id.as_str().context("it has an id")?.to_owned();
            ensure!(human.contains(&id), "{id} is not shown\n{human}");
            ids.push(id);
        }
        let refused = cluster.ctl(&["budget", "--project", "web", "--usd", "20"])?;
        ensure!(refused.code == Some(5), "it was not refused\n{refused}");
        let (one, two) = (one.to_string_lossy(), two.to_string_lossy());
        refused.complains(&[&ids[0], &ids[1], &one, &two])?;
        for command in [&["priority", "low"][..], &["cancel"], &["retry"], &["wait"]] {
            let which = [command, &["--project", "web"]].concat();
            let refused = cluster.ctl(&which)?;
            ensure!(refused.code == Some(5), "it was not refused\n{refused}");
            refused.complains(&[&ids[0], &ids[1], &one, &two])?;
            cluster
                .ctl(&[command, &["--project", &ids[0]]].concat())?
                .ok()?;
        }
        let set = cluster.json(&["budget", "--project", &ids[1][..12], "--usd", "20"])?;
        ensure!(set["projects"][0]["project"] == ids[1], "{set}");
        let all = cluster.json(&["budget"])?;
        // Both have used something today.
        let all = all["projects"].as_array().context("a list")?;
        let limited = all.iter().filter(|project| !project["budget"].is_null());
        ensure!(all.len() == 2 && limited.count() == 1, "{all:?}");
        Ok(())
    })
}
