//! How a machine joins: what it says of itself, and what it is refused.

use std::{fs, process::Command};

use anyhow::ensure;
use orchestra_tests::{Background, Binaries, Cluster, Deadline, Setup, Test, run, scene, until};
use serde_json::{Value, json};

use crate::remote::token;

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "a_worker_that_joins_goes_by_its_configuration_file",
        configured,
    )]
}

fn configured() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let token = token(cluster)?;
        let text = "worker: {name: said, slots: 7, labels: {gpu: a100}}\n";
        let file = cluster.path("said.yaml");
        fs::write(&file, text)?;
        let broken = cluster.path("broken.yaml");
        fs::write(&broken, "worker: {slots: many}\n")?;

        let mut by_broken = join(cluster, &token);
        by_broken.arg("--config").arg(&broken);
        let refused = run(by_broken, b"")?.exits(1)?;
        refused.complains(&["broken.yaml"])?;

        // The token is as good as before.
        let mut by_variable = join(cluster, &token);
        by_variable.env("ORCHESTRA_CONFIG", &file);
        let worker = Background::start(by_variable, &cluster.path(""))?;
        is_as_said(cluster)?;
        worker.kill()?;

        fs::write(&file, text.replace("said", "again"))?;
        let mut by_option = join(cluster, "none");
        by_option.arg("--config").arg(&file);
        let worker = Background::start(by_option, &cluster.path(""))?;
        named(cluster, "again")?;
        worker.kill()?;

        let mut only = join(cluster, "none");
        only.arg("--only").arg("--config").arg(&file);
        let next = run(only, b"")?.ok()?;
        next.complains(&["--config", "said.yaml"])?;
        Ok(())
    })
}

fn is_as_said(cluster: &Cluster) -> anyhow::Result<()> {
    let worker = named(cluster, "said")?;
    ensure!(worker["slots"] == 7, "{worker:#}");
    ensure!(worker["labels"] == json!({"gpu": "a100"}), "{worker:#}");
    Ok(())
}

/// The worker of that name, connected.
fn named(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    let what = format!("a worker `{name}` is connected");
    until(&what, Deadline::SOON, || {
        let shown = cluster.json(&["workers"])?;
        let mut workers = shown["workers"].as_array().into_iter().flatten();
        Ok(workers
            .find(|worker| worker["name"] == name && worker["state"] == "connected")
            .cloned())
    })
}

fn join(cluster: &Cluster, token: &str) -> Command {
    let mut command = Command::new(Binaries::get().worker());
    command.env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("HOME", cluster.path(""));
    command.args(["join", "--token", token, "--state"]);
    command.arg(cluster.path("second"));
    command
}
