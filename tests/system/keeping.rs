//! Backing up, restoring, checking and purging, and what is said when they cannot.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use orchestra_tests::{
    Cluster, Deadline, GATE, Need, Output, Project, Setup, Test, run, scene, until,
};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_backup_of_a_working_head_becomes_a_head_that_has_everything",
            backup_and_restore,
        ),
        Test::new("a_bad_backup_is_refused_and_leaves_nothing", bad_backups),
        Test::new("what_cannot_be_done_says_what_to_do_instead", refusals),
        Test::new(
            "a_check_names_a_flipped_bit_with_the_head_running_and_stopped",
            checks,
        ),
        Test::new("events_that_are_lost_are_told", lost_events),
        Test::new("the_state_of_another_user_is_left_alone", foreign).needs(&[Need::Root]),
        Test::new("a_compacted_store_serves_what_it_served", compacts),
        Test::new(
            "a_task_that_is_forgotten_at_once_is_not_waited_for",
            forgotten_at_once,
        ),
        Test::new("a_purge_removes_what_is_due_and_says_what", purges),
        Test::new(
            "outputs_of_forgotten_tasks_leave_the_context_and_edits_stay",
            old_outputs,
        ),
        Test::new(
            "a_worker_keeps_no_more_caches_than_its_configuration_says",
            keeps_within_its_quota,
        ),
    ]
}

fn foreign() -> anyhow::Result<()> {
    /// The second one is `nobody`, whose number the kernel shows where it knows none, too.
    const OTHERS: [u32; 2] = [4242, 65_534];
    scene(Setup::new(), |cluster| {
        cluster.stop()?;
        let state = cluster.state();
        for (other, part) in OTHERS.into_iter().flat_map(|other| {
            let parts = ["head", "head/db", "worker"];
            parts.map(|part| (other, state.join(part)))
        }) {
            chown(&part, Some(other), None)?;
            let advice = format!("belongs to user {other}, and this is user 0");
            let way_out = format!("sudo -u '#{other}'");
            for command in [&["start", "--detach"][..], &["compact"], &["check"]] {
                let refused = cluster.ctl(command)?.exits(5)?;
                refused.complains(&[&advice, &way_out, "chown -R 0"])?;
            }
            chown(&part, Some(0), None)?;
        }
        cluster.start()
    })
}

fn forgotten_at_once() -> anyhow::Result<()> {
    let setup = Setup::new().config("retention: {finished_max: 0}\n");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let ways = [&["--wait"][..], &["--follow"], &["--wait", "--json"]];
        for way in ways.iter().cycle().take(9) {
            let add = ["add", "--agent", "shell", "--no-repo", "true"];
            let ended = cluster.ctl_in(project.dir(), &[&add, *way].concat())?;
            match ended.code {
                Some(0) => {}
                // Nobody has seen its end, and that is said.
                Some(4) => drop(ended.complains(&["is forgotten before", "finished_max"])?),
                code => anyhow::bail!("it ends with {code:?}: {ended}"),
            }
        }
        Ok(())
    })
}

