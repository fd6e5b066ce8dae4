//! Ctrl-C while a checkout is written to.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, Project, Setup, Test, scene, until};
use rustix::process::{Pid, Signal, kill_process};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "ctrl_c_before_anything_is_written_says_that_nothing_was",
            before,
        ),
        Test::new("ctrl_c_while_a_change_is_written_waits_for_its_end", within),
    ]
}

fn before() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let (project, task) = made(cluster)?;
        // It listens, and never answers.
        let head = TcpListener::bind("127.0.0.1:0")?;
        let address = head.local_addr()?.to_string();
        let args = ["--head", address.as_str(), "apply", &task];
        let ctl = spawned(cluster.command(project.dir(), &args))?;
        let (_called, _) = head.accept()?;
        interrupt(&ctl)?;
        let said = ctl.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&said.stderr);
        ensure!(
            said.status.code() == Some(130) && stderr.contains("interrupted; nothing was applied"),
            "{said:?}"
        );
        ensure!(!project.dir().join("new.txt").exists());
        Ok(())
    })
}

fn within() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let (project, task) = made(cluster)?;
        // Git waits for whoever has the branch locked, which comes after the files.
        project.git(&["config", "core.filesRefLockTimeout", "-1"])?;
        let lock = format!(".git/refs/heads/orchestra/{task}.lock");
        project.write(&lock, "")?;
        let mut ctl = spawned(cluster.command(project.dir(), &["apply", &task]))?;
        until("the file is written", Deadline::SOON, || {
            Ok(project.dir().join("new.txt").exists().then_some(()))
        })?;
        interrupt(&ctl)?;
        let mut stderr = BufReader::new(ctl.stderr.take().context("it is piped")?);
        let mut note = String::new();
        stderr.read_line(&mut note)?;
        fs::remove_file(project.dir().join(&lock))?;
        stderr.read_to_string(&mut note)?;
        let said = ctl.wait_with_output()?;
        let stdout = String::from_utf8_lossy(&said.stdout);
        ensure!(
            said.status.code() == Some(0)
                && note.contains("the interrupt came too late")
                && stdout.contains("applied 1 file"),
            "{said:?} {note}"
        );
        let branch = format!("orchestra/{task}");
        project.git(&["rev-parse", "--verify", "--quiet", &branch])?;
        let applied = &cluster.show(&task)?["apply"]["result"];
        ensure!(applied == "applied", "the head was told {applied}");
        Ok(())
    })
}

/// A task that made new.txt, not applied.
fn made(cluster: &Cluster) -> anyhow::Result<(Project, String)> {
    let project = cluster.repository("project")?;
    let task = cluster.add(&project, &["echo new >new.txt", "--agent", "shell"])?;
    cluster.succeeded(&task, Deadline::SOON)?;
    Ok((project, task))
}

fn spawned(mut command: Command) -> anyhow::Result<Child> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("failed to start ctl")
}

fn interrupt(ctl: &Child) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(ctl.id())?).context("it has a pid")?;
    Ok(kill_process(pid, Signal::INT)?)
}
