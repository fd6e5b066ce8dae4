//! The CLIs that speak ACP, with everything that each does in its own way.

use orchestra_config::{Protocol, RunnerConfig};
use orchestra_types::Exit;

use crate::replay::{Run, run, run_with, same};

const OK: Exit = Exit::Code(0);

fn plain_acp() -> Run {
    let config = RunnerConfig {
        protocol: Some(Protocol::Acp),
        ..RunnerConfig::default()
    };
    run_with("mine", &config, None)
}

fn with_model(runner: &str, model: &str) -> Run {
    let config = RunnerConfig {
        model: Some(model.to_owned()),
        ..RunnerConfig::default()
    };
    run_with(runner, &config, None)
}

#[test]
fn every_known_cli_has_its_arguments_and_its_environment() {
    for (runner, args, env) in [
        (
            "gemini",
            "--acp --skip-trust",
            "GEMINI_CLI_NO_RELAUNCH=true",
        ),
        ("opencode", "acp", "OPENCODE_DISABLE_AUTOUPDATE=1"),
        ("goose", "acp --with-builtin developer", "GOOSE_MODE=auto"),
        (
            "copilot",
            "--acp --no-auto-update",
            "COPILOT_AUTO_UPDATE=false",
        ),
        ("cursor", "acp", ""),
        ("qwen", "--acp", "QWEN_CODE_NO_RELAUNCH=true"),
        ("cline", "--acp", ""),
        (
            "droid",
            "exec --output-format acp",
            "FACTORY_DROID_AUTO_UPDATE_ENABLED=false",
        ),
    ] {
        let command = run(runner).command;
        let set: Vec<String> = command
            .env
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(
            (command.args.join(" ").as_str(), set.join(" ").as_str()),
            (args, env),
            "{runner}"
        );
        assert!(command.keep_stdin);
        let first = String::from_utf8(command.stdin).unwrap();
        assert!(
            first.contains(r#""fs":{"readTextFile":false,"writeTextFile":false},"terminal":false"#),
            "{first}"
        );
    }
}

#[test]
fn goose_asks_with_a_text_for_an_id_and_tells_its_tools_by_name() {
    same(
        &run("goose").read("goose/ok").exit(OK),
        r#"
        > {"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"/repo","mcpServers":[]}}
        session 20261120_1 mock-model
        > {"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"20261120_1","prompt":[{"type":"text","text":"go"}]}}
        says chatcmpl-mock0 + Writing the file now.
        calls call_mock_2 write | hello.txt | {"path":"/repo/hello.txt","content":"hello from mock\n"}
        asks 098f347f-b08f-43c0-8a43-c8ae53785b86 write | hello.txt | allowed
        > {"jsonrpc":"2.0","id":"098f347f-b08f-43c0-8a43-c8ae53785b86","result":{"outcome":{"outcome":"selected","optionId":"allow_once"}}}
        returns call_mock_2 ok | Created /repo/hello.txt (1 lines)
        used in 1020 out 0 cached 0 cost - turns 1
        says chatcmpl-mock1 + Done: wrote
        says chatcmpl-mock1 +  hello.txt.
        used in 2041 out 0 cached 0 cost - turns 2
        used in 2021 out 20 cached 0 cost - turns 2
        close stdin
        turn ended
        final Done: wrote hello.txt.
        verdict success | Done: wrote hello.txt. | in 2021 out 20 cached 0 cost - turns 2 | 20261120_1 | mock-model
        "#,
    );
}

#[test]
fn gemini_never_announces_a_call_that_it_asked_permission_for() {
    same(
        &run("gemini").read("gemini/mcp").exit(OK),
        r#"
        > {"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"/repo","mcpServers":[]}}
        session 91cc69f1-6463-4089-8189-8b5b40b057c5 auto
        > {"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"91cc69f1-6463-4089-8189-8b5b40b057c5","prompt":[{"type":"text","text":"go"}]}}
        thinks text_1 + **Plan**\nI will write the file.
        says text_2 + Writing the file now.
        calls write_file__write_file_1795150075582_0 edit | Writing to hello.txt | {"path":"/repo/hello.txt"}
        asks 0 edit | Writing to hello.txt | allowed
        > {"jsonrpc":"2.0","id":0,"result":{"outcome":{"outcome":"selected","optionId":"proceed_once"}}}
        returns write_file__write_file_1795150075582_0 ok | edited /repo/hello.txt
        says text_3 + Done: wrote
        says text_3 +  hello.txt.
        used in 2001 out 40 cached 0 cost - turns 0
        close stdin
        turn ended
        final Done: wrote hello.txt.
        verdict success | Done: wrote hello.txt. | in 2001 out 40 cached 0 cost - turns 0 | 91cc69f1-6463-4089-8189-8b5b40b057c5 | auto
        "#,
    );
    let update = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"t","status":"failed","title":"ls","kind":"execute","content":[{"type":"content","content":{"type":"text","text":"no"}}]}}}"#;
    let told = run("gemini").line(update).told;
    assert_eq!(told, ["calls t execute | ls | ", "returns t error | no"]);
}

#[test]
fn opencode_announces_a_call_before_its_arguments_and_counts_cached_tokens_beside() {
    same(
        &run("opencode").read("opencode/ok").exit(OK),
        r#"
        > {"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"/repo","mcpServers":[]}}
        session ses_e08cf4c73ffej27ny7WkvIVzJH mock/mock-model
        > {"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"ses_e08cf4c73ffej27ny7WkvIVzJH","prompt":[{"type":"text","text":"go"}]}}
        says msg_1f730b4ac001D3ttvCDDAxYbtM + Writing the file now.
        calls call_mock_2 edit | hello.txt | {"content":"hello from mock\n","filePath":"/repo/hello.txt"}
        asks 0 edit | hello.txt | allowed
        > {"jsonrpc":"2.0","id":0,"result":{"outcome":{"outcome":"selected","optionId":"once"}}}
        > {"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"not supported: fs/write_text_file"}}
        returns call_mock_2 ok | Wrote file successfully.
        says msg_1f730ce1d0011uuCvFKRcIakoV + Done: wrote
        says msg_1f730ce1d0011uuCvFKRcIakoV +  hello.txt.
        used in 0 out 0 cached 0 cost 1881 turns 0
        used in 1001 out 20 cached 100 cost 1881 turns 0
        close stdin
        turn ended
        final Done: wrote hello.txt.
        verdict success | Done: wrote hello.txt. | in 1001 out 20 cached 100 cost 1881 turns 0 | ses_e08cf4c73ffej27ny7WkvIVzJH | mock/mock-model
        "#,
    );
}

#[test]
fn an_agent_that_no_profile_knows_is_driven_all_the_same() {
    let told = plain_acp().read("acp/claude-agent-acp").exit(OK);
    for line in [
        r#"calls toolu_83f911c8ae2a4205acd0 Read | README.md | {"file_path":"/repo/README.md"}"#,
        "asks 0 edit | hello.txt | allowed",
        "used in 760 out 210 cached 150 cost 8500 turns 0",
        "final Done: wrote hello.txt and edited README.md.",
    ] {
        assert!(told.lines().any(|l| l == line), "{line} in {told}");
    }
    assert!(told.contains("verdict success"), "{told}");
}

#[test]
fn a_command_is_told_when_it_is_known_and_not_only_its_directory() {
    let update = |kind: &str, status: &str, input: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"update":{{"sessionUpdate":"{kind}","toolCallId":"c","title":"bash","kind":"execute","status":"{status}","rawInput":{input}}}}}}}"#
        )
    };
    let told = run("opencode")
        .line(update("tool_call", "pending", r#"{"cwd":"/repo"}"#))
        .line(update(
            "tool_call_update",
            "in_progress",
            r#"{"command":"ls","cwd":"/repo"}"#,
        ))
        .told;
    assert_eq!(
        told,
        [r#"calls c execute | ls | {"command":"ls","cwd":"/repo"}"#]
    );
    let told = run("opencode")
        .line(update("tool_call", "pending", "{}"))
        .exit(OK);
    assert!(
        told.starts_with("calls c execute | bash |"),
        "a held call is told at the end: {told}"
    );
}

#[test]
fn a_note_of_copilot_is_not_what_the_agent_said() {
    let told = run("copilot").read("copilot/ok").exit(OK);
    assert!(told.contains("status info | /repo/hello.txt |"), "{told}");
    assert!(
        told.contains("verdict success | Done: wrote hello.txt. | in 2001 out 40 cached 200"),
        "{told}"
    );
}

#[test]
fn an_error_of_the_provider_is_a_failure_wherever_it_is_told() {
    let cases = [
        (
            run("copilot").read("copilot/err401"),
            "auth: Authentication failed with provider",
        ),
        (
            run("gemini").read("gemini/err401"),
            "auth: invalid x-api-key / API key not valid (Log in with",
        ),
        (
            run("goose").read("goose/err401"),
            "auth: Authentication required (Run `goose configure`",
        ),
        (
            run("opencode").read("opencode/err401"),
            "auth: Internal error: invalid x-api-key",
        ),
        (
            run("droid").read("droid/ok"),
            "provider_unavailable: Internal error: Agent error: Connection error.",
        ),
        (plain_acp().read("acp/codex-acp-400"), "bad_request: "),
        (
            goose_says(
                "Ran into this error: Rate limit exceeded: Resource exhausted, rate limited.",
            ),
            "rate_limited: Rate limit exceeded",
        ),
    ];
    for (run, wanted) in cases {
        let told = run.exit(OK);
        assert!(
            told.contains(&format!("verdict {wanted}")),
            "{wanted}: {told}"
        );
        assert!(
            !told.contains("final "),
            "an error is not the final text: {told}"
        );
    }
}

#[test]
fn an_agent_that_is_not_logged_in_says_how_to_before_any_prompt() {
    let told = run("cline")
        .line(r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"authMethods":[{"id":"a","name":"Sign in","description":"Run `cline auth`"}]}}"#)
        .line(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"Call authenticate"}}"#)
        .exit(OK);
    assert!(!told.contains("session/prompt"), "{told}");
    assert!(
        told.contains("verdict auth: Call authenticate (Run `cline auth`)"),
        "{told}"
    );
}

