//! Whoever waits while the head is away is told, and goes on when it is back.

use std::{fs, net::TcpListener};

use anyhow::{Context, ensure};
use orchestra_tests::{Project, Setup, Test, freeze, kill_9, scene, thaw};

use crate::crash::long_task;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "whoever_waits_is_told_once_that_the_head_is_away_and_once_that_it_is_back",
            || told(Back::Here),
        ),
        Test::new(
            "whoever_waits_finds_a_head_that_is_back_at_another_port",
            || told(Back::Elsewhere),
        ),
        Test::new(
            "who_waits_for_a_time_waits_no_longer_for_a_head_that_hangs",
            hangs,
        ),
    ]
}

fn hangs() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        let head = cluster.head_pid()?;
        let mut hung = cluster.begin(&cluster.path(""), &["wait", &task, "--timeout", "5s"])?;
        hung.hears_interrupts()?;
        freeze(head)?;
        let waits = [
            cluster.ctl(&["wait", &task, "--timeout", "1s"])?,
            cluster.ctl(&["wait", "--label", "a=b", "--timeout", "1s"])?,
        ];
        let hung = hung.end()?;
        thaw(head)?;
        let unknown = "the tasks have ended within 1.0s is not known";
        let go_on = format!("`kill -CONT {head}` lets it go on");
        for wait in waits {
            wait.exits(3)?.complains(&[unknown, &go_on])?;
        }
        hung.exits(3)?.complains(&["within 5.0s is not known"])?;
        cluster.open_gate()
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Back {
    Here,
    /// At another port.
    Elsewhere,
}

/// The head is killed, and starts again where it was, or elsewhere.
fn told(back: Back) -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        let dir = cluster.path("");
        let begin = |args: &[&str]| cluster.begin(&dir, args);
        let mut timed = begin(&["wait", &task, "--timeout", "10s"])?;
        let mut waits = [begin(&["wait", &task])?, begin(&["wait", &task, "--json"])?];
        let mut logs = [
            begin(&["logs", &task, "-f"])?,
            begin(&["logs", &task, "-f", "--raw"])?,
        ];
        let watch = begin(&["watch", &task, "--json"])?;
        for shows in logs.iter().chain([&watch]) {
            shows.prints("\n")?;
        }
        let address = cluster.json(&["status"])?["listen"].clone();
        let address = address.as_str().context("status says where it listens")?;
        kill_9(cluster.head_pid()?)?;
        if back == Back::Elsewhere {
            // As if its port had been taken: it tries the one of the last time first.
            let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            fs::write(cluster.state().join("head/port"), free.to_string())?;
        }
        for one in waits.iter().chain(&logs).chain([&watch]) {
            one.says("cannot be reached since")?;
        }
        let unknown = "whether the tasks have ended within 10s";
        timed.end()?.exits(3)?.complains(&[unknown])?;
        cluster.start()?;
        cluster.open_gate()?;
        let mut ended = Vec::new();
        for one in waits.iter_mut().chain(&mut logs) {
            ended.push(one.end()?.ok()?);
        }
        watch.prints("succeeded")?;
        ended.push(watch.kill()?);
        for one in ended {
            let said = |words| one.stderr.matches(words).count();
            let once = said("cannot be reached since") == 1 && said("is back") == 1;
            ensure!(once, "{one}");
        }
        if back == Back::Elsewhere {
            let now = &cluster.json(&["status"])?["listen"];
            ensure!(now != address, "it listens at {now}");
        }
        Ok(())
    })
}
