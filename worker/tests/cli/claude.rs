//! Claude Code.

use orchestra_config::RunnerConfig;
use orchestra_types::Exit;

use crate::replay::{run, run_with, same};

const OK: Exit = Exit::Code(0);

#[test]
fn the_prompt_goes_in_on_standard_input_with_the_control_protocol_on() {
    let config = RunnerConfig {
        model: Some("opus".to_owned()),
        args: vec!["--add-dir".to_owned(), "/x".to_owned()],
        ..RunnerConfig::default()
    };
    let command = run_with("claude", &config, None).command;
    same(
        &command.args.join(" "),
        "-p --input-format stream-json --output-format stream-json --verbose \
         --include-partial-messages --permission-prompt-tool stdio --model opus --add-dir /x",
    );
    same(
        &String::from_utf8(command.stdin).unwrap(),
        r#"{"type":"control_request","request_id":"initialize","request":{"subtype":"initialize"}}
        {"type":"user","message":{"role":"user","content":"go"}}
        "#,
    );
    assert!(command.keep_stdin);
    assert_eq!(command.env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"], "1");
}

#[test]
fn pieces_come_as_deltas_and_their_whole_is_not_told_again() {
    same(
        &run("claude").read("claude/partial-tool").exit(OK),
        r#"
        session ef25d9c4-17ce-4925-bed1-577115f4d25d claude-opus-4-8[1m]
        says msg_mock_5b83dae8ce784fc1:0 + I will write
        says msg_mock_5b83dae8ce784fc1:0 +  the file.
        calls toolu_84fa162c5d3640e2964a Write | hello.txt | {"file_path":"/repo/hello.txt","content":"hello from scripted model\n"}
        used in 150 out 40 cached 30 cost - turns 1
        returns toolu_84fa162c5d3640e2964a ok | File created successfully at: /repo/hello.txt (file state is current in your context — no need to Read it back…
        says msg_mock_a06d42f80d964dcb:0 + Done: wrote
        says msg_mock_a06d42f80d964dcb:0 + hello.txt.
        used in 301 out 81 cached 60 cost - turns 2
        used in 301 out 81 cached 60 cost 3310 turns 2
        close stdin
        turn ended
        final Done: wrote hello.txt.
        verdict success | Done: wrote hello.txt. | in 301 out 81 cached 60 cost 3310 turns 2 | ef25d9c4-17ce-4925-bed1-577115f4d25d | claude-opus-4-8
        "#,
    );
}

#[test]
fn a_sub_agent_is_told_apart_and_its_tokens_are_counted_once() {
    same(
        &run("claude").read("claude/agents").exit(OK),
        r#"
        session 3eadea48-fef6-460c-8c3b-62f4a057b3da claude-opus-4-8[1m]
        calls toolu_3f4aba9bcd88418aa486 Agent | sub task | {"description":"sub task","prompt":"SUBAGENT-TASK do the thing [[sub]]","subagent_type":"general-purpose"}
        status agent_started | sub task | agent=toolu_3f4aba9bcd88418aa486 kind=general-purpose
        [toolu_3f4aba9bcd88418aa486] calls toolu_aa372383984a4ea0acb2 Bash | echo sub > sub.txt | {"command":"echo sub > sub.txt","description":"scripted command"}
        [toolu_3f4aba9bcd88418aa486] returns toolu_aa372383984a4ea0acb2 ok | (Bash completed with no output)
        returns toolu_3f4aba9bcd88418aa486 ok | subagent result\nagentId: a3b5d7bf29bab3b79 (use SendMessage with to: 'a3b5d7bf29bab3b79', summary: '<5-10 wor…
        says msg_mock_0e21754b704141e0:0 = main done after subagent
        used in 602 out 162 cached 120 cost 6620 turns 2
        close stdin
        turn ended
        final main done after subagent
        verdict success | main done after subagent | in 602 out 162 cached 120 cost 6620 turns 2 | 3eadea48-fef6-460c-8c3b-62f4a057b3da | claude-opus-4-8
        "#,
    );
}

#[test]
fn permissions_are_granted_and_questions_are_not_answered() {
    let told = run("claude").read("claude/permission").exit(OK);
    assert!(
        told.contains("asks 2e0daf18-522c-4d1f-bdda-1183c532cecb Write | hello.txt | allowed\n> {"),
        "{told}"
    );
    assert!(
        told.contains(
            r#""response":{"behavior":"allow","updatedInput":{"file_path":"/repo/hello.txt","#
        ),
        "{told}"
    );

    let told = run("claude").read("claude/question").exit(OK);
    assert!(told.contains("AskUserQuestion | Which? | denied"), "{told}");
    assert!(
        told.contains(r#""behavior":"deny","message":"Nobody is there"#),
        "{told}"
    );

    let asked =
        r#"{"type":"control_request","request_id":"h1","request":{"subtype":"hook_callback"}}"#;
    let told = run("claude").line(asked).told;
    assert!(
        told[0].contains(r#""subtype":"error","request_id":"h1""#),
        "{told:?}"
    );
}

#[test]
fn an_interrupt_is_asked_for_once_and_closes_what_was_open() {
    same(
        &run("claude")
            .cancel_before(2)
            .read("claude/interrupt")
            .exit(OK),
        r#"
        session dc00211d-18bd-429d-84b5-1632339163cd claude-opus-4-8[1m]
        calls toolu_def9006a40de498a92f1 Bash | echo started > started.txt; sleep 61.5 | {"command":"echo started > started.txt; sleep 61.5","description":"scripted command"}
        -- cancel
        > {"type":"control_request","request_id":"interrupt","request":{"subtype":"interrupt"}}
        returns toolu_def9006a40de498a92f1 aborted | The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file edit, the…
        used in 150 out 40 cached 30 cost 1640 turns 3
        close stdin
        turn ended
        verdict cancelled: it was interrupted |  | in 150 out 40 cached 30 cost 1640 turns 3 | dc00211d-18bd-429d-84b5-1632339163cd | claude-opus-4-8
        "#,
    );
    let told = run("claude").cancel().cancel().told;
    assert_eq!(told.len(), 3, "asked once: {told:?}");
}

#[test]
fn an_interrupted_text_is_kept_with_what_it_cost() {
    let verdict = run("claude")
        .cancel_before(11)
        .read("claude/interrupt-stream")
        .verdict(OK);
    same(
        &verdict,
        "verdict cancelled: it was interrupted | chunk0 chunk1 chunk2 chunk3  \
         | in 150 out 1 cached 30 cost - turns 2 | 4c908ae5-7ac0-4f71-8247-65dd22fa27b2 | claude-opus-4-8",
    );
}

#[test]
fn every_way_to_fail_has_its_code() {
    for (recording, verdict) in [
        (
            "api-400",
            "bad_request: API Error: 400 scripted bad request |",
        ),
        ("api-401", "auth: Invalid API key"),
        (
            "api-429-r2",
            "rate_limited: API Error: Request rejected (429)",
        ),
        ("credit", "quota_exhausted: Credit balance is too low |"),
        (
            "refusal",
            "refused: API Error: Claude Code is unable to respond",
        ),
        (
            "unreachable-r2",
            "provider_unavailable: API Error: Unable to connect",
        ),
        (
            "max-turns",
            "agent_failed: Reached maximum number of turns (3) |",
        ),
    ] {
        let got = run("claude")
            .read(&format!("claude/{recording}"))
            .verdict(Exit::Code(1));
        assert!(
            got.starts_with(&format!("verdict {verdict}")),
            "{recording}: {got}"
        );
    }
}

#[test]
fn a_provider_that_recovers_leaves_a_success_and_a_trace_of_the_retries() {
    let told = run("claude").read("claude/overloaded-recover").exit(OK);
    let retries = told
        .lines()
        .filter(|l| l.starts_with("status retrying"))
        .count();
    assert_eq!(retries, 2, "{told}");
    assert!(
        told.contains("delay_ms=512 error=overloaded status=529"),
        "{told}"
    );
    assert!(
        told.contains("verdict success | Done: wrote hello.txt."),
        "{told}"
    );
}

#[test]
fn a_limit_of_the_account_says_when_it_resets() {
    let limit = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795150000,"rateLimitType":"five_hour"}}"#;
    let result = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"You've hit your limit","session_id":"s"}"#;
    let verdict = run("claude")
        .line(limit)
        .line(result)
        .verdict(Exit::Code(1));
    assert!(
        verdict
            .starts_with("verdict rate_limited: You've hit your limit (resets at 1795150000000)"),
        "{verdict}"
    );
}

#[test]
fn a_command_in_the_background_is_no_agent() {
    let started = |kind: &str| {
        format!(
            r#"{{"type":"system","subtype":"task_started","task_id":"b","tool_use_id":"t","description":"d","task_type":"{kind}"}}"#
        )
    };
    let told = run("claude").line(started("local_bash")).told;
    assert!(told.is_empty(), "{told:?}");
    let told = run("claude").line(started("local_agent")).told;
    assert!(told[0].starts_with("status agent_started"), "{told:?}");
}

#[test]
fn a_turn_in_which_nothing_was_said_or_done_is_no_success() {
    let result =
        r#"{"type":"result","subtype":"success","is_error":false,"result":"","session_id":"s"}"#;
    let verdict = run("claude").line(result).verdict(OK);
    assert!(
        verdict.starts_with("verdict agent_failed: it ended its turn without saying or"),
        "{verdict}"
    );
    let call = r#"{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","id":"t","name":"Bash","input":{}}]}}"#;
    let did = run("claude").line(call).line(result).verdict(OK);
    assert!(did.starts_with("verdict success"), "{did}");
}

#[test]
fn success_needs_both_a_result_and_a_clean_end() {
    let crashed = run("claude")
        .stderr("\u{1b}[1;31mSegmentation\u{1b}[0m fault")
        .verdict(Exit::Signal(11));
    assert!(
        crashed.starts_with("verdict agent_crashed: it was ended by signal 11 without saying how it went: Segmentation fault |"),
        "{crashed}"
    );
    let silent = run("claude").verdict(OK);
    assert!(silent.starts_with("verdict agent_crashed"), "{silent}");
    let unclean = run("claude")
        .read("claude/partial-tool")
        .verdict(Exit::Code(3));
    assert!(
        unclean.starts_with("verdict agent_crashed: it said that it succeeded"),
        "{unclean}"
    );
    let stopped_in_its_grace = run("claude")
        .read("claude/partial-tool")
        .verdict(Exit::Stopped);
    assert!(
        stopped_in_its_grace.starts_with("verdict success"),
        "{stopped_in_its_grace}"
    );
    let stopped_before = run("claude").verdict(Exit::Stopped);
    assert!(
        stopped_before.starts_with("verdict cancelled"),
        "{stopped_before}"
    );
}
