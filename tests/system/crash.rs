//! What is acknowledged survives `kill -9`, and agents run on.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::ensure;
use orchestra_tests::{
    Cluster, Deadline, GATE, Project, Setup, Test, alive, freeze, kill_9, scene, thaw, until,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("acknowledged_tasks_survive_kill_9_of_the_head", head),
        Test::new(
            "an_agent_outlives_kill_9_of_its_worker_and_is_recorded_once",
            worker,
        ),
        Test::new(
            "an_agent_outlives_kill_9_of_the_head_without_a_gap_in_its_events",
            agent_and_head,
        ),
        Test::new(
            "a_head_that_is_away_for_longer_than_a_lease_costs_no_run",
            long_away,
        ),
        Test::new(
            "what_waits_for_a_slot_is_not_begun_without_a_lease",
            waits_for_a_lease,
        ),
        Test::new(
            "an_agent_goes_on_whose_worker_was_away_for_longer_than_a_lease",
            taken_back_running,
        ),
        Test::new(
            "what_an_agent_ended_with_while_its_worker_was_away_for_longer_than_a_lease_is_the_result",
            taken_back_ended,
        ),
        Test::new(
            "a_stop_without_a_head_stops_no_agents_unasked",
            stop_without_head,
        ),
        Test::new(
            "a_stop_whose_head_dies_stops_no_agents",
            stop_whose_head_dies,
        ),
        Test::new(
            "what_is_frozen_goes_on_to_be_stopped_in_order",
            stop_of_the_frozen,
        ),
        Test::new(
            "a_start_beside_a_head_that_does_not_answer_says_what_to_do",
            start_beside_frozen_head,
        ),
        Test::new(
            "a_stop_waits_for_what_a_worker_holds_that_is_away",
            stop_while_worker_is_away,
        ),
        Test::new("stop_now_ends_running_agents_and_leaves_nothing", stop_now),
        Test::new(
            "stop_now_ends_agents_whose_worker_was_killed",
            stop_of_an_agent_without_worker,
        ),
        Test::new(
            "a_stop_that_cannot_start_a_worker_for_what_was_left_ends_the_head_and_says_so",
            stop_without_new_worker,
        ),
        Test::new(
            "a_worker_that_is_stopped_while_it_asks_clis_ends_what_was_left",
            stop_while_clis_are_asked,
        ),
    ]
}

fn head() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let tasks = cluster.add_numbered(&project, 50)?;
        kill_and_restart(cluster, cluster.head_pid()?)?;
        for task in &tasks {
            cluster.succeeded(task, Deadline::secs(90))?;
        }
        let done = project.read("done.txt")?;
        ensure!(
            done.lines().count() == 50,
            "some ran twice or never:\n{done}"
        );
        Ok(())
    })
}

fn worker() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = long_task(cluster, &project)?;
        let agent = agent(cluster)?;
        kill_and_restart(cluster, cluster.worker_pid()?)?;
        ensure!(works(cluster, agent), "the agent died with its worker");
        finish_once(cluster, &task)
    })
}

fn agent_and_head() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = long_task(cluster, &project)?;
        let agent = agent(cluster)?;
        kill_and_restart(cluster, cluster.head_pid()?)?;
        ensure!(works(cluster, agent), "the agent died with the head");
        finish_once(cluster, &task)
    })
}

/// Longer than a lease of two seconds and its grace.
const AWAY: Duration = Duration::from_secs(4);

fn long_away() -> anyhow::Result<()> {
    scene(Setup::new().config("queue: {lease: 2s}\n"), |cluster| {
        let project = cluster.repository("project")?;
        let task = long_task(cluster, &project)?;
        let head = cluster.head_pid()?;
        kill_9(head)?;
        let killed = Instant::now();
        cluster.open_gate()?;
        until("the agent has ended", Deadline::SOON, || {
            Ok(working(cluster).is_empty().then_some(()))
        })?;
        until("every lease would be over", Deadline::SOON, || {
            Ok((killed.elapsed() > AWAY && !alive(head)).then_some(()))
        })?;
        cluster.start()?;
        finish_once(cluster, &task)
    })
}

