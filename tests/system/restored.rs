//! A head that was restored from a backup of before what came last: what those hear who had a task in view
//! that the backup lacks, and where that is which workers did meanwhile.

use std::fs;

use anyhow::{Context, ensure};
use orchestra_tests::{
    Background, Cluster, Deadline, GATE, Need, Project, Setup, Test, freeze, scene, thaw, until,
};
use serde_json::json;

use crate::remote::{joined, shell, with_head};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "who_follows_a_task_that_a_restore_lacks_hears_of_the_restore",
            followers,
        ),
        Test::new(
            "what_a_worker_did_of_an_attempt_that_a_restore_gives_to_another_is_named_to_the_operator",
            put_aside,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "who_follows_a_task_whose_id_a_restore_gives_again_is_shown_no_other_task",
            id_given_again,
        ),
    ]
}

fn followers() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        ensure!(cluster.json(&["status"])?["restored"].is_null());
        let file = backup(cluster)?;
        let task = at_work(cluster, &project)?;
        let mut followers = followers_of(cluster, &project, &task)?;
        restore(cluster, &file, &[])?;
        for follower in &mut followers {
            let ended = follower.end()?.exits(4)?;
            let ended = ended.complains(&[
                &task,
                "was added after",
                "the head was restored at",
                "add it again",
                "workers gc WORKER --dry-run",
            ])?;
            ensure!(!ended.stderr.contains("has ended"), "{ended}");
        }
        let restored = &cluster.json(&["status"])?["restored"];
        let [at, backup_at] = ["at", "backup_at"].map(|name| restored[name].as_str());
        ensure!(backup_at.is_some() && backup_at < at, "{restored:#}");
        log_names_who_has_it(cluster, &task)
    })
}

/// The head's log names the worker that holds an attempt which the head does not know.
fn log_names_who_has_it(cluster: &Cluster, task: &str) -> anyhow::Result<()> {
    let log = cluster.state().join("head/head.log");
    let warned = |line: &&str| line.contains("attempts that this head does not know");
    let line = until("it is in the log", Deadline::SOON, || {
        let log = fs::read_to_string(&log)?;
        Ok(log.lines().find(warned).map(str::to_owned))
    })?;
    let worker = cluster.json(&["workers"])?["workers"][0].clone();
    let [id, name] = ["id", "name"].map(|field| worker[field].as_str().unwrap_or("?").to_owned());
    for wanted in [&format!("{task}.1"), &id, &format!("name=\"{name}\"")] {
        ensure!(line.contains(wanted), "{wanted} is not in it: {line}");
    }
    Ok(())
}

fn id_given_again() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let file = backup(cluster)?;
        let task = at_work(cluster, &project)?;
        let mut followers = followers_of(cluster, &project, &task)?;
        for follower in &followers {
            freeze(follower.pid())?;
        }
        restore(cluster, &file, &["--skip-ids", "0"])?;
        let other = cluster.add(&project, &["echo other", "--agent", "shell"])?;
        ensure!(other == task, "the id is not given again: {other}");
        cluster.succeeded(&other, Deadline::SOON)?;
        for follower in &mut followers {
            thaw(follower.pid())?;
            let ended = follower.end()?.exits(4)?;
            let ended = ended.complains(&["is another task now", "add the other one again"])?;
            ensure!(!ended.stdout.contains("succeeded"), "{ended}");
        }
        Ok(())
    })
}