fn backup_and_restore() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let done = shell(cluster, &project, "echo hello; echo new > file.txt")?;
        cluster.succeeded(&done, Deadline::SOON)?;
        let works = waiting_task(cluster, &project)?;
        let file = cluster.path("all.tar");
        // It may be used after the backup.
        cluster.ctl(&["token", "create"])?.ok()?;
        let made = cluster.json(&["backup", text(&file)?, "--keys"])?;
        ensure!(made["missing"] == 0 && made["keys"] == true, "{made:#}");
        let size = fs::metadata(&file)?;
        ensure!(made["bytes"] == size.len(), "{made:#}");
        ensure!(
            size.permissions().mode() & 0o777 == 0o600,
            "others may read it"
        );
        ensure!(
            cluster.status(&works)? == "running",
            "the backup stopped it"
        );

        let elsewhere = cluster.path("elsewhere");
        let other = |args: &[&str]| -> anyhow::Result<Output> {
            cluster.ctl(&[&["--state", text(&elsewhere)?], args].concat())
        };
        let restored = other(&["restore", text(&file)?, "--json"])?.ok()?;
        let warned = [
            "warning: ",
            " workers revoke NAME`",
            " credentials rotate`",
            "the join token that was open at the time of the backup lets nobody in any more",
        ];
        let restored = restored.complains(&warned)?.json()?;
        ensure!(restored["tasks"] == 2, "{restored:#}");
        ensure!(restored["next_id"] == "task_1003", "{restored:#}");
        ensure!(restored["tokens_ended"] == 1, "{restored:#}");
        whole(other(&["check", "--json"])?)?;
        other(&["start", "--detach"])?.ok()?;
        let tokens = other(&["token", "list", "--json"])?.ok()?.json()?;
        ensure!(tokens["tokens"] == serde_json::json!([]), "{tokens:#}");
        let told = || -> anyhow::Result<()> {
            let mine = cluster.ctl(&["show", &done, "--json"])?.ok()?.json()?;
            let theirs = other(&["show", &done, "--json"])?.ok()?.json()?;
            ensure!(mine["result"] == theirs["result"], "{mine:#}\n{theirs:#}");
            ensure!(theirs["status"] == "succeeded", "{theirs:#}");
            let events = |output: Output| output.ok().map(|output| output.stdout);
            let mine = events(cluster.ctl(&["logs", &done, "--json"])?)?;
            ensure!(mine == events(other(&["logs", &done, "--json"])?)?);
            ensure!(mine.contains("hello"), "{mine}");
            let diff = other(&["diff", &done])?.ok()?;
            ensure!(diff.stdout.contains("+new"), "{diff}");
            whole(other(&["check", "--json"])?)
        };
        let told = told();
        other(&["stop", "--now"])?.ok()?;
        told?;
        cluster.open_gate()?;
        cluster.succeeded(&works, Deadline::SOON)?;
        Ok(())
    })
}

fn bad_backups() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = shell(cluster, &project, "echo hello")?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let file = cluster.path("all.tar");
        // What a killed one has left.
        let left = cluster.path(".all.tar.1.part");
        fs::write(&left, "half")?;
        cluster.ctl(&["backup", text(&file)?])?.ok()?;
        ensure!(!left.exists(), "{} is still there", left.display());
        let piped = cluster.ctl(&["backup", "-"])?;
        ensure!(piped.code == Some(0), "{}", piped.stderr);
        ensure!(piped.stderr.contains("backup: ") && piped.stdout.contains("ustar"));
        cluster.ctl(&["backup", "-", "--json"])?.exits(2)?;
        let bytes = fs::read(&file)?;
        let new = cluster.path("new");
        let restore = |name: &str, bytes: Option<&[u8]>| -> anyhow::Result<Output> {
            let bad = cluster.path(name);
            if let Some(bytes) = bytes {
                fs::write(&bad, bytes)?;
            }
            cluster.ctl(&["--state", text(&new)?, "restore", text(&bad)?])
        };
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let joined = cluster.path("joined");
        fs::create_dir_all(joined.join("worker/pki"))?;
        fs::write(joined.join("worker/pki/endpoint"), "far:7117\n")?;
        let refused = cluster.ctl(&["--state", text(&joined)?, "restore", text(&file)?])?;
        clear(
            refused,
            5,
            &[
                "joined the head at far:7117",
                "another cluster",
                "--state DIR",
            ],
        )?;
        let hint = "nothing was changed";
        clear(
            restore("cut.tar", Some(&bytes[..bytes.len() / 2]))?,
            1,
            &["damaged", "cut off", hint],
        )?;
        clear(
            restore("flipped.tar", Some(&flipped))?,
            1,
            &["damaged", hint],
        )?;
        let unpack = "unpack it first";
        clear(
            restore("text.tar", Some(b"no backup"))?,
            1,
            &["does not begin as a backup", hint, unpack],
        )?;
        let empty = restore("empty.tar", Some(b""))?;
        clear(empty, 1, &["it is empty", hint, unpack])?;
        let directory = cluster.ctl(&["--state", text(&new)?, "restore", "."])?;
        clear(directory, 1, &["it is a directory", hint, unpack])?;
        clear(
            restore("nowhere.tar", None)?,
            1,
            &["there is no file", "nowhere.tar", "hint"],
        )?;
        ensure!(!new.join("head/db").exists(), "something was restored");
        // The same place takes the whole one.
        let restored = restore("whole.tar", Some(&bytes))?.ok()?;
        ensure!(restored.stdout.contains("restored 1 task"), "{restored}");
        let piped = |bytes: &[u8]| -> anyhow::Result<Output> {
            let state = cluster.path("piped");
            let args = ["--state", text(&state)?, "restore", "-"];
            run(cluster.command(&cluster.path("."), &args), bytes)
        };
        clear(piped(&bytes[..bytes.len() / 2])?, 1, &["damaged", hint])?;
        let restored = piped(&bytes)?.ok()?;
        ensure!(restored.stdout.contains("restored 1 task"), "{restored}");
        Ok(())
    })
}

