//! Output as no CLI should give it, and as every CLI can.

use orchestra_types::{EventKind, Exit, limits};
use orchestra_worker::cli::Action;

use crate::replay::run;

const CLIS: [&str; 5] = ["claude", "codex", "gemini", "agent", "shell"];

#[test]
fn nothing_that_a_cli_prints_breaks_an_adapter() {
    let lines: [&[u8]; 14] = [
        b"",
        b"\r",
        b"null",
        b"[]",
        b"{}",
        b"{\"type\":\"assistant\",\"message\":{\"cont",
        b"{\"type\":\"assistant\",\"message\":7}",
        b"{\"type\":\"result\"}",
        b"{\"type\":[1]}",
        b"\xff\xfe\x00{\"type\":\"user\"}",
        b"{\"id\":null,\"method\":5}",
        b"{\"method\":\"item/completed\",\"params\":{\"item\":{}}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":{\"a\":1},\"method\":\"session/request_permission\"}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"update\":{\"sessionUpdate\":\"tool_call\"}}}",
    ];
    for cli in CLIS {
        let run = lines.iter().fold(run(cli), |run, line| run.line(line));
        run.cancel().exit(Exit::Unknown);
    }
}

#[test]
fn a_line_that_is_cut_is_kept_raw_and_the_rest_is_understood() {
    let told = run("claude")
        .line(r#"{"type":"assistant","message":{"id":"m","content":[{"type":"te"#)
        .line(b"{\"type\":\"assistant\",\"message\":{\"id\":\"m\",\"content\":[{\"type\":\"text\",\"text\":\"a\xff\"}]}}")
        .told;
    assert_eq!(told, ["raw", "says m:0 = a\u{fffd}"]);
}

#[test]
fn a_line_of_ten_megabytes_is_cut_to_what_an_event_may_hold() {
    let huge = "é".repeat(5 * 1024 * 1024);
    let line = format!(
        r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"t","content":"{huge}"}}]}}}}"#
    );
    let mut adapter = orchestra_worker::cli::adapter_for(&"claude".parse().unwrap(), None).unwrap();
    let actions = adapter.on_line(orchestra_worker::cli::Stream::Stdout, line.as_bytes());
    let [
        Action::Emit {
            kind: EventKind::ToolResult { output, .. },
            ..
        },
    ] = actions.as_slice()
    else {
        panic!("{} actions", actions.len());
    };
    assert!(output.len() <= limits::EVENT_TEXT_BYTES_MAX && output.ends_with("[cut]"));

    let said = run("shell").line(&huge).told;
    assert_eq!(said.len(), 1);
}

#[test]
fn the_same_lines_give_the_same_events() {
    for (cli, recording) in [
        ("claude", "claude/agents"),
        ("codex", "codex/approve"),
        ("copilot", "copilot/ok"),
    ] {
        let once = run(cli).read(recording).exit(Exit::Code(0));
        let again = run(cli).read(recording).exit(Exit::Code(0));
        assert_eq!(once, again, "{cli}");
    }
}