/// The backup has the task in the queue. It ends on a worker that is cut off then, and the restored head gives
/// the same number to another one.
fn put_aside() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let project = cluster.repository("project")?;
        let neighbour = joined(cluster, cable)?;
        for worker in ["near", "far"] {
            cluster.ctl(&["workers", "cordon", worker])?.ok()?;
        }
        let ended = cluster.path("ended");
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let script = format!(
            "echo begun; {gate}; echo late > late.txt; echo x >> '{}'",
            ended.display()
        );
        let task = cluster.add(&project, &[&script, "--agent", "shell"])?;
        let file = backup(cluster)?;
        cluster.ctl(&["workers", "uncordon", "far"])?.ok()?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;
        let mut follower = cluster.begin(project.dir(), &["logs", &task, "-f"])?;
        // The description has the word as well.
        follower.prints("\nbegun\n")?;
        let nothing = cluster.json(&["workers", "gc", "far", "--dry-run"])?;
        ensure!(nothing["aside"] == json!([]), "{nothing:#}");
        cable.unplug()?;
        cluster.open_gate()?;
        until("it has ended", Deadline::SOON, || {
            Ok(ended.exists().then_some(()))
        })?;
        cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        restore(cluster, &file, &[])?;
        cluster.ctl(&["workers", "uncordon", "near"])?.ok()?;
        let done = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(
            done["attempt"] == 1,
            "the number is not given again: {done:#}"
        );
        let followed = follower.end()?.ok()?;
        let begun = followed.stdout.matches("begun\n").count();
        ensure!(begun == 2, "each attempt is shown whole: {followed}");
        followed.complains(&["what follows is of another attempt"])?;
        cable.plug()?;
        let gc = ["workers", "gc", "far", "--dry-run"];
        let aside = until("it is put aside", Deadline::secs(90), || {
            // Until it is back, it cannot be asked.
            let asked = cluster.ctl(&[&gc[..], &["--json"]].concat())?;
            let Ok(asked) = asked.ok() else {
                return Ok(None);
            };
            let aside = asked.json()?["aside"][0].clone();
            Ok((!aside.is_null()).then_some(aside))
        })
        .with_context(|| neighbour.log())?;
        ensure!(aside["attempt"] == format!("{task}.1"), "{aside:#}");
        ensure!(aside["bytes"].as_u64() > Some(0), "{aside:#}");
        ensure!(aside["until"].as_str().is_some(), "{aside:#}");
        let path = aside["path"].as_str().context("it has no path")?;
        shell(
            &cluster.path(""),
            &format!("test -n \"$(find '{path}/workspace' -name late.txt)\""),
        )?;
        let said = cluster.ctl(&gc)?.ok()?;
        said.complains(&[
            &format!("what {task}.1 has done was put aside: `{path}`"),
            "kept until",
            "on the machine of far",
        ])?;
        Ok(())
    })
}

fn backup(cluster: &Cluster) -> anyhow::Result<String> {
    let file = cluster.path("all.tar");
    let file = file.to_str().context("a path")?;
    cluster.ctl(&["backup", file, "--keys"])?.ok()?;
    Ok(file.to_owned())
}

/// In place of a head that has stopped.
fn restore(cluster: &Cluster, file: &str, args: &[&str]) -> anyhow::Result<()> {
    let restored = cluster.ctl(&[&["restore", file, "--force"], args].concat())?;
    let restored = restored.ok()?;
    let from = "from the backup of 2";
    ensure!(restored.stdout.contains(from), "{restored}");
    cluster.start()
}

/// A task that runs until the gate is open.
fn at_work(cluster: &Cluster, project: &Project) -> anyhow::Result<String> {
    let dir = cluster.path("");
    let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
    let task = cluster.add(
        project,
        &[&format!("echo begun; {gate}"), "--agent", "shell"],
    )?;
    cluster.wait_for(&task, &["running"], Deadline::SOON)?;
    Ok(task)
}

/// Who waits for it and who reads along, when the head that they were attached to has stopped. Its agents run on.
fn followers_of(
    cluster: &Cluster,
    project: &Project,
    task: &str,
) -> anyhow::Result<Vec<Background>> {
    let begin = |args: &[&str]| cluster.begin(project.dir(), args);
    let followers = vec![begin(&["wait", task])?, begin(&["logs", task, "-f"])?];
    followers[1].prints("\nbegun\n")?;
    followers[0].hears_interrupts()?;
    cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
    for follower in &followers {
        follower.says("cannot be reached since")?;
    }
    Ok(followers)
}
