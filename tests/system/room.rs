//! A worker whose disk is full: what becomes of work that is there, and of work that comes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Mount, Need, Neighbour, Test, until};

use crate::remote::{joined, runner_of, shell, with_head};

const NEEDS: &[Need] = &[Need::Isolation, Need::Root, Need::Program("mount")];
/// The disk of the worker.
const DISK_MB: u32 = 16;
/// However it took the full disk.
const ENDED: [&str; 3] = ["succeeded", "failed", "needs_review"];
/// How much of it an agent takes at least.
const TAKEN: u64 = 8 << 20;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "what_a_worker_has_no_room_for_is_done_by_another_one",
            no_room,
        )
        .needs(NEEDS),
        Test::new(
            "an_agent_that_fills_the_disk_with_what_it_built_ends",
            built,
        )
        .needs(NEEDS),
        Test::new(
            "a_result_that_waits_for_room_is_named_with_its_files",
            waits_for_a_person,
        )
        .needs(NEEDS),
        Test::new(
            "a_cancel_ends_what_waits_for_room_and_its_files_are_kept",
            cancelled,
        )
        .needs(NEEDS),
        Test::new(
            "results_that_find_room_one_after_another_are_all_gathered",
            one_after_another,
        )
        .needs(NEEDS),
    ]
}

/// A worker with a small disk at `home`, beside the head's.
fn on_a_small_disk(
    body: impl FnOnce(&Cluster, &Path, &Neighbour) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    on_a_disk(DISK_MB, body)
}

fn on_a_disk(
    mib: u32,
    body: impl FnOnce(&Cluster, &Path, &Neighbour) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let home = cluster.path("far");
        fs::create_dir_all(&home)?;
        let disk = Mount::tmpfs(&home, mib)?;
        let neighbour = joined(cluster, cable)?;
        body(cluster, &home, &neighbour).with_context(|| neighbour.log())?;
        drop((neighbour, disk));
        Ok(())
    })
}

/// Why the worker takes nothing, once its disk is full and it says what is wanted.
fn reason(cluster: &Cluster, wanted: &str) -> anyhow::Result<String> {
    until(&format!("it says {wanted}"), Deadline::SOON, || {
        let far = runner_of(cluster, "far", "shell")?;
        let reason = far["reason"].as_str().map(str::to_owned);
        Ok(reason.filter(|reason| reason.contains(wanted)))
    })
}

/// A worker is given tasks at the moment at which its disk becomes full. It can write nothing down.
fn no_room() -> anyhow::Result<()> {
    on_a_small_disk(|cluster, home, _| {
        let project = cluster.repository("project")?;
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let filler = home.join("filler");
        shell(home, "cat /dev/zero > filler 2>&1 || true")?;
        let add = |number: u32| {
            let command = format!("{gate}; echo {number} > {number}.txt");
            cluster.add(&project, &[&command, "--agent", "shell"])
        };
        let tasks: Vec<String> = (0..8).map(add).collect::<anyhow::Result<_>>()?;
        reason(cluster, "disk is full")?;
        cluster.open_gate()?;
        for task in tasks {
            cluster.succeeded(&task, Deadline::SOON)?;
        }
        ensure!(filler.metadata()?.len() > TAKEN, "its disk was not full");
        Ok(())
    })
}

/// What git ignores is in no result: nobody has to make room for the end of who made it.
fn built() -> anyhow::Result<()> {
    on_a_small_disk(|cluster, _, _| {
        let project = cluster.repository("project")?;
        project.write(".gitignore", "target/\n")?;
        let taken = cluster.path("taken");
        // It says so itself, in more output than a pipe holds.
        let command = format!(
            "echo work > work.txt; mkdir target; cat /dev/zero > target/big; \
             stat -c %s target/big > '{}'; seq 20000; ls; echo the end",
            taken.display()
        );
        let far = [&command, "--agent", "shell", "--require", "where=far"];
        let task = cluster.add(&project, &far)?;
        let document = cluster.wait_for(&task, &ENDED, Deadline::SOON)?;
        let bytes: u64 = fs::read_to_string(taken)?.trim().parse()?;
        ensure!(bytes > TAKEN, "its disk was not full: {bytes}");
        ensure!(
            document["files"][0]["path"] == "work.txt",
            "the files are {}",
            document["files"]
        );
        let logs = cluster.ctl(&["logs", &task])?.ok()?.stdout;
        ensure!(logs.contains("the end"), "{logs}");
        ensure!(
            logs.contains("1 file that git ignores was removed"),
            "{logs}"
        );
        Ok(())
    })
}

