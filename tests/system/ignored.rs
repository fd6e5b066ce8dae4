//! What starts a process may want signals ignored, as `nohup` does: they stay ignored.

use std::{fs, process::Command};

use anyhow::ensure;
use orchestra_tests::{
    Background, Binaries, Cluster, Deadline, GATE, Setup, Test, alive, hang_up, scene, until,
};

/// As `nohup` and a shell without job control start what runs in the background.
const IGNORING: &str = "trap '' HUP INT; exec \"$@\"";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_start_under_nohup_outlives_its_terminal", start),
        Test::new("a_head_under_nohup_outlives_its_terminal", head),
        Test::new(
            "a_worker_under_nohup_outlives_its_terminal_and_can_be_replaced",
            worker,
        ),
    ]
}

fn start() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let mut start = ignoring(&cluster, cluster.command(&cluster.path(""), &["start"]))?;
    start.says("stop: Ctrl-C")?;
    let daemons = [cluster.head_pid()?, cluster.worker_pid()?];
    hang_up(start.pid())?;
    start.interrupt()?;
    // What happens is shown on, so that it has not ended by them.
    let project = cluster.repository("p")?;
    let add = ["add", "--wait", "--agent", "shell", "true"];
    cluster.ctl_in(project.dir(), &add)?.ok()?;
    start.prints("task_001")?;
    ensure!(!start.stderr()?.contains("stopping"), "{}", start.stderr()?);
    // Daemons have sessions of their own, and hear what `ctl stop` sends.
    for daemon in daemons {
        ensure!(hears_hang_ups(daemon)?, "{daemon} is deaf");
    }
    cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
    start.end()?;
    cluster.expect_no_process()
}

fn head() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let mut head = ignoring(&cluster, of_program(&cluster, Binaries::get().head()))?;
    let serves = || {
        let asked = cluster.ctl(&["status"])?;
        Ok((asked.code == Some(0)).then_some(()))
    };
    until("the head serves", Deadline::SOON, serves)?;
    hang_up(head.pid())?;
    head.interrupt()?;
    cluster.ctl(&["status"])?.ok()?;
    ensure!(head.try_wait()?.is_none(), "it has ended");
    cluster.stop()?;
    head.end()?.ok()?;
    ensure!(
        !head.stderr()?.contains("stopping: SIG"),
        "{}",
        head.stderr()?
    );
    cluster.expect_no_process()
}

fn worker() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("p")?;
        let dir = cluster.path("").to_string_lossy().into_owned();
        let gate = GATE.replace("@DIR@", &dir);
        let script = format!("echo $$ > {dir}/pid; {gate}");
        let task = cluster.add(&project, &[script.as_str(), "--agent", "shell"])?;
        let agent = until("it works", Deadline::SOON, || {
            let pid = fs::read_to_string(cluster.path("pid")).unwrap_or_default();
            Ok(pid.trim().parse().ok())
        })?;
        let old = cluster.worker_pid()?;
        hang_up(old)?;
        until("the worker ends", Deadline::SOON, || {
            Ok((!alive(old)).then_some(()))
        })?;
        let mut worker = ignoring(cluster, of_program(cluster, Binaries::get().worker()))?;
        let attached = || {
            let of_it = cluster.json(&["workers"])?["workers"][0].clone();
            let is_new = of_it["pid"] == worker.pid() && of_it["state"] == "connected";
            Ok(is_new.then_some(()))
        };
        until("the new worker is connected", Deadline::SOON, attached)?;
        hang_up(worker.pid())?;
        worker.interrupt()?;
        ensure!(alive(agent), "the agent ended");
        // It does not hear what a hang-up asks for, and does it when ctl asks.
        cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        worker.end()?.ok()?;
        ensure!(alive(agent), "the agent ended with its worker");
        cluster.start()?;
        cluster.open_gate()?;
        let ended = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(ended["attempt"] == 1, "it was run again: {ended:#}");
        Ok(())
    })
}

/// The command, as one that runs in the background of a terminal.
fn ignoring(cluster: &Cluster, command: Command) -> anyhow::Result<Background> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", IGNORING, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(cluster.path("")).env_clear();
    let environment = command.get_envs();
    shell.envs(environment.filter_map(|(name, value)| Some((name, value?))));
    Background::start(shell, &cluster.path(""))
}

/// The program with the state directory of the cluster.
fn of_program(cluster: &Cluster, program: std::path::PathBuf) -> Command {
    let mut command = Command::new(program);
    command.arg("--state").arg(cluster.state());
    let environment = cluster.command::<&str>(&cluster.path(""), &[]);
    let environment = environment.get_envs();
    command.envs(environment.filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Whether a process takes SIGHUP for something.
fn hears_hang_ups(pid: u32) -> anyhow::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap_or_default().trim(), 16)?;
    Ok(caught & 1 != 0)
}
