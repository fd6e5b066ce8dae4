//! Codex CLI by its app-server.

use orchestra_config::RunnerConfig;
use orchestra_types::Exit;

use crate::replay::{run, run_with, same};

const OK: Exit = Exit::Code(0);

#[test]
fn a_turn_is_told_with_commands_patches_and_sums_of_tokens() {
    same(
        &run("codex").read("codex/turn").exit(OK),
        r#"
        > {"method":"initialized"}
        > {"id":2,"method":"thread/start","params":{"cwd":"/repo","approvalPolicy":"never","sandbox":"danger-full-access"}}
        session 01a1f737-7489-7191-9388-4e4a55eb1583 gpt-5-codex
        > {"id":3,"method":"turn/start","params":{"threadId":"01a1f737-7489-7191-9388-4e4a55eb1583","input":[{"type":"text","text":"go"}]}}
        status warning | Model metadata for `gpt-5-codex` not found. Defaulting to fallback metadata; this can degrade performance and … |
        thinks rs_bbce9e7b47bc:0 + **Planning** look first
        says msg_11afc5818d63 + I will look
        says msg_11afc5818d63 + first.
        calls call_58982655aeb2 shell | cat README.md; git status --short | {"command":"/bin/bash -lc 'cat README.md; git status --short'"}
        returns call_58982655aeb2 ok | seed\n
        used in 150 out 40 cached 30 cost - turns 1
        calls call_f46781e780e7 apply_patch | README.md, hello.txt | {"changes":[{"path":"/repo/README.md","kind":{"type":"update","move_path":null},"diff":"@@ -1 +1 @@\n-seed\n+s…
        returns call_f46781e780e7 ok | /repo/README.md\n@@ -1 +1 @@\n-seed\n+seed-edited\n\n/repo/hello.txt\nhello from scripted model\n
        used in 301 out 81 cached 60 cost - turns 2
        calls call_45adf8d584d4 shell | echo out; echo err >&2; ls | {"command":"/bin/bash -lc 'echo out; echo err >&2; ls'"}
        returns call_45adf8d584d4 ok | out\nerr\nREADME.md\nhello.txt\n
        used in 453 out 123 cached 90 cost - turns 3
        says msg_63c1177809de + Done: wrote
        says msg_63c1177809de + hello.txt an
        says msg_63c1177809de + d edited REA
        says msg_63c1177809de + DME.md.
        used in 606 out 166 cached 120 cost - turns 4
        close stdin
        turn ended
        final Done: wrote hello.txt and edited README.md.
        verdict success | Done: wrote hello.txt and edited README.md. | in 606 out 166 cached 120 cost - turns 4 | 01a1f737-7489-7191-9388-4e4a55eb1583 | gpt-5-codex
        "#,
    );
}

#[test]
fn the_command_line_turns_analytics_off_and_takes_the_model_into_the_thread() {
    let config = RunnerConfig {
        model: Some("gpt-6".to_owned()),
        ..RunnerConfig::default()
    };
    let run = run_with("codex", &config, None);
    assert_eq!(
        run.command.args,
        ["-c", "analytics.enabled=false", "app-server"]
    );
    assert!(run.command.keep_stdin);
    let told = run.line(r#"{"id":1,"result":{}}"#).told;
    assert!(told[1].contains(r#""model":"gpt-6""#), "{told:?}");
}

#[test]
fn what_it_asks_for_is_granted_and_what_is_unknown_is_refused() {
    let told = run("codex").read("codex/approve").exit(OK);
    for line in [
        "asks 0 shell | cat README.md; git status --short | allowed",
        "asks 1 apply_patch | README.md, hello.txt | allowed",
        r#"> {"id":1,"result":{"decision":"accept"}}"#,
    ] {
        assert!(told.lines().any(|l| l == line), "{line} in {told}");
    }
    let told = run("codex")
        .line(r#"{"id":"q","method":"item/tool/requestUserInput","params":{}}"#)
        .told;
    assert!(
        told[0].starts_with(r#"> {"id":"q","error":{"code":-32601"#),
        "{told:?}"
    );
}

#[test]
fn a_declined_tool_is_an_error_of_the_tool_and_not_of_the_run() {
    let told = run("codex").read("codex/deny").exit(OK);
    assert!(told.contains("returns call_afe0fd312b9e error |"), "{told}");
    assert!(told.contains("verdict success"), "{told}");
}

#[test]
fn a_cancel_interrupts_the_turn_and_closes_the_running_command() {
    let told = run("codex")
        .cancel_before(11)
        .read("codex/interrupt")
        .exit(OK);
    let asked = r#"> {"id":4,"method":"turn/interrupt","params":{"threadId":"01a1f737-a25d-7001-9427-8557cc923c7a","turnId":"01a1f737-a2e2-7ea3-9d74-f591a91d64ed"}}"#;
    assert!(told.lines().any(|l| l == asked), "{told}");
    assert!(
        told.contains("returns call_ecc962a8233b aborted |"),
        "{told}"
    );
    assert!(
        told.contains("verdict cancelled: it was interrupted"),
        "{told}"
    );
}

#[test]
fn a_cancel_before_the_turn_never_starts_it() {
    let told = run("codex")
        .cancel()
        .line(r#"{"id":1,"result":{}}"#)
        .line(r#"{"id":2,"result":{"thread":{"id":"t"},"model":"m"}}"#)
        .exit(OK);
    assert!(
        !told.contains("turn/start") && told.contains("verdict cancelled"),
        "{told}"
    );
}

#[test]
fn every_way_to_fail_has_its_code() {
    let verdict = run("codex").read("codex/error").verdict(OK);
    assert!(
        verdict.starts_with("verdict bad_request: scripted bad request (invalid_request_error)"),
        "{verdict}"
    );
    for (info, message, wanted) in [
        (r#""unauthorized""#, "no", "auth: no"),
        (
            r#""usageLimitExceeded""#,
            "You've hit your usage limit.",
            "quota_exhausted: You've",
        ),
        (
            r#""contextWindowExceeded""#,
            "too much",
            "context_too_long: too much",
        ),
        (
            r#""serverOverloaded""#,
            "busy",
            "provider_unavailable: busy",
        ),
        (
            r#"{"responseTooManyFailedAttempts":{"httpStatusCode":429}}"#,
            "exceeded retry limit",
            "rate_limited: exceeded",
        ),
        (
            r#"{"responseStreamDisconnected":{"httpStatusCode":null}}"#,
            "cut",
            "provider_unavailable: cut",
        ),
        (
            r#""other""#,
            "exceeded retry limit, last status: 429 Too Many Requests",
            "rate_limited: exceeded",
        ),
        (r#""other""#, "what?", "agent_failed: what?"),
    ] {
        let verdict = run("codex").line(failed_turn(info, message)).verdict(OK);
        assert!(
            verdict.starts_with(&format!("verdict {wanted}")),
            "{info}: {verdict}"
        );
    }
}

#[test]
fn a_used_up_limit_that_resets_is_waited_for() {
    let limits = r#"{"method":"account/rateLimits/updated","params":{"rateLimits":{"primary":{"usedPercent":100.0,"windowDurationMins":300,"resetsAt":1795150000},"secondary":{"usedPercent":12.0,"resetsAt":1795990000}}}}"#;
    let verdict = run("codex")
        .line(limits)
        .line(failed_turn(
            r#""usageLimitExceeded""#,
            "You've hit your usage limit.",
        ))
        .verdict(OK);
    assert!(
        verdict.contains("rate_limited: You've hit your usage limit. (resets at 1795150000000)"),
        "{verdict}"
    );
}

#[test]
fn a_sub_agents_thread_is_told_apart_and_added_up() {
    let usage = |thread: &str, tokens: u64| {
        format!(
            r#"{{"method":"thread/tokenUsage/updated","params":{{"threadId":"{thread}","tokenUsage":{{"total":{{"inputTokens":{tokens},"outputTokens":1,"cachedInputTokens":0}}}}}}}}"#
        )
    };
    let told = run("codex")
        .line(r#"{"id":2,"result":{"thread":{"id":"main"},"model":"m"}}"#)
        .line(usage("main", 100))
        .line(r#"{"method":"item/completed","params":{"threadId":"sub","item":{"type":"agentMessage","id":"a","text":"found it"}}}"#)
        .line(usage("sub", 50))
        .line(r#"{"method":"turn/completed","params":{"threadId":"sub","turn":{"status":"completed"}}}"#)
        .exit(Exit::Stopped);
    assert!(told.contains("[sub] says a = found it"), "{told}");
    assert!(told.contains("used in 150 out 2"), "{told}");
    assert!(
        told.contains("verdict cancelled"),
        "the sub-agent's end is not the run's: {told}"
    );
}

#[test]
fn a_retry_says_what_it_is_for() {
    let retry = |status: &str| {
        format!(
            r#"{{"method":"error","params":{{"willRetry":true,"error":{{"message":"Reconnecting... 1/1","codexErrorInfo":{{"responseStreamConnectionFailed":{{"httpStatusCode":{status}}}}},"additionalDetails":"exceeded retry limit, last status: {status}"}}}}}}"#
        )
    };
    let told = run("codex").line(retry("429")).line(retry("503")).told;
    let said = |status: &str| {
        format!("| Reconnecting... 1/1: exceeded retry limit, last status: {status} |")
    };
    assert!(told[0].starts_with("status rate_limited"), "{told:?}");
    assert!(told[0].contains(&said("429")), "{told:?}");
    assert!(told[1].starts_with("status retrying"), "{told:?}");
    assert!(told[1].contains(&said("503")), "{told:?}");
}

#[test]
fn commands_that_run_on_when_the_turn_ends_are_told() {
    let started = |kind: &str, id: &str| {
        format!(
            r#"{{"method":"item/started","params":{{"threadId":"","item":{{"type":"{kind}","id":"{id}","command":"sleep 9"}}}}}}"#
        )
    };
    let ended = r#"{"method":"turn/completed","params":{"threadId":"","turn":{"id":"t","status":"completed"}}}"#;
    let one = run("codex")
        .line(started("commandExecution", "a"))
        .line(started("webSearch", "w"));
    let warning =
        "status warning | 1 command still ran when the agent ended its turn, and was stopped |";
    let told = one.line(ended).exit(OK);
    assert!(told.contains(warning), "{told}");
    assert!(told.contains("verdict success"), "{told}");
    let two = run("codex")
        .line(started("commandExecution", "a"))
        .line(started("commandExecution", "b"));
    let told = two.line(ended).exit(OK);
    assert!(told.contains("| 2 commands still ran"), "{told}");
    let none = run("codex").line(started("webSearch", "w")).line(ended);
    assert!(!none.exit(OK).contains("still ran"));
}

#[test]
fn a_turn_in_which_nothing_was_said_or_done_is_no_success() {
    let verdict = run("codex")
        .line(r#"{"method":"turn/completed","params":{"threadId":"","turn":{"id":"t","status":"completed"}}}"#)
        .verdict(OK);
    assert!(
        verdict.starts_with("verdict agent_failed: it ended its turn without saying or"),
        "{verdict}"
    );
}

fn failed_turn(info: &str, message: &str) -> String {
    format!(
        r#"{{"method":"turn/completed","params":{{"threadId":"","turn":{{"id":"t","status":"failed","error":{{"message":"{message}","codexErrorInfo":{info}}}}}}}}}"#
    )
}
