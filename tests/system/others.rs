//! What an agent committed beside its result is kept.

use std::path::Path;

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, Project, Setup, Test, scene, until};
use serde_json::json;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("work_on_a_branch_that_the_agent_left_is_kept", branch),
        Test::new("a_stash_is_kept_beside_a_change_and_told", stash),
        Test::new(
            "a_workspace_with_more_branches_than_are_kept_is_put_aside",
            many,
        ),
    ]
}

const LEAVE: &str = "git checkout -q -b feature && echo work > work.txt && git add . \
                     && git commit -qm w && git checkout -q -";
/// Each from the same commit.
const MANY: &str = "for i in $(seq 18); do git checkout -q -b w$i && echo $i > $i.txt && git add . && \
                    git commit -qm $i && git checkout -q -; done";
const STASH: &str = "echo work > work.txt && git stash -uq && echo 2 > file.txt";

fn run(cluster: &Cluster, project: &Project, command: &str) -> anyhow::Result<String> {
    let task = cluster.add(project, &[command, "--agent", "shell"])?;
    cluster.succeeded(&task, Deadline::SOON)?;
    Ok(task)
}

fn branch() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = run(cluster, &project, LEAVE)?;
        let branch = format!("orchestra/{task}-1-feature");
        let files = cluster.ctl(&["files", &task])?.ok()?;
        files.complains(&["`feature`", &branch, "no files changed"])?;
        let shown = cluster.ctl(&["show", &task])?.ok()?;
        ensure!(shown.stdout.contains("1 warning"), "{shown}");
        shown.complains(&[&format!("ctl files {task}")])?;

        // The head has put it there, as the task came from its machine.
        let work = || project.git(&["show", &format!("{branch}:work.txt")]);
        ensure!(work()?.trim_end() == "work");
        project.git(&["branch", "-D", &branch])?;
        let applied = cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        ensure!(applied.stdout.contains(&branch), "{applied}");
        applied.complains(&["changed no files", &branch])?;
        ensure!(work()?.trim_end() == "work");

        // Nothing is built on it.
        let next = ["test ! -e work.txt", "--agent", "shell", "--after", &task];
        let next = cluster.add(&project, &next)?;
        cluster.succeeded(&next, Deadline::SOON)?;
        Ok(())
    })
}

fn many() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = run(cluster, &project, MANY)?;
        let files = cluster.ctl(&["files", &task])?.ok()?;
        let said = files.complains(&["not kept: `w8`, `w9`", "the agent's files are kept"])?;
        let place = said.stderr.split('`').find(|part| part.contains("/aside/"));
        let place = Path::new(place.context("no place is named")?);
        let branches = project.git(&["branch", "--list", "orchestra/*"])?;
        ensure!(branches.lines().count() == 16, "{branches}");
        until("it is put aside", Deadline::SOON, || {
            Ok(place.is_dir().then_some(()))
        })
    })
}

fn stash() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = run(cluster, &project, STASH)?;
        let branch = format!("orchestra/{task}-1-stash");
        let apply = ["apply", &task, "--json"];
        let applied = cluster.ctl_in(project.dir(), &apply)?.ok()?.json()?;
        ensure!(applied["also"] == json!([branch]), "{applied:#}");
        ensure!(project.read("file.txt")? == "2\n");
        project.git(&["stash", "apply", &branch])?;
        ensure!(project.read("work.txt")? == "work\n");
        Ok(())
    })
}
