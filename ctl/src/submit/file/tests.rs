//! What task files say, and what is said of those that are wrong.

use std::time::Duration;

use orchestra_types::{Priority, ShellCommand};

use super::{words::allowed, *};

fn error(text: &str) -> String {
    parse(text, "t").unwrap_err().to_string()
}

#[test]
fn a_yaml_list_reads_with_every_key() {
    let text = "\
- name: plan
  description: |
    Plan it.
    Then write it down.
  priority: high
  agent: claude
  model: opus
  timeout: 1h30m
  retries: 2
  labels: {area: docs}
  require: {gpu: 'yes'}
  context: [notes.md]
  in_place: true
  apply: false
- {command: [cargo, test], after: [plan, 3], runner: shell}
- {command: cargo test, after: task_001, repo: ../other}
";
    let drafts = parse(text, "t").unwrap();
    assert_eq!(drafts.len(), 3);
    assert_eq!(drafts[0].description, "Plan it.\nThen write it down.\n");
    assert_eq!(drafts[0].priority, Some(Priority::High));
    assert_eq!(drafts[0].timeout, Some(Duration::from_secs(5400)));
    assert_eq!(drafts[1].after, ["plan", "3"]);
    assert_eq!(
        drafts[1].command,
        Some(ShellCommand::Argv(vec!["cargo".into(), "test".into()]))
    );
    assert_eq!(drafts[1].agent.as_ref().unwrap().as_str(), "shell");
    assert_eq!(drafts[2].after, ["task_001"]);
}

#[test]
fn json_lines_and_a_json_list_read_too() {
    let lines = "{\"description\":\"a\"}\n\n{\"description\":\"b\",\"after\":1}\n";
    assert_eq!(parse(lines, "t").unwrap()[1].after, ["1"]);
    assert_eq!(parse("[{\"description\": \"a\"}]", "t").unwrap().len(), 1);
}

#[test]
fn all_tasks_of_a_file_may_share_what_one_of_them_says() {
    let mut text = "- &base {command: \"true\", priority: low, labels: {team: web}}\n".to_owned();
    for number in 0..1000 {
        text.push_str(&format!("- <<: *base\n  command: echo {number}\n"));
    }
    let drafts = parse(&text, "t").unwrap();
    assert_eq!(drafts.len(), 1001);
    assert_eq!(drafts[1000].priority, drafts[0].priority);
    assert!(drafts[0].priority.is_some());
}

#[test]
fn what_grows_beyond_all_tasks_of_a_file_is_refused() {
    let mut text = "- labels: &a {x: y}\n".to_owned();
    let mut last = "a".to_owned();
    for name in ["b", "c", "d", "e", "f", "g", "h", "i"] {
        let ten = vec![format!("*{last}"); 10].join(", ");
        text.push_str(&format!("- after: &{name} [{ten}]\n"));
        last = name.to_owned();
    }
    assert!(parse(&text, "t").is_err());
}

#[test]
fn a_line_that_is_a_list_is_no_task() {
    let said = error("{\"description\":\"a\"}\n [\"a list\",\"nm\",\"high\"]\n");
    assert!(
        said.starts_with("t:2:2: ") && said.ends_with("not mixed"),
        "{said}"
    );
}

#[test]
fn a_byte_order_mark_may_stand_before_both() {
    for text in [
        "{\"description\":\"a\"}\n{\"description\":\"b\"}",
        "- description: a\n- description: b\n",
        "[{\"description\": \"a\"}, {\"description\": \"b\"}]",
    ] {
        assert_eq!(parse(&format!("\u{feff}{text}"), "t").unwrap().len(), 2);
    }
}

#[test]
fn a_text_that_yaml_takes_for_a_truth_value_is_to_be_quoted() {
    assert_eq!(
        error("- {name: y, description: a}\n- description: b\n  after: y\n"),
        "t:3:10: `after`: `true`, `yes`, `y` or `on` without quotes is no text in YAML; quote it, as \"y\""
    );
    for (key, value) in [
        ("command", "true"),
        ("command", "[no]"),
        ("after", "[x, off]"),
        ("fallback", "y"),
    ] {
        let said = error(&format!("- description: a\n  {key}: {value}\n"));
        assert!(said.starts_with("t:2:"), "{said}");
        assert!(said.contains(&format!("`{key}`: `")), "{said}");
        assert!(said.contains("quote it, as \""), "{said}");
    }
    assert!(error("- command: [sleep, 5]\n").ends_with("quote it: \"5\""));
    assert_eq!(
        error("- command: {a: b}\n"),
        "t:1:12: `command` is a text or a list of texts"
    );
    let quoted = parse("- command: 'true'\n  after: 'y'\n", "t").unwrap();
    assert_eq!(quoted[0].after, ["y"]);
}

