//! Whoever follows an attempt goes on with it when it was lost and is taken back.

use anyhow::ensure;
use orchestra_tests::{
    Background, Cluster, Deadline, GATE, Setup, Test, alive, freeze, kill_9, scene, thaw, until,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "who_follows_a_lost_attempt_goes_on_with_it_when_its_worker_is_back",
            || goes_on(Meanwhile::AgentWorks),
        ),
        Test::new(
            "who_follows_a_lost_attempt_is_told_what_its_agent_ended_with_meanwhile",
            || goes_on(Meanwhile::AgentEnds),
        ),
        Test::new(
            "who_follows_a_lost_attempt_goes_on_with_it_though_the_head_was_killed_meanwhile",
            || goes_on(Meanwhile::HeadIsKilled),
        ),
        Test::new(
            "who_follows_an_attempt_that_was_lost_after_the_head_was_killed_goes_on_with_it",
            || goes_on(Meanwhile::NewHeadLosesIt),
        ),
    ]
}

/// What happens while the worker is away.
#[derive(Clone, Copy)]
enum Meanwhile {
    AgentWorks,
    AgentEnds,
    /// After the loss.
    HeadIsKilled,
    /// The head is killed before the loss.
    NewHeadLosesIt,
}

/// In the order in which they are added.
const TEXT: &str = "task_001";
const JSON: &str = "task_002";

fn goes_on(meanwhile: Meanwhile) -> anyhow::Result<()> {
    scene(lost_soon(), |cluster| {
        let mut adds = [add(cluster, TEXT, &[])?, add(cluster, JSON, &["--json"])?];
        let begin = |args: &[&str]| cluster.begin(&cluster.path(""), args);
        let mut text = begin(&["logs", "-f", TEXT])?;
        let mut json = begin(&["logs", "-f", TEXT, "--json"])?;
        let mut raw = begin(&["logs", "-f", TEXT, "--raw"])?;
        for follower in [&text, &json, &raw] {
            follower.prints("one")?;
        }

        let worker = cluster.worker_pid()?;
        freeze(worker)?;
        let mut start = None;
        match meanwhile {
            Meanwhile::AgentWorks => lost(cluster)?,
            Meanwhile::AgentEnds => {
                lost(cluster)?;
                agents_end(cluster)?;
            }
            Meanwhile::HeadIsKilled => {
                lost(cluster)?;
                start = Some(another_head(cluster)?);
            }
            Meanwhile::NewHeadLosesIt => {
                start = Some(another_head(cluster)?);
                lost(cluster)?;
            }
        }
        thaw(worker)?;
        if let Some(mut start) = start {
            start.end()?.ok()?;
        }
        for task in [TEXT, JSON] {
            cluster.wait_for(task, &["running", "succeeded"], Deadline::SOON)?;
        }
        cluster.open_gate()?;

        let [of_add, of_add_json] = &mut adds;
        let of_add = of_add.end()?.ok()?;
        let text = text.end()?.ok()?;
        let shown = cluster.ctl(&["logs", TEXT])?.ok()?;
        ensure!(shown.stdout.contains("three"), "{shown}");
        for followed in [&text, &of_add] {
            // Below the name of the task, and above how it ended.
            let (_, lines) = followed.stdout.split_once("\n\n").unwrap_or_default();
            let (lines, _) = lines.split_once("\n✓").unwrap_or((lines, ""));
            ensure!(lines == shown.stdout, "{followed}\nis not\n{shown}");
        }
        let raw = raw.end()?.ok()?;
        let shown = cluster.ctl(&["logs", TEXT, "--raw"])?.ok()?;
        ensure!(raw.stdout == shown.stdout, "{raw}\nis not\n{shown}");
        let json = json.end()?.ok()?;
        let shown = cluster.ctl(&["logs", TEXT, "--json"])?.ok()?;
        ensure!(json.stdout == shown.stdout, "{json}\nis not\n{shown}");
        let json = of_add_json.end()?.ok()?;
        let shown = cluster.ctl(&["logs", JSON, "--json"])?.ok()?;
        let rest = json.stdout.strip_prefix(&shown.stdout);
        // The last line is the task.
        let ends = rest.is_some_and(|rest| rest.lines().count() == 1 && rest.contains("succeeded"));
        ensure!(ends, "{json}\ndoes not begin with\n{shown}");
        Ok(())
    })
}

/// Waits until the head has given the attempts up.
fn lost(cluster: &Cluster) -> anyhow::Result<()> {
    for task in [TEXT, JSON] {
        cluster.wait_for(task, &["queued"], Deadline::SOON)?;
        let document = cluster.show(task)?;
        ensure!(document["reason"]["code"] == "worker_lost", "{document:#}");
    }
    Ok(())
}

/// A short lease, and a retry that waits long enough for a worker to be back before it.
fn lost_soon() -> Setup {
    let setup = Setup::new().agents("shell:2");
    setup.config("queue: {lease: 2s, retry_delay: 10m}\n")
}

/// Adds a task whose agent says something, waits for the gate, and says more; and follows it.
fn add(cluster: &Cluster, task: &str, args: &[&str]) -> anyhow::Result<Background> {
    let dir = cluster.path("");
    let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
    let command = format!("echo one; {gate}; echo two; echo three");
    let shell = ["--agent", "shell", "--no-repo", "--", "sh", "-c", &command];
    let add = [&["add", "--follow"], args, &shell].concat();
    let follower = cluster.begin(&dir, &add)?;
    follower.prints("one")?;
    cluster.wait_for(task, &["running"], Deadline::SOON)?;
    Ok(follower)
}

fn agents_end(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.open_gate()?;
    until("the agents have ended", Deadline::SOON, || {
        let mut lines = cluster.marker().processes();
        lines.retain(|line| line.contains("/gate ]") && !line.contains("ctl "));
        Ok(lines.is_empty().then_some(()))
    })
}

/// Kills the head and starts another one, beside the worker that is away; the start waits for that one.
fn another_head(cluster: &Cluster) -> anyhow::Result<Background> {
    let head = cluster.head_pid()?;
    kill_9(head)?;
    until("it is dead", Deadline::SOON, || {
        Ok((!alive(head)).then_some(()))
    })?;
    let start = cluster.begin(&cluster.path(""), &["start", "--detach"])?;
    until("another one is there", Deadline::SOON, || {
        Ok(cluster.ctl(&["tasks"])?.ok().ok())
    })?;
    Ok(start)
}
