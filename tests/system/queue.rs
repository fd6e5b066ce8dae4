//! Order, concurrency and dependencies of many tasks.

use std::fmt::Write;

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, scene, until};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("ten_tasks_are_all_assigned_within_ten_seconds", ten_tasks),
        Test::new(
            "a_higher_priority_goes_first_and_order_is_kept_within_one",
            priorities,
        ),
        Test::new(
            "what_waits_at_a_worker_begins_in_the_order_in_which_it_was_given",
            in_order,
        ),
        Test::new(
            "a_task_waits_for_what_it_comes_after_and_fails_with_it",
            dependencies,
        ),
        Test::new(
            "a_file_of_tasks_is_submitted_in_one_call_in_order",
            task_file,
        ),
        Test::new("the_first_of_several_ends_the_waiting_for_any", wait_any),
        Test::new(
            "a_running_task_can_be_cancelled_and_leaves_no_process",
            cancel,
        ),
        Test::new("a_cancel_is_for_the_subtasks_too", cancel_tree),
        Test::new(
            "failed_tasks_are_tried_again_by_what_they_have_in_common",
            retry_chosen,
        ),
        Test::new(
            "a_label_chooses_what_is_waited_for_and_what_has_another_priority",
            by_label,
        ),
        Test::new("a_task_that_takes_too_long_is_stopped", timeout),
        Test::new("a_submission_with_a_key_is_made_once", with_a_key),
        Test::new("ctrl_c_ends_the_waiting_and_says_for_what", interrupted),
        Test::new(
            "a_script_that_is_killed_while_it_waits_knows_for_what",
            killed,
        ),
    ]
}

fn ten_tasks() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:10"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let tasks: Vec<String> = (0..10)
            .map(|_| add_shell(cluster, &project, &gate(cluster), &[]))
            .collect::<Result<_, _>>()?;
        until("all ten are assigned", Deadline::secs(10), || {
            let counts = cluster.json(&["status"])?["tasks"].clone();
            let count = |status: &str| counts[status].as_u64().unwrap_or(0);
            Ok((count("assigned") + count("running") == 10).then_some(()))
        })?;
        cluster.open_gate()?;
        tasks
            .iter()
            .try_for_each(|task| cluster.succeeded(task, Deadline::SOON).map(drop))
    })
}

fn priorities() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let blocker = add_shell(cluster, &project, &gate(cluster), &[])?;
        cluster.wait_for(&blocker, &["running"], Deadline::SOON)?;
        let mut tasks = Vec::new();
        for (name, priority) in [
            ("low", "low"),
            ("first", "normal"),
            ("second", "normal"),
            ("high", "high"),
        ] {
            let command = format!("echo {name} >> order.txt");
            tasks.push(add_shell(
                cluster,
                &project,
                &command,
                &["--priority", priority, "--in-place"],
            )?);
        }
        cluster.open_gate()?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        let order = project.read("order.txt")?;
        ensure!(
            order == "high\nfirst\nsecond\nlow\n",
            "they ran in the order {order:?}"
        );
        Ok(())
    })
}

fn in_order() -> anyhow::Result<()> {
    let setup = Setup::new().agents("shell:1");
    scene(setup.runner("shell", "{prefetch: 4}"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let tasks = cluster.add_numbered(&project, 100)?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::secs(90))?;
        }
        let done = project.read("done.txt")?;
        let want: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
        let right = done.lines().eq(&want);
        ensure!(right, "they ran in the order {done:?}");
        Ok(())
    })
}

fn dependencies() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let held = format!("{}; exit 1", gate(cluster));
        let first = add_shell(cluster, &project, &held, &[])?;
        let second = add_shell(cluster, &project, "true", &["--after", &first])?;
        let document = cluster.show(&second)?;
        ensure!(
            document["status"] == "blocked",
            "it is {}",
            document["status"]
        );
        ensure!(
            document["waits_for"][0] == first.as_str(),
            "it waits for {}",
            document["waits_for"]
        );
        cluster.open_gate()?;
        cluster.wait_for(&first, &["failed"], Deadline::SOON)?;
        let document = cluster.wait_for(&second, &["failed", "blocked"], Deadline::SOON)?;
        let ended = until("the second task knows why", Deadline::SOON, || {
            let document = cluster.show(&second)?;
            Ok((document["reason"]["code"] == "dependency_failed").then_some(document))
        })?;
        ensure!(
            ended["attempt"] == 0,
            "it ran although its predecessor failed: {document:#}"
        );
        Ok(())
    })
}

