//! Whoever waits while the head is away is told, and goes on when it is back.

use std::{fs, net::TcpListener};

use anyhow::{Context, ensure};
use orchestra_tests::{Deadline, Project, Setup, Test, freeze, kill_9, scene, thaw, until};

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
        Test::new(
            "a_script_that_was_stopped_goes_on_behind_the_last_event_that_it_has_read",
            goes_on,
        ),
    ]
}

fn goes_on() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let command = ["echo first; echo second; exit 1", "--agent", "shell"];
        let task = cluster.add(&project, &command)?;
        cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        let logs = |args: &[&str]| cluster.ctl(&[&["logs", &task], args].concat());
        let lines = |args: &[&str]| -> anyhow::Result<Vec<String>> {
            let read = logs(&[&["--json"], args].concat())?.ok()?;
            Ok(read.stdout.lines().map(str::to_owned).collect())
        };
        let all = lines(&[])?;
        ensure!(all.len() > 2, "{all:?}");
        for after in 0..=all.len() {
            // Their numbers count from 1 without a gap.
            let rest = lines(&["--after", &after.to_string()])?;
            ensure!(rest == all[after..], "after {after}: {rest:?}");
        }
        let at = all.iter().position(|line| line.contains("first"));
        let at = (at.context("it said so")? + 1).to_string();
        let shown = logs(&["--after", &at])?.ok()?;
        ensure!(shown.stdout.starts_with("second\n"), "{shown}");

        cluster.ctl(&["retry", &task])?.ok()?;
        let of_both = || -> anyhow::Result<_> {
            let ended = cluster.show(&task)?;
            Ok((ended["attempt"] == 2 && ended["status"] == "failed").then_some(()))
        };
        until("the second attempt has ended", Deadline::SOON, of_both)?;
        let after = lines(&["--follow", "--attempt", "1", "--after", &at])?;
        let (rest, next) = after.split_at(all.len() - at.parse::<usize>()?);
        ensure!(*rest == all[all.len() - rest.len()..], "{rest:?}");
        let latest = lines(&[])?;
        ensure!(*next == latest, "{next:?}");
        let after = lines(&["--follow", "--after", &at])?;
        ensure!(after == latest[at.parse()?..], "{after:?}");

        let none = logs(&["--attempt", "1", "--after", "4000"])?.ok()?;
        let none = none.complains(&["has no event after 4000"])?;
        ensure!(none.stdout.is_empty(), "{none}");
        let last = u64::MAX.to_string();
        ensure!(lines(&["--after", &last])?.is_empty());
        for wrong in ["-1", "x", "1.5", "18446744073709551616"] {
            logs(&["--after", wrong])?
                .exits(2)?
                .complains(&["--after <SEQ>"])?;
        }
        for other in ["--raw", "--stderr"] {
            logs(&[other, "--after", "1"])?
                .exits(2)?
                .complains(&["--after"])?;
        }
        logs(&["-f", "--attempt", "7", "--after", "1"])?.exits(4)?;
        Ok(())
    })
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
        let unknown = "the tasks have ended within 1s is not known";
        let go_on = format!("`kill -CONT {head}` lets it go on");
        for wait in waits {
            wait.exits(3)?.complains(&[unknown, &go_on])?;
        }
        hung.exits(3)?.complains(&["within 5s is not known"])?;
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