#[test]
fn a_mistake_is_told_with_line_column_and_the_nearest_key() {
    assert_eq!(
        error("- description: a\n  prioritty: high\n"),
        "t:2:3: unknown key `prioritty`; did you mean `priority`?"
    );
    let json = error("{\"description\":\"a\"}\n{\"descripton\":\"b\"}");
    assert!(
        json.starts_with("t:2:")
            && json.ends_with("unknown key `descripton`; did you mean `description`?"),
        "{json}"
    );
    assert!(
        error("- description: a\n  priority: urgent\n").starts_with("t:2:"),
        "{}",
        error("- priority: urgent\n")
    );
    assert!(error("- description: a\n  timeout: soon\n").contains("30m"));
    assert!(error("- description: [").starts_with("t:"));
    assert!(error("- description: a\n  description: b\n").contains("t:2:3"));
}

#[test]
fn what_the_parsers_say_is_said_in_our_words() {
    let yaml = error("- description: a\n  description: b\n");
    assert_eq!(
        yaml,
        "t:2:3: key `description` stands here for the second time"
    );
    let json = error("{\"description\":\"a\",\"description\":\"b\"}");
    assert!(
        json.ends_with("key `description` stands here for the second time"),
        "{json}"
    );
    let number = error("- description: a\n  retries: many\n");
    assert_eq!(number, "t:2:12: `retries` is a whole number, 0 to 100");
    let list = "t:1:1: a list of tasks is expected, each with a dash in front: `- description: …`";
    for text in [
        "tasks:\n  - a\n",
        "description: x\n",
        "description: [x\n  , y]\n",
    ] {
        assert_eq!(error(text), list);
    }
    let comment = error("# tasks\n---\ndescription: x\n");
    assert!(
        comment.starts_with("t:3:1: a list of tasks is expected"),
        "{comment}"
    );
    let pretty = error("{\n  \"description\": \"a\"\n}\n");
    assert!(pretty.contains("one object a line"), "{pretty}");
    for (first, second) in [("agent", "runner"), ("require", "requires")] {
        let value = if first == "agent" { "shell" } else { "{a: b}" };
        let both = error(&format!("- {first}: {value}\n  {second}: {value}\n"));
        let same = format!(": `{first}` and `{second}` are the same key");
        assert!(both.starts_with("t:") && both.contains(&same), "{both}");
    }
    for comma in [
        "{\"description\":\"a\"},\n{\"description\":\"b\"}\n",
        "{\"description\":\"a\"} {\"description\":\"b\"}\n",
    ] {
        let said = error(comma);
        assert!(
            said.contains("one object a line, without a comma"),
            "{said}"
        );
    }
    let mixed = error("{\"description\":\"a\"}\n- description: b\n");
    assert!(
        mixed.starts_with("t:2:") && mixed.ends_with("not mixed"),
        "{mixed}"
    );
    let second = error("- description: a\n---\n- description: b\n");
    assert!(
        second.starts_with("t:3:") && second.contains(": a second YAML document begins here"),
        "{second}"
    );
    assert_eq!(error("- do it\n"), "t:1:3: `key: value` is expected here");
    for before in ["- {name: a, command: \"true\"}\n", "- command: x\n"] {
        let second = error(&format!("{before}- do it\n"));
        assert_eq!(second, "t:2:3: `key: value` is expected here");
    }
    let of_key = error("- after:\n  - {a: b}\n");
    assert!(of_key.contains("`after` is a task"), "{of_key}");
}

