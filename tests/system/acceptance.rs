//! The acceptance flows: what the product is for, from start to stop.

use anyhow::ensure;
use orchestra_tests::{Cluster, Deadline, GATE, Need, Project, Setup, Test, scene, until};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_change_is_never_applied_over_uncommitted_edits",
            apply_conflict,
        ),
        Test::new(
            "a_task_is_queued_run_and_its_file_and_output_come_back",
            first_task,
        ),
        Test::new("in_place_a_task_works_in_the_directory_itself", in_place),
        Test::new(
            "four_agents_of_two_real_clis_work_at_the_same_time",
            four_agents,
        )
        .needs(&[Need::Isolation, Need::Tool("claude"), Need::Tool("codex")]),
        Test::new(
            "a_failed_task_is_listed_with_its_reason_and_can_be_retried",
            fail_and_retry,
        ),
        Test::new(
            "a_second_task_is_given_the_first_ones_output_and_the_overview",
            shared_context,
        ),
        Test::new("the_demo_runs_a_workflow_and_leaves_no_process", demo),
    ]
}

fn first_task() -> anyhow::Result<()> {
    scene(Setup::new().model(&gated_hello()), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(
            &project,
            &["Create hello.txt", "--agent", "agent", "--apply"],
        )?;
        ensure!(task == "task_001", "the first task is {task}");
        let status = cluster.status(&task)?;
        ensure!(
            ["queued", "assigned", "running"].contains(&status.as_str()),
            "it is {status}"
        );
        cluster.open_gate()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(
            project.read("hello.txt")? == "hello\n",
            "the file holds something else"
        );
        let output = project.read("context/agent_outputs/task_001_output.md")?;
        ensure!(
            output.contains("Done: wrote hello.txt."),
            "the output is: {output}"
        );
        let dirt = project.git(&["status", "--porcelain"])?;
        ensure!(
            !dirt.contains("context"),
            "git sees the context directory: {dirt}"
        );
        Ok(())
    })
}

fn in_place() -> anyhow::Result<()> {
    scene(Setup::new().model("hello"), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let task = cluster.add(
            &project,
            &["Create hello.txt", "--agent", "agent", "--in-place"],
        )?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(project.has("hello.txt"), "there is no hello.txt");
        ensure!(
            document["place"]["type"] == "in_place",
            "it worked at {}",
            document["place"]
        );
        ensure!(
            paths(&document) == ["hello.txt"],
            "the manifest is {}",
            document["files"]
        );
        Ok(())
    })
}

fn four_agents() -> anyhow::Result<()> {
    let setup = Setup::new()
        .model(&gated_hello())
        .real_clis()
        .agents("claude:2")
        .agents("codex:2");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let mut tasks = Vec::new();
        for runner in ["claude", "codex", "claude", "codex"] {
            tasks.push(cluster.add(&project, &["Create hello.txt", "--agent", runner])?);
        }
        until("four agents are busy", Deadline::SOON, || {
            Ok((busy(cluster)? == 4).then_some(()))
        })?;
        cluster.open_gate()?;
        for task in tasks {
            cluster.succeeded(&task, Deadline::CLI)?;
        }
        Ok(())
    })
}

fn busy(cluster: &Cluster) -> anyhow::Result<usize> {
    let document = cluster.json(&["agents"])?;
    let agents = document["agents"].as_array().cloned().unwrap_or_default();
    Ok(agents
        .iter()
        .filter(|agent| agent["state"] == "busy")
        .count())
}

fn fail_and_retry() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let command = format!(
            "test -e {}/gate || {{ echo it is not ready >&2; exit 3; }}",
            cluster.path("").display()
        );
        let task = cluster.add(&project, &[&command, "--agent", "shell"])?;
        cluster.wait_for(&task, &["failed"], Deadline::SOON)?;
        let failed = cluster.json(&["tasks", "--status", "failed"])?;
        let reason = &failed["tasks"][0]["reason"];
        ensure!(reason["code"] == "agent_failed", "the reason is {reason}");
        ensure!(
            reason["message"].as_str().is_some_and(|m| m.contains('3')),
            "it is {reason}"
        );
        cluster.open_gate()?;
        cluster.ctl(&["retry", &task])?.ok()?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        ensure!(
            document["attempt"] == 2,
            "it took {} attempts",
            document["attempt"]
        );
        Ok(())
    })
}

fn shared_context() -> anyhow::Result<()> {
    let script = "rules:
- when: {prompt: SECOND}
  steps: [{say: I know it all}]
- steps: [{say: the answer is forty-two}]
";
    scene(Setup::new().model(script), |cluster| {
        let project = cluster.repository("project")?;
        let first = cluster.add(&project, &["find the answer", "--agent", "agent"])?;
        cluster.succeeded(&first, Deadline::SOON)?;
        project.write(
            "context/project_overview.md",
            "This project is about owls.\n",
        )?;
        let second = cluster.add(
            &project,
            &["SECOND: use it", "--agent", "agent", "--after", &first],
        )?;
        cluster.succeeded(&second, Deadline::SOON)?;
        let prompts = cluster.model().prompts()?;
        let prompt = prompts.iter().find(|prompt| prompt.contains("SECOND"));
        for want in ["the answer is forty-two", "This project is about owls."] {
            ensure!(
                prompt.is_some_and(|p| p.contains(want)),
                "no {want:?} in {prompts:#?}"
            );
        }
        Ok(())
    })
}

fn demo() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let dir = cluster.path("demo");
    let output = cluster
        .ctl(&["demo", "--dir", &dir.to_string_lossy()])?
        .ok()?;
    for want in [
        "task_004",
        "succeeded",
        "worker-2",
        "REVIEW.md",
        "scripted",
        "start --detach",
    ] {
        let said = output.stdout.contains(want) || output.stderr.contains(want);
        ensure!(said, "the demo does not say {want:?}\n{output}");
    }
    for file in [
        "bin/slug",
        "bin/words",
        "REVIEW.md",
        "context/agent_outputs/task_004_output.md",
    ] {
        ensure!(
            dir.join("repo").join(file).exists(),
            "the demo left no {file}\n{output}"
        );
    }
    cluster.expect_no_process()
}

fn apply_conflict() -> anyhow::Result<()> {
    let script = "rules:
- steps:
  - tool: {write: {path: README.md, content: \"the agent's\\n\"}}
  - say: done
";
    scene(Setup::new().model(script), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["Rewrite README.md", "--agent", "agent"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        project.write("README.md", "my own, not committed\n")?;
        let refused = cluster.ctl_in(project.dir(), &["apply", &task])?.exits(5)?;
        refused.complains(&["README.md", "hint: "])?;
        let mine = project.read("README.md")?;
        ensure!(
            mine == "my own, not committed\n",
            "it was overwritten with {mine:?}"
        );
        project.git(&["checkout", "-q", "README.md"])?;
        cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        ensure!(
            project.read("README.md")? == "the agent's\n",
            "it was not applied"
        );
        Ok(())
    })
}

/// Writes hello.txt once the gate is open.
fn gated_hello() -> String {
    format!(
        "rules:
- steps:
  - tool: {{bash: {{command: '{GATE}; echo hello > hello.txt'}}}}
  - say: 'Done: wrote hello.txt.'
"
    )
}

fn paths(document: &serde_json::Value) -> Vec<String> {
    let files = document["files"].as_array().cloned().unwrap_or_default();
    files
        .iter()
        .filter_map(|file| Some(file["path"].as_str()?.to_owned()))
        .collect()
}