fn refusals() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let file = cluster.path("all.tar");
        let file = text(&file)?;
        cluster.ctl(&["backup", file])?.ok()?;
        let before = fs::read(file)?;
        clear(
            cluster.ctl(&["backup", file])?,
            5,
            &["is there already", "name another file"],
        )?;
        ensure!(fs::read(file)? == before, "the earlier backup was touched");
        let nowhere = cluster.path("nowhere/all.tar");
        clear(
            cluster.ctl(&["backup", text(&nowhere)?])?,
            1,
            &["nowhere", "hint"],
        )?;
        clear(cluster.ctl(&["restore", file])?, 5, &["runs", "ctl stop"])?;
        clear(
            cluster.ctl(&["restore", file, "--force"])?,
            5,
            &["runs", "ctl stop"],
        )?;
        clear(
            cluster.ctl(&["check", "--repair"])?,
            5,
            &["runs", "ctl stop"],
        )?;
        cluster.stop()?;
        clear(
            cluster.ctl(&["restore", file])?,
            5,
            &["holds a head", "--force"],
        )?;
        for args in [["backup", "other.tar"], ["purge", "--dry-run"]] {
            clear(cluster.ctl(&args)?, 3, &["ctl start"])?;
        }
        let empty = cluster.path("empty");
        clear(
            cluster.ctl(&["--state", text(&empty)?, "check"])?,
            4,
            &["no head", "--state"],
        )?;
        let forced = cluster
            .ctl(&["restore", file, "--force", "--json"])?
            .ok()?
            .json()?;
        let aside = forced["moved_aside"]
            .as_str()
            .context("it was moved aside")?;
        ensure!(Path::new(aside).join("db").is_dir(), "{forced:#}");
        cluster.start()
    })
}

fn checks() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = shell(cluster, &project, "echo hello; echo new > file.txt")?;
        cluster.succeeded(&task, Deadline::SOON)?;
        whole(cluster.ctl(&["check", "--json"])?)?;
        let head = cluster.state().join("head");
        let blob = some_file(&head.join("blobs"))?;
        let named = |output: Output, file: &Path| -> anyhow::Result<()> {
            let found = output.exits(8)?.json()?;
            let name = text(file)?;
            let findings = found["findings"].as_array().context("findings")?;
            let names = |finding: &Value| {
                let what = finding["what"].as_str().unwrap_or_default();
                let problem = finding["problem"].as_str().unwrap_or_default();
                format!("{what} {problem}").contains(name)
            };
            let advice =
                |finding: &Value| finding["advice"].as_str().is_some_and(|a| !a.is_empty());
            ensure!(findings.iter().any(names), "{name} is not in {found:#}");
            ensure!(findings.iter().all(advice), "{found:#}");
            Ok(())
        };
        flipped(&blob, 0, || {
            named(cluster.ctl(&["check", "--json"])?, &blob)
        })?;
        cluster.stop()?;
        whole(cluster.ctl(&["check", "--json"])?)?;
        let context = head.join("context");
        let files = [
            (blob, 0),
            (head.join("events/0000000001.seg"), 100),
            (some_file(&context)?, 30),
            (head.join("db/journal/0000000000000001.journal"), 100),
            (head.join("db/mark"), 9),
        ];
        for (file, at) in files {
            flipped(&file, at, || {
                named(cluster.ctl(&["check", "--json"])?, &file)
            })?;
        }
        whole(cluster.ctl(&["check", "--json"])?)?;
        cluster.start()
    })
}