#[test]
fn an_agent_may_speak_of_errors() {
    for text in [
        "Error: is the word that you wanted me to write.",
        "It says `Network error: x` and `Please resend your message to try again.` in a.rs.",
        "The log has this:\\nRan into this error: no.\\nI mended it.",
    ] {
        let told = goose_says(text).exit(OK);
        assert!(told.contains("verdict success"), "{told}");
    }
}

#[test]
fn a_trouble_that_goose_tells_in_a_message_of_its_own_is_a_failure() {
    let network =
        "Network error: Stream decode error: cut\\n\\nPlease resend your message to try again.";
    for (note, wanted) in [
        (network, "provider_unavailable: Network error: Stream"),
        (
            "The model returned an empty response. Please resend your message to continue.",
            "provider_unavailable: The model returned",
        ),
        (
            "Please add credits to your account, then resend your message to continue.",
            "quota_exhausted: Please add credits",
        ),
        (
            "Ran into this error: Server error: 503.\\n\\nPlease retry if you think this is a transient or recoverable error.",
            "provider_unavailable: Server error: 503.",
        ),
        (
            "Ran into this error trying to compact: no.\\n\\nPlease try again",
            "agent_failed: Ran into this error trying to compact",
        ),
        (
            "A tool call could not be parsed — the response may have been truncated.",
            "agent_failed: A tool call",
        ),
        (
            "Unable to continue: Context limit still exceeded after compaction.",
            "context_too_long: Unable",
        ),
        (
            "I've reached the maximum number of actions I can do without user input.",
            "agent_failed: I've reached",
        ),
        (
            "The provider refused this request. no",
            "refused: The provider",
        ),
    ] {
        let told = run("goose")
            .line(chunk("a", "three four"))
            .line(chunk("b", note))
            .line(END_TURN)
            .exit(OK);
        assert!(told.contains(&format!("verdict {wanted}")), "{told}");
        assert!(told.contains("final three four\nverdict"), "{told}");
        let alone = run("goose").line(chunk("a", note)).line(END_TURN).exit(OK);
        assert!(alone.contains(&format!("verdict {wanted}")), "{alone}");
        assert!(!alone.contains("final "), "{alone}");
    }
    let answered = run("goose")
        .line(chunk("a", network))
        .line(chunk("b", "Done."))
        .line(END_TURN)
        .exit(OK);
    assert!(answered.contains("verdict success"), "{answered}");
    let other = run("opencode").line(chunk("a", network)).line(END_TURN);
    assert!(other.exit(OK).contains("verdict success"), "goose's alone");
}

