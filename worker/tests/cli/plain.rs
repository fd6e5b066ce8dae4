//! `shell`, `agent`, and programs of the user's own.

use orchestra_config::{AgentRunner, Protocol, RunnerConfig};
use orchestra_types::{Exit, ShellCommand};

use crate::replay::{Run, run, run_with, same};

const OK: Exit = Exit::Code(0);

fn of_protocol(protocol: Protocol) -> Run {
    let config = RunnerConfig {
        protocol: Some(protocol),
        ..RunnerConfig::default()
    };
    run_with("mine", &config, None)
}

#[test]
fn a_command_line_runs_by_the_shell_and_an_argument_list_directly() {
    let config = RunnerConfig::default();
    let by = |command: Option<ShellCommand>| {
        let command = run_with("shell", &config, command.as_ref()).command;
        (command.program.display().to_string(), command.args)
    };
    let sh = |line: &str| ("/bin/sh".to_owned(), vec!["-c".to_owned(), line.to_owned()]);
    assert_eq!(
        by(Some(ShellCommand::Line("echo $HOME".to_owned()))),
        sh("echo $HOME")
    );
    assert_eq!(by(None), sh("go"), "the description is the line");
    let argv = ShellCommand::Argv(vec!["printf".to_owned(), "$x".to_owned()]);
    assert_eq!(by(Some(argv)), ("printf".to_owned(), vec!["$x".to_owned()]));
}

#[test]
fn a_commands_output_is_its_text_and_its_exit_code_the_verdict() {
    same(
        &run("shell")
            .line("one")
            .stderr("careful")
            .line("two")
            .exit(OK),
        r"
        says  + one\n
        raw
        says  + two\n
        final one\ntwo
        verdict success | one\ntwo | in 0 out 0 cached 0 cost - turns 0 |  |",
    );
    let verdict = run("shell")
        .line("one")
        .stderr("no such file")
        .verdict(Exit::Code(2));
    assert!(
        verdict.starts_with(
            "verdict agent_failed: the command exited with code 2: no such file | one |"
        ),
        "{verdict}"
    );
    let verdict = run("shell").verdict(Exit::Signal(9));
    assert!(
        verdict.starts_with("verdict agent_crashed: the command was ended by signal 9"),
        "{verdict}"
    );
}

#[test]
fn the_end_of_a_long_output_is_the_final_text() {
    let mut run = run("shell");
    for number in 0..200_000 {
        run = run.line(format!("line {number}"));
        run.told.clear();
    }
    let verdict = run.end_text();
    assert!(verdict.ends_with("line 199999"), "{}", verdict.len());
    assert!(
        verdict.starts_with("[cut]…\nline 1"),
        "it begins within a line"
    );
    assert!(verdict.len() <= 256 * 1024, "{}", verdict.len());
}

#[test]
fn a_program_of_the_users_own_gets_the_prompt_on_standard_input() {
    let run = of_protocol(Protocol::Text);
    assert_eq!(run.command.stdin, b"go");
    assert!(!run.command.keep_stdin);
    let told = run.line("hi").cancel().exit(OK);
    assert!(
        told.contains("-- cancel\nfinal hi"),
        "no protocol to ask by: {told}"
    );
}

#[test]
fn our_own_agent_is_our_own_binary_with_its_model_service() {
    let config = RunnerConfig {
        model: Some("qwen3".to_owned()),
        agent: Some(AgentRunner {
            provider: "openai".to_owned(),
            base_url: Some("http://127.0.0.1:1/v1".to_owned()),
            api_key_env: Some("MY_KEY".to_owned()),
        }),
        ..RunnerConfig::default()
    };
    let command = run_with("agent", &config, None).command;
    assert_eq!(command.program.to_str(), Some("/opt/orchestra"));
    same(
        &command.args.join(" "),
        "worker agent run --provider openai --base-url http://127.0.0.1:1/v1 --api-key-env MY_KEY --model qwen3",
    );
    assert_eq!(command.stdin, b"go");
}