fn waits_for_a_lease() -> anyhow::Result<()> {
    let setup = Setup::new()
        .agents("shell:1")
        .config("queue: {lease: 2s}\n");
    scene(setup.runner("shell", "{prefetch: 4}"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        let next = ["echo begun >> begun.txt", "--agent", "shell", "--in-place"];
        let next = cluster.add(&project, &next)?;
        cluster.wait_for(&next, &["assigned"], Deadline::SOON)?;
        kill_9(cluster.head_pid()?)?;
        let passed = |what| {
            let since = Instant::now();
            until(what, Deadline::SOON, move || {
                Ok((since.elapsed() > AWAY).then_some(()))
            })
        };
        passed("every lease is over")?;
        cluster.open_gate()?;
        until("the slot is free", Deadline::SOON, || {
            Ok(working(cluster).is_empty().then_some(()))
        })?;
        passed("it would have begun")?;
        let begun = fs::exists(project.dir().join("begun.txt"))?;
        ensure!(!begun, "it was begun although others may have it");
        cluster.start()?;
        finish_once(cluster, &task)?;
        let document = cluster.succeeded(&next, Deadline::SOON)?;
        ensure!(document["attempt"] == 1, "{document:#}");
        ensure!(project.read("begun.txt")? == "begun\n");
        Ok(())
    })
}

fn taken_back_running() -> anyhow::Result<()> {
    scene(lost_soon(), |cluster| {
        let project = cluster.repository("project")?;
        let (task, worker) = lost_task(cluster, &project)?;
        let agent = agent(cluster)?;
        thaw(worker)?;
        cluster.wait_for(&task, &["running"], Deadline::SOON)?;
        ensure!(works(cluster, agent), "the agent is another one");
        let document = cluster.show(&task)?;
        ensure!(document["reason"].is_null(), "{document:#}");
        finish_once(cluster, &task)
    })
}

fn taken_back_ended() -> anyhow::Result<()> {
    scene(lost_soon(), |cluster| {
        let project = cluster.repository("project")?;
        let (task, worker) = lost_task(cluster, &project)?;
        cluster.open_gate()?;
        until("the agent has ended", Deadline::SOON, || {
            Ok(working(cluster).is_empty().then_some(()))
        })?;
        thaw(worker)?;
        finish_once(cluster, &task)
    })
}

/// A short lease, and a retry that waits long enough for a worker to be back before it.
fn lost_soon() -> Setup {
    Setup::new().config("queue: {lease: 2s, retry_delay: 10m}\n")
}

/// A task whose worker is frozen until the head has given its attempt up; and the worker.
fn lost_task(cluster: &Cluster, project: &Project) -> anyhow::Result<(String, u32)> {
    let task = long_task(cluster, project)?;
    let worker = cluster.worker_pid()?;
    freeze(worker)?;
    cluster.wait_for(&task, &["queued"], Deadline::SOON)?;
    let document = cluster.show(&task)?;
    ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
    Ok((task, worker))
}

fn stop_now() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    cluster.start()?;
    let project = cluster.repository("project")?;
    long_task(&cluster, &project)?;
    let again = cluster.ctl(&["start", "--detach"])?.ok()?;
    let said = format!("{}{}", again.stdout, again.stderr);
    ensure!(
        said.contains("already"),
        "a second start does not say that it runs\n{again}"
    );
    cluster.stop()?;
    cluster.stop()?;
    cluster.expect_no_process()
}

fn stop_whose_head_dies() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        let mut waiting = cluster.begin(project.dir(), &["stop"])?;
        waiting.says("waiting for 1 agent")?;
        kill_9(cluster.head_pid()?)?;
        let refused = waiting.end()?.exits(5)?;
        refused.complains(&["1 attempt", "the head has died", "ctl start"])?;
        cluster.start()?;
        cluster.open_gate()?;
        finish_once(cluster, &task)
    })
}

fn stop_while_worker_is_away() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        kill_9(cluster.worker_pid()?)?;
        let waiting = cluster.begin(project.dir(), &["stop"])?;
        waiting.says("waiting for 1 task whose worker is away")?;
        waiting.kill()?;
        ensure!(alive(cluster.head_pid()?), "the head was ended");
        // It ends when the worker has come back and the agent has ended.
        let refused = cluster.ctl(&["start", "--detach"])?.exits(5)?;
        refused.complains(&["stop"])?;
        // `--now` would end the agent, without a worker too.
        cluster.ctl(&["stop", "--leave-agents"])?.ok()?;
        cluster.start()?;
        cluster.open_gate()?;
        finish_once(cluster, &task)
    })
}