#[test]
fn a_turn_in_which_nothing_was_said_or_done_is_no_success() {
    for runner in ["goose", "gemini", "opencode", "copilot"] {
        let verdict = run(runner).line(chunk("a", " ")).line(END_TURN).verdict(OK);
        let wanted = "verdict agent_failed: it ended its turn without saying or doing anything";
        assert!(verdict.starts_with(wanted), "{runner}: {verdict}");
    }
    let call = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"c","title":"x","kind":"edit","status":"completed","rawInput":{"path":"/repo/a"}}}}"#;
    let did = run("goose").line(call).line(END_TURN).verdict(OK);
    assert!(did.starts_with("verdict success"), "{did}");
}

#[test]
fn an_account_without_credits_is_not_a_failure_of_the_agent() {
    let error = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32603,"message":"it does not go on","data":{"reason":"credits_exhausted"}}}"#;
    let verdict = run("goose").line(error).verdict(OK);
    assert!(
        verdict.starts_with("verdict quota_exhausted: it does"),
        "{verdict}"
    );
}

#[test]
fn each_model_call_of_goose_counts_once() {
    let used = |tokens: u64| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"update":{{"sessionUpdate":"usage_update","used":{tokens},"size":128000}}}}}}"#
        )
    };
    let call = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"c","title":"x","_meta":{"goose":{"messageId":"m2"}}}}}"#;
    let over = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"session_info_update","_meta":{"goose":{"activeRunId":null}}}}}"#;
    let verdict = run("goose")
        .line(used(50))
        .line(chunk("m1", "a"))
        .line(used(100))
        .line(used(120))
        .line(call)
        .line(used(120))
        .line(chunk("m3", "b"))
        .line(used(90))
        .line(chunk("note", "c"))
        .line(over)
        .line(used(90))
        .line(r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn","usage":{"totalTokens":90,"inputTokens":80,"outputTokens":10}}}"#)
        .verdict(OK);
    assert!(
        verdict.contains("| in 320 out 10 cached 0 cost - turns 3 |"),
        "{verdict}"
    );
}

