//! Projects that are in no git repository: agents work on copies of the directory.

use std::fs;

use anyhow::ensure;
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, run, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("agents_work_on_a_copy_without_what_is_ignored", copy),
        Test::new("changes_of_several_agents_are_merged_or_refused", merge),
        Test::new("the_head_applies_where_it_is_asked_to", applied),
        Test::new("what_is_left_out_of_a_copy_is_named_once", left_out),
        Test::new("a_home_or_state_directory_is_not_copied", refused),
        Test::new("a_git_directory_is_nothing_to_work_in", git_directories),
        Test::new("a_damaged_repository_is_no_plain_directory", damaged),
    ]
}

fn plain(cluster: &Cluster) -> anyhow::Result<Project> {
    let project = Project::plain(&cluster.path("plain"))?;
    project.write("notes.txt", "one\ntwo\nthree\n")?;
    Ok(project)
}

fn shell(cluster: &Cluster, project: &Project, more: &[&str]) -> anyhow::Result<String> {
    cluster.add(project, &[&["--agent", "shell"], more].concat())
}

fn left_out() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = plain(cluster)?;
        Project::plain(&project.dir().join("inner"))?.git(&["init", "-q"])?;
        let add = ["add", "--agent", "shell", "true"];
        let said = cluster.ctl_in(project.dir(), &add)?.ok()?.stderr;
        ensure!(said.matches("`inner` was left out").count() == 1, "{said}");
        Ok(())
    })
}

fn copy() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = plain(cluster)?;
        project.write(".gitignore", "out/\n")?;
        project.write("out/large.bin", "built")?;
        project.write("node_modules/left-pad/index.js", "x")?;
        project.write(".env", "KEY=secret\n")?;
        let script = "test ! -e out && test ! -e node_modules && test ! -e .env \
                      && echo four >> notes.txt && mkdir sub && echo new > sub/new.txt";
        let task = shell(cluster, &project, &[script])?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(
            document["place"]["type"] == "repository",
            "it worked at {}",
            document["place"]
        );
        let diff = cluster.ctl(&["diff", &task])?.ok()?.stdout;
        ensure!(
            diff.contains("+four") && diff.contains("sub/new.txt"),
            "the diff is {diff}"
        );
        ensure!(project.read("notes.txt")? == "one\ntwo\nthree\n");
        ensure!(!project.has(".git") && !project.has("sub"));

        // A branch would be nowhere.
        let branch = cluster.ctl_in(project.dir(), &["apply", &task, "--branch"])?;
        branch.complains(&["is in no git repository", "--branch"])?;
        for files in [2, 0] {
            let args = ["apply", &task, "--json"];
            let done = cluster.ctl_in(project.dir(), &args)?.ok()?.json()?;
            ensure!(done["files"] == files && done["branch"].is_null(), "{done}");
        }
        ensure!(project.read("notes.txt")? == "one\ntwo\nthree\nfour\n");
        ensure!(project.read("sub/new.txt")? == "new\n");
        ensure!(!project.has(".git"));
        // The next agent sees what was applied.
        let script = "grep -q four notes.txt && test -e sub/new.txt";
        let next = shell(cluster, &project, &[script])?;
        cluster.succeeded(&next, Deadline::SOON).map(drop)
    })
}

fn merge() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = plain(cluster)?;
        let first = shell(cluster, &project, &["sed -i s/one/1/ notes.txt"])?;
        let other = shell(cluster, &project, &["echo other > other.txt"])?;
        let clash = shell(cluster, &project, &["sed -i s/one/uno/ notes.txt"])?;
        for task in [&first, &other, &clash] {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        for task in [&first, &other] {
            cluster.ctl_in(project.dir(), &["apply", task])?.ok()?;
        }
        ensure!(project.read("notes.txt")? == "1\ntwo\nthree\n");
        ensure!(project.read("other.txt")? == "other\n");
        let refused = cluster.ctl_in(project.dir(), &["apply", &clash])?;
        ensure!(refused.code == Some(5), "it exits with {:?}", refused.code);
        refused.complains(&[
            "conflicts with what the directory has now in `notes.txt`",
            "nothing was touched",
            &format!("ctl diff {clash}"),
        ])?;
        ensure!(project.read("notes.txt")? == "1\ntwo\nthree\n");
        // What is advised helps also where there is nothing to commit to.
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let script = format!("{gate}; sed -i s/two/zwei/ notes.txt");
        let clash = shell(cluster, &project, &[&script, "--apply"])?;
        project.write("notes.txt", "1\nTWO\nthree\n")?;
        cluster.open_gate()?;
        let document = cluster.wait_for(&clash, &["needs_review"], Deadline::SOON)?;
        let reason = &document["reason"];
        let advice = reason["advice"].as_str().unwrap_or_default();
        ensure!(
            advice.contains("edits of yours that are in the way: undo them"),
            "{reason}"
        );
        project.write("notes.txt", "1\ntwo\nthree\n")?;
        cluster.ctl_in(project.dir(), &["apply", &clash])?.ok()?;
        ensure!(project.read("notes.txt")? == "1\nzwei\nthree\n");
        Ok(())
    })
}