fn task_file() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let mut lines = String::new();
        for number in 1..=30 {
            writeln!(
                lines,
                r#"{{"description": "echo {number}", "agent": "shell"}}"#
            )?;
        }
        project.write("tasks.jsonl", &lines)?;
        let output = cluster
            .ctl_in(project.dir(), &["add", "-f", "tasks.jsonl"])?
            .ok()?;
        let ids: Vec<&str> = output
            .stdout
            .split_whitespace()
            .filter(|w| w.starts_with("task_"))
            .collect();
        let want: Vec<String> = (1..=30).map(|n| format!("task_{n:03}")).collect();
        ensure!(ids == want, "the ids are {ids:?}");
        let waited = cluster.ctl(&["wait", "task_030", "task_001"])?;
        waited.ok()?;
        let last = cluster.succeeded("task_030", Deadline::SOON)?;
        ensure!(
            last["result"].as_str().is_some_and(|r| r.trim() == "30"),
            "it said {}",
            last["result"]
        );
        Ok(())
    })
}

fn wait_any() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let gate = cluster.path("gate");
        let waits = format!("until [ -e {} ]; do sleep 0.1; done", gate.display());
        let first = add_shell(cluster, &project, &waits, &[])?;
        let second = add_shell(cluster, &project, "exit 3", &[])?;
        let late = cluster.ctl(&["wait", "--any", &first, "--timeout", "0s"])?;
        let said = late.exits(124)?.stderr;
        ensure!(said.contains("no task has ended within"), "{said}");
        let waited = cluster.ctl(&["wait", "--any", &first, &second, "--json"])?;
        let waited = waited.exits(6)?.json()?;
        let ids: Vec<_> = waited["tasks"].as_array().into_iter().flatten().collect();
        ensure!(ids.len() == 1 && ids[0]["id"] == *second, "{waited}");
        std::fs::write(&gate, "")?;
        cluster.ctl(&["wait", &first])?.ok()?;
        let both = cluster.ctl(&["wait", "--any", &first, &second])?.exits(6)?;
        ensure!(both.stdout.contains(&first) && both.stdout.contains(&second));
        Ok(())
    })
}

fn cancel() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        // A grandchild in a session of its own, which a signal to the process group cannot reach.
        let task = add_shell(
            cluster,
            &project,
            "setsid sleep 4242 & echo ready; sleep 4242",
            &[],
        )?;
        until("both sleep", Deadline::SOON, || {
            Ok((sleepers(cluster) >= 2).then_some(()))
        })?;
        cluster.ctl(&["cancel", &task])?.ok()?;
        cluster.wait_for(&task, &["cancelled"], Deadline::SOON)?;
        until("none sleeps", Deadline::SOON, || {
            Ok((sleepers(cluster) == 0).then_some(()))
        })
    })
}

/// A task's subtasks are cancelled with it, or it is said that they go on.
fn cancel_tree() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let held = gate(cluster);
        let add = |more: &[&str]| add_shell(cluster, &project, &held, more);
        let parent = add(&[])?;
        let first = add(&["--parent", &parent])?;
        let second = add(&["--parent", &first])?;
        let only = cluster.ctl(&["cancel", "--only", &parent])?.ok()?;
        let said = format!(
            "the subtasks {first}, {second} go on; `ctl cancel {first} {second}` cancels them"
        );
        ensure!(only.stderr.contains(&said), "{only:?}");
        cluster.wait_for(&parent, &["cancelled"], Deadline::SOON)?;
        // It has ended, and what goes on below it is meant.
        let all = cluster.ctl(&["cancel", &parent])?.ok()?;
        ensure!(all.stderr.contains("with 2 subtasks"), "{all:?}");
        for id in [&first, &second] {
            cluster.wait_for(id, &["cancelled"], Deadline::SOON)?;
        }
        let none = cluster.ctl(&["cancel", &parent])?;
        ensure!(none.code == Some(5), "{none:?}");
        let parent = add(&[])?;
        let part = add(&["--parent", &parent])?;
        let answer = cluster.json(&["cancel", &parent])?;
        let ids: Vec<&str> = answer["tasks"]
            .as_array()
            .context("it lists tasks")?
            .iter()
            .filter_map(|task| task["id"].as_str())
            .collect();
        ensure!(ids == [parent.as_str(), part.as_str()], "{answer}");
        cluster
            .wait_for(&part, &["cancelled"], Deadline::SOON)
            .map(drop)
    })
}

