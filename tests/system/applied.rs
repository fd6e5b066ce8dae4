//! Tasks that ran side by side, applied one upon the other with no commit between.

use std::fs;

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, Project, Setup, Test, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("tasks_that_ran_side_by_side_are_all_applied", all),
        Test::new("an_edit_after_an_apply_is_never_written_over", edited),
        Test::new("the_head_applies_tasks_that_ran_side_by_side", by_the_head),
        Test::new(
            "executable_bits_that_git_does_not_see_are_told_also_where_the_head_applies",
            bits,
        ),
        Test::new(
            "an_attempt_that_came_by_hand_is_known_by_its_files",
            by_hand,
        ),
        Test::new(
            "another_task_is_applied_upon_what_a_killed_apply_left",
            killed,
        ),
        Test::new("a_change_can_be_a_branch_of_a_name_of_ones_own", named),
    ]
}

fn named() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let tasks = add(cluster, &project, [(5, "a"), (12, "b")], &[])?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        let apply = |task: &str, branch: &str| {
            let branch = format!("--branch={branch}");
            cluster.ctl_in(project.dir(), &["apply", task, &branch, "--json"])
        };
        let made = apply(&tasks[0], "fix/five")?.ok()?.json()?;
        ensure!(made["branch"] == "fix/five", "{made:#}");
        ensure!(project.read("f")? == lines(&[]), "a file changed");
        let commit = project.git(&["rev-parse", "refs/heads/fix/five"])?;
        let shown = cluster.show(&tasks[0])?;
        ensure!(shown["commit"] == commit.trim(), "{commit} {shown:#}");
        // Twice is no mistake, and nothing is written over.
        apply(&tasks[0], "fix/five")?.ok()?;
        let taken = apply(&tasks[1], "fix/five")?.exits(5)?;
        taken.complains(&["there is a branch `fix/five` already", "`--branch=NAME`"])?;
        for (name, taken) in [("fix", "fix/five"), ("fix/five/more", "fix/five")] {
            let refused = apply(&tasks[1], name)?.exits(5)?;
            refused.complains(&[&format!("a branch `{taken}` is in the")])?;
        }
        for (name, why) in [
            ("a..b", "git takes no"),
            ("orchestra/x", "of tasks"),
            ("", "git"),
        ] {
            apply(&tasks[1], name)?.exits(2)?.complains(&[why])?;
        }
        let both = ["apply", &tasks[0], &tasks[1], "--branch=both"];
        let both = cluster.ctl_in(project.dir(), &both)?.exits(2)?;
        both.complains(&["`both`", "several tasks"])?;
        let said = ["apply", &tasks[1], "--branch=twelve"];
        let said = cluster.ctl_in(project.dir(), &said)?.ok()?;
        said.complains(&["next: git merge twelve\n"])?;
        project.git(&["merge", "-q", "--no-edit", "twelve", "fix/five"])?;
        ensure!(project.read("f")? == lines(&[(5, "a"), (12, "b")]));
        Ok(())
    })
}

fn bits() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let add = |command: &str| {
            let line = ["add", command, "--agent", "shell", "--apply", "--wait"];
            cluster.ctl_in(project.dir(), &line)?.ok()
        };
        let seen = add("echo 1 > seen; chmod +x seen")?;
        ensure!(!seen.stderr.contains("core.fileMode"), "{seen}");
        project.git(&["config", "core.fileMode", "false"])?;
        add("echo 1 > run; chmod +x run")?
            .complains(&["core.fileMode", "git add --chmod=+x run"])?;
        Ok(())
    })
}

/// Thirty lines.
fn lines(changed: &[(usize, &str)]) -> String {
    let line = |number: usize| {
        let new = changed.iter().find(|(at, _)| *at == number);
        new.map_or(number.to_string(), |(_, new)| (*new).to_owned()) + "\n"
    };
    (1..=30).map(line).collect()
}

