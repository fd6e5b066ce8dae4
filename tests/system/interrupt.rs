//! Ctrl-C while a checkout is written to.

use std::{fs, io::ErrorKind, net::TcpListener, process::Stdio};

use anyhow::ensure;
use orchestra_tests::{
    Background, Cluster, Deadline, Output, Project, Setup, Test, scene, until, with_file,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "ctrl_c_before_anything_is_written_says_that_nothing_was",
            before,
        ),
        Test::new(
            "ctrl_c_before_a_task_is_sent_says_that_none_was_queued",
            unsent,
        ),
        Test::new("ctrl_c_ends_what_waits_for_standard_input", typing),
        Test::new("ctrl_c_ends_an_apply_that_waits_for_another_one", in_line),
        Test::new("ctrl_c_while_a_change_is_written_waits_for_its_end", || {
            within(Background::interrupt)
        }),
        Test::new("sigterm_while_a_change_is_written_does_so_too", || {
            within(Background::terminate)
        }),
    ]
}

fn before() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let (project, task) = made(cluster)?;
        let said = interrupted(cluster, &project, &["apply", &task])?;
        said.complains(&["interrupted; nothing was applied"])?;
        ensure!(!project.dir().join("new.txt").exists());
        Ok(())
    })
}

fn unsent() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let said = interrupted(cluster, &project, &["add", "--agent", "shell", "true"])?;
        let said = said.complains(&["interrupted; nothing was queued"])?;
        ensure!(!said.stderr.contains("goes on"), "{said}");
        Ok(())
    })
}

fn typing() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let dir = cluster.path("");
        let mut add = cluster.command(&dir, &["add", "--no-repo", "-"]);
        add.stdin(Stdio::piped());
        let mut ctl = Background::start(add, &dir)?;
        ctl.hears_interrupts()?;
        ctl.interrupt()?;
        let said = ctl.end()?.exits(130)?;
        said.complains(&["interrupted; nothing was queued"])?;
        Ok(())
    })
}

fn in_line() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let (project, task) = made(cluster)?;
        let path = project.dir().join(".git/orchestra-apply.lock");
        let lock = fs::File::create(&path)?;
        lock.lock()?;
        let mut ctl = cluster.begin(project.dir(), &["apply", &task])?;
        until("it waits for the lock", Deadline::SOON, || {
            Ok((!with_file(&path).is_empty()).then_some(()))
        })?;
        ctl.terminate()?;
        let said = ctl.end()?.exits(130)?;
        said.complains(&["interrupted; nothing was applied"])?;
        ensure!(!project.dir().join("new.txt").exists());
        Ok(())
    })
}

/// Ctrl-C while it calls a head that listens and never answers.
fn interrupted(cluster: &Cluster, project: &Project, args: &[&str]) -> anyhow::Result<Output> {
    let head = TcpListener::bind("127.0.0.1:0")?;
    let address = head.local_addr()?.to_string();
    let mut ctl = cluster.begin(project.dir(), &[&["--head", &address], args].concat())?;
    head.set_nonblocking(true)?;
    let _called = until("it has called", Deadline::SOON, || match head.accept() {
        Ok((called, _)) => Ok(Some(called)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    ctl.interrupt()?;
    ctl.end()?.exits(130)
}

fn within(end: impl Fn(&Background) -> anyhow::Result<()>) -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let (project, task) = made(cluster)?;
        // Git waits for whoever has the branch locked, which comes after the files.
        project.git(&["config", "core.filesRefLockTimeout", "-1"])?;
        let lock = format!(".git/refs/heads/orchestra/{task}.lock");
        project.write(&lock, "")?;
        let mut ctl = cluster.begin(project.dir(), &["apply", &task])?;
        until("the file is written", Deadline::SOON, || {
            Ok(project.dir().join("new.txt").exists().then_some(()))
        })?;
        end(&ctl)?;
        ctl.says("the interrupt came too late")?;
        fs::remove_file(project.dir().join(&lock))?;
        let said = ctl.end()?.ok()?;
        ensure!(said.stdout.contains("applied 1 file"), "{said}");
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
