//! Branches that tasks have left in a repository, and which of them go.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, Output, Project, Setup, Test, scene, until};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("only_branches_that_are_kept_elsewhere_are_pruned", prune),
        Test::new(
            "results_that_are_nowhere_else_are_pruned_only_when_old_unchanged_and_said",
            unapplied,
        ),
        Test::new(
            "a_result_of_another_cluster_is_not_pruned_for_its_number",
            another_cluster,
        ),
        Test::new(
            "a_result_that_a_person_is_to_look_at_is_not_pruned",
            needs_review,
        ),
        Test::new(
            "a_branch_that_alone_has_a_commit_of_the_users_is_not_pruned",
            users_commit,
        ),
        Test::new(
            "an_applied_result_goes_whatever_name_its_agent_committed_by",
            own_name,
        ),
        Test::new(
            "after_the_end_of_a_chain_was_applied_all_of_its_branches_go",
            chains,
        ),
        Test::new(
            "a_branch_in_the_place_of_all_of_a_tasks_is_told_when_a_task_is_added",
            above,
        ),
        Test::new(
            "two_clusters_on_one_repository_give_away_no_keys_and_take_no_branch",
            two_clusters,
        ),
    ]
}

/// A task that writes a file of this name, whose branch is in the repository.
fn task(cluster: &Cluster, project: &Project, name: &str) -> anyhow::Result<String> {
    let command = format!("echo {name} > {name}.txt");
    let task = cluster.add(project, &[&command, "--agent", "shell"])?;
    cluster.succeeded(&task, Deadline::SOON)?;
    Ok(format!("orchestra/{task}"))
}

fn list(cluster: &Cluster, project: &Project, args: &[&str]) -> anyhow::Result<Value> {
    let args = [&["--json", "branches"], args].concat();
    cluster.ctl_in(project.dir(), &args)?.ok()?.json()
}

/// What is said of each branch under this name.
fn of(document: &Value, name: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let rows = document["branches"].as_array().context("a list")?;
    let one = |row: &Value| {
        let branch = row["name"].as_str().context("a name")?.to_owned();
        Ok((branch, row[name].as_bool().context("yes or no")?))
    };
    rows.iter().map(one).collect()
}

fn there(project: &Project) -> anyhow::Result<Vec<String>> {
    let format = "--format=%(refname:short)";
    let said = project.git(&["for-each-ref", format, "refs/heads/orchestra/"])?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn above() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let add = || {
            let line = ["add", "true", "--agent", "shell"];
            cluster.ctl_in(project.dir(), &line)?.ok()
        };
        ensure!(!add()?.stderr.contains("git branch --move"));
        project.git(&["branch", "orchestra"])?;
        add()?.complains(&["`orchestra`", "`git branch --move orchestra NAME`"])?;
        Ok(())
    })
}

fn unapplied() -> anyhow::Result<()> {
    let setup = Setup::new().config("retention: {finished_for: 100ms}\n");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let forgotten = |name: &str| -> anyhow::Result<String> {
            let command = format!("echo {name} > {name}.txt");
            let task = cluster.add(&project, &[&command, "--agent", "shell"])?;
            until("it is forgotten", Deadline::SOON, || {
                let output = cluster.ctl(&["show", &task])?;
                Ok((output.code == Some(4)).then_some(()))
            })?;
            Ok(format!("orchestra/{task}"))
        };
        let (alone, went_on, in_use, no_log) = (
            forgotten("a")?,
            forgotten("b")?,
            forgotten("c")?,
            forgotten("d")?,
        );
        let tree = format!("{went_on}^{{tree}}");
        let tree = project.git(&["rev-parse", &tree])?;
        let mine = ["commit-tree", "-p", &went_on, "-m", "mine", tree.trim()];
        let mine = project.git(&mine)?;
        let full = format!("refs/heads/{went_on}");
        project.git(&["update-ref", &full, mine.trim()])?;
        let dir = cluster.path("tree").to_string_lossy().into_owned();
        project.git(&["worktree", "add", "-q", &dir, &in_use])?;
        let full = format!("refs/heads/{no_log}");
        project.git(&["reflog", "expire", "--expire=now", &full])?;
        let all = there(&project)?;
        ensure!(all.len() == 4, "{all:?}");

        let ctl = |args: &[&str]| {
            let args = [&["branches", "--prune"], args].concat();
            cluster.ctl_in(project.dir(), &args)
        };
        ctl(&["--unapplied"])?.exits(2)?;
        ctl(&["--older-than", "soon"])?.exits(2)?;
        let young = ["--older-than", "30d", "--unapplied"];
        let young = ctl(&young)?.ok()?;
        ensure!(young.stdout.contains("not older than 30d"), "{young}");
        let unsaid = ctl(&["--older-than", "0s"])?.ok()?;
        unsaid.complains(&["1 branch more would go with --unapplied"])?;
        let would = ["--older-than", "0s", "--unapplied", "--dry-run"];
        let would = list(cluster, &project, &would)?;
        let goes = [
            (alone.clone(), true),
            (went_on.clone(), false),
            (in_use.clone(), false),
            (no_log.clone(), false),
        ];
        ensure!(of(&would, "removable")? == goes.into(), "{would:#}");
        ensure!(there(&project)? == all, "one went that should not");

        let pruned = ctl(&["--older-than", "0s", "--unapplied"])?.ok()?;
        for told in [
            format!("removed {alone}"),
            "somebody has changed it".to_owned(),
            "it is checked out".to_owned(),
            "nobody knows any more".to_owned(),
        ] {
            ensure!(pruned.stdout.contains(&told), "no {told:?} in {pruned}");
        }
        ensure!(there(&project)? == all[1..], "{pruned}");
        Ok(())
    })
}

