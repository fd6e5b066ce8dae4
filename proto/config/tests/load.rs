//! What a person may write into `orchestra.yaml`, and what they are told when it is wrong.

use std::{io::Write, net::SocketAddr, path::Path, time::Duration};

use orchestra_config::{Config, Error, PROJECT_FILE, Protocol, load, load_project, parse};
use orchestra_types::Priority;

/// The message of a text that is wrong, as `line:column: message`.
fn refusal(text: &str) -> String {
    match parse(text, Path::new("o.yaml")) {
        Err(error @ Error::Invalid { .. }) => {
            error.to_string().trim_start_matches("o.yaml:").to_owned()
        }
        other => panic!("{text:?} gave {other:?}"),
    }
}

fn good(text: &str) -> Config {
    parse(text, Path::new("o.yaml")).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

#[test]
fn a_file_without_keys_is_the_defaults() {
    let texts = [
        "",
        "\n",
        "# only a comment\n",
        "---\n",
        "null",
        "worker:\n",
        "worker:\n  # slots: 4\n",
        "runners:\n",
        "runners:\n  claude:\n",
        "{}",
    ];
    for text in texts {
        let mut config = good(text);
        config.runners.clear();
        assert_eq!(config, Config::default(), "{text:?}");
    }
}

#[test]
fn every_key_is_read() {
    let config = good(
        "head: {listen: '0.0.0.0:7117', advertise: 'head.example:7117', metrics_listen: '[::1]:9', metrics: false, queue_max: 5, disk_reserve_mb: 7}
worker: {name: big, slots: 8, labels: {gpu: true, zone: 1}, workspaces: /var/w}
runners:
  claude: {enabled: false, command: /opt/claude, max_instances: 2, model: opus, args: [--x], env: {A_B: c}, timeout: 1h30m}
  mine: {command: my-agent, protocol: json_lines}
  agent:
    agent: {provider: openai, base_url: 'http://127.0.0.1:1/v1', api_key_env: KEY}
queue: {default_priority: high, default_timeout: 2h, retries: 3, retry_delay: 0s, promote_after: 5m, lease: 1m}
context: {directory: docs/context, enabled: false}
telemetry: {log: debug, otlp_endpoint: 'http://127.0.0.1:4317'}
",
    );
    let listen: SocketAddr = "0.0.0.0:7117".parse().unwrap();
    assert_eq!(config.head.listen, Some(listen));
    assert_eq!(config.head.queue_max, Some(5));
    assert_eq!(config.head.disk_reserve_mb, Some(7));
    assert_eq!(config.worker.labels["gpu"], "true");
    assert_eq!(config.worker.labels["zone"], "1");
    let claude = &config.runners[&"claude".parse().unwrap()];
    assert_eq!(claude.timeout, Some(Duration::from_secs(5400)));
    let mine = &config.runners[&"mine".parse().unwrap()];
    assert_eq!(mine.protocol, Some(Protocol::JsonLines));
    assert_eq!(config.queue.default_priority, Priority::High);
    assert_eq!(config.queue.retry_delay, Duration::ZERO);
    assert_eq!(config.queue.lease, Duration::from_secs(60));
    assert_eq!(config.context.directory, "docs/context");
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_one() {
    let rows = [
        (
            "worke: {}",
            "1:1: unknown key `worke`, did you mean `worker`?",
        ),
        (
            "worker:\n  slot: 4\n",
            "2:3: unknown key `slot`, did you mean `slots`?",
        ),
        (
            "runners:\n  claude:\n    max-instances: 1\n",
            "3:5: unknown key `max-instances`, did you mean `max_instances`?",
        ),
        (
            "context:\n  zzzzzz: 1\n",
            "2:3: unknown key `zzzzzz`; there are: directory, enabled",
        ),
        (
            "queue:\n  default_priority: hihg\n",
            "2:21: unknown value `hihg`, did you mean `high`?",
        ),
        (
            "runners:\n  agent:\n    agent: {provider: openia}\n",
            "3:23: unknown value `openia`, did you mean `openai`?",
        ),
    ];
    for (text, wanted) in rows {
        assert_eq!(refusal(text), wanted, "{text}");
    }
    let runner = refusal("runners:\n  cluade: {model: opus}\n");
    assert!(runner.starts_with("2:"), "{runner}");
    assert!(
        runner.contains("unknown runner `cluade`, did you mean `claude`?"),
        "{runner}"
    );
    assert!(runner.contains("`protocol`"), "{runner}");
}

#[test]
fn a_runner_that_is_offered_only_when_it_is_named_needs_no_protocol() {
    for name in orchestra_types::runner::FURTHER_RUNNERS {
        let text = format!("runners: {{{name}: {{}}}}\n");
        let config = parse(&text, Path::new("o.yaml")).unwrap();
        assert!(
            config.runners.contains_key(&name.parse().unwrap()),
            "{name}"
        );
    }
}

#[test]
fn a_wrong_type_or_range_is_named_with_its_place() {
    let rows = [
        ("- 1", "1:1: `key: value` lines"),
        ("worker: [1]", "1:9: `key: value` lines"),
        ("worker:\n  slots: x", "2:10: a whole number"),
        ("worker:\n  slots: -1", "2:10: must be 1 to 100000"),
        ("worker:\n  slots: 1.5", "2:10: a whole number"),
        ("worker:\n  slots: 99999999999", "2:10: must be 1 to 100000"),
        (
            "worker:\n  slots: []",
            "2:10: a whole number, 1 to 100000, is expected",
        ),
        (
            "worker:\n  slots: {}",
            "2:10: a whole number, 1 to 100000, is expected",
        ),
        ("worker:\n  slots: .nan", "2:10: "),
        ("queue:\n  retries: -1", "2:12: must be 0 to 100"),
        (
            "prices:\n  m: {input: .nan, output: 1}",
            "2:14: a number is expected",
        ),
        ("worker:\n  slots: 0", "2:10: must be 1 to 100000"),
        ("worker:\n  stop_within: 999ms", "2:16: must be 1s to 1h"),
        ("worker:\n  stop_within: 61m", "2:16: must be 1s to 1h"),
        ("worker:\n  slots: 100001", "2:10: must be 1 to 100000"),
        ("worker:\n  name: ''", "2:9: must be 1 to 4096 bytes"),
        ("worker:\n  name: [a]", "2:9: a text"),
        ("worker:\n  workspaces: w", "2:15: must be an absolute path"),
        (
            "worker:\n  labels: {'a b': c}",
            "2:11: `a b` is not a label",
        ),
        ("head:\n  listen: nope", "2:11: `nope` is not an address"),
        (
            "head:\n  advertise: nope",
            "2:14: must be of the form HOST:PORT",
        ),
        (
            "head:\n  advertise: 0.0.0.0:7117",
            "2:14: must be what other machines reach this one by, as head.example:7117",
        ),
        (
            "head:\n  advertise: '[::]:7117'",
            "2:14: must be what other machines reach this one by",
        ),
        ("head:\n  metrics: 7", "2:12: `true` or `false`"),
        ("head:\n  queue_max: 0", "2:14: must be 1 to 10000000"),
        ("queue:\n  retries: 101", "2:12: must be 0 to 100"),
        (
            "queue:\n  default_timeout: 0s",
            "2:20: must be longer than zero",
        ),
        (
            "queue:\n  default_timeout: 31d",
            "2:20: must be at most 30d",
        ),
        (
            "queue:\n  default_timeout: soon",
            "2:20: `soon` is not a duration",
        ),
        ("queue:\n  promote_after:", "2:16: the value is missing"),
        (
            "context:\n  directory: ../x",
            "2:14: must be a directory below",
        ),
        (
            "context:\n  directory: /x",
            "2:14: must be a directory below",
        ),
        (
            "context:\n  directory: .git/x",
            "2:14: must be a directory below",
        ),
        (
            "context:\n  directory: ''",
            "2:14: must be a directory below",
        ),
        (
            "telemetry:\n  otlp_endpoint: x:4317",
            "2:18: must begin with http",
        ),
        (
            "telemetry:\n  otlp_endpoint: http://h:99999",
            "2:18: the OTLP endpoint `http://h:99999` has a port that is none of 1 to 65535: write `http://HOST",
        ),
        (
            "telemetry:\n  otlp_endpoint: https://me:secret@:1",
            "2:18: the OTLP endpoint `https://:1` names no host: write",
        ),
        ("telemetry:\n  log: warning", "2:8: must be one of error"),
        (
            "telemetry:\n  log: info,orchestra=loud,verbose",
            "2:8: must be one of error",
        ),
        (
            "runners:\n  claude:\n    args: x",
            "3:11: a list is expected",
        ),
        (
            "runners:\n  claude:\n    env: {'A=B': c}",
            "3:10: `A=B` is not an env",
        ),
        ("runners:\n  'a b': {}", "2:3: `a b` is not a runner name"),
        (
            "runners:\n  agent: {agent: {provider: openai, api_key_env: sk-1}}",
            "2:",
        ),
    ];
    for (text, wanted) in rows {
        let found = refusal(text);
        assert!(found.starts_with(wanted), "{text:?} gave {found}");
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_where_it_stands_again() {
    assert_eq!(
        refusal("worker:\n  slots: 1\n  slots: 2\n"),
        "3:3: key `slots` stands here for the second time"
    );
    let second = refusal("worker: {}\n---\nworker: {}\n");
    assert!(second.starts_with("3:1: a second document"), "{second}");
}

#[test]
fn what_editors_leave_behind_is_read_or_refused_clearly() {
    let windows = good("\u{feff}worker:\r\n  slots: 3\r\n");
    assert_eq!(windows.worker.slots, Some(3));
    let tab = refusal("worker:\n\tslots: 1\n");
    assert_eq!(tab, "2:2: a tab stands here; YAML indents with spaces");
}

#[test]
fn a_file_that_is_not_utf8_too_large_or_endless_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orchestra.yaml");
    std::fs::write(&path, b"worker:\n  name: \xff\n").unwrap();
    let text = load(&path).unwrap_err().to_string();
    assert!(
        text.contains("orchestra.yaml:2:9: ") && text.contains("UTF-8"),
        "{text}"
    );

    let huge = std::fs::File::create(&path).unwrap();
    huge.set_len(100 * 1024 * 1024).unwrap();
    assert!(matches!(load(&path), Err(Error::TooLarge { .. })));
    let endless = load(Path::new("/dev/zero"));
    assert!(matches!(endless, Err(Error::TooLarge { .. })));
    let missing = load(&dir.path().join("none"));
    assert!(matches!(missing, Err(Error::Read { .. })));
}

#[test]
fn a_bomb_is_refused_and_costs_neither_time_nor_memory() {
    let mut aliases = String::from("a0: &a0 [x]\n");
    for n in 1..40 {
        let before = n - 1;
        aliases += &format!("a{n}: &a{n} [*a{before}, *a{before}, *a{before}]\n");
    }
    let nested = "[".repeat(100_000);
    let deep: String = (0..2_000)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect();
    let labels = "worker:\n  labels: &l\n    a: b\nrunners:\n  claude:\n    env: *l\n";
    for text in [aliases, format!("worker: {nested}"), deep] {
        assert!(parse(&text, Path::new("o.yaml")).is_err());
    }
    assert_eq!(
        good(labels).worker.labels["a"],
        "b",
        "an honest alias works"
    );
}

#[test]
fn limits_of_attempts_are_sizes_and_numbers_within_reason() {
    let most = good("worker: {limits: {memory: 1024TiB}}").worker.limits;
    assert_eq!(most.memory, Some(1 << 50));
    let limits = good("worker: {limits: {memory: 8GiB, processes: 512, processors: 1.5}}");
    let limits = limits.worker.limits;
    assert_eq!(
        (limits.memory, limits.processes, limits.processors),
        (Some(8 << 30), Some(512), Some(1500))
    );
    assert_eq!(
        good("worker: {limits: {processors: 2}}")
            .worker
            .limits
            .processors,
        Some(2000)
    );
    for (text, says) in [
        ("memory: 8GB", "KiB, MiB, GiB or TiB"),
        ("memory: 1MiB", "at least 16MiB"),
        ("output: 1KiB", "at least 1MiB"),
        ("memory: 1025TiB", "at most 1024TiB"),
        ("memory: 99999999TiB", "at most 1024TiB"),
        ("processes: 3", "16 to 4000000"),
        ("processors: 0", "0.01 to 10000"),
        ("processors: .nan", "0.01 to 10000"),
    ] {
        let refused = refusal(&format!("worker: {{limits: {{{text}}}}}"));
        assert!(refused.contains(says), "{text}: {refused}");
    }
}

#[test]
fn ports_are_a_range() {
    assert_eq!(good("").worker.ports.0, 20_000..=29_999);
    assert_eq!(
        good("worker: {ports: 3000-3000}").worker.ports.0,
        3000..=3000
    );
    for text in ["3000", "80-90", "4000-3000", "4000-70000", "a-b"] {
        let refused = refusal(&format!("worker: {{ports: {text}}}"));
        assert!(
            refused.contains("of the form 20000-29999"),
            "{text}: {refused}"
        );
    }
}

#[test]
fn a_file_read_from_disk_is_the_same_as_its_text() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"worker: {slots: 7}\n").unwrap();
    assert_eq!(load(file.path()).unwrap(), good("worker: {slots: 7}"));
}

#[test]
fn every_key_stands_in_the_documentation() {
    let sections = [
        ("", "{}: 1"),
        ("head.", "head: {{}: 1}"),
        ("worker.", "worker: {{}: 1}"),
        ("worker.limits.", "worker: {limits: {{}: 1}}"),
        ("runners.NAME.", "runners: {claude: {{}: 1}}"),
        ("runners.NAME.agent.", "runners: {agent: {agent: {{}: 1}}}"),
        ("queue.", "queue: {{}: 1}"),
        ("context.", "context: {{}: 1}"),
        ("telemetry.", "telemetry: {{}: 1}"),
    ];
    let count = keys_on("configuration.md", &sections, &refusal);
    assert!(count > 30, "only {count} keys were found");
}

#[test]
fn every_key_of_a_project_stands_in_the_documentation() {
    let sections = [("", "{}: 1"), ("setup.", "setup: {{}: 1}")];
    let refusal = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(PROJECT_FILE), text).unwrap();
        load_project(dir.path()).unwrap_err().to_string()
    };
    let count = keys_on("project-file.md", &sections, &refusal);
    assert_eq!(
        count, 5,
        "`setup` is one, and has a row for each of its own"
    );
}

/// How many keys the refusals of unknown ones name; each must stand on the page.
fn keys_on(page: &str, sections: &[(&str, &str)], refusal: &dyn Fn(&str) -> String) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = std::fs::read_to_string(path.join(page)).expect("the page is there");
    let mut count = 0;
    for (prefix, wrong) in sections {
        let error = refusal(&wrong.replace("{}", "zzzzzzzzzz"));
        let (_, keys) = error.split_once("there are: ").expect("it names the keys");
        for key in keys.split(", ") {
            let wanted = format!("| `{prefix}{key}` |");
            let rows_of_its_own = text.contains(&format!("| `{prefix}{key}."));
            assert!(
                text.contains(&wanted) || rows_of_its_own,
                "docs/{page} lacks {wanted}"
            );
            count += 1;
        }
    }
    count
}
