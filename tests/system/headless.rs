//! A head that is lost on a machine whose worker is there, and brought back from a backup.

use std::fs;

use anyhow::{Context, ensure};
use orchestra_tests::{Deadline, GATE, Setup, Test, kill_9, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_lost_head_comes_back_where_its_worker_is_and_the_agent_goes_on",
            with_keys,
        ),
        Test::new(
            "a_lost_head_comes_back_from_a_backup_without_keys_too",
            without_keys,
        ),
    ]
}

fn with_keys() -> anyhow::Result<()> {
    lost_and_restored(&["--keys"], true)
}

fn without_keys() -> anyhow::Result<()> {
    lost_and_restored(&[], false)
}

/// Without keys the worker has another identity than the one that the attempt was given to.
fn lost_and_restored(keys: &[&str], goes_on: bool) -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let began = dir.join("began");
        let command = format!(
            "echo x >> '{}'; {gate}; echo new > new.txt",
            began.display()
        );
        let task = cluster.add(&project, &[&command, "--agent", "shell"])?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;
        orchestra_tests::until("its agent has begun", Deadline::SOON, || {
            Ok(began.exists().then_some(()))
        })?;
        let file = cluster.path("all.tar");
        let file = file.to_str().context("a path")?;
        cluster.ctl(&[&["backup", file], keys].concat())?.ok()?;
        kill_9(cluster.head_pid()?)?;
        fs::remove_dir_all(cluster.state().join("head"))?;

        let restore = "ctl restore FILE";
        for refused in [&["start", "--detach"][..], &["stop"], &["tasks"]] {
            let refused = cluster.ctl(refused)?;
            ensure!(refused.code != Some(0), "{refused}");
            refused.complains(&[restore])?;
        }
        ensure!(
            !cluster.state().join("head").exists(),
            "a new head was begun"
        );
        cluster.ctl(&["restore", file])?.ok()?;
        cluster.start()?;
        cluster.open_gate()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let begun = fs::read_to_string(&began)?.lines().count();
        ensure!(!goes_on || begun == 1, "it was run {begun} times");
        Ok(())
    })
}