/// What is named by an option is what has failed, unless a status is named.
fn retry_chosen() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let fails = |label: &str| add_shell(cluster, &project, "false", &["--label", label]);
        let (first, second, other) = (fails("a=1")?, fails("a=1")?, fails("a=2")?);
        for id in [&first, &second, &other] {
            cluster.wait_for(id, &["failed"], Deadline::SOON)?;
        }
        let late = add_shell(cluster, &project, "true", &["--label=a=1", "--at", "+9h"])?;
        cluster.ctl(&["cancel", &late])?.ok()?;
        let ids = |args: &[&str]| {
            let answer = cluster.json(args)?;
            let tasks = answer["tasks"].as_array().context("it lists tasks")?;
            let ids = tasks.iter().filter_map(|task| task["id"].as_str());
            anyhow::Ok(ids.map(str::to_owned).collect::<Vec<_>>())
        };
        let again = ids(&["retry", "--label", "a=1"])?;
        ensure!(again == [first.clone(), second.clone()], "{again:?}");
        let again = ids(&["retry", "--label", "a=1", "--status", "cancelled"])?;
        ensure!(again == [late], "{again:?}");
        for id in [&first, &second] {
            until("it has failed again", Deadline::SOON, || {
                let task = cluster.show(id)?;
                Ok((task["status"] == "failed" && task["attempt"] == 2).then_some(()))
            })?;
        }
        let all = cluster.ctl(&["retry", "--all"])?.ok()?;
        ensure!(all.stderr.contains("to be tried again: 3 tasks"), "{all:?}");
        let none = cluster.ctl(&["retry"])?;
        ensure!(none.code == Some(2), "{none:?}");
        let ended = cluster.ctl(&["retry", "--status", "succeeded"])?;
        ensure!(ended.code == Some(2), "{ended:?}");
        let unknown = cluster.ctl(&["retry", "--project", "nope"])?;
        ensure!(unknown.code == Some(4), "{unknown:?}");
        Ok(())
    })
}

fn by_label() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let failed = add_shell(cluster, &project, "false", &["--label", "a=1"])?;
        cluster.wait_for(&failed, &["failed"], Deadline::SOON)?;
        let late = ["--label=a=1", "--at", "+9h"];
        let first = add_shell(cluster, &project, "true", &late)?;
        let second = add_shell(cluster, &project, "true", &late)?;
        let set = cluster.json(&["priority", "--label", "a=1", "high"])?;
        let set = set["tasks"].as_array().context("it lists tasks")?;
        let set: Vec<_> = set
            .iter()
            .map(|task| (task["id"].as_str(), task["priority"].as_str()))
            .collect();
        let high = |id| (Some(id), Some("high"));
        ensure!(set == [high(first.as_str()), high(&second)], "{set:?}");
        cluster.ctl(&["priority", "low", "--all"])?.ok()?;
        ensure!(cluster.show(&second)?["priority"] == "low");
        cluster.ctl(&["priority", "high"])?.exits(2)?;
        let named_too = cluster.ctl(&["priority", &first, "high", "--all"])?;
        named_too.exits(2)?;
        cluster
            .ctl(&["priority", "--status", "failed", "high"])?
            .exits(2)?;

        let wait = |more: &[&str]| {
            let label = ["wait", "--label", "a=1"];
            cluster.ctl(&[&label, more].concat())
        };
        let any = wait(&["--any"])?.exits(6)?;
        ensure!(any.stdout.starts_with(&failed), "{any}");
        // The one that has failed is not among these.
        wait(&["--any", "--status", "open", "--timeout", "0s"])?.exits(124)?;
        wait(&["--timeout", "0s"])?.exits(124)?;
        for id in [&first, &second] {
            cluster.ctl(&["cancel", id])?.ok()?;
        }
        let all = wait(&["--json"])?.exits(6)?.json()?;
        ensure!(all["tasks"].as_array().map(Vec::len) == Some(3), "{all}");
        let open = wait(&["--status", "open"])?.ok()?;
        ensure!(open.stderr.contains("nothing to wait for"), "{open}");

        let none = cluster.ctl(&["wait", "--label", "a=2"])?.exits(4)?;
        ensure!(none.stderr.contains("no such task: a=2"), "{none}");
        let none = cluster.ctl(&["wait", "--all"])?.ok()?;
        ensure!(none.stderr.contains("nothing to wait for"), "{none}");
        cluster.ctl(&["wait"])?.exits(2)?;
        Ok(())
    })
}