/// All that may go goes, however young it is.
const ALL: [&str; 5] = ["branches", "--prune", "--older-than", "0s", "--unapplied"];

fn another_cluster() -> anyhow::Result<()> {
    scene(Setup::new(), |ours| {
        scene(Setup::new(), |theirs| {
            let project = ours.repository("project")?;
            let branch = task(theirs, &project, "a")?;
            // Ours has given out no number.
            let pruned = ours.ctl_in(project.dir(), &ALL)?.ok()?;
            ensure!(
                pruned.stdout.contains("another cluster wrote it")
                    && pruned.stdout.contains("`git branch -D`"),
                "{pruned}"
            );
            ensure!(there(&project)? == [&*branch], "{pruned}");
            // Now it has, for another project.
            let elsewhere = ours.repository("elsewhere")?;
            ensure!(task(ours, &elsewhere, "b")? == branch);
            let pruned = ours.ctl_in(project.dir(), &ALL)?.ok()?;
            ensure!(pruned.stdout.contains("of another project"), "{pruned}");
            ensure!(there(&project)? == [&*branch], "{pruned}");
            // And for this one, where the name is taken.
            ensure!(task(ours, &project, "c")? == "orchestra/task_002");
            let theirs_too = task(theirs, &project, "d")?;
            ensure!(theirs_too == "orchestra/task_002");
            ours.ctl_in(project.dir(), &ALL)?.ok()?;
            ensure!(there(&project)? == [&*branch], "its own goes");
            theirs.ctl_in(project.dir(), &ALL)?.ok()?;
            ensure!(there(&project)?.is_empty());
            Ok(())
        })
    })
}

fn needs_review() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let command = "echo a > a.txt; sleep 60";
        let add = [command, "--agent", "shell", "--budget", "1s"];
        let task = cluster.add(&project, &add)?;
        cluster.wait_for(&task, &["needs_review"], Deadline::SOON)?;
        let branch = format!("orchestra/{task}");
        ensure!(there(&project)? == [&*branch]);
        let pruned = cluster.ctl_in(project.dir(), &ALL)?.ok()?;
        let why = format!("waits for a person: `ctl show {task}`");
        ensure!(pruned.stdout.contains(&why), "{pruned}");
        ensure!(there(&project)? == [&*branch], "{pruned}");
        cluster.ctl(&["cancel", &task])?.ok()?;
        cluster.ctl_in(project.dir(), &ALL)?.ok()?;
        ensure!(there(&project)?.is_empty());
        Ok(())
    })
}