/// What filled the disk may be the work itself: a person decides.
fn waits_for_a_person() -> anyhow::Result<()> {
    on_a_small_disk(|cluster, _, _| {
        let project = cluster.repository("project")?;
        let command = "echo work > work.txt; cat /dev/urandom > big";
        let far = [command, "--agent", "shell", "--require", "where=far"];
        let task = cluster.add(&project, &far)?;
        let said = format!("{task}.1 has ended and its result waits");
        let reason = reason(cluster, &said)?;
        let dir = reason.rsplit('`').nth(1).context("no directory in it")?;
        let big = PathBuf::from(dir).join("big");
        ensure!(big.metadata()?.len() > TAKEN, "its disk was not full");
        let gc = cluster.json(&["workers", "gc", "far", "--dry-run"])?;
        let kept = &gc["kept"][0];
        let path = kept["path"].as_str().unwrap_or_default();
        ensure!(kept["kind"] == "workspace", "{gc:#}");
        ensure!(big.starts_with(path), "{gc:#}");
        ensure!(kept["bytes"].as_u64() > Some(TAKEN), "{gc:#}");
        fs::remove_file(big)?;
        let document = cluster.wait_for(&task, &ENDED, Deadline::SOON)?;
        ensure!(
            document["files"][0]["path"] == "work.txt",
            "the files are {}",
            document["files"]
        );
        until("it takes more", Deadline::SOON, || {
            let far = runner_of(cluster, "far", "shell")?;
            Ok((far["state"] == "ready").then_some(()))
        })
    })
}

/// Nobody has to make room for a result that nobody wants.
fn cancelled() -> anyhow::Result<()> {
    on_a_small_disk(|cluster, home, _| {
        let project = cluster.repository("project")?;
        let command = "echo work > work.txt; cat /dev/urandom > big";
        let far = [command, "--agent", "shell", "--require", "where=far"];
        let task = cluster.add(&project, &far)?;
        reason(cluster, &format!("{task}.1 has ended and its result waits"))?;
        cluster.ctl(&["cancel", &task])?.ok()?;
        cluster.wait_for(&task, &["cancelled"], Deadline::SOON)?;
        let logs = cluster.ctl(&["logs", &task])?.ok()?.stdout;
        ensure!(logs.contains("are kept on worker far"), "{logs}");
        let place = logs.split('`').find(|part| part.contains("/aside/"));
        let big = PathBuf::from(place.context("no place in it")?).join("big");
        ensure!(big.starts_with(home), "{}", big.display());
        ensure!(big.metadata()?.len() > TAKEN, "its disk was not full");
        Ok(())
    })
}

/// Four agents have each made a file whose result takes three times as much, and there is room for one such result.
fn one_after_another() -> anyhow::Result<()> {
    const EACH: u64 = 4_000_000;
    const FREE: u64 = 5 * EACH;
    on_a_disk(64, |cluster, home, _| {
        let project = cluster.repository("project")?;
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let add = |number: u32| {
            let made = dir.join(format!("made.{number}"));
            let command = format!(
                "head -c {EACH} /dev/urandom > big; touch '{}'; {gate}",
                made.display()
            );
            let far = [&command, "--agent", "shell", "--require", "where=far"];
            cluster.add(&project, &far)
        };
        let tasks: Vec<String> = (0..4).map(add).collect::<anyhow::Result<_>>()?;
        until("the agents have made their files", Deadline::SOON, || {
            let made = |number| dir.join(format!("made.{number}")).exists();
            Ok((0..4).all(made).then_some(()))
        })?;
        let disk = rustix::fs::statvfs(home)?;
        let filler = (disk.f_bavail * disk.f_frsize).saturating_sub(FREE);
        shell(home, &format!("head -c {filler} /dev/zero > filler"))?;
        cluster.open_gate()?;
        for task in tasks {
            let document = cluster.succeeded(&task, Deadline::SOON)?;
            ensure!(
                document["files"][0]["path"] == "big",
                "the files are {}",
                document["files"]
            );
        }
        Ok(())
    })
}