fn stop_of_an_agent_without_worker() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        kill_9(cluster.worker_pid()?)?;
        let head = cluster.head_pid()?;
        let stopped = cluster.ctl(&["stop", "--now"])?.ok()?;
        stopped.complains(&["1 agent goes on without a worker; one is started"])?;
        ensure!(!alive(head), "the head runs on");
        cluster.start()?;
        let document = cluster.show(&task)?;
        ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
        Ok(())
    })
}

fn stop_without_new_worker() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        long_task(cluster, &project)?;
        let agent: u32 = fs::read_to_string(cluster.path("pid"))?.trim().parse()?;
        kill_9(cluster.worker_pid()?)?;
        let head = cluster.head_pid()?;
        let config = cluster.state().join("orchestra.yaml");
        let whole = fs::read(&config)?;
        fs::write(&config, "worker: {nonsense: 1}\n")?;
        let failed = cluster.ctl(&["stop", "--now"])?.exits(1)?;
        failed.complains(&["failed to start the worker", "nonsense"])?;
        ensure!(!alive(head), "the head runs on");
        ensure!(alive(agent), "nobody could end it in order");
        fs::write(&config, whole)?;
        cluster.ctl(&["stop", "--now"])?.ok()?;
        ensure!(!alive(agent), "it runs on");
        Ok(())
    })
}

fn stop_while_clis_are_asked() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        let agent: u32 = fs::read_to_string(cluster.path("pid"))?.trim().parse()?;
        let killed = cluster.worker_pid()?;
        kill_9(killed)?;
        let asked = install_slow_claude(cluster)?;
        let mut starting = cluster.begin(project.dir(), &["start", "--detach"])?;
        until("a CLI is asked", Deadline::SOON, || {
            Ok(asked.exists().then_some(()))
        })?;
        ensure!(
            cluster.worker_pid()? != killed,
            "the new worker is not seen"
        );
        ensure!(alive(agent), "it has ended of itself");
        cluster.ctl(&["stop", "--now"])?.ok()?;
        ensure!(!alive(agent), "it runs on");
        // It may have seen the worker before that ended.
        starting.end()?;
        // The head heard of it before it ended.
        cluster.start()?;
        let document = cluster.show(&task)?;
        ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
        Ok(())
    })
}

/// A CLI that does not tell its version; the file that says that it was asked.
fn install_slow_claude(cluster: &Cluster) -> anyhow::Result<PathBuf> {
    let (program, asked) = (cluster.path("claude"), cluster.path("asked"));
    let script = format!("#!/bin/sh\necho > {}\nexec sleep 600\n", asked.display());
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let config = format!("runners: {{claude: {{command: {}}}}}\n", program.display());
    fs::write(cluster.state().join("orchestra.yaml"), config)?;
    Ok(asked)
}

/// A task that appends one line, waits at the gate and says two more things.
fn stop_without_head() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = long_task(cluster, &project)?;
        kill_9(cluster.head_pid()?)?;
        let refused = cluster.ctl(&["stop"])?.exits(5)?;
        refused.complains(&["1 attempt", "ctl start", "--leave-agents"])?;
        cluster.start()?;
        // Another head that does not answer is no reason either.
        let elsewhere = ["--head", "127.0.0.1:1", "stop"];
        let refused = cluster.ctl(&elsewhere)?.exits(5)?;
        refused.complains(&["the head does not answer", "1 attempt", "--now"])?;
        cluster.open_gate()?;
        finish_once(cluster, &task)
    })
}

fn stop_of_the_frozen() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = long_task(cluster, &project)?;
        let (head, worker) = (cluster.head_pid()?, cluster.worker_pid()?);
        freeze(head)?;
        freeze(worker)?;
        let stopped = cluster.stop()?;
        let frozen = |name, pid| format!("the {name} (process {pid}) was frozen");
        let stopped = stopped.complains(&[&frozen("head", head), &frozen("worker", worker)])?;
        ensure!(!stopped.stderr.contains("by force"), "{stopped}");
        ensure!(!stopped.stderr.contains("does not answer"), "{stopped}");
        // The head heard of the agent's end before its own.
        cluster.start()?;
        let document = cluster.show(&task)?;
        ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
        Ok(())
    })
}

