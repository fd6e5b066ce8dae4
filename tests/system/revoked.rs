//! Who is shut out: a worker that was revoked, an administrator's copy of an old key.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Need, Setup, Test, scene, until};
use serde_json::Value;

use crate::remote::{connected, join, joined, with_head};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_revoked_worker_stops_and_comes_back_with_a_new_token_only",
            worker,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "a_worker_that_was_removed_is_revoked_by_its_id",
            removed_worker,
        )
        .needs(&[Need::Isolation]),
        Test::new("an_old_copy_of_the_admins_key_is_refused", admin),
        Test::new(
            "the_worker_of_the_heads_machine_has_a_new_key_after_it_was_revoked",
            own_worker,
        ),
    ]
}

fn worker() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let project = cluster.repository("project")?;
        let neighbour = joined(cluster, cable)?;
        let command = format!("echo here > far.txt; {}", gate(cluster));
        let task = cluster.add(
            &project,
            &[&command, "--agent", "shell", "--require", "where=far"],
        )?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;

        let shown = cluster.json(&["workers", "revoke", "far"])?;
        ensure!(
            shown["workers"][0]["availability"] == "revoked",
            "{shown:#}"
        );
        connected(cluster, 1)?;
        until("the worker has ended", Deadline::SOON, || {
            Ok(neighbour.log().contains("with a new token").then_some(()))
        })
        .with_context(|| neighbour.log())?;
        drop(neighbour);
        // Whoever has the directory may start it again: it is not let in.
        let again = join(cluster, cable, "none", "far")?;
        until("it is refused again", Deadline::SOON, || {
            Ok(again
                .log()
                .contains("this worker was revoked")
                .then_some(()))
        })
        .with_context(|| again.log())?;
        drop(again);
        ensure!(known(cluster, "far")?["state"] != "connected", "it is back");

        let key = cluster.path("far/state/worker/pki/key.pem");
        let old = fs::read(&key)?;
        let _back = joined(cluster, cable)?;
        ensure!(known(cluster, "far")?["availability"] == "open", "not open");
        ensure!(fs::read(&key)? != old, "it has the key that was revoked");
        cluster.open_gate()?;
        // Nobody has stopped the task: it is tried again, and what was done came back with the worker.
        let document = cluster.succeeded(&task, Deadline::secs(60))?;
        ensure!(document["attempt"] == 2, "{document:#}");
        let first = &document["attempts"][0];
        ensure!(first["reason"]["code"] == "worker_revoked", "{first:#}");
        let kept = first["artifacts"].as_array().context("a list")?;
        ensure!(
            kept.iter().any(|artifact| artifact["kind"] == "bundle"),
            "the work is lost: {first:#}"
        );
        Ok(())
    })
}

fn removed_worker() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let neighbour = joined(cluster, cable)?;
        let id = known(cluster, "far")?["id"].clone();
        let id = id.as_str().context("an id")?.to_owned();
        drop(neighbour);
        until("the worker is away", Deadline::SOON, || {
            Ok((known(cluster, "far")?["state"] != "connected").then_some(()))
        })?;
        cluster.ctl(&["workers", "remove", "far"])?.ok()?;
        // Nobody knows its name any more: how it is revoked is said.
        let by_name = cluster.ctl(&["workers", "revoke", "far"])?.exits(4)?;
        by_name.complains(&["there is no worker `far`", "hint: ", "by its id"])?;
        let log = fs::read_to_string(cluster.state().join("head/head.log"))?;
        let removal = log.lines().find(|line| line.contains("worker removed"));
        ensure!(removal.context("no such line")?.contains(&id), "{log}");
        // The second time as well: whoever got no answer asks again.
        for _ in 0..2 {
            let by_id = cluster.ctl(&["workers", "revoke", &id])?.ok()?;
            let said = format!("worker {id}, which the list has no more, is shut out from now on");
            ensure!(by_id.stderr.contains(&said), "{}", by_id.stderr);
        }
        let again = join(cluster, cable, "none", "far")?;
        until("it is refused", Deadline::SOON, || {
            Ok(again.log().contains("with a new token").then_some(()))
        })
        .with_context(|| again.log())?;
        Ok(())
    })
}

