//! What a run does when all goes well.

use std::{fs, os::unix::fs::PermissionsExt};

use orchestra_scripted_model::script::builtin;
use serde_json::json;

use super::harness::Bench;
use crate::{args::Provider, failure::Code, session::Ended};

#[tokio::test]
async fn both_providers_write_the_file_and_tell_the_story() {
    for provider in [Provider::Anthropic, Provider::Openai] {
        let bench = Bench::with(provider, builtin("hello").expect("built in")).await;
        assert_eq!(
            bench.run("please").await,
            Ended::Finished,
            "{:?}",
            bench.events()
        );
        let written = fs::read_to_string(bench.root().join("hello.txt")).expect("written");
        assert_eq!(written, "hello from the scripted model\n");

        let told: Vec<String> = bench
            .events()
            .iter()
            .filter(|event| event["delta"] != true)
            .map(|event| event["type"].as_str().expect("a type").to_owned())
            .collect();
        let expected = [
            "session",
            "turn",
            "thinking",
            "message",
            "usage",
            "tool_call",
            "tool_result",
            "turn",
            "message",
            "usage",
            "result",
        ];
        assert_eq!(told, expected, "{provider:?}");
        let used = bench.events_of("usage").pop().expect("usage");
        assert_eq!(
            (
                &used["input_tokens"],
                &used["output_tokens"],
                &used["cached_tokens"]
            ),
            (&json!(200), &json!(40), &json!(60)),
            "{provider:?}: sums of two calls of 100, 20 and 30"
        );
        assert_eq!(
            bench.events_of("result")[0]["content"],
            "Done: wrote hello.txt."
        );
    }
}

#[tokio::test]
async fn every_tool_can_be_called_and_several_at_once() {
    let script = "rules:\n- steps:\n  - tools:\n    - write: {path: a/b.txt, content: \"one\\ntwo\\n\"}\n    \
                  - edit: {path: a/b.txt, old: two, new: three}\n    - read: {path: a/b.txt}\n    - bash: \
                  {command: 'wc -l < a/b.txt; echo oops >&2; exit 3'}\n    - call: {name: todo, args: {entries: \
                  [{content: x, status: pending}]}}\n    - call: {name: nonsense, args: {}}\n  - say: \
                  \"{{last_result}}\"\n";
    for provider in [Provider::Anthropic, Provider::Openai] {
        let bench = Bench::new(provider, script).await;
        assert_eq!(bench.run("go").await, Ended::Finished);
        let results = bench.events_of("tool_result");
        let statuses: Vec<_> = results
            .iter()
            .map(|result| result["status"].clone())
            .collect();
        assert_eq!(
            statuses,
            ["ok", "ok", "ok", "error", "ok", "error"],
            "{results:?}"
        );
        assert_eq!(results[2]["output"], "one\nthree\n");
        let failed = results[3]["output"].as_str().expect("text");
        assert!(
            failed.contains("2\noops") && failed.contains("[exit code 3]"),
            "{failed}"
        );
        assert_eq!(bench.events_of("plan").len(), 1);
        let last = bench.events_of("result")[0]["content"].to_string();
        assert!(last.contains("no tool `nonsense`"), "{last}");
    }
}

