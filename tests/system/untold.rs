//! What was done and cannot be printed is said to be done.

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Project, Setup, Test, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "what_is_queued_and_cannot_be_told_is_said_to_be_queued",
            of_add,
        ),
        Test::new(
            "what_is_done_and_cannot_be_told_is_said_to_be_done",
            of_others,
        ),
    ]
}

fn of_add() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let shell = ["--agent", "shell", "--no-repo", "--at", "+9h", "--", "true"];
        let add = |more: &[&str], json: bool| {
            let mut args = vec!["add"];
            args.extend(more);
            args.extend(shell);
            if json {
                args.insert(1, "--json");
            }
            let mut command = cluster.command(cluster.path("").as_path(), &args);
            command.stdout(fs::OpenOptions::new().write(true).open("/dev/full")?);
            anyhow::Ok(command.output()?)
        };
        for (place, (more, json)) in [
            (&[][..], false),
            (&["--key", "k"], false),
            (&["--key", "k"], true),
        ]
        .into_iter()
        .enumerate()
        {
            let output = add(more, json)?;
            let said = String::from_utf8_lossy(&output.stderr);
            let id = ["task_001", "task_002", "task_002"][place];
            let words = [
                id,
                "has been queued",
                "No space left",
                ["ctl tasks", "--key k", "--key k"][place],
            ];
            ensure!(output.status.code() == Some(9), "{output:?}");
            for word in words {
                ensure!(said.contains(word), "{word}: {said}");
            }
        }
        let tasks = cluster.json(&["tasks"])?;
        ensure!(
            tasks["tasks"].as_array().map(Vec::len) == Some(2),
            "{tasks}"
        );
        Ok(())
    })
}

fn of_others() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("p")?;
        let change = "echo new > new.txt; echo said";
        let shell = ["--agent", "shell", "--", "sh", "-c", change];
        let add = |more: &[&'static str]| [&["add"], more, &shell].concat();
        // Whatever is waited for, the ids are told.
        let queued = |id| [id, "has been queued", "do not add"];
        untold(
            cluster,
            &project,
            &add(&["--wait", "--json"]),
            b"",
            &queued("task_001"),
        )?;
        untold(
            cluster,
            &project,
            &add(&["--wait"]),
            b"",
            &queued("task_002"),
        )?;
        untold(
            cluster,
            &project,
            &add(&["--follow", "--json"]),
            b"",
            &queued("task_003"),
        )?;
        untold(
            cluster,
            &project,
            &add(&["--follow"]),
            b"",
            &queued("task_004"),
        )?;
        let later = ["add", "--agent", "shell", "--at", "+9h", "-f", "-"];
        let file = b"- command: [\"true\"]\n- command: [\"true\"]\n";
        untold(
            cluster,
            &project,
            &later,
            file,
            &["task_005, task_006 have been queued"],
        )?;
        untold(
            cluster,
            &project,
            &["add", "--at", "+9h", "-"],
            b"x",
            &queued("task_007"),
        )?;
        untold(
            cluster,
            &project,
            &add(&["--every", "9h", "--at", "+9h"]),
            b"",
            &["schedule_001 has been queued"],
        )?;
        let of_5 = "task_005 is changed (cancelled)";
        untold(cluster, &project, &["cancel", "5"], b"", &[of_5])?;
        untold(
            cluster,
            &project,
            &["--json", "cancel", "6", "7"],
            b"",
            &[
                "\"code\":\"untold\"",
                "task_006 is changed (cancelled)",
                "task_007",
            ],
        )?;
        // What was refused is said too.
        untold(
            cluster,
            &project,
            &["retry", "5", "1"],
            b"",
            &["task_001 has succeeded", "task_005 is changed"],
        )?;
        for (change, done) in [
            ("pause", "schedule_001 paused"),
            ("resume", "schedule_001 resumed"),
            ("delete", "schedule_001 deleted"),
        ] {
            untold(cluster, &project, &["schedules", change, "1"], b"", &[done])?;
        }
        untold(
            cluster,
            &project,
            &["apply", "1"],
            b"",
            &["the change of task_001 is in"],
        )?;
        ensure!(project.has("new.txt"));
        untold(
            cluster,
            &project,
            &["--json", "apply", "2"],
            b"",
            &["the change of task_002"],
        )?;
        cluster.ctl(&[
            "add",
            "--wait",
            "--agent",
            "shell",
            "--no-repo",
            "--",
            "false",
        ])?;
        let of_8 = "the waiting is over: task_001 is succeeded, task_008 is failed";
        untold(cluster, &project, &["wait", "1", "8"], b"", &[of_8])?;
        untold(
            cluster,
            &project,
            &["wait", "8", "--json"],
            b"",
            &["\"code\":\"untold\"", "task_008"],
        )?;
        // What only asks has done nothing, and is no failure of what it asks about.
        let unwritten = ["failed to write to standard output"];
        for asks in [
            &["tasks"][..],
            &["tasks", "--json"],
            &["status"],
            &["show", "1"],
            &["show", "1", "--json"],
            &["logs", "1"],
            &["logs", "1", "--raw"],
            &["diff", "1"],
            &["files", "1"],
            &["workers"],
            &["schedules", "--json"],
            &["man"],
            &["completions", "bash"],
            &["--version"],
            &["add", "--help"],
        ] {
            untold(cluster, &project, asks, b"", &unwritten)?;
        }
        // Half a backup is none: it was not done.
        let backup = full(cluster, &project, &["backup", "-"], b"")?;
        ensure!(backup.status.code() == Some(1), "{backup:?}");
        let said = String::from_utf8_lossy(&backup.stderr);
        ensure!(
            said.contains("failed to write the backup to standard output"),
            "{said}"
        );
        Ok(())
    })
}

/// `ctl ARGS > /dev/full` exits with 9 and says these words.
fn untold(
    cluster: &Cluster,
    project: &Project,
    args: &[&str],
    stdin: &[u8],
    words: &[&str],
) -> anyhow::Result<()> {
    let output = full(cluster, project, args, stdin)?;
    ensure!(output.status.code() == Some(9), "{args:?}: {output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for word in [&["No space left"], words].concat() {
        ensure!(said.contains(word), "{args:?}: {word}: {said}");
    }
    Ok(())
}

fn full(
    cluster: &Cluster,
    project: &Project,
    args: &[&str],
    stdin: &[u8],
) -> anyhow::Result<Output> {
    let mut command = cluster.command(project.dir(), args);
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full")?);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Its end is the end of the input.
    child.stdin.take().context("no pipe")?.write_all(stdin)?;
    Ok(child.wait_with_output()?)
}
