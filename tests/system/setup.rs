//! What an attempt finds in its place before it begins: ports of its own.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, alive, kill_9, scene, until};

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "attempts_beside_each_other_never_have_the_same_port",
        ports,
    )]
}

fn ports() -> anyhow::Result<()> {
    let config = "worker: {slots: 4, ports: 21500-21504}\n";
    scene(Setup::new().config(config), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let mut tasks = vec![
            waiting(cluster, &project, &["--ports", "2"])?,
            waiting(cluster, &project, &["--ports", "2"])?,
        ];
        let given = told(cluster, 2)?;
        ensure!(given.len() == 4, "they share a port: {given:?}");
        // The next worker process knows what they have.
        let worker = cluster.worker_pid()?;
        kill_9(worker)?;
        until("it is dead", Deadline::SOON, || {
            Ok((!alive(worker)).then_some(()))
        })?;
        cluster.start()?;
        tasks.push(waiting(cluster, &project, &[])?);
        let given = told(cluster, 3)?;
        ensure!(given == (21500..=21504).collect(), "{given:?}");
        let more = cluster.add(&project, &["true", "--agent", "shell", "--ports", "1"])?;
        let failed = cluster.wait_for(&more, &["failed", "succeeded"], Deadline::SOON)?;
        ensure!(
            failed["reason"]["code"] == "workspace_failed",
            "{}",
            failed["reason"]
        );
        // Who does not ask runs without one.
        let script = "test -z \"$ORCHESTRA_PORT\"";
        let modest = cluster.add(&project, &[script, "--agent", "shell"])?;
        cluster.succeeded(&modest, Deadline::SOON)?;
        cluster.open_gate()?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        // What is over has none.
        let all = cluster.add(&project, &["true", "--agent", "shell", "--ports", "5"])?;
        cluster.succeeded(&all, Deadline::SOON).map(drop)
    })
}

/// A task that tells its ports in a file and waits at the gate.
fn waiting(cluster: &Cluster, project: &Project, more: &[&str]) -> anyhow::Result<String> {
    let dir = cluster.path("");
    let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
    let script = format!(
        "echo $ORCHESTRA_PORT $ORCHESTRA_PORT_1 $ORCHESTRA_PORT_2 >> {}/ports; {gate}",
        dir.display()
    );
    cluster.add(project, &[&[&script, "--agent", "shell"], more].concat())
}

/// All ports that were told, once there are `attempts` lines.
fn told(cluster: &Cluster, attempts: usize) -> anyhow::Result<BTreeSet<u16>> {
    let path = cluster.path("ports");
    let text = until("they tell their ports", Deadline::SOON, || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        Ok((text.lines().count() == attempts).then_some(text))
    })?;
    let mut all = BTreeSet::new();
    for line in text.lines() {
        let ports: Vec<u16> = line
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("these are no ports: {line}"))?;
        ensure!(ports[0] == ports[1], "the first has two names: {line}");
        for port in &ports[1..] {
            ensure!(all.insert(*port), "a port was given twice:\n{text}");
        }
    }
    Ok(all)
}
