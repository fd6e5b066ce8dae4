//! What a stored file costs that the head has lost: no more than what was in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, Output, Setup, Test, scene};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_stored_file_that_is_lost_or_damaged_hides_nothing_else_of_its_task",
            one_file,
        ),
        Test::new(
            "a_task_whose_files_the_head_has_damaged_does_not_wait_for_them",
            files_to_work_on,
        ),
    ]
}

fn files_to_work_on() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let workers = cluster.json(&["workers"])?;
        let worker = workers["workers"][0]["name"]
            .as_str()
            .context("no worker")?;
        cluster.ctl(&["workers", "cordon", worker])?.ok()?;
        let task = cluster.add(&project, &["true", "--agent", "shell", "--retries", "0"])?;
        for dir in fs::read_dir(cluster.state().join("head/blobs"))? {
            for file in fs::read_dir(dir?.path())? {
                fs::write(file?.path(), "damaged")?;
            }
        }
        cluster.ctl(&["workers", "uncordon", worker])?.ok()?;
        let failed = cluster.wait_for(&task, &["failed", "needs_review"], Deadline::SOON)?;
        let reason = &failed["reason"];
        ensure!(reason["code"] == "workspace_failed", "{failed:#}");
        let message = reason["message"].as_str().unwrap_or_default();
        ensure!(message.contains("damaged"), "{failed:#}");
        Ok(())
    })
}

fn one_file() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let command = ["echo new > file.txt; exit 3", "--agent", "shell"];
        let task = cluster.add(&project, &command)?;
        let whole = cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        let (list, bundle) = (
            stored(cluster, &whole, "manifest")?,
            stored(cluster, &whole, "bundle")?,
        );
        with(&list, None, || {
            shown(cluster, &task, &whole, "no bytes named")?;
            for command in [&["files"][..], &["diff", "--stat"]] {
                let refused = cluster.ctl(&[command, &[&task]].concat())?;
                told(
                    refused,
                    "the list of changed files cannot be read: no bytes named",
                )?;
            }
            told(
                cluster.ctl(&["apply", &task])?,
                "the manifest cannot be read: no bytes named",
            )?;
            let diff = cluster.ctl(&["diff", &task])?.ok()?;
            ensure!(diff.stdout.contains("+new"), "{diff}");
            Ok(())
        })?;
        with(&list, Some(b"x"), || {
            shown(cluster, &task, &whole, "is damaged")
        })?;
        with(&bundle, None, || {
            let now = cluster.show(&task)?;
            ensure!(now == whole, "{now:#}");
            told(
                cluster.ctl(&["apply", &task])?,
                "the bundle cannot be read: no bytes named",
            )
        })?;
        ensure!(cluster.show(&task)? == whole);
        Ok(())
    })
}

/// All of the task but its files is shown, and why these are not.
fn shown(cluster: &Cluster, task: &str, whole: &Value, why: &str) -> anyhow::Result<()> {
    let mut now = cluster.show(task)?;
    let lost = now["files_lost"].as_str().unwrap_or_default();
    ensure!(lost.contains(why), "{now:#}");
    ensure!(lost.contains("a backup"), "{now:#}");
    now["files_lost"] = json!(null);
    now["files"] = whole["files"].clone();
    ensure!(now == *whole, "{now:#}\nis not\n{whole:#}");
    let shown = cluster.ctl(&["show", task])?.ok()?;
    for text in [
        "agent_failed",
        "✗",
        why,
        "`ctl check` names all that is lost or damaged",
    ] {
        ensure!(shown.stdout.contains(text), "it lacks {text:?}\n{shown}");
    }
    Ok(())
}

/// It says that something is lost, and not that there is no such task, or that somebody has to send it.
fn told(refused: Output, why: &str) -> anyhow::Result<()> {
    let refused = refused
        .exits(1)?
        .complains(&[why, "a backup", "ctl check"])?;
    ensure!(!refused.stderr.contains("upload"), "{refused}");
    Ok(())
}

/// Where the head has what the attempt stored of this kind.
fn stored(cluster: &Cluster, task: &Value, kind: &str) -> anyhow::Result<PathBuf> {
    let artifacts = task["attempts"][0]["artifacts"].as_array();
    let mut artifacts = artifacts.context("artifacts")?.iter();
    let of_kind = artifacts.find(|artifact| artifact["kind"] == kind);
    let digest = of_kind.and_then(|artifact| artifact["digest"].as_str());
    let (dir, name) = digest
        .with_context(|| format!("no {kind} in {task:#}"))?
        .split_at(2);
    Ok(cluster.state().join("head/blobs").join(dir).join(name))
}

/// Runs `look` while a file has these bytes, or is not there.
fn with(
    file: &Path,
    bytes: Option<&[u8]>,
    look: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    match bytes {
        Some(bytes) => fs::write(file, bytes)?,
        None => fs::remove_file(file)?,
    }
    let looked = look();
    fs::write(file, whole)?;
    looked.with_context(|| format!("without {}", file.display()))
}