fn timeout() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = add_shell(cluster, &project, "sleep 4242", &["--timeout", "1s"])?;
        let document: Value =
            cluster.wait_for(&task, &["failed", "needs_review"], Deadline::SOON)?;
        ensure!(
            document["reason"]["code"] == "timeout",
            "the reason is {}",
            document["reason"]
        );
        until("none sleeps", Deadline::SOON, || {
            Ok((sleepers(cluster) == 0).then_some(()))
        })
    })
}

/// A script that is run again queues nothing twice.
fn with_a_key() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let add = |key: &str| {
            let args = [
                "add",
                "--json",
                "--key",
                key,
                "--agent",
                "shell",
                "--no-repo",
                "--",
                "true",
            ];
            cluster.ctl(&args)?.ok()?.json()
        };
        let first = add("nightly-1")?;
        ensure!(first["known"] == false, "{first}");
        let again = add("nightly-1")?;
        ensure!(again["known"] == true, "{again}");
        ensure!(again["tasks"] == first["tasks"], "{again} after {first}");
        let other = add("nightly-2")?;
        ensure!(other["known"] == false, "{other}");
        ensure!(other["tasks"] != first["tasks"], "{other} after {first}");
        let waited = |how: &[&str]| {
            let args = ["add", "--key", "nightly-1", "--agent", "shell", "--no-repo"];
            cluster.ctl(&[&args, how, &["--", "true"]].concat())
        };
        let ended = waited(&["--wait", "--json"])?.ok()?.json()?;
        ensure!(ended["known"] == true, "{ended}");
        ensure!(ended["tasks"][0]["status"] == "succeeded", "{ended}");
        let followed = waited(&["--follow"])?.ok()?;
        let followed = followed.complains(&["already known as task_001 (succeeded)"])?;
        ensure!(!followed.stderr.contains("queued"), "{followed}");
        let spaces = cluster.ctl(&["add", "--key", "two words", "x"])?;
        ensure!(spaces.code == Some(2), "{spaces:?}");
        Ok(())
    })
}

/// Ctrl-C ends the waiting and says for what.
fn interrupted() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let gated = gate(cluster);
        let args = ["add", "--agent", "shell", "--wait", &gated];
        let mut waits = cluster.begin(project.dir(), &args)?;
        // It is told before the waiting begins.
        waits.prints("task_001\n")?;
        waits.interrupt()?;
        let goes_on = ["interrupted; task_001 goes on", "`ctl wait task_001`"];
        waits.end()?.exits(130)?.complains(&goes_on)?;
        cluster.open_gate()?;
        cluster.succeeded("task_001", Deadline::SOON)?;
        Ok(())
    })
}

/// With `--json` the ids are there before the end too, and standard output has one document all the same.
fn killed() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let gated = gate(cluster);
        let waits = |how| {
            let args = ["add", "--json", "--agent", "shell", how, &gated];
            cluster.begin(project.dir(), &args)
        };
        let queued =
            |id: &str| format!(r#"{{"queued":{{"tasks":[{{"id":"{id}"}}],"known":false}}}}"#);
        let killed = waits("--wait")?;
        killed.says(&queued("task_001"))?;
        let said = killed.kill()?;
        ensure!(said.stdout.is_empty(), "{said}");
        let first = waits("--wait")?;
        first.says(&queued("task_002"))?;
        let mut waits = [first, waits("--follow")?];
        waits[1].says(&queued("task_003"))?;
        cluster.open_gate()?;
        let [waited, followed] = &mut waits;
        let document = waited.end()?.ok()?.json()?;
        ensure!(document["tasks"][0]["id"] == "task_002", "{document}");
        followed.end()?.ok()?;
        cluster.succeeded("task_001", Deadline::SOON)?;
        Ok(())
    })
}

fn sleepers(cluster: &Cluster) -> usize {
    let processes = cluster.marker().processes();
    processes
        .iter()
        .filter(|line| line.contains(" sleep 4242"))
        .count()
}

fn add_shell(
    cluster: &Cluster,
    project: &Project,
    command: &str,
    more: &[&str],
) -> anyhow::Result<String> {
    cluster.add(project, &[&[command, "--agent", "shell"], more].concat())
}

fn gate(cluster: &Cluster) -> String {
    GATE.replace("@DIR@", &cluster.path("").to_string_lossy())
}