fn applied() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = plain(cluster)?;
        let script = "echo made > made.txt";
        let task = shell(cluster, &project, &[script, "--apply"])?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(
            document["apply"]["result"] == "applied",
            "{}",
            document["apply"]
        );
        ensure!(project.read("made.txt")? == "made\n");
        Ok(())
    })
}

fn refused() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        // The state directory of the cluster is in it.
        let above = cluster.path("");
        let add = ["add", "true", "--agent", "shell"];
        cluster
            .ctl_in(&above, &add)?
            .complains(&["is not copied", "--in-place"])?;
        for own in ["", "head/pki", "client"] {
            for how in [&[][..], &["--in-place"]] {
                let dir = cluster.state().join(own);
                let said = cluster.ctl_in(&dir, &[&add, how].concat())?;
                said.exits(5)?.complains(&["an agent would get its keys"])?;
            }
        }
        let home = cluster.path("home");
        fs::create_dir_all(home.join(".ssh"))?;
        let mut command = cluster.command(&home, &add);
        command.env("HOME", &home);
        run(command, b"")?.complains(&["home directory", "--no-repo"])?;
        ensure!(!cluster.path("state/client/directories").exists());
        let tasks = cluster.json(&["tasks"])?;
        ensure!(tasks["tasks"] == serde_json::json!([]), "{tasks}");
        Ok(())
    })
}

fn damaged() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let change = shell(cluster, &project, &["echo new > new.txt"])?;
        cluster.succeeded(&change, Deadline::SOON)?;
        let head = project.dir().join(".git/HEAD");
        let whole = fs::read(&head)?;
        fs::write(&head, "")?;
        let add = ["add", "true", "--agent", "shell"];
        for how in [&[][..], &["--in-place"]] {
            let refused = cluster.ctl_in(project.dir(), &[&add, how].concat())?;
            refused.exits(5)?.complains(&[
                "a `.git` here that git does not take for a repository",
                "not a git repository",
                "--no-repo",
            ])?;
        }
        for command in [
            &["branches"][..],
            &["apply", change.as_str()],
            &["context", "show"],
            &["context", "pull"],
            &["budget", "--project", "project", "--tokens", "5"],
        ] {
            let refused = cluster.ctl_in(project.dir(), command)?.exits(5)?;
            refused.complains(&["not a git repository", "git fsck"])?;
        }
        let without = [&add[..], &["--no-repo", "--wait"]].concat();
        cluster.ctl_in(project.dir(), &without)?.exits(0)?;
        fs::write(&head, whole)?;
        let task = shell(cluster, &project, &["true"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        Ok(())
    })
}

fn git_directories() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        project.git(&["clone", "-q", "--bare", ".", "../bare.git"])?;
        project.git(&["worktree", "add", "-q", "../further"])?;
        let inner = project.dir().join(".git");
        let further = inner.join("worktrees/further");
        for dir in [
            &inner,
            &inner.join("hooks"),
            &further,
            &cluster.path("bare.git"),
        ] {
            fs::create_dir_all(dir)?;
            for how in [&[][..], &["--in-place"]] {
                let add = [&["add", "true", "--agent", "shell"], how].concat();
                let refused = cluster.ctl_in(dir, &add)?.exits(5)?;
                refused.complains(&["is a git directory", "work tree"])?;
                let dir = dir.to_str().unwrap_or_default();
                let named = [&add[..], &["--repo", dir]].concat();
                cluster.ctl_in(project.dir(), &named)?.exits(5)?;
            }
        }
        // A further work tree is one.
        let further = Project::plain(&cluster.path("further"))?;
        let task = shell(cluster, &further, &["true"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        Ok(())
    })
}
