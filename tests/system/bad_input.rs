//! Bad input gets a clear error, the right exit code and a next step, and nothing is lost.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, process::Command};

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Cluster, Output, Project, Setup, Test, run, scene};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_description_must_say_something_and_fit", descriptions),
        Test::new("an_argument_that_is_not_utf8_is_refused", not_utf8),
        Test::new("an_unknown_name_gets_the_nearest_one", suggestions),
        Test::new("a_bad_task_file_is_refused_as_a_whole", task_files),
        Test::new("a_missing_file_or_task_is_named", missing_things),
        Test::new("a_usage_line_has_nothing_of_the_environment", usage_lines),
        Test::new("a_variable_that_is_set_and_empty_is_named", empty_variables),
        Test::new("without_a_head_it_says_how_to_start_one", no_head),
        Test::new("a_wrong_head_is_no_reason_to_start_one", wrong_head),
        Test::new(
            "a_broken_configuration_is_refused_with_line_and_column",
            broken_config,
        ),
        Test::new(
            "a_configuration_that_is_named_and_not_there_is_refused",
            no_config,
        ),
        Test::new(
            "a_current_or_temporary_directory_that_is_not_there_is_named",
            no_place,
        ),
        Test::new("a_time_in_the_past_is_said_to_be_over", late),
    ]
}

fn descriptions() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let add = |text: &str| cluster.ctl_in(project.dir(), &["add", text, "--agent", "shell"]);
        clear(add("")?, 2, &["description"])?;
        clear(add("  \n ")?, 2, &["description"])?;
        // A megabyte does not fit into one argument, so it comes on standard input.
        let command = cluster.command(project.dir(), &["add", "-", "--agent", "shell"]);
        let output = run(command, "x".repeat(1024 * 1024).as_bytes())?;
        clear(output, 1, &["256 KiB"])?;
        nothing_was_queued(cluster)
    })
}

fn not_utf8() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let bad = OsStr::from_bytes(b"caf\xe9");
        let args = [OsStr::new("add"), bad];
        clear(cluster.ctl(&args)?, 2, &["UTF-8"])?;
        nothing_was_queued(cluster)
    })
}

fn suggestions() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let ctl = |args: &[&str]| cluster.ctl_in(project.dir(), args);
        clear(
            ctl(&["add", "x", "--agent", "claud"])?,
            4,
            &["claud", "claude"],
        )?;
        clear(ctl(&["statsu"])?, 2, &["statsu", "status"])?;
        clear(
            ctl(&["tasks", "--status", "faild"])?,
            2,
            &["faild", "failed"],
        )?;
        clear(
            ctl(&["add", "x", "--budget", "0usd"])?,
            2,
            &["lets nothing run"],
        )?;
        for zero in [
            ["add", "x", "--budget-tokens", "0"],
            ["budget", "1", "--time", "0s"],
            ["budget", "--project=x", "--usd", "0"],
            ["retry", "1", "--budget", "5usd,0-attempts"],
        ] {
            clear(ctl(&zero)?, 2, &["a budget of 0 lets nothing run"])?;
        }
        clear(
            ctl(&["add", "x", "--priority", "hihg"])?,
            2,
            &["hihg", "high"],
        )?;
        nothing_was_queued(cluster)
    })
}

fn task_files() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let add = |text: &str| {
            project.write("tasks.yaml", text)?;
            cluster.ctl_in(project.dir(), &["add", "-f", "tasks.yaml"])
        };
        let cycle = "- {name: egg, description: lay, after: [hen]}\n- {name: hen, description: hatch, after: [egg]}\n";
        clear(add(cycle)?, 1, &["egg", "hen"])?;
        let unknown_key = "- description: fine\n- descripton: typo\n";
        let unknown_runner = "- description: fine\n- {description: x, agent: claud}\n";
        clear(
            add(unknown_runner)?,
            4,
            &["tasks.yaml:2", "claud", "claude"],
        )?;
        clear(add(unknown_key)?, 1, &["descripton", "description", "2"])?;
        clear(
            add("- description: fine\n- description: ''\n")?,
            1,
            &["description"],
        )?;
        let nothing_runs = "- {description: fine, budget: '1h,0-tokens'}\n";
        clear(add(nothing_runs)?, 1, &["a budget of 0 lets nothing run"])?;
        nothing_was_queued(cluster)
    })
}