#[test]
fn the_example_of_the_format_is_understood() {
    let doc = include_str!("../../../docs/agent-format.md");
    let (_, example) = doc.split_once("## Example\n\n```json\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let run = example
        .lines()
        .fold(run("agent"), |run, line| run.line(line));
    same(
        &run.exit(OK),
        r#"
        session 01JD qwen3-coder
        used in 0 out 0 cached 0 cost - turns 1
        thinks  = I need the file's name.
        says m1 + I will
        says m1 + look.
        calls c1 bash | ls | {"command":"ls"}
        returns c1 ok | README.md\n
        used in 910 out 42 cached 800 cost - turns 1
        calls c2 task | count the words | {"prompt":"count the words"}
        [c2] says  = 12 words
        returns c2 ok | 12 words
        used in 1900 out 80 cached 1600 cost - turns 3
        close stdin
        turn ended
        final README.md has 12 words.
        verdict success | README.md has 12 words. | in 1900 out 80 cached 1600 cost - turns 3 | 01JD | qwen3-coder
        "#,
    );
}

#[test]
fn lines_may_leave_out_what_they_do_not_know() {
    let told = of_protocol(Protocol::JsonLines)
        .line(r#"{"type":"tool_call","tool":"bash","args":{"command":"ls"}}"#)
        .line(r#"{"type":"tool_call","agentId":"kid","tool":"read","args":{"path":"/repo/a"}}"#)
        .line(r#"{"type":"tool_result","agentId":"kid","output":"x","status":"error"}"#)
        .line(r#"{"type":"tool_result","output":{"lines":2}}"#)
        .line(r#"{"type":"plan","entries":[{"content":"look","status":"completed"},{"content":"write"}]}"#)
        .line(r#"{"type":"status","phase":"retrying","text":"busy","fields":{"attempt":2}}"#)
        .line(r#"{"type":"unheard-of"}"#)
        .line("not json")
        .exit(OK);
    same(
        &told,
        r#"
        calls call_1 bash | ls | {"command":"ls"}
        [kid] calls call_2 read | a | {"path":"/repo/a"}
        [kid] returns call_2 error | x
        returns call_1 ok | {"lines":2}
        plans [x] look\n[ ] write
        status retrying | busy | attempt=2
        raw
        raw
        verdict agent_crashed: it exited with code 0 without saying how it went |  | in 0 out 0 cached 0 cost - turns 0 |  |"#,
    );
}

#[test]
fn our_own_agent_must_say_or_do_something_and_a_program_of_the_users_own_need_not_tell() {
    let result = r#"{"type":"result","status":"success"}"#;
    let verdict = run("agent").line(result).verdict(OK);
    assert!(
        verdict.starts_with("verdict agent_failed: it ended its turn without saying or"),
        "{verdict}"
    );
    let own = of_protocol(Protocol::JsonLines).line(result).verdict(OK);
    assert!(own.starts_with("verdict success"), "{own}");
}

#[test]
fn an_agents_own_error_keeps_its_code_and_its_time_of_reset() {
    for (line, wanted) in [
        (
            r#"{"type":"error","code":"rate_limited","message":"slow down","resets_at":1795150000000}"#,
            "rate_limited: slow down (resets at 1795150000000)",
        ),
        (
            r#"{"type":"error","code":"worker_lost","message":"not its to say"}"#,
            "agent_failed: not its to say",
        ),
        (r#"{"type":"error","message":"hm"}"#, "agent_failed: hm"),
        (
            r#"{"type":"result","status":"error","content":"could not"}"#,
            "agent_failed: could not",
        ),
    ] {
        let verdict = run("agent").line(line).verdict(Exit::Code(1));
        assert!(
            verdict.starts_with(&format!("verdict {wanted}")),
            "{verdict}"
        );
    }
}
