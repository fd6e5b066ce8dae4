//! The real CLIs, against the scripted model, in a namespace that has only loopback.

use anyhow::ensure;
use orchestra_tests::{Cluster, Deadline, GATE, Need, Setup, Test, scene, until};
use serde_json::Value;

const CLIS: [&str; 5] = ["claude", "codex", "goose", "gemini", "opencode"];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for cli in CLIS {
        tests.push(real(
            cli,
            format!("{cli}_writes_a_file_that_comes_back_and_is_applied"),
            move || works(cli),
        ));
        tests.push(real(
            cli,
            format!("{cli}_is_cancelled_while_a_tool_runs"),
            move || cancelled(cli),
        ));
        tests.push(real(
            cli,
            format!("{cli}_without_a_valid_key_fails_as_auth"),
            move || fails(cli, "401", "auth"),
        ));
    }
    for (cli, trouble, code) in [
        ("claude", "500", "provider_unavailable"),
        ("codex", "500", "provider_unavailable"),
    ] {
        let name = format!("{cli}_told_{trouble}_by_the_provider_fails_as_{code}");
        tests.push(real(cli, name, move || fails(cli, trouble, code)));
    }
    for cli in ["claude", "codex", "goose"] {
        let name = format!("{cli}_told_429_by_the_provider_parks_its_account");
        tests.push(real(cli, name, move || parks(cli)));
    }
    tests.push(Test::new(
        "our_agent_told_429_by_the_provider_parks_its_account",
        || parks("agent"),
    ));
    for (trouble, code) in [("401", "auth"), ("500", "provider_unavailable")] {
        let name = format!("our_agent_told_{trouble}_by_the_provider_fails_as_{code}");
        tests.push(Test::new(name, move || fails("agent", trouble, code)));
    }
    tests.push(Test::new(
        "our_agent_writes_a_file_that_comes_back_and_is_applied",
        || works("agent"),
    ));
    tests.push(Test::new(
        "our_agent_is_cancelled_while_a_tool_runs",
        || cancelled("agent"),
    ));
    tests
}

fn real(
    cli: &'static str,
    name: String,
    body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> Test {
    Test::new(name, body).needs(&[Need::Isolation, Need::Tool(cli)])
}

fn works(cli: &str) -> anyhow::Result<()> {
    scene(Setup::new().model("hello").real_clis(), |cluster| {
        let project = cluster.repository("project")?;
        project.write("notes.txt", "not committed\n")?;
        let task = cluster.add(&project, &["Write hello.txt", "--agent", cli])?;
        let document = cluster.succeeded(&task, Deadline::CLI)?;
        ensure!(
            !project.has("hello.txt"),
            "the change is there before anybody applied it"
        );
        check_events(&cluster.events(&task)?)?;
        ensure!(
            document["usage"]["output_tokens"].as_u64() > Some(0),
            "usage {}",
            document["usage"]
        );
        check_manifest(&document)?;
        check_result(cluster, &project, &task, &document)
    })
}

fn check_events(events: &[Value]) -> anyhow::Result<()> {
    for kind in [
        "session_started",
        "message",
        "tool_call",
        "tool_result",
        "usage",
        "final",
    ] {
        let there = events.iter().any(|event| event["type"] == kind);
        ensure!(there, "there is no {kind} event in {events:#?}");
    }
    let call = events.iter().find(|event| event["type"] == "tool_call");
    let title = call
        .and_then(|event| event["title"].as_str())
        .unwrap_or_default();
    ensure!(!title.is_empty(), "the tool call has no title: {call:?}");
    let raw = events.iter().filter(|event| event["type"] == "raw").count();
    ensure!(
        raw == 0,
        "{raw} lines that the adapter does not know: {events:#?}"
    );
    Ok(())
}

fn check_manifest(document: &Value) -> anyhow::Result<()> {
    let files = document["files"].as_array().cloned().unwrap_or_default();
    ensure!(files.len() == 1, "want one file: {}", document["files"]);
    ensure!(
        files[0]["path"] == "hello.txt" && files[0]["change"] == "added",
        "{}",
        files[0]
    );
    ensure!(files[0]["lines_added"] == 1, "{}", files[0]);
    Ok(())
}

fn check_result(
    cluster: &Cluster,
    project: &orchestra_tests::Project,
    task: &str,
    document: &Value,
) -> anyhow::Result<()> {
    let diff = cluster.ctl_in(project.dir(), &["diff", task])?.ok()?;
    ensure!(
        diff.stdout.contains("+hello from the scripted model"),
        "{diff}"
    );
    let branch = document["branch"].as_str().unwrap_or_default();
    let branches = project.git(&["branch", "--list", "--all"])?;
    ensure!(
        !branch.is_empty() && branches.contains(branch),
        "no branch {branch:?} in {branches}"
    );
    cluster.ctl_in(project.dir(), &["apply", task])?.ok()?;
    ensure!(
        project.read("hello.txt")? == "hello from the scripted model\n",
        "another text"
    );
    ensure!(
        project.read("notes.txt")? == "not committed\n",
        "the user's own file changed"
    );
    Ok(())
}

fn parks(cli: &'static str) -> anyhow::Result<()> {
    let setup = Setup::new().model("hello").real_clis().scenario("429");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["Write hello.txt", "--agent", cli])?;
        let document = until("it is back in the queue", Deadline::CLI, || {
            let document = cluster.show(&task)?;
            let is_back = document["status"] == "queued" && document["attempt"] == 1;
            Ok(is_back.then_some(document))
        })?;
        let reason = &document["attempts"][0]["reason"];
        ensure!(reason["code"] == "rate_limited", "it ended by {reason}");
        let status = cluster.json(&["status"])?;
        let parked = status["parked_accounts"].as_array().map(Vec::len);
        ensure!(parked == Some(1), "parked: {}", status["parked_accounts"]);
        Ok(())
    })
}

fn fails(cli: &'static str, trouble: &str, code: &str) -> anyhow::Result<()> {
    scene(
        Setup::new().model("hello").scenario(trouble).real_clis(),
        |cluster| {
            let project = cluster.repository("project")?;
            let task = cluster.add(&project, &["Write hello.txt", "--agent", cli])?;
            let mut last = Value::Null;
            let told = until("the task says why", Deadline::CLI, || {
                last = cluster.show(&task)?;
                Ok(last["reason"]["code"].is_string().then_some(()))
            });
            told.map_err(|error| error.context(format!("last seen: {last:#}")))?;
            ensure!(
                last["reason"]["code"] == code,
                "want {code}: {:#}",
                last["reason"]
            );
            ensure!(last["status"] != "succeeded", "it succeeded");
            Ok(())
        },
    )
}

fn cancelled(cli: &'static str) -> anyhow::Result<()> {
    let script = format!(
        "rules:
- steps:
  - tool: {{bash: {{command: 'echo began > began.txt; touch @DIR@/began; {GATE}'}}}}
  - say: never said
"
    );
    scene(Setup::new().model(&script).real_clis(), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["Wait for me", "--agent", cli])?;
        until("the tool runs", Deadline::CLI, || {
            Ok(cluster.path("began").exists().then_some(()))
        })?;
        cluster.ctl(&["cancel", &task])?.ok()?;
        let document = cluster.wait_for(&task, &["cancelled"], Deadline::CLI)?;
        ensure!(
            document["files"][0]["path"] == "began.txt",
            "its work is lost: {document:#}"
        );
        let left = cluster.marker().processes();
        ensure!(
            !left.iter().any(|line| line.contains("/gate")),
            "the tool lives: {left:#?}"
        );
        Ok(())
    })
}