fn users_commit() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let stays = |args: &[&str], told: &str, branch: &str| -> anyhow::Result<()> {
            let pruned = cluster.ctl_in(project.dir(), args)?.ok()?;
            ensure!(pruned.stdout.contains(told), "{args:?}: {pruned}");
            ensure!(there(&project)? == [branch], "{args:?}: {pruned}");
            Ok(())
        };
        // An applied one goes without --unapplied, and all its commits with it.
        for (name, applies, wishes) in [("a", false, 1), ("b", true, 3)] {
            let message = format!("before {name}");
            let commit = ["commit", "-q", "--allow-empty", "-m", &message];
            project.git(&["checkout", "-q", "--detach"])?;
            project.git(&commit)?;
            let mine = project.git(&["rev-parse", "HEAD"])?;
            let branch = task(cluster, &project, name)?;
            if applies {
                let task = branch.trim_start_matches("orchestra/");
                cluster.ctl_in(project.dir(), &["apply", task])?.ok()?;
            }
            project.git(&["checkout", "-q", "main"])?;
            let way_out = format!("`git branch NAME {}`", mine.trim());
            for args in [&ALL[..], &ALL[..2], &ALL[..4]].iter().take(wishes) {
                stays(args, &way_out, &branch)?;
            }
            project.git(&["branch", name, mine.trim()])?;
            let args = if applies { &ALL[..2] } else { &ALL[..] };
            cluster.ctl_in(project.dir(), args)?.ok()?;
            ensure!(there(&project)?.is_empty());
        }
        Ok(())
    })
}

fn own_name() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let command =
            "echo a > a.txt; git add a.txt; git -c user.email=me@example.com commit -qm a";
        let task = cluster.add(&project, &[command, "--agent", "shell", "--apply"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(there(&project)? == [format!("orchestra/{task}")]);
        cluster.ctl_in(project.dir(), &ALL[..2])?.ok()?;
        ensure!(there(&project)?.is_empty(), "the head has its commits");
        Ok(())
    })
}

/// One whose last task changes something, and one whose last only passes on what is before it.
fn chains() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        for (first, last) in [
            ("one", "echo two > two.txt"),
            ("three", "test -f three.txt"),
        ] {
            let before = task(cluster, &project, first)?;
            let after = before.trim_start_matches("orchestra/");
            let args = [last, "--agent", "shell", "--after", after, "--apply"];
            let end = cluster.add(&project, &args)?;
            cluster.succeeded(&end, Deadline::SOON)?;
            let listed = list(cluster, &project, &[])?;
            let end = format!("orchestra/{end}");
            let goes = [(before.clone(), true), (end.clone(), true)];
            ensure!(
                of(&listed, "removable")? == goes.clone().into(),
                "{listed:#}"
            );
            ensure!(of(&listed, "applied")? == goes.into(), "{listed:#}");
            let shown = cluster.ctl(&["show", end.trim_start_matches("orchestra/")])?;
            let shown = shown.ok()?;
            ensure!(
                shown.stdout.contains(&format!("branch      {end}\n")),
                "{shown}"
            );
            cluster
                .ctl_in(project.dir(), &["branches", "--prune"])?
                .ok()?;
            ensure!(there(&project)?.is_empty());
            project.git(&["add", "."])?;
            project.git(&["commit", "-q", "-m", "both"])?;
        }
        Ok(())
    })
}