fn start_beside_frozen_head() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let head = cluster.head_pid()?;
        freeze(head)?;
        let log = cluster.state().join("head/head.log");
        let log = log.to_string_lossy();
        let (pid, goes_on) = (format!("process {head}"), format!("`kill -CONT {head}`"));
        let wants = [&pid, &goes_on, &*log, "`ctl stop --now`"];
        let refused = cluster.ctl(&["start", "--detach"])?.exits(3)?;
        let refused = refused.complains(&wants)?;
        ensure!(!refused.stderr.contains("`ctl start`"), "{refused}");
        cluster.ctl(&["status"])?.exits(3)?.complains(&wants)?;
        // One that goes on, or ends, while it is waited for is no error.
        let mut start = cluster.begin(&cluster.path(""), &["start", "--detach"])?;
        thaw(head)?;
        start.end()?.ok()?;
        ensure!(cluster.head_pid()? == head, "it was started anew");
        freeze(head)?;
        let mut start = cluster.begin(&cluster.path(""), &["start", "--detach"])?;
        kill_9(head)?;
        start.end()?.ok()?;
        Ok(())
    })
}

pub fn long_task(cluster: &Cluster, project: &Project) -> anyhow::Result<String> {
    let dir = cluster.path("");
    let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
    let command = format!(
        "echo $$ > {0}/pid; echo ran >> {0}/ran; echo one; {gate}; echo two > file.txt; echo three",
        dir.display()
    );
    let task = cluster.add(project, &[command.as_str(), "--agent", "shell"])?;
    until("it works", Deadline::SOON, || {
        Ok(fs::exists(dir.join("ran"))?.then_some(()))
    })?;
    cluster.wait_for(&task, &["running"], Deadline::SOON)?;
    Ok(task)
}

/// The agent of a [`long_task`].
fn agent(cluster: &Cluster) -> anyhow::Result<u32> {
    Ok(fs::read_to_string(cluster.path("pid"))?.trim().parse()?)
}

/// Whether that one is still at work. There may be more of the kind: a shell is two on the way to its
/// next command.
fn works(cluster: &Cluster, agent: u32) -> bool {
    let this = format!("{agent} ");
    working(cluster).iter().any(|line| line.starts_with(&this))
}

fn working(cluster: &Cluster) -> Vec<String> {
    let mut lines = cluster.marker().processes();
    lines.retain(|line| line.contains("/gate ]") && !line.contains("ctl "));
    lines
}

fn kill_and_restart(cluster: &Cluster, pid: u32) -> anyhow::Result<()> {
    kill_9(pid)?;
    until("it is dead", Deadline::SOON, || {
        Ok((!alive(pid)).then_some(()))
    })?;
    cluster.start()
}

fn finish_once(cluster: &Cluster, task: &str) -> anyhow::Result<()> {
    cluster.open_gate()?;
    let document = cluster.succeeded(task, Deadline::SOON)?;
    ensure!(
        document["attempt"] == 1,
        "it needed {} attempts",
        document["attempt"]
    );
    ensure!(
        document["attempts"]
            .as_array()
            .is_some_and(|a| a.len() == 1),
        "{document:#}"
    );
    ensure!(
        fs::read_to_string(cluster.path("ran"))? == "ran\n",
        "it ran more than once"
    );
    ensure!(
        document["files"][0]["path"] == "file.txt",
        "the files are {}",
        document["files"]
    );
    let events = cluster.events(task)?;
    let numbers: Vec<u64> = events
        .iter()
        .filter_map(|event| event["seq"].as_u64())
        .collect();
    let want: Vec<u64> = (1..=numbers.len() as u64).collect();
    ensure!(numbers == want, "the events are numbered {numbers:?}");
    let text: String = events.iter().filter_map(|e| e["text"].as_str()).collect();
    ensure!(
        text.contains("one") && text.contains("three"),
        "the events say {text:?}"
    );
    Ok(())
}