#[test]
fn a_cancel_closes_every_open_call_as_aborted() {
    for (runner, recording, line, call) in [
        ("goose", "goose/cancelbash", 10, "call_mock_2"),
        ("copilot", "copilot/cancelbash", 10, "call_mock_2"),
        (
            "gemini",
            "gemini/cancelbash",
            6,
            "run_shell_command__run_shell_command_1795150540350_0",
        ),
    ] {
        let told = run(runner).cancel_before(line).read(recording).exit(OK);
        assert!(
            told.contains(
                r#"> {"jsonrpc":"2.0","method":"session/cancel","params":{"sessionId":""#
            ),
            "{told}"
        );
        assert_eq!(
            told.matches(&format!("returns {call} aborted")).count(),
            1,
            "{told}"
        );
        assert!(
            told.contains("verdict cancelled: it was interrupted"),
            "{told}"
        );
    }
    let told = run("opencode")
        .cancel_before(4)
        .read("opencode/cancel")
        .exit(OK);
    assert!(
        told.contains("verdict cancelled: it was interrupted | thinking slowly"),
        "{told}"
    );
}

#[test]
fn what_is_asked_after_a_cancel_is_not_granted() {
    let ask = r#"{"jsonrpc":"2.0","id":7,"method":"session/request_permission","params":{"toolCall":{"toolCallId":"c","title":"rm"},"options":[{"optionId":"y","kind":"allow_once"}]}}"#;
    let told = run("goose").cancel().line(ask).told.join("\n");
    assert!(
        told.contains(r#"> {"jsonrpc":"2.0","id":7,"result":{"outcome":{"outcome":"cancelled"}}}"#),
        "{told}"
    );
}

#[test]
fn a_call_that_is_told_twice_is_one_call() {
    let call = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"0:c","title":"x","kind":"edit","status":"pending","rawInput":{"path":"/repo/a"}}}}"#;
    let done = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"0:c","status":"completed","rawOutput":"fine"}}}"#;
    let told = run("cline")
        .line(call)
        .line(call)
        .line(done)
        .line(done)
        .told;
    assert_eq!(
        told,
        [
            r#"calls 0:c edit | a | {"path":"/repo/a"}"#,
            "returns 0:c ok | fine"
        ]
    );
}

#[test]
fn tokens_that_are_counted_after_the_answer_still_count() {
    let told = run("kimi")
        .line(chunk("", "done"))
        .line(END_TURN)
        .line(r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"usage_update","used":1021,"size":128000}}}"#)
        .exit(OK);
    assert!(told.contains("used in 1021 out 0"), "{told}");
    assert!(told.contains("verdict success | done | in 1021"), "{told}");
}