fn missing_things() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        let ctl = |args: &[&str]| cluster.ctl_in(project.dir(), args);
        clear(
            ctl(&["add", "x", "--context", "nowhere.md"])?,
            1,
            &["nowhere.md"],
        )?;
        for none in [".", "/dev/zero"] {
            clear(
                ctl(&["add", "x", "--context", none])?,
                1,
                &[none, "no file"],
            )?;
        }
        clear(ctl(&["add", "-f", "nowhere.yaml"])?, 1, &["nowhere.yaml"])?;
        clear(ctl(&["add", "x", "--after", "task_999"])?, 4, &["task_999"])?;
        clear(ctl(&["show", "task_999"])?, 4, &["task_999"])?;
        clear(ctl(&["logs", "7"])?, 4, &["task_007"])?;
        clear(ctl(&["show", "seven"])?, 2, &["seven", "task_001"])?;
        let nosuch = ctl(&["tasks", "--project", "nosuch"])?;
        clear(nosuch, 4, &["no project `nosuch`"])?;
        let nosuch = ctl(&["cancel", "--project", "nosuch"])?;
        clear(nosuch, 4, &["no project `nosuch`"])?;
        let nosuch = ctl(&["budget", "--project", "nosuch"])?;
        clear(nosuch, 4, &["no project `nosuch`"])?;
        let nosuch = ctl(&["tasks", "-a", "shel"])?;
        clear(nosuch, 4, &["runner `shel`; did you mean `shell`?"])?;
        // Nobody has it here, but there is such a CLI.
        for args in [["tasks", "-a", "claude"], ["tasks", "-s", "failed"]] {
            ctl(&args)?.ok()?.complains(&["no tasks"])?;
        }
        for command in ["tasks", "cancel"] {
            let twice = ctl(&[command, "-l", "team=a", "-l", "team=b"])?;
            clear(twice, 2, &["--label names `team` twice"])?;
        }
        let choose = ["--label", "--status", "--all", "--project"];
        clear(ctl(&["cancel"])?, 2, &choose)?;
        nothing_was_queued(cluster)
    })
}

/// The environment is nothing that must be typed.
fn usage_lines() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let mut command = cluster.command(cluster.path("").as_path(), &["show"]);
        command.env("ORCHESTRA_STATE", cluster.path("elsewhere"));
        command.env("ORCHESTRA_HEAD", "10.0.0.1:1");
        let refused = run(command, b"")?.exits(2)?;
        let refused = refused.complains(&["Usage: ctl show", "<TASK>"])?;
        let usage = refused
            .stderr
            .lines()
            .find(|line| line.starts_with("Usage"));
        let usage = usage.unwrap_or_default();
        ensure!(
            !usage.contains("--state") && !usage.contains("--head"),
            "{refused}"
        );
        Ok(())
    })
}

/// Nobody gave the option that it stands for.
fn empty_variables() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let place = cluster.path("");
        for (name, line) in [
            ("ORCHESTRA_STATE", &["tasks"][..]),
            ("ORCHESTRA_CONFIG", &["tasks"]),
            ("ORCHESTRA_HEAD", &["tasks"]),
            ("ORCHESTRA_STOP_WITHIN", &["start"]),
            ("ORCHESTRA_TASK", &["add", "x"]),
        ] {
            let mut command = cluster.command(&place, line);
            command.env(name, "");
            let said = [&*format!("{name} is set and empty"), "unset"];
            clear(run(command, b"")?, 2, &said)?;
        }
        let binaries = Binaries::get();
        for program in [binaries.head(), binaries.worker()] {
            let mut command = Command::new(program);
            command.env("ORCHESTRA_STATE", "");
            let refused = run(command, b"")?.exits(2)?;
            refused.complains(&["ORCHESTRA_STATE is set and empty"])?;
        }
        nothing_was_queued(cluster)
    })
}

fn no_place() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let gone = cluster.path("gone");
        fs::create_dir(&gone)?;
        let add = cluster.command(&gone, &["add", "x", "--agent", "noop"]);
        let mut command = Command::new("sh");
        command.args(["-c", "rmdir \"$PWD\" && exec \"$@\"", "sh"]);
        command.arg(add.get_program()).args(add.get_args());
        command.envs(
            add.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.current_dir(&gone);
        clear(
            run(command, b"")?,
            1,
            &["the current directory was removed"],
        )?;
        let project = cluster.repository("project")?;
        let mut command = cluster.command(project.dir(), &["add", "x", "--agent", "noop"]);
        let nowhere = cluster.path("nowhere");
        command.env("TMPDIR", &nowhere);
        clear(
            run(command, b"")?,
            1,
            &["TMPDIR", &nowhere.to_string_lossy()],
        )?;
        nothing_was_queued(cluster)
    })
}