fn project(cluster: &Cluster) -> anyhow::Result<Project> {
    let project = cluster.repository("project")?;
    project.write("f", &lines(&[]))?;
    project.git(&["add", "f"])?;
    project.git(&["commit", "-q", "-m", "lines"])?;
    Ok(project)
}

/// Tasks that each write something into a line of f, and begin with the same files.
fn add<const N: usize>(
    cluster: &Cluster,
    project: &Project,
    each: [(usize, &str); N],
    more: &[&str],
) -> anyhow::Result<Vec<String>> {
    let one = |(at, text)| {
        let command = format!("sed -i 's/^{at}$/{text}/' f");
        let add = [&[command.as_str(), "--agent", "shell"], more].concat();
        cluster.add(project, &add)
    };
    let tasks: Vec<String> = each.into_iter().map(one).collect::<anyhow::Result<_>>()?;
    Ok(tasks)
}

fn all() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let each = [(5, "a"), (12, "b"), (19, "c"), (26, "d"), (12, "other")];
        let tasks = add(cluster, &project, each, &[])?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        let (clash, tasks) = tasks.split_last().context("there are five")?;
        for task in tasks {
            cluster.ctl_in(project.dir(), &["apply", task])?.ok()?;
        }
        let whole = lines(&each[..4]);
        ensure!(project.read("f")? == whole, "{}", project.read("f")?);
        let apply = ["apply", clash.as_str()];
        let refused = cluster.ctl_in(project.dir(), &apply)?.exits(5)?;
        let others = |said: &str| said.contains(&tasks[0]) || said.contains(&tasks[2]);
        ensure!(!others(&refused.stderr), "{refused}");
        refused.complains(&["`f`", &tasks[1], "commit what is there", "--branch"])?;
        ensure!(project.read("f")? == whole);
        // What the hint says.
        project.git(&["commit", "-q", "-a", "-m", "all"])?;
        let branch = ["apply", clash, "--branch"];
        cluster.ctl_in(project.dir(), &branch)?.ok()?;
        let branch = format!("orchestra/{clash}");
        project.git(&["merge", "-q", "-X", "theirs", "--no-edit", &branch])?;
        ensure!(project.read("f")? == whole.replace('b', "other"));
        Ok(())
    })
}

fn edited() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let each = [(5, "a"), (26, "d")];
        let tasks = add(cluster, &project, each, &[])?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        cluster.ctl_in(project.dir(), &["apply", &tasks[0]])?.ok()?;
        let left = lines(&each[..1]);
        for mine in [left.replace("15", "mine"), left.clone() + "\n"] {
            project.write("f", &mine)?;
            let apply = ["apply", tasks[1].as_str()];
            let refused = cluster.ctl_in(project.dir(), &apply)?.exits(5)?;
            refused.complains(&[
                "`f`",
                "commit them or put them aside",
                "nothing was touched",
            ])?;
            ensure!(project.read("f")? == mine, "it was written over");
        }
        // Away, and what was applied is here again.
        project.write("f", &left)?;
        project.git(&["stash", "-q"])?;
        project.git(&["stash", "pop", "-q"])?;
        cluster.ctl_in(project.dir(), &["apply", &tasks[1]])?.ok()?;
        ensure!(project.read("f")? == lines(&each));
        Ok(())
    })
}

/// In another clone, where the first attempt's commit never came.
fn by_hand() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let clone = cluster.path("clone");
        project.git(&["clone", "-q", ".", &clone.to_string_lossy()])?;
        let command = format!(
            "if test -e {}/gate; then sed -i 's/^5$/whole/' f; else sed -i 's/^5$/half/' f; echo > scratch; exit 1; fi",
            cluster.path("").display()
        );
        let task = cluster.add(&project, &[&command, "--agent", "shell"])?;
        cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        let patch = cluster.ctl(&["diff", &task])?.ok()?.stdout;
        fs::write(cluster.path("patch"), patch)?;
        project.git(&["-C", &clone.to_string_lossy(), "apply", "../patch"])?;
        cluster.open_gate()?;
        cluster.ctl(&["retry", &task])?.ok()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let read = || fs::read_to_string(clone.join("f"));
        // One that is there in part.
        fs::remove_file(clone.join("scratch"))?;
        let apply = ["apply", task.as_str()];
        let refused = cluster.ctl_in(&clone, &apply)?.exits(5)?;
        refused.complains(&[
            "not as it made them: `scratch`",
            "--attempt 1 | git apply -R",
        ])?;
        ensure!(read()? == lines(&[(5, "half")]));
        fs::write(clone.join("scratch"), "\n")?;
        cluster.ctl_in(&clone, &apply)?.ok()?;
        ensure!(read()? == lines(&[(5, "whole")]));
        ensure!(!clone.join("scratch").exists());
        Ok(())
    })
}