fn lost_events() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = shell(cluster, &project, "echo hello")?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let logs = ["logs", &task];
        ensure!(cluster.ctl(&logs)?.ok()?.stdout.contains("hello"));
        cluster.stop()?;
        whole(cluster.ctl(&["check", "--json"])?)?;
        fs::remove_dir_all(cluster.state().join("head/events"))?;
        for started in [false, true] {
            if started {
                cluster.start()?;
            }
            let check = cluster.ctl(&["check"])?.exits(8)?;
            let names = check.stdout.contains("0000000001.seg: is not there");
            ensure!(names, "{check}");
        }
        let is_told = |logs: &Output| {
            let gap = "does not hold what was written";
            logs.stdout.contains(gap) || logs.stderr.contains(gap)
        };
        let told = cluster.ctl(&logs)?;
        ensure!(is_told(&told), "{told}");
        let next = shell(cluster, &project, "echo hello again")?;
        cluster.succeeded(&next, Deadline::SOON)?;
        let told = cluster.ctl(&["logs", &next])?.ok()?;
        ensure!(!is_told(&told), "{told}");
        Ok(())
    })
}

fn compacts() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = shell(cluster, &project, "echo hello; echo new > file.txt")?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let before = cluster.show(&task)?;
        clear(
            cluster.ctl(&["compact"])?,
            5,
            &["runs", "ctl stop", "ctl start"],
        )?;
        cluster.stop()?;
        let done = cluster.json(&["compact"])?;
        ensure!(done["rows"].as_u64() > Some(5), "{done:#}");
        ensure!(
            done["live_bytes"].as_u64() <= done["bytes_after"].as_u64(),
            "{done:#}"
        );
        whole(cluster.ctl(&["check", "--json"])?)?;
        cluster.start()?;
        let after = cluster.show(&task)?;
        ensure!(after["result"] == before["result"], "{before:#}\n{after:#}");
        let next = shell(cluster, &project, "echo again")?;
        cluster.succeeded(&next, Deadline::SOON)?;
        let empty = cluster.path("empty");
        let nothing = cluster.ctl(&["--state", text(&empty)?, "compact"])?;
        clear(nothing, 4, &["no head", "--state"])
    })
}

fn purges() -> anyhow::Result<()> {
    let config = "retention:\n  finished_for: 100ms\n  uploads_for: 1h\n";
    scene(Setup::new().config(config), |cluster| {
        let project = cluster.repository("project")?;
        let task = shell(cluster, &project, "echo hello; echo new > file.txt")?;
        until("it is forgotten", Deadline::SOON, || {
            let output = cluster.ctl(&["show", &task])?;
            Ok((output.code == Some(4)).then_some(()))
        })?;
        let young = cluster.json(&["purge"])?;
        ensure!(
            young["files"] == 0,
            "what somebody may rely on went: {young:#}"
        );
        let blobs = files(&cluster.state().join("head/blobs"))?;
        let long_ago = SystemTime::now() - Duration::from_secs(7200);
        for path in &blobs {
            fs::File::open(path)?.set_modified(long_ago)?;
        }
        let would = cluster.json(&["purge", "--dry-run"])?;
        ensure!(would["dry_run"] == true, "{would:#}");
        ensure!(would["files"] == blobs.len() as u64, "{would:#}");
        ensure!(
            blobs.iter().all(|path| path.exists()),
            "a look removed something"
        );
        let gone = cluster.json(&["purge"])?;
        ensure!(gone["files"] == would["files"] && gone["bytes"] == would["bytes"]);
        ensure!(!blobs.iter().any(|path| path.exists()), "something stayed");
        let left = cluster.json(&["purge"])?;
        ensure!(left["files"] == 0 && left["tasks"] == 0, "{left:#}");
        whole(cluster.ctl(&["check", "--json"])?)
    })
}

fn old_outputs() -> anyhow::Result<()> {
    let config = "retention: {finished_for: 100ms, outputs_max: 1}\n";
    scene(Setup::new().config(config), |cluster| {
        let project = cluster.repository("project")?;
        let mirror = project.dir().join("context/agent_outputs");
        let forgotten = || -> anyhow::Result<PathBuf> {
            let task = shell(cluster, &project, "echo hello")?;
            until("it is forgotten", Deadline::SOON, || {
                let output = cluster.ctl(&["show", &task])?;
                Ok((output.code == Some(4)).then_some(()))
            })?;
            Ok(mirror.join(format!("{task}_output.md")))
        };
        let (edited, old, newest) = (forgotten()?, forgotten()?, forgotten()?);
        fs::write(&edited, "mine\n")?;
        let would = cluster.json(&["purge", "--dry-run"])?;
        ensure!(would["outputs"] == 2, "{would:#}");
        ensure!(old.exists(), "a look removed something");
        let gone = cluster.json(&["purge"])?;
        ensure!(gone["outputs"] == 2 && gone["output_bytes"] == would["output_bytes"]);
        ensure!(!old.exists() && newest.exists());
        ensure!(fs::read_to_string(&edited)? == "mine\n", "an edit went");
        let shown = cluster.ctl_in(project.dir(), &["context", "show", "--json"])?;
        let shown = shown.ok()?.json()?;
        let shown = shown["documents"].as_object().context("documents")?;
        let outputs = shown
            .keys()
            .filter(|name| name.starts_with("agent_outputs/"));
        ensure!(outputs.count() == 1, "{:?}", shown.keys());
        whole(cluster.ctl(&["check", "--json"])?)?;

        // By itself, too.
        let later = forgotten()?;
        ensure!(newest.exists() && later.exists());
        cluster.stop()?;
        cluster.start()?;
        until("the older one is gone", Deadline::SOON, || {
            Ok((!newest.exists()).then_some(()))
        })?;
        ensure!(later.exists() && edited.exists());
        Ok(())
    })
}