#[test]
fn tokens_beside_each_message_are_summed() {
    let chunk = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":""},"_meta":{"usage":{"inputTokens":10,"outputTokens":2,"totalTokens":12}}}}}"#;
    let told = run("qwen").line(chunk).line(chunk).told;
    assert_eq!(
        told,
        [
            "used in 10 out 2 cached 0 cost - turns 1",
            "used in 20 out 4 cached 0 cost - turns 2"
        ]
    );
}

#[test]
fn echoes_and_long_lists_are_not_events() {
    let commands = format!(
        r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"update":{{"sessionUpdate":"available_commands_update","availableCommands":["{}"]}}}}}}"#,
        "x".repeat(40_000)
    );
    let echo = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"user_message_chunk","content":{"type":"text","text":"go"}}}}"#;
    let private = r#"{"jsonrpc":"2.0","method":"_auth/status_update","params":{}}"#;
    let told = run("vibe").line(commands).line(echo).line(private).told;
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_private_request_is_refused_and_never_left_open() {
    let told = run("qwen")
        .line(r#"{"jsonrpc":"2.0","id":5,"method":"craft/drainMidTurnQueue","params":{}}"#)
        .told;
    assert_eq!(
        told,
        [
            r#"> {"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"not supported: craft/drainMidTurnQueue"}}"#
        ]
    );
}

#[test]
fn a_mode_is_set_only_where_the_default_one_costs_model_calls() {
    let session = r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s","modes":{"currentModeId":"auto","availableModes":[{"id":"auto"},{"id":"yolo"}]}}}"#;
    let told = run("qwen")
        .line(session)
        .line(r#"{"jsonrpc":"2.0","id":100,"result":{}}"#)
        .told;
    assert_eq!(
        told[1],
        r#"> {"jsonrpc":"2.0","id":100,"method":"session/set_mode","params":{"modeId":"yolo","sessionId":"s"}}"#
    );
    assert!(told[2].contains("session/prompt"), "{told:?}");
    let told = run("gemini").line(session).told;
    assert!(told[1].contains("session/prompt"), "{told:?}");
}

#[test]
fn a_model_is_chosen_in_each_clis_own_way() {
    assert!(
        with_model("gemini", "g")
            .command
            .args
            .ends_with(&["--model".to_owned(), "g".to_owned()])
    );
    assert_eq!(with_model("goose", "g").command.env["GOOSE_MODEL"], "g");

    let models = r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s","models":{"currentModelId":"a","availableModels":[{"modelId":"a"},{"modelId":"custom:Mock-0"}]}}}"#;
    let told = with_model("droid", "Mock-0")
        .line(models)
        .line(r#"{"jsonrpc":"2.0","id":100,"result":{}}"#)
        .told;
    assert!(
        told[1].contains(
            r#""session/set_model","params":{"modelId":"custom:Mock-0","sessionId":"s"}"#
        ),
        "{told:?}"
    );
    assert_eq!(told[2], "session s custom:Mock-0");

    let options = r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s","configOptions":[{"id":"model","category":"model","options":[{"value":"mock/m"}]}]}}"#;
    let told = with_model("opencode", "m").line(options).told;
    assert!(told[1].contains(r#""session/set_config_option","params":{"configId":"model","value":"mock/m","sessionId":"s"}"#), "{told:?}");

    let verdict = with_model("opencode", "other").line(options).verdict(OK);
    assert!(
        verdict.starts_with("verdict bad_request: there is no model `other`; offered are mock/m"),
        "{verdict}"
    );
}

#[test]
fn every_stop_reason_is_judged() {
    for (reason, wanted) in [
        ("end_turn", "success"),
        ("refusal", "refused"),
        ("max_tokens", "agent_failed"),
        ("max_turn_requests", "agent_failed"),
        ("cancelled", "cancelled"),
        ("whatever", "protocol"),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{"stopReason":"{reason}"}}}}"#);
        let verdict = run("goose").line(chunk("", "hm")).line(line).verdict(OK);
        assert!(
            verdict.starts_with(&format!("verdict {wanted}")),
            "{reason}: {verdict}"
        );
    }
}

const END_TURN: &str = r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn"}}"#;

/// A turn in which goose says `text` and ends well.
fn goose_says(text: &str) -> Run {
    run("goose").line(chunk("", text)).line(END_TURN)
}

/// A piece of the message `id`. The text is as JSON has it.
fn chunk(id: &str, text: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"update":{{"sessionUpdate":"agent_message_chunk","messageId":"{id}","content":{{"type":"text","text":"{text}"}}}}}}}}"#
    )
}