/// Ends when the gate is open.
fn gate(cluster: &Cluster) -> String {
    GATE.replace("@DIR@", &cluster.path("").to_string_lossy())
}

fn known(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    let document = cluster.json(&["workers"])?;
    let workers = document["workers"].as_array().context("a list")?;
    let worker = workers.iter().find(|worker| worker["name"] == name);
    Ok(worker.context("it is not listed")?.clone())
}

fn admin() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let copy = cluster.path("copy");
        copy_dir(&cluster.state().join("client"), &copy.join("client"))?;
        let copy = copy.to_string_lossy();
        let with_copy = || cluster.ctl(&["--state", &copy, "status"]);
        with_copy()?.ok()?;
        // Nobody is shut out by who would not have the new key.
        let from_elsewhere = ["--state", &copy, "credentials", "rotate"];
        let refused = cluster.ctl(&from_elsewhere)?.exits(5)?;
        refused.complains(&["no head runs in", "on the head's machine"])?;
        with_copy()?.ok()?;
        let stop = ["--state", &copy, "--head", "127.0.0.1:1", "stop"];
        let named = cluster.ctl(&stop)?.exits(5)?;
        named.complains(&["no head or worker runs in", "on another machine"])?;
        let rotated = cluster.json(&["credentials", "rotate"])?;
        ensure!(
            rotated["directory"] == *cluster.state().join("client").to_string_lossy(),
            "{rotated}"
        );
        let log = cluster.state().join("head/head.log");
        until("the head's log says so", Deadline::SOON, || {
            let log = fs::read_to_string(&log)?;
            Ok(log.contains("have new credentials").then_some(()))
        })?;
        for restarts in [true, false] {
            cluster.ctl(&["status"])?.ok()?;
            with_copy()?
                .exits(1)?
                .complains(&["were revoked", "copy"])?;
            connected(cluster, 1)?;
            if restarts {
                cluster.stop()?.ok()?;
                cluster.start()?;
            }
        }
        Ok(())
    })
}

fn own_worker() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        connected(cluster, 1)?;
        let key = || fs::read_to_string(cluster.state().join("worker/pki/key.pem"));
        let before = key()?;
        let gate = gate(cluster);
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &[gate.as_str(), "--agent", "shell"])?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;
        let name = cluster.json(&["workers"])?["workers"][0]["name"].clone();
        let revoke = ["workers", "revoke", name.as_str().context("a name")?];
        cluster
            .ctl(&revoke)?
            .ok()?
            .complains(&["start", "new key"])?;
        connected(cluster, 0)?;
        let own = || Ok::<_, anyhow::Error>(cluster.json(&["workers"])?["workers"][0].clone());
        ensure!(own()?["availability"] == "revoked", "{:#}", own()?);
        let shown = cluster.ctl(&["show", &task])?.ok()?;
        shown.complains(&["was revoked: its agent is being stopped there"])?;
        let log = cluster.state().join("worker/worker.log");
        until("it says how it comes back", Deadline::SOON, || {
            let log = fs::read_to_string(&log)?;
            ensure!(!log.contains("with a new token"), "{log}");
            Ok(log.contains("run `ctl start`").then_some(()))
        })?;
        cluster.start()?;
        connected(cluster, 1)?;
        ensure!(own()?["availability"] == "open", "{:#}", own()?);
        ensure!(key()? != before, "the key is the same");
        cluster.open_gate()?;
        let document = cluster.succeeded(&task, Deadline::secs(60))?;
        ensure!(document["attempt"] == 2, "{document:#}");
        Ok(())
    })
}

fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for name in ["endpoint", "ca.pem", "cert.pem", "key.pem"] {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("no `{name}`"))?;
    }
    Ok(())
}
