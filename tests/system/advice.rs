//! What `ctl` advises where something is not as it was wanted, and what it says of what it changed.

use anyhow::ensure;
use orchestra_tests::{Cluster, Deadline, Project, Setup, Test, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("what_was_typed_steers_no_terminal", mistakes),
        Test::new(
            "of_a_task_behind_one_that_failed_that_one_is_named",
            behind_a_failure,
        ),
        Test::new(
            "a_branch_over_uncommitted_work_is_not_said_to_merge",
            unmerged_branch,
        ),
        Test::new("whoever_cancels_all_hears_of_schedules", schedules_go_on),
        Test::new("a_change_of_a_task_is_told_with_what_was_before", changes),
        Test::new("where_no_worker_has_been_that_is_said", no_worker),
        Test::new("a_token_is_for_no_machine_by_name", token),
        Test::new("tasks_are_listed_by_who_submitted_them", submitters),
    ]
}

fn shell(cluster: &Cluster, project: &Project, args: &[&str]) -> anyhow::Result<String> {
    cluster.add(project, &[&["--agent", "shell"], args].concat())
}

fn mistakes() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let hostile = "x\u{9b}31m\u{202e}y";
    for args in [&["show", hostile][..], &[hostile], &["tasks", hostile]] {
        let said = cluster.ctl(args)?.exits(2)?;
        let shown = said.stderr.contains("x\\x9b31m\\u{202e}y");
        ensure!(shown && !said.stderr.contains('\u{9b}'), "{said}");
    }
    cluster.expect_no_process()
}

fn behind_a_failure() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, &["exit 1"])?;
        let second = shell(cluster, &project, &["true", "--after", &first])?;
        let third = shell(cluster, &project, &["true", "--after", &second])?;
        cluster.ctl(&["wait", &third])?.exits(7)?;
        for (args, code) in [
            (&["logs", &third][..], 4),
            (&["logs", &third, "--raw"], 4),
            (&["logs", &third, "--stderr"], 4),
            (&["files", &third], 4),
            (&["diff", &third], 4),
            (&["apply", &third], 5),
        ] {
            let refused = cluster.ctl_in(project.dir(), args)?.exits(code)?;
            let why = format!("{first} ended as failed");
            let said = refused.complains(&[&why, &format!("`ctl retry {first}` first")])?;
            ensure!(!said.stderr.contains("ctl wait"), "{said}");
        }
        // Also for who waited for its end.
        cluster.ctl(&["cancel", &third])?.ok()?;
        for follow in [&["logs", &third][..], &["logs", &third, "-f"]] {
            let refused = cluster.ctl(follow)?.exits(4)?;
            refused.complains(&[&format!("{third} ended before it was started")])?;
        }
        Ok(())
    })
}

fn unmerged_branch() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        project.write("README.md", "mine, not committed\n")?;
        let task = shell(cluster, &project, &["echo new > new.txt"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let shown = cluster.ctl(&["show", &task])?.ok()?.stdout;
        // The head has made it.
        let there = format!("branch      orchestra/{task}\n");
        ensure!(shown.contains(&there), "{shown}");
        project.git(&["branch", "-D", &format!("orchestra/{task}")])?;
        let shown = cluster.ctl(&["show", &task])?.ok()?.stdout;
        let made = format!("branch      orchestra/{task}, made by `ctl apply {task}`");
        ensure!(shown.contains(&made), "{shown}");
        let branch = ["apply", &task, "--branch"];
        let said = cluster.ctl_in(project.dir(), &branch)?.ok()?;
        let merge = format!("git merge orchestra/{task}\n");
        said.complains(&[&format!(
            "next: commit or stash what is not committed, then {merge}"
        )])?;
        let refused = project.git(&["merge", &format!("orchestra/{task}")]);
        ensure!(refused.is_err(), "git merges over what is not committed");
        project.git(&["stash"])?;
        project.git(&["merge", &format!("orchestra/{task}")])?;
        ensure!(project.read("new.txt")? == "new\n");
        let applied = cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        ensure!(applied.stdout.contains("there already"), "{applied}");
        let shown = cluster.ctl(&["show", &task])?.ok()?.stdout;
        ensure!(shown.contains(&there), "{shown}");
        // It is said to be there only where it is.
        project.git(&["branch", "-D", &format!("orchestra/{task}")])?;
        let shown = cluster.ctl(&["show", &task])?.ok()?.stdout;
        let made = format!("orchestra/{task}, not there; made by `ctl apply {task} --branch`");
        ensure!(shown.contains(&made), "{shown}");
        Ok(())
    })
}

