//! How a machine joins: what it says of itself, and what it is refused.

use std::{fs, process::Command};

use anyhow::{Context, ensure};
use orchestra_tests::{Background, Binaries, Cluster, Deadline, Setup, Test, run, scene, until};
use serde_json::{Value, json};

use crate::remote::token;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_worker_that_joins_goes_by_its_configuration_file",
            configured,
        ),
        Test::new(
            "a_worker_that_has_joined_keeps_no_token_where_others_see_it",
            forgotten,
        ),
        Test::new(
            "tokens_are_listed_and_one_that_is_revoked_lets_nobody_in",
            revoked,
        ),
    ]
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

fn forgotten() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let token = token(cluster)?;
        let mut by_variable = worker(cluster);
        by_variable
            .arg("join")
            .arg("--state")
            .arg(cluster.path("second"));
        by_variable.env("ORCHESTRA_TOKEN", &token);
        by_variable.args(["--name=-said", "--slots", "3"]);
        let worker = Background::start(by_variable, &cluster.path(""))?;
        let pid = worker.pid();
        let shown = named(cluster, "-said")?;
        ensure!(shown["slots"] == 3 && shown["pid"] == pid, "{shown:#}");
        keeps_none(pid)?;
        worker.kill()?;

        // The service that starts it says the same each time.
        let mut by_option = join(cluster, &token);
        by_option.args(["--name", "again"]);
        let worker = Background::start(by_option, &cluster.path(""))?;
        named(cluster, "again")?;
        keeps_none(worker.pid())?;
        worker.kill()?;
        Ok(())
    })
}

fn keeps_none(pid: u32) -> anyhow::Result<()> {
    for file in ["environ", "cmdline"] {
        let path = format!("/proc/{pid}/{file}");
        let bytes = fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        ensure!(!text.contains("ORCH1."), "there is a token in {path}");
    }
    Ok(())
}

fn revoked() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let none = cluster.ctl(&["token", "list"])?.ok()?;
        none.complains(&["no join tokens", "`ctl token create`"])?;
        let made = cluster.json(&["token", "create"])?;
        let (id, token) = (text(&made["id"])?, text(&made["token"])?);
        let used = crate::remote::token(cluster)?;
        let mut joins = join(cluster, &used);
        joins.arg("--only");
        run(joins, b"")?.ok()?;

        let listed = cluster.json(&["token", "list"])?;
        let states = |listed: &Value| {
            let tokens = listed["tokens"].as_array().into_iter().flatten();
            let of = |token: &Value| token["state"].as_str().unwrap_or_default().to_owned();
            tokens.map(of).collect::<Vec<_>>()
        };
        ensure!(states(&listed) == ["open", "used"], "{listed:#}");
        ensure!(listed["tokens"][0]["id"] == id, "{listed:#}");
        let worker = fs::read_to_string(cluster.path("second/worker/id"))?;
        let by = &listed["tokens"][1]["used_by"];
        ensure!(by == worker.trim(), "{listed:#}");
        let shown = cluster.ctl(&["token", "list"])?.ok()?;
        ensure!(shown.stdout.contains(worker.trim()), "{shown}");
        for secret in [token, &used] {
            ensure!(!shown.stdout.contains(secret), "{shown}");
            ensure!(!listed.to_string().contains(secret), "{listed}");
        }

        let unknown = cluster
            .ctl(&["token", "revoke", id, "00000000"])?
            .exits(4)?;
        unknown.complains(&["there is no join token `00000000`", "nothing was changed"])?;
        ensure!(states(&cluster.json(&["token", "list"])?) == ["open", "used"]);
        for _ in 0..2 {
            let revoked = cluster.json(&["token", "revoke", id])?;
            ensure!(states(&revoked) == ["revoked"], "{revoked:#}");
        }
        let used_id = text(&listed["tokens"][1]["id"])?;
        let stays = cluster.ctl(&["token", "revoke", used_id])?.ok()?;
        stays.complains(&[&format!("`ctl workers revoke {}`", worker.trim())])?;
        fs::remove_dir_all(cluster.path("second"))?;
        let refused = run(join(cluster, token), b"")?.exits(1)?;
        refused.complains(&["the join token was revoked", "`ctl token create`"])?;
        Ok(())
    })
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().with_context(|| format!("no text: {value}"))
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
    let mut command = worker(cluster);
    command.args(["join", "--token", token, "--state"]);
    command.arg(cluster.path("second"));
    command
}

fn worker(cluster: &Cluster) -> Command {
    let mut command = Command::new(Binaries::get().worker());
    command.env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("HOME", cluster.path(""));
    command
}