fn by_the_head() -> anyhow::Result<()> {
    const ENDED: [&str; 3] = ["succeeded", "failed", "needs_review"];
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let each = [(5, "a"), (12, "b"), (19, "c"), (26, "d")];
        // None is applied before all of them are queued, and so begin with the same files.
        let gate = cluster.path("gate");
        let wait = format!("until [ -e {} ]; do sleep 0.05; done; ", gate.display());
        let one = |(at, text): (usize, &str)| {
            let command = format!("{wait}sed -i 's/^{at}$/{text}/' f");
            cluster.add(&project, &[&command, "--agent", "shell", "--apply"])
        };
        let tasks: Vec<String> = each.into_iter().map(one).collect::<anyhow::Result<_>>()?;
        let clash = one((12, "other"))?;
        fs::write(&gate, "")?;
        let mut refused = Vec::new();
        for task in tasks.iter().chain([&clash]) {
            let apply = cluster.wait_for(task, &ENDED, Deadline::SOON)?["apply"].clone();
            if apply["result"] != "applied" {
                refused.push((task.clone(), apply["message"].to_string()));
            }
        }
        // Of two that change the same line, the first one is there.
        let pair = [&tasks[1], &clash];
        let [(task, message)] = &refused[..] else {
            anyhow::bail!("not one of them was refused: {refused:?}");
        };
        let other = pair.into_iter().find(|other| *other != task);
        let other = other.context("there is another one")?;
        ensure!(pair.contains(&task) && message.contains(other), "{message}");
        let text = if *task == clash { "b" } else { "other" };
        let whole = lines(&[(5, "a"), (12, text), (19, "c"), (26, "d")]);
        ensure!(project.read("f")? == whole, "{}", project.read("f")?);
        Ok(())
    })
}

fn killed() -> anyhow::Result<()> {
    /// So many files that an apply is seen at work.
    const FILES: usize = 400;
    scene(Setup::new(), |cluster| {
        let project = project(cluster)?;
        let names: Vec<String> = (0..FILES).map(|number| format!("many/{number}")).collect();
        for name in &names {
            project.write(name, &lines(&[]))?;
        }
        project.git(&["add", "-A"])?;
        project.git(&["commit", "-q", "-m", "many"])?;
        let change = |at, text| {
            let command = format!("sed -i 's/^{at}$/{text}/' many/*");
            cluster.add(&project, &[&command, "--agent", "shell"])
        };
        let tasks = [change(5, "a")?, change(15, "b")?, change(25, "c")?];
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        cluster.ctl_in(project.dir(), &["apply", &tasks[0]])?.ok()?;
        let left = lines(&[(5, "a")]);
        let mut ctl = cluster.begin(project.dir(), &["apply", &tasks[1]])?;
        // It may be through before it is killed: then there is nothing to go on with.
        while project.read(&names[0])? == left && ctl.try_wait()?.is_none() {}
        ctl.kill()?;
        // The one that was killed need not be the next.
        for task in [&tasks[2], &tasks[1]] {
            cluster.ctl_in(project.dir(), &["apply", task])?.ok()?;
        }
        let whole = lines(&[(5, "a"), (15, "b"), (25, "c")]);
        for name in &names {
            ensure!(project.read(name)? == whole, "{name}");
        }
        Ok(())
    })
}