fn schedules_go_on() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let recurring = ["add", "true", "--agent", "shell", "--every", "6h"];
        let said = cluster.ctl_in(project.dir(), &recurring)?.ok()?;
        let frozen = "each run begins with the files as they are now";
        said.complains(&[frozen, "--in-place"])?;
        shell(cluster, &project, &["sleep 60", "--at", "+9h"])?;
        let goes_on = "schedule_001 goes on and makes new tasks";
        let some = cluster.ctl(&["cancel", "--all", "--status", "queued"])?;
        ensure!(!some.stderr.contains(goes_on), "{some}");
        let all = cluster.ctl(&["cancel", "--all"])?.ok()?;
        all.complains(&[goes_on, "`ctl schedules pause schedule_001`"])?;
        let json = cluster.ctl(&["cancel", "--all", "--json"])?.ok()?;
        json.complains(&[goes_on])?;
        cluster.ctl(&["schedules", "pause", "1"])?.ok()?;
        let all = cluster.ctl(&["cancel", "--all"])?.ok()?;
        ensure!(!all.stderr.contains(goes_on), "{all}");
        Ok(())
    })
}

fn changes() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = shell(cluster, &project, &["true", "--at", "+9h"])?;
        let says = |args: &[&str], words: &str| -> anyhow::Result<()> {
            let said = cluster.ctl(args)?.ok()?;
            ensure!(said.stdout.contains(words), "{said}");
            Ok(())
        };
        let high = ["priority", &task, "high"];
        says(&high, "queued  priority: high, before normal\n")?;
        says(&high, "queued  priority: high, as before\n")?;
        let set = ["budget", &task, "--attempts", "3"];
        says(&set, "queued  budget: 3 attempts, before unlimited\n")?;
        let raise = ["budget", &task, "--attempts", "+2"];
        says(&raise, "queued  budget: 5 attempts, before 3 attempts\n")
    })
}

fn no_worker() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let empty = cluster.path("empty");
    std::fs::create_dir(&empty)?;
    let state = empty.to_string_lossy();
    let said = cluster.ctl(&["--state", &state, "workers", "gc"])?.ok()?;
    said.complains(&["no worker has been started here", "workers gc WORKER`"])?;
    cluster.expect_no_process()
}

fn token() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    for named in ["buildbox", "buildbox:7117"] {
        let refused = cluster.ctl(&["token", "create", named])?.exits(2)?;
        refused.complains(&["a token names no machine", named, "head.advertise"])?;
    }
    cluster.expect_no_process()
}

fn submitters() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        for user in ["ana", "bob", "ana"] {
            let add = ["add", "true", "--agent", "shell", "--at", "+9h"];
            let mut command = cluster.command(project.dir(), &add);
            command.env("USER", user);
            orchestra_tests::run(command, b"")?.ok()?;
        }
        let ids = |args: &[&str]| -> anyhow::Result<Vec<String>> {
            let document = cluster.json(&[&["tasks"], args].concat())?;
            let tasks = document["tasks"].as_array().cloned().unwrap_or_default();
            let ids = tasks.iter().filter_map(|task| task["id"].as_str());
            Ok(ids.map(str::to_owned).collect())
        };
        ensure!(ids(&["--submitter", "ana"])? == ["task_001", "task_003"]);
        ensure!(ids(&["--submitter", "ana", "-n", "1"])? == ["task_003"]);
        let whole = cluster.show("task_002")?["submitter"].clone();
        let whole = whole.as_str().unwrap_or_default();
        ensure!(whole.starts_with("bob@"), "{whole}");
        ensure!(ids(&["--submitter", whole])? == ["task_002"]);
        let shown = cluster.ctl(&["show", "task_002"])?.ok()?;
        let line = format!("submitter   {whole}\n");
        ensure!(shown.stdout.contains(&line), "{shown}");
        let nobody = cluster.ctl(&["tasks", "--submitter", "jo"])?.ok()?;
        nobody.complains(&["no such tasks of jo; the latest tasks are of ana@", whole])?;
        let nobody = cluster.ctl(&["cancel", "--submitter", "jo"])?.ok()?;
        nobody.complains(&["no such tasks of jo", "nothing was cancelled"])?;
        cluster.ctl(&["cancel", "--submitter", "ana"])?.ok()?;
        ensure!(ids(&["--status", "cancelled"])? == ["task_001", "task_003"]);
        let again = ["retry", "--status", "cancelled", "--submitter"];
        cluster.ctl(&[&again[..], &[whole]].concat())?.ok()?;
        ensure!(ids(&["--status", "cancelled"])? == ["task_001", "task_003"]);
        cluster.ctl(&[&again[..], &["ana"]].concat())?.ok()?;
        ensure!(ids(&["--status", "cancelled"])?.is_empty());
        Ok(())
    })
}
