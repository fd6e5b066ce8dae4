//! A head that was restored from a backup of before what came last: what those hear who had a task in view
//! that the backup lacks.

use anyhow::{Context, ensure};
use orchestra_tests::{
    Background, Cluster, Deadline, GATE, Project, Setup, Test, freeze, scene, thaw,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "who_follows_a_task_that_a_restore_lacks_hears_of_the_restore",
            followers,
        ),
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
        Ok(())
    })
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
    followers[1].prints("begun")?;
    followers[0].hears_interrupts()?;
    cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
    for follower in &followers {
        follower.says("cannot be reached since")?;
    }
    Ok(followers)
}