#[test]
fn a_value_of_another_kind_is_told_with_its_key_and_what_is_allowed_there() {
    // Words of the parsers' authors, which nobody else knows.
    let foreign = [
        "invalid",
        "expected ",
        "scalar",
        "sequence",
        "variant",
        "tagged",
        "deserialize",
        "integer",
        "boolean",
        "null",
        "u32",
    ];
    let check = |key: &str, text: &str| {
        let Err(error) = parse(text, "t") else {
            return;
        };
        let said = error.to_string();
        assert!(said.contains(&format!("`{key}`")), "{text} {said}");
        let own = said.replace(text, "");
        let word = foreign.iter().find(|word| own.contains(**word));
        assert!(word.is_none(), "{text} {said}");
    };
    for key in KEYS {
        assert!(allowed(key).is_some(), "{key}");
        for value in [
            "5", "-1", "1.5", "true", "text", "[1]", "[[1]]", "{a: b}", "{a: [b]}", "",
        ] {
            check(key, &format!("- {key}: {value}\n"));
        }
        for value in [
            "5",
            "-1",
            "1.5",
            "true",
            r#""text""#,
            "[[1]]",
            r#"{"a": [1]}"#,
            "null",
        ] {
            check(key, &format!("{{\"{key}\": {value}}}"));
        }
    }
    let said = |text| error(text);
    assert_eq!(
        said(r#"{"name": "a", "description": 5}"#),
        "t:1:30: `description` is a text"
    );
    assert_eq!(
        said("- description: a\n  priority: urgent\n"),
        "t:2:13: `priority` is high, normal or low, and not `urgent`"
    );
    assert_eq!(
        said("- description: a\n  labels:\n    a:\n      - b\n"),
        "t:4:7: `labels` is names with texts, as {area: docs}"
    );
}

#[test]
fn each_task_knows_its_line() {
    let at = |text: &str| -> Vec<Option<String>> {
        let drafts = parse(text, "t").unwrap();
        drafts.into_iter().map(|draft| draft.at).collect()
    };
    let lines = [Some("t:1".to_owned()), Some("t:3".to_owned())];
    assert_eq!(at("- description: a\n\n- description: b\n"), lines);
    assert_eq!(
        at("{\"description\":\"a\"}\n\n{\"description\":\"b\"}"),
        lines
    );
}

#[test]
fn the_list_of_keys_is_the_one_that_is_read() {
    let message = serde_json::from_str::<Draft>("{\"?\":1}")
        .unwrap_err()
        .to_string();
    let mut read: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    read.sort_unstable();
    let mut keys = KEYS;
    keys.sort_unstable();
    assert_eq!(read, keys);
    let page = include_str!("../../../../docs/task-file.md");
    for key in KEYS {
        assert!(
            page.contains(&format!("`{key}`")),
            "docs/task-file.md lacks `{key}`"
        );
    }
}

#[test]
fn the_examples_of_the_page_need_nothing_but_themselves() {
    let page = include_str!("../../../../docs/task-file.md");
    let blocks = page.split("```").skip(1).step_by(2);
    let mut files = 0;
    for block in blocks {
        let (_, text) = block.split_once('\n').unwrap();
        let drafts = parse(text, "t").unwrap_or_else(|e| panic!("{e}\n{text}"));
        for after in super::super::order::resolve(&drafts).unwrap() {
            assert_eq!(after.ids, [], "a new cluster has no such task\n{text}");
        }
        for draft in &drafts {
            draft.spec(&orchestra_config::Config::default()).unwrap();
            assert_eq!(draft.parent, None, "{text}");
        }
        files += 1;
    }
    assert_eq!(files, 2);
}

#[test]
fn a_file_without_tasks_is_a_mistake() {
    for text in ["", "[]", "# nothing\n", "  \n"] {
        assert_eq!(error(text), "t holds no tasks", "{text:?}");
    }
}

#[test]
fn null_is_as_good_as_a_key_that_is_not_there() {
    let without = parse(r#"{"description": "x"}"#, "tasks").unwrap();
    for key in KEYS.into_iter().filter(|key| *key != "description") {
        let json = format!(r#"{{"description": "x", "{key}": null}}"#);
        assert_eq!(parse(&json, "tasks").unwrap(), without, "{key}");
        let yaml = format!("- {{description: x, {key}: null}}");
        assert_eq!(parse(&yaml, "tasks").unwrap(), without, "{key}");
    }
    let none = parse(r#"{"description": null}"#, "tasks").unwrap();
    assert_eq!(none[0].description, "");
    // Nobody means this by a label that is not set.
    assert!(parse(r#"{"description": "x", "labels": {"gpu": null}}"#, "tasks").is_err());
}