fn prune() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let none = cluster.ctl_in(project.dir(), &["branches"])?.ok()?;
        none.complains(&["no branches of tasks"])?;
        let [applied, alone, merged, went_on] = ["a", "b", "c", "d"];
        let applied = task(cluster, &project, applied)?;
        let alone = task(cluster, &project, alone)?;
        let merged = task(cluster, &project, merged)?;
        let went_on = task(cluster, &project, went_on)?;
        for branch in [&applied, &went_on] {
            let task = branch.trim_start_matches("orchestra/");
            cluster.ctl_in(project.dir(), &["apply", task])?.ok()?;
        }
        project.git(&["merge", "-q", "--no-edit", &merged])?;
        // Somebody goes on with a branch whose change was applied.
        let tree = format!("{went_on}^{{tree}}");
        let tree = project.git(&["rev-parse", &tree])?;
        let mine = ["commit-tree", "-p", &went_on, "-m", "mine", tree.trim()];
        let mine = project.git(&mine)?;
        let full = format!("refs/heads/{went_on}");
        project.git(&["update-ref", &full, mine.trim()])?;
        let all = there(&project)?;

        let listed = list(cluster, &project, &["--prune", "--dry-run"])?;
        let goes = [
            (applied.clone(), true),
            (alone.clone(), false),
            (merged.clone(), true),
            (went_on.clone(), false),
        ];
        ensure!(of(&listed, "removable")? == goes.into(), "{listed:#}");
        ensure!(of(&listed, "applied")?[&applied], "{listed:#}");
        ensure!(of(&listed, "removed")?.values().all(|gone| !gone));
        ensure!(listed["head_asked"] == true && listed["branches"][2]["within"] == "main");
        ensure!(there(&project)? == all, "a dry run removed something");

        // Without the head only the other branches count.
        cluster.stop()?;
        let unasked = cluster.ctl_in(project.dir(), &["branches"])?.ok()?;
        unasked.complains(&["nobody knows which tasks were applied", "1 branch would go"])?;
        project.git(&["config", &format!("branch.{merged}.description"), "mine"])?;
        let pruned = list(cluster, &project, &["--prune"])?;
        ensure!(pruned["head_asked"] == false, "{pruned:#}");
        let config = project.git(&["config", "--list", "--local"])?;
        ensure!(!config.contains(&merged), "{config}");
        ensure!(there(&project)? == [&*applied, &*alone, &*went_on]);
        cluster.start()?;

        let commit = project.git(&["rev-parse", &applied])?;
        let pruned = cluster
            .ctl_in(project.dir(), &["branches", "--prune"])?
            .ok()?;
        let pruned = pruned.complains(&["1 branch removed"])?;
        let stays = "stays: no other branch has its commits";
        ensure!(pruned.stdout.contains(stays), "{pruned}");
        let commit = commit.trim();
        let told = format!("removed {applied}, which was {commit}: its change was applied");
        ensure!(pruned.stdout.contains(&told), "{pruned}");
        ensure!(there(&project)? == [&*alone, &*went_on]);
        // The head has the result.
        let task = applied.trim_start_matches("orchestra/");
        let again = ["apply", task, "--branch"];
        cluster.ctl_in(project.dir(), &again)?.ok()?;
        ensure!(project.git(&["rev-parse", &applied])?.trim() == commit);
        cluster.ctl_in(&cluster.path(""), &["branches"])?.exits(4)?;
        Ok(())
    })
}

fn two_clusters() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = cluster.add(&project, &["echo first > file.txt", "--agent", "shell"])?;
        cluster.succeeded(&first, Deadline::SOON)?;
        let branch = format!("orchestra/{first}");
        let put = project.git(&["rev-parse", &branch])?;

        let state = project.dir().join("state");
        let state = state.to_string_lossy();
        let other = |args: &[&str]| -> anyhow::Result<Output> {
            cluster.ctl_in(project.dir(), &[&["--state", &state], args].concat())
        };
        other(&["start", "--detach"])?.ok()?;
        let told = || -> anyhow::Result<()> {
            let script = "echo second > file.txt; find . -name '*.pem' > keys.txt";
            let add = ["add", script, "--agent", "shell", "--wait", "--json"];
            let second = other(&add)?.ok()?.json()?["tasks"][0].clone();
            ensure!(second["id"] == first.as_str(), "{second:#}");
            let diff = other(&["diff", &first])?.ok()?.stdout;
            ensure!(diff.contains("+second") && !diff.contains(".pem"), "{diff}");
            ensure!(project.git(&["rev-parse", &branch])? == put, "it moved");
            let shown = other(&["show", &first])?.ok()?.stdout;
            let taken = format!("the one here that is called {branch} has commits that are not of");
            ensure!(shown.contains(&taken), "{shown}");
            let way_out = format!("git branch --move {branch} NAME");
            ensure!(shown.contains(&way_out), "{shown}");
            let listed = other(&["branches", "--json"])?.ok()?.json()?["branches"][0].clone();
            ensure!(listed["name"] == branch.as_str(), "{listed:#}");
            ensure!(listed["status"].is_null(), "{listed:#}");
            let why = listed["why"].as_str().unwrap_or_default();
            ensure!(why.contains("another cluster wrote it"), "{listed:#}");
            let applied = other(&["apply", &first])?.ok()?;
            let applied = applied.complains(&["there is no branch of it", "not of this task"])?;
            ensure!(
                !applied.stdout.contains("also the branch"),
                "{}",
                applied.stdout
            );
            let named = other(&["apply", &first, "--branch"])?;
            named.complains(&["not of this task", "git branch --move"])?;
            let status = project.git(&["status", "--porcelain"])?;
            ensure!(!status.contains("state"), "{status}");
            Ok(())
        };
        let told = told();
        other(&["stop", "--now"])?.ok()?;
        told
    })
}