#[tokio::test]
async fn a_child_agent_sees_only_its_prompt_and_returns_only_its_text() {
    let script = "rules:\n- when: {prompt: CHILD}\n  steps:\n  - tool: {bash: {command: 'echo private > \
                  child.txt'}}\n  - say: the child is done\n- steps:\n  - tool: {task: {prompt: CHILD job}}\n  \
                  - say: \"heard: {{last_result}}\"\n";
    let bench = Bench::new(Provider::Anthropic, script).await;
    assert_eq!(bench.run("the parent's secret").await, Ended::Finished);
    assert_eq!(bench.events_of("result").len(), 2);
    assert_eq!(
        bench.events_of("result")[1]["content"],
        "heard: the child is done"
    );

    let child: Vec<_> = bench
        .requests()
        .into_iter()
        .filter(|request| request.prompt == "CHILD job")
        .collect();
    assert_eq!(child.len(), 2);
    assert!(
        !child[0].body.to_string().contains("secret"),
        "the parent's words stay its own"
    );
    assert!(
        !child[0].tools.contains(&"task".to_owned()),
        "a child starts no children"
    );
    let parent = bench
        .requests()
        .pop()
        .expect("the last request is the parent's");
    assert!(
        !parent.body.to_string().contains("private"),
        "the child's steps stay its own"
    );

    let call = bench.events_of("tool_call")[0]["id"].clone();
    let of_child = bench
        .events()
        .iter()
        .filter(|event| event["agent_id"] == call)
        .count();
    assert!(of_child > 4, "the child's events name it");
    assert_eq!(bench.events_of("usage").pop().expect("usage")["turns"], 4);
}

#[tokio::test]
async fn a_path_outside_of_the_directory_is_refused() {
    let script = "rules:\n- steps:\n  - tools:\n    - call: {name: write, args: {path: ../escape.txt, content: \
                  x}}\n    - call: {name: read, args: {path: /etc/hostname}}\n  - say: done\n";
    let bench = Bench::new(Provider::Openai, script).await;
    assert_eq!(bench.run("go").await, Ended::Finished);
    for result in bench.events_of("tool_result") {
        assert_eq!(result["status"], "error");
        assert!(result["output"].to_string().contains("outside"), "{result}");
    }
    assert!(
        !bench
            .root()
            .parent()
            .expect("it has one")
            .join("escape.txt")
            .exists()
    );
}

#[tokio::test]
async fn a_model_that_never_ends_is_stopped_at_the_limit() {
    let mut bench =
        Bench::new(Provider::Anthropic, "rules:\n- when: {offers: bash}\n  steps:\n  - tool: {bash: {command: 'true'}}\n  - tool: {bash: {command: 'true'}}\n  - tool: {bash: {command: 'true'}}\n").await;
    bench.settings.max_turns = 2;
    assert_eq!(bench.run("go").await, Ended::Failed(Code::AgentFailed));
    let error = bench.events().pop().expect("an end");
    assert!(
        error["message"].to_string().contains("--max-turns"),
        "{error}"
    );
}

#[tokio::test]
async fn an_empty_prompt_is_refused() {
    let bench = Bench::with(Provider::Anthropic, builtin("hello").expect("built in")).await;
    assert_eq!(bench.run(" \n").await, Ended::Failed(Code::BadRequest));
    assert!(bench.requests().is_empty());
}

#[tokio::test]
async fn the_scripts_of_the_demo_do_what_they_say() {
    let bench = Bench::with(Provider::Anthropic, builtin("demo").expect("built in")).await;
    let check = "for test in tests/*.sh; do sh \"$test\" || exit; done; echo \"all checks pass\"\n";
    fs::write(bench.root().join("README.md"), "two tools\n").expect("written");
    fs::write(bench.root().join("check"), format!("#!/bin/sh\n{check}")).expect("written");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.root().join("check"), mode).expect("its mode is set");
    for task in [
        "Plan the two tools that README.md asks for. Change no files.",
        "Implement bin/slug with a test, as planned.",
        "Implement bin/words with a test, as planned.",
        "Review both tools: run ./check and write REVIEW.md.",
    ] {
        let prompt = format!("Context that names every task.\n\n# Your task\n\n{task}");
        assert_eq!(bench.run(&prompt).await, Ended::Finished);
    }
    for result in bench.events_of("tool_result") {
        assert_eq!(result["status"], "ok", "{result}");
    }
    let review = fs::read_to_string(bench.root().join("REVIEW.md")).expect("written");
    for said in ["slug: ok", "words: ok", "all checks pass"] {
        assert!(review.contains(said), "{review}");
    }
}