fn shell(cluster: &Cluster, project: &Project, command: &str) -> anyhow::Result<String> {
    cluster.add(project, &[command, "--agent", "shell"])
}

/// A task that runs until the gate opens.
fn waiting_task(cluster: &Cluster, project: &Project) -> anyhow::Result<String> {
    let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
    let task = shell(cluster, project, &format!("echo begun; {gate}"))?;
    cluster.wait_for(&task, &["running"], Deadline::SOON)?;
    Ok(task)
}

/// Runs `look` while one bit of a file is another one.
fn flipped(
    file: &Path,
    at: usize,
    look: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let mut bytes = whole.clone();
    bytes[at] ^= 1;
    fs::write(file, bytes)?;
    let looked = look();
    fs::write(file, whole)?;
    looked.with_context(|| format!("with a flipped bit in {}", file.display()))
}

/// A check that found nothing.
fn whole(output: Output) -> anyhow::Result<()> {
    let found = output.exits(0)?.json()?;
    ensure!(found["findings"] == serde_json::json!([]), "{found:#}");
    ensure!(found["rows"].as_u64() > Some(0), "{found:#}");
    Ok(())
}

/// All files below a directory, by path.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut dirs = vec![dir.to_owned()];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true => dirs.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}

fn some_file(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut files = files(dir)?.into_iter();
    let found = files.find(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 40));
    found.with_context(|| format!("there is no file in {}", dir.display()))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the path is UTF-8")
}

/// One error with a next step, the documented exit code, nothing on standard output.
fn clear(output: Output, code: i32, names: &[&str]) -> anyhow::Result<()> {
    let output = output.exits(code)?.complains(names)?;
    let output = output.complains(&["error: "])?;
    ensure!(
        output.stdout.is_empty(),
        "it belongs on standard error\n{output}"
    );
    ensure!(!output.stderr.contains("panicked"), "it panicked\n{output}");
    Ok(())
}

fn keeps_within_its_quota() -> anyhow::Result<()> {
    let setup = Setup::new().config("worker: {keep: {quota: 1MiB, bundles: 2h}}\n");
    scene(setup, |cluster| {
        // A worker keeps house when it starts: not after this.
        cluster.ctl(&["workers", "gc"])?.ok()?;
        let bundles = cluster.state().join("worker/cache/bundles");
        let (large, small) = (bundles.join("large"), bundles.join("small"));
        fs::create_dir_all(&bundles)?;
        fs::write(&large, vec![1; 2 << 20])?;
        fs::write(&small, "used after the other")?;
        let would = cluster.json(&["workers", "gc", "--dry-run"])?;
        let whys = |document: &Value| -> Vec<String> {
            let removals = document["removals"].as_array().into_iter().flatten();
            removals.map(|r| r["why"].to_string()).collect()
        };
        ensure!(whys(&would) == ["\"more than 1MiB are kept\""], "{would:#}");
        ensure!(large.exists(), "a dry run removes");
        cluster.ctl(&["workers", "gc"])?.ok()?;
        ensure!(!large.exists() && small.exists(), "the wrong one");
        let hours_ago = SystemTime::now() - Duration::from_secs(3 * 3600);
        fs::File::open(&small)?.set_modified(hours_ago)?;
        let gone = cluster.json(&["workers", "gc"])?;
        ensure!(whys(&gone) == ["\"not used for 2h\""], "{gone:#}");
        Ok(())
    })
}