fn no_config() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let binaries = Binaries::get();
    let programs = [binaries.ctl(), binaries.head(), binaries.worker()];
    for (program, more) in programs.into_iter().zip([&["status"][..], &[], &[]]) {
        let mut command = std::process::Command::new(program);
        command
            .env_clear()
            .arg("--config")
            .arg("/nonexistent.yaml")
            .args(more);
        command.arg("--state").arg(cluster.path("nowhere"));
        let refused = run(command, b"")?.exits(2)?;
        refused.complains(&["--config", "/nonexistent.yaml", "there is no such file"])?;
    }
    ensure!(!cluster.path("nowhere").exists());
    cluster.expect_no_process()
}

fn late() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let add = |at: &str, json: &[&str]| {
            let args = ["add", "--agent", "shell", "--no-repo", "--at", at];
            cluster
                .ctl(&[&args[..], json, &["--", "true"]].concat())?
                .ok()
        };
        let past = "--at is in the past (2020-01-01T10:00:00.000Z, ";
        add("2020-01-01T10:00:00Z", &[])?.complains(&[past])?;
        // Also to a script: it is no part of the document.
        let json = add("2020-01-01T10:00:00Z", &["--json"])?.complains(&[past])?;
        json.json()?;
        let later = add("+9h", &[])?;
        ensure!(!later.stderr.contains("past"), "{later}");
        Ok(())
    })
}

fn no_head() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    for command in ["status", "tasks", "agents", "workers"] {
        clear(cluster.ctl(&[command])?, 3, &["ctl start"])?;
    }
    clear(cluster.ctl(&["add", "x"])?, 3, &["ctl start"])?;
    // The next command asks the same head as this one, wherever the options stand.
    let elsewhere = cluster.path("else where");
    let elsewhere = elsewhere.to_string_lossy();
    let named = format!("`ctl --state '{elsewhere}' start`");
    for args in [
        ["--state", &elsewhere, "tasks"],
        ["tasks", "--state", &elsewhere],
    ] {
        clear(cluster.ctl(&args)?, 3, &[&named])?;
    }
    cluster.stop()?;
    cluster.expect_no_process()
}

fn broken_config() -> anyhow::Result<()> {
    let cases: [(&str, &[&str]); 4] = [
        (
            "worke:\n  slots: 3\n",
            &["orchestra.yaml:1:1", "worke", "worker"],
        ),
        (
            "worker:\n  slots: many\n",
            &["orchestra.yaml:2:10", "whole number"],
        ),
        (
            "worker:\n  slots: 1\n  slots: 2\n",
            &["orchestra.yaml:3:", "slots"],
        ),
        ("worker: [\n", &["orchestra.yaml:"]),
    ];
    for (config, wants) in cases {
        let cluster = Cluster::new(Setup::new().config(config))?;
        clear(cluster.ctl(&["start", "--detach"])?, 1, wants)
            .with_context(|| format!("for the configuration {config:?}"))?;
        ensure!(
            !fs::exists(cluster.state().join("head/head.json"))?,
            "a head started"
        );
        cluster.expect_no_process()?;
    }
    Ok(())
}

fn wrong_head() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let wrong = "127.0.0.1:1";
        let said = cluster.ctl(&["--head", wrong, "tasks"])?;
        let hint = "check the address after --head";
        clear(
            said.clone(),
            3,
            &[wrong, hint, "`ctl status` on the head's machine"],
        )?;
        ensure!(!said.stderr.contains(&format!("{wrong} start")), "{said}");
        let said = cluster
            .ctl(&["--head", wrong, "tasks", "--json"])?
            .exits(3)?;
        let document: Value = serde_json::from_str(&said.stderr)?;
        let shown = document["error"]["hint"].as_str().unwrap_or_default();
        ensure!(shown.starts_with(hint), "{said}");
        Ok(())
    })
}

/// One line that names the trouble, exit code as documented, nothing on standard output.
fn clear(output: Output, code: i32, names: &[&str]) -> anyhow::Result<()> {
    let output = output
        .exits(code)?
        .complains(names)?
        .complains(&["error: "])?;
    ensure!(
        output.stdout.is_empty(),
        "an error belongs on standard error\n{output}"
    );
    ensure!(!output.stderr.contains("panicked"), "it panicked\n{output}");
    Ok(())
}

fn nothing_was_queued(cluster: &Cluster) -> anyhow::Result<()> {
    let tasks = cluster.json(&["tasks"])?;
    ensure!(
        tasks["tasks"].as_array().is_some_and(Vec::is_empty),
        "there are tasks: {tasks}"
    );
    Ok(())
}
