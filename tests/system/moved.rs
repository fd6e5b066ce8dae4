//! A head that goes on at another place, while agents run on other machines.

use std::{fs, net::TcpListener, process::Command};

use anyhow::{Context, ensure};
use orchestra_tests::{
    Binaries, Cable, Cluster, Deadline, GATE, Need, Neighbour, Output, Test, run, until,
};

use super::remote;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_head_moves_and_the_agents_of_other_machines_go_on",
            moves_elsewhere,
        )
        .needs(&[Need::Isolation]),
    ]
}

fn moves_elsewhere() -> anyhow::Result<()> {
    remote::with_head(|cluster, cable| {
        let neighbour = remote::joined(cluster, cable)?;
        let task = works_far(cluster)?;
        let old = fs::read_to_string(cluster.state().join("head/port"))?;
        let same = tell(cluster, old.trim().replace("0.0.0.0", &cable.here()))?;
        same.ok()?
            .complains(&["joined the cluster already, and its worker runs"])?;

        cluster.stop()?;
        let new = format!("{}:{}", cable.here(), port()?);
        tell(cluster, new.clone())?
            .exits(1)?
            .complains(&["failed to reach that head"])?;

        let other = Other::new(cluster, &new, cable)?;
        other.ctl(&["start", "--detach"])?.ok()?;
        let moved = goes_on(cluster, &other, &neighbour, &task, &new);
        other.ctl(&["stop", "--now"])?.ok()?;
        moved
    })
}

/// The worker that runs is told, and the agent that it holds ends the task.
fn goes_on(
    cluster: &Cluster,
    other: &Other<'_>,
    neighbour: &Neighbour,
    task: &str,
    new: &str,
) -> anyhow::Result<()> {
    let told = tell(cluster, new.to_owned())?.ok()?;
    told.complains(&[new, "its agents go on"])?;
    cluster.open_gate()?;
    let ended = || -> anyhow::Result<_> {
        let document = other.ctl(&["show", task, "--json"])?.ok()?.json()?;
        Ok((document["status"] == "succeeded").then_some(document))
    };
    let document = until("the task ends at the new head", Deadline::secs(90), ended)
        .with_context(|| neighbour.log())?;
    ensure!(document["attempt"] == 1, "it was begun again: {document:#}");
    Ok(())
}

/// A task that another machine works on until the gate opens.
fn works_far(cluster: &Cluster) -> anyhow::Result<String> {
    let project = cluster.repository("project")?;
    let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
    let add = [gate.as_str(), "--agent", "shell", "--require", "where=far"];
    let task = cluster.add(&project, &add)?;
    cluster.wait_for(&task, &["running"], Deadline::SOON)?;
    Ok(task)
}

/// Says to the worker of the other machine where its head is.
fn tell(cluster: &Cluster, head: String) -> anyhow::Result<Output> {
    let mut command = Command::new(Binaries::get().worker());
    command.env_clear();
    command.args(["join", "--only", "--head", &head, "--state"]);
    command.arg(cluster.path("far").join("state"));
    run(command, b"")
}

fn port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The new place.
struct Other<'a> {
    cluster: &'a Cluster,
    state: String,
}

impl<'a> Other<'a> {
    fn new(cluster: &'a Cluster, head: &str, cable: Cable) -> anyhow::Result<Self> {
        let state = cluster.path("moved");
        fs::create_dir(&state)?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(cluster.state().join("head")).arg(&state);
        run(copy, b"")?.ok()?;
        let listen = head.replace(&cable.here(), "0.0.0.0");
        let config = format!("head:\n  listen: {listen}\n  advertise: {head}\n");
        fs::write(state.join("orchestra.yaml"), config)?;
        let state = state.to_str().context("a path of ours is text")?.to_owned();
        Ok(Self { cluster, state })
    }

    fn ctl(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.cluster
            .ctl(&[&["--state", &self.state], args].concat())
    }
}
