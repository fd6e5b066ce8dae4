//! What attempts have used, summed up.

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Project, Setup, Test, freeze, scene, thaw, until};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("usage_is_the_sum_of_what_tasks_have_used", sums),
        Test::new("usage_counts_what_a_price_makes_of_tokens", priced),
        Test::new("usage_says_what_it_does_not_count", uncounted),
        Test::new(
            "usage_of_an_attempt_whose_worker_is_lost_is_what_was_told_until_then",
            lost,
        ),
    ]
}

/// The names of a row.
const ROW: &str = "attempts cached_tokens cost_microusd id input_tokens key output_tokens tasks time_seconds unpriced";

fn sums() -> anyhow::Result<()> {
    scene(Setup::new().model("hello"), |cluster| {
        let project = cluster.repository("project")?;
        let hello = ["Write hello.txt", "--agent", "agent", "--label"];
        let mut used = Vec::new();
        for team in ["team=a", "team=b", "team=a"] {
            let task = cluster.add(&project, &[&hello[..], &[team]].concat())?;
            let document = cluster.succeeded(&task, Deadline::SOON)?;
            used.push(document["usage"].clone());
            ensure!(used[0]["input_tokens"].as_u64() > Some(0), "{document:#}");
        }
        let failed = cluster.add(&project, &["exit 3", "--agent", "shell"])?;
        cluster.wait_for(&failed, &["failed"], Deadline::SOON)?;

        let usage = cluster.json(&["usage", "--by", "label:team"])?;
        ensure!(usage["by"] == "label:team", "{usage:#}");
        for (row, tasks, of) in [(0, 2, vec![0, 2]), (1, 1, vec![1]), (2, 1, vec![])] {
            let row = &usage["rows"][row];
            ensure!(names(row) == ROW, "{row:#}");
            ensure!(row["tasks"] == tasks && row["attempts"] == tasks, "{row:#}");
            for name in ["input_tokens", "cached_tokens", "output_tokens"] {
                let sum: u64 = of
                    .iter()
                    .filter_map(|n: &usize| used[*n][name].as_u64())
                    .sum();
                ensure!(row[name] == sum, "{name} is not {sum}: {row:#}");
            }
        }
        let keys = |usage: &Value| json!([usage["rows"][0]["key"], usage["rows"][1]["key"]]);
        ensure!(keys(&usage) == json!(["a", "b"]), "{usage:#}");
        ensure!(usage["total"]["attempts"] == 4, "{usage:#}");

        let by_runner = cluster.json(&["usage", "--by", "runner"])?;
        ensure!(
            keys(&by_runner) == json!(["agent", "shell"]),
            "{by_runner:#}"
        );
        let of_shell = cluster.json(&["usage", "--runner", "shell"])?;
        ensure!(of_shell["total"]["attempts"] == 1, "{of_shell:#}");
        let of_b = cluster.json(&["usage", "--label", "team=b"])?;
        ensure!(of_b["total"]["tasks"] == 1, "{of_b:#}");
        let none = cluster.json(&["usage", "--since", "0s"])?;
        ensure!(none["rows"] == json!([]), "{none:#}");
        let misspelt = cluster.ctl(&["usage", "--runner", "agnt"])?.exits(4)?;
        misspelt.complains(&["did you mean `agent`"])?;

        let listed = cluster.json(&["tasks"])?;
        for (task, used) in listed["tasks"]
            .as_array()
            .context("a list")?
            .iter()
            .zip(&used)
        {
            ensure!(task["usage"] == *used, "{task:#}");
            ensure!(
                task["attempts"].is_null() && task["changes"].is_null(),
                "{task:#}"
            );
        }
        Ok(())
    })
}

fn priced() -> anyhow::Result<()> {
    // The model names itself so.
    let prices = "prices: {scripted: {input: 1000, output: 1000}}\n";
    scene(Setup::new().model("hello").config(prices), |cluster| {
        let task = hello(cluster)?;
        let spent = &cluster.show(&task)?["spent"];
        let usage = cluster.json(&["usage"])?;
        let cost = usage["total"]["cost_microusd"].as_u64();
        ensure!(
            cost > Some(0) && spent["cost_microusd"] == json!(cost),
            "{usage:#} of {spent:#}"
        );
        ensure!(usage["total"]["unpriced"] == 0, "{usage:#}");
        let shown = cluster.ctl(&["usage"])?.ok()?;
        ensure!(shown.stdout.contains('$'), "{shown}");
        Ok(())
    })
}

fn uncounted() -> anyhow::Result<()> {
    scene(Setup::new().model("hello"), |cluster| {
        hello(cluster)?;
        let project = Project::plain(&cluster.path("plain"))?;
        let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
        let runs = cluster.add(&project, &[&gate, "--agent", "shell"])?;
        cluster.wait_for(&runs, &["running"], Deadline::SOON)?;
        let usage = cluster.json(&["usage"])?;
        ensure!(usage["running"] == 1, "{usage:#}");
        ensure!(usage["total"]["unpriced"] == 1, "{usage:#}");
        let shown = cluster.ctl(&["usage"])?.ok()?;
        for words in ["of 1 attempt the cost is not in it", "1 attempt runs now"] {
            ensure!(shown.stderr.contains(words), "{shown}");
        }
        cluster.open_gate()?;
        cluster.succeeded(&runs, Deadline::SOON)?;
        Ok(())
    })
}

fn lost() -> anyhow::Result<()> {
    let script = format!(
        "
usage: {{input: 100, output: 20}}
rules:
- when: {{prompt: write}}
  steps:
  - tool: {{bash: {{command: '{GATE}'}}}}
  - say: done
"
    );
    let setup = Setup::new()
        .model(&script)
        .config("queue: {lease: 2s, retry_delay: 10m}\n");
    scene(setup, |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["write it", "--agent", "agent"])?;
        until("its tokens are told", Deadline::SOON, || {
            let spent = &cluster.show(&task)?["spent"]["tokens"];
            Ok((spent == &json!(120)).then_some(()))
        })?;
        let worker = cluster.worker_pid()?;
        freeze(worker)?;
        cluster.wait_for(&task, &["queued"], Deadline::SOON)?;
        let used = |attempts: u64| -> anyhow::Result<Value> {
            let usage = cluster.json(&["usage", "--by", "model"])?;
            ensure!(usage["total"]["attempts"] == attempts, "{usage:#}");
            ensure!(usage["rows"][0]["key"] == "scripted-model", "{usage:#}");
            let total = &usage["total"];
            Ok(json!([total["input_tokens"], total["output_tokens"]]))
        };
        let told = used(1)?;
        ensure!(told == json!([100, 20]), "{told}");
        let shown = cluster.show(&task)?;
        ensure!(shown["usage"]["input_tokens"] == 100, "{shown:#}");

        thaw(worker)?;
        cluster.open_gate()?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let whole = used(1)?;
        ensure!(whole == json!([200, 40]), "{whole}");
        Ok(())
    })
}

fn hello(cluster: &Cluster) -> anyhow::Result<String> {
    let project = cluster.repository("project")?;
    let task = cluster.add(&project, &["Write hello.txt", "--agent", "agent"])?;
    cluster.succeeded(&task, Deadline::SOON)?;
    Ok(task)
}

fn names(document: &Value) -> String {
    let names = document.as_object().into_iter().flatten();
    let mut names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}
