//! What `ctl` prints: stable names in JSON, no colours where there is no terminal.

use std::collections::BTreeSet;

use anyhow::ensure;
use orchestra_tests::{Cluster, Deadline, Need, Project, Setup, Test, scene};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "on_a_terminal_there_are_colours_unless_they_are_not_wanted",
            colours,
        )
        .needs(&[Need::Program("script")]),
        Test::new(
            "on_a_narrow_terminal_no_line_of_a_table_is_too_long",
            narrow_tables,
        )
        .needs(&[Need::Program("script")]),
        Test::new("json_documents_keep_their_names", names),
        Test::new("names_that_are_not_utf_8_are_told_apart", odd_names),
        Test::new("json_documents_mean_what_the_page_says", meanings),
        Test::new(
            "without_a_terminal_there_is_no_escape_code",
            no_escape_codes,
        ),
        Test::new("a_task_that_changed_nothing_has_an_empty_diff", empty_diff),
        Test::new(
            "the_step_after_an_apply_shows_all_that_was_applied",
            after_apply,
        ),
        Test::new(
            "what_can_be_typed_stands_whole_below_a_list_of_tasks",
            hints_of_a_list,
        ),
        Test::new("an_empty_list_is_no_failure", empty_lists),
        Test::new("each_refusal_names_its_task", refusals),
        Test::new("a_reader_that_goes_away_is_no_error", closed_pipe),
        Test::new(
            "whoever_waits_exits_as_the_task_though_nobody_reads",
            unread_end,
        ),
        Test::new("a_list_of_tasks_says_that_it_is_cut", cut_list),
        Test::new(
            "completions_and_man_pages_are_there_for_every_command",
            shell_files,
        ),
    ]
}

fn names() -> anyhow::Result<()> {
    scene(Setup::new().model("hello"), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["Write hello.txt", "--agent", "agent"])?;
        let document = cluster.succeeded(&task, Deadline::SOON)?;
        expect(&document, TASK)?;
        expect(
            &document["usage"],
            "cached_tokens cost_microusd input_tokens output_tokens turns",
        )?;
        expect(&document["files"][0], FILE)?;
        expect(&cluster.json(&["status"])?, STATUS)?;
        let tasks = cluster.json(&["tasks"])?;
        expect(&tasks, "next_after_id tasks truncated")?;
        expect(&tasks["tasks"][0], TASK)?;
        expect(&cluster.json(&["workers"])?["workers"][0], WORKER)?;
        expect(&cluster.json(&["agents"])?["agents"][0], AGENT)?;
        expect(&cluster.json(&["files", &task])?["files"][0], FILE)?;
        let stat = cluster.json(&["diff", &task, "--stat"])?;
        expect(&stat, "attempt changes files id warnings")?;
        expect(&stat["files"][0], FILE)?;
        ensure!(stat["changes"] == document["changes"], "{stat}");
        let stat = cluster.ctl(&["diff", &task, "--stat"])?.ok()?;
        let shown = stat.stdout == "  A hello.txt  +1\n  1 file, +1 −0\n";
        ensure!(shown, "{stat}");
        let token = cluster.json(&["token", "create"])?;
        expect(&token, "command expires_at head id token")?;
        let tokens = cluster.json(&["token", "list"])?;
        expect(&tokens, "tokens")?;
        let listed = "created_at expires_at id state used_by";
        expect(&tokens["tokens"][0], listed)?;
        let events = cluster.events(&task)?;
        for event in &events {
            let keys = keys(event);
            for name in ["task", "attempt", "seq", "time", "type"] {
                ensure!(keys.contains(name), "an event has no {name}: {event}");
            }
        }
        Ok(())
    })
}

fn odd_names() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let script = r#"echo x > "$(printf 'bad\376')"; echo yy > "$(printf 'bad\377')""#;
        let task = cluster.add(&project, &[script, "--agent", "shell"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let files = cluster.json(&["files", &task])?;
        let of = |name: &str| {
            files["files"]
                .as_array()?
                .iter()
                .find(|f| f["path_quoted"] == name)
        };
        for (name, size) in [(r#""bad\376""#, 2), (r#""bad\377""#, 3)] {
            ensure!(
                of(name).is_some_and(|file| file["size"] == size),
                "{files:#}"
            );
        }
        let shown = cluster.ctl(&["files", &task])?.ok()?;
        let names = "  A \"bad\\376\"  +1\n  A \"bad\\377\"  +1\n";
        ensure!(shown.stdout == names, "{shown}");
        Ok(())
    })
}

fn meanings() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let add = |args: &[&str]| cluster.add(&project, &[&["--agent", "shell"], args].concat());
        let failed = add(&["exit 1"])?;
        cluster.wait_for(&failed, &["failed"], Deadline::SOON)?;
        let blocked = add(&["true", "--after", &failed])?;
        let open = add(&["true", "--at", "+9h"])?;
        let run = ["true", "--on-dependency-failure", "run"];
        let runs = add(&[&run[..], &["--after", &failed, "--after", &open]].concat())?;
        ensure!(cluster.show(&blocked)?["waits_for"] == json!([failed]));
        ensure!(cluster.show(&runs)?["waits_for"] == json!([open]));
        let status = cluster.json(&["status"])?;
        let priorities = json!({"high": 0, "normal": 3, "low": 0});
        ensure!(status["priorities"] == priorities, "{status}");
        for args in [
            &["logs", &failed, "--raw", "--json"][..],
            &["logs", &failed, "--stderr", "--json"],
            &["backup", "-", "--json"],
        ] {
            cluster.ctl(args)?.exits(2)?.complains(&["--json"])?;
        }
        let day = ["budget", "--project", "project", "--attempts"];
        cluster.ctl(&[&day[..], &["10"]].concat())?.ok()?;
        let added = cluster.json(&[&day[..], &["+5"]].concat())?;
        let added = &added["projects"][0];
        expect(added, "budget name project spent today until")?;
        ensure!(added["budget"]["attempts"] == 10, "{added}");
        ensure!(added["today"]["attempts"] == 15, "{added}");
        let purge = cluster.json(&["purge", "--dry-run"])?;
        expect(
            &purge,
            "bytes dry_run events_of files output_bytes outputs task_ids tasks",
        )?;
        ensure!(purge["events_of"] == 0, "{purge}");
        Ok(())
    })
}

const TASK: &str = "after apply attempt attempts branch budget cancel_requested changes command commit context \
    created_at description fallback files files_lost finished_at finishing id labels model not_before on_dependency_failure parent place ports \
    priority project queue_timeout_seconds reason requires result retries runner schedule set_up silent_since spent \
    stall_timeout_seconds start_at started_at status submitter timeout_seconds usage waits_because waits_for worker";
const FILE: &str = "binary change lines_added lines_removed mode path path_quoted renamed_from renamed_from_quoted sha256 size";
const STATUS: &str = "agents cluster disk_full finishing listen machine metrics parked_accounts pid priorities restored state_dir stopping_since \
    tasks uptime_seconds version workers workers_closed";
const WORKER: &str = "address attempts availability certificate_expires_at cores disk_bytes disk_free_bytes hostname id isolation joined_at \
    kill_method labels last_seen limits machine memory_bytes name pid runners slots state version waiting";
const AGENT: &str = "attempt description runner since state worker worker_name";

fn keys(document: &Value) -> BTreeSet<&str> {
    document
        .as_object()
        .map(|o| o.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

fn expect(document: &Value, names: &str) -> anyhow::Result<()> {
    let want: BTreeSet<&str> = names.split_whitespace().collect();
    let found = keys(document);
    ensure!(
        found == want,
        "want {want:?}\nfound {found:?}\nin {document:#}"
    );
    Ok(())
}

fn no_escape_codes() -> anyhow::Result<()> {
    scene(Setup::new().model("hello"), |cluster| {
        let project = cluster.repository("project")?;
        let add = ["add", "Write hello.txt", "--agent", "agent", "--follow"];
        let mut outputs = vec![cluster.ctl_in(project.dir(), &add)?.ok()?];
        for args in every_view() {
            outputs.push(cluster.ctl_in(project.dir(), &args)?.ok()?);
        }
        for output in outputs {
            let escape = output.stdout.contains('\x1b') || output.stderr.contains('\x1b');
            ensure!(!escape, "there are escape codes\n{output}");
        }
        Ok(())
    })
}

fn colours() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let task = cluster.add(&project, &["true", "--agent", "shell"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let ctl = orchestra_tests::Binaries::get().ctl();
        let tasks = format!("{} tasks", ctl.display());
        ensure!(
            on_terminal(cluster, &tasks)?.contains("\x1b["),
            "no colours on a terminal"
        );
        for no_colours in ["NO_COLOR=1", "TERM=dumb"] {
            let said = on_terminal(cluster, &format!("{no_colours} {tasks}"))?;
            ensure!(
                !said.contains("\x1b["),
                "{no_colours}, and yet there are colours: {said:?}"
            );
            ensure!(said.contains("task_001"), "{said:?}");
        }
        Ok(())
    })
}

fn narrow_tables() -> anyhow::Result<()> {
    scene(Setup::new().model("hello"), |cluster| {
        let project = cluster.repository("project")?;
        let long = "true # and a description that is much longer than the terminal is wide";
        let task = cluster.add(&project, &[long, "--agent", "shell"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let recurring = ["add", long, "--agent", "shell", "--every", "6h"];
        cluster.ctl_in(project.dir(), &recurring)?.ok()?;
        let budget = ["budget", "--project", "project", "--tokens", "1000000"];
        cluster.ctl(&budget)?.ok()?;
        let ctl = orchestra_tests::Binaries::get().ctl();
        for (command, name) in [
            ("tasks", "task_001"),
            ("workers", "connected"),
            ("workers -v", "disk free"),
            ("schedules", "schedule_001"),
            ("schedules -v", "schedule_001"),
            ("agents", "idle"),
            ("accounts", "open"),
            ("budget", "project"),
        ] {
            let line = format!("stty cols 40; {} {command} --color never", ctl.display());
            let said = on_terminal(cluster, &line)?;
            ensure!(said.contains(name) && longest(&said) <= 40, "{said}");
            let words: Vec<&str> = command.split(' ').collect();
            let whole = cluster.ctl(&words)?.ok()?;
            ensure!(
                longest(&whole.stdout) > 40,
                "it is cut elsewhere too\n{whole}"
            );
        }
        Ok(())
    })
}

fn longest(text: &str) -> usize {
    let lines = text.lines().map(|line| line.trim_end().chars().count());
    lines.max().unwrap_or_default()
}

/// Runs a shell command on a terminal of its own.
fn on_terminal(cluster: &Cluster, line: &str) -> anyhow::Result<String> {
    let environment = cluster.command(&cluster.path(""), &[] as &[&str]);
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", line, "/dev/null"])
        .env_clear()
        .env("TERM", "xterm-256color");
    for (name, value) in environment.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    Ok(orchestra_tests::run(script, b"")?.ok()?.stdout)
}

fn every_view() -> Vec<Vec<&'static str>> {
    [
        "status",
        "tasks",
        "agents",
        "workers",
        "show 1",
        "wait 1",
        "logs 1",
        "files 1",
        "diff 1",
        "--help",
        "--version",
    ]
    .into_iter()
    .map(|line| line.split(' ').collect())
    .collect()
}

fn empty_diff() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let add = |text: &str| cluster.add(&project, &[text, "--agent", "shell"]);
        let task = add("true")?;
        cluster.succeeded(&task, Deadline::SOON)?;
        for args in [
            &["diff", &task][..],
            &["diff", &task, "--stat"],
            &["apply", &task],
        ] {
            let said = cluster.ctl_in(project.dir(), args)?.ok()?;
            let names = format!("{task} changed no files");
            ensure!(
                said.stdout.is_empty() && said.stderr.contains(&names),
                "{said}"
            );
        }
        let patch = cluster.json(&["diff", &task])?;
        ensure!(patch["patch"] == "" && patch["attempt"] == 1, "{patch}");
        let stat = cluster.json(&["diff", &task, "--stat"])?;
        ensure!(
            stat["files"] == json!([]) && stat["changes"]["files"] == 0,
            "{stat}"
        );
        let apply = ["apply", &task, "--json"];
        let applied = cluster.ctl_in(project.dir(), &apply)?.ok()?.json()?;
        ensure!(
            applied["files"] == 0 && applied["checkout"].is_null(),
            "{applied}"
        );
        // Whoever wants the branch goes on with it.
        let branch = cluster
            .ctl_in(project.dir(), &["apply", &task, "--branch"])?
            .exits(4)?;
        branch.complains(&["nothing to apply", "changed no files"])?;

        let blocked = cluster.add(&project, &["true", "--agent", "shell", "--at", "+9h"])?;
        for args in [&["diff", &blocked][..], &["diff", &blocked, "--stat"]] {
            let refused = cluster.ctl(args)?.exits(4)?;
            refused.complains(&["has not been started yet"])?;
        }
        Ok(())
    })
}

fn after_apply() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("my project")?;
        let add = |text: &str| cluster.add(&project, &[text, "--agent", "shell"]);
        let edit = add("echo two >> README.md")?;
        let new = add("echo new > new.txt")?;
        for task in [&edit, &new] {
            cluster.succeeded(task, Deadline::SOON)?;
        }
        let here = cluster.ctl_in(project.dir(), &["apply", &edit])?.ok()?;
        let here = here.complains(&["next: git diff\n"])?;
        ensure!(here.stdout.contains("applied 1 file"), "{here}");
        let again = cluster.ctl_in(project.dir(), &["apply", &edit])?.ok()?;
        ensure!(again.stdout.contains("there already"), "{again}");
        ensure!(!again.stdout.contains("applied"), "{again}");
        let git = format!("git -C '{}'", project.dir().display());
        let elsewhere = cluster.ctl(&["apply", &new])?.ok()?;
        elsewhere.complains(&[&format!("next: {git} status\n")])?;
        let branch = cluster.ctl(&["apply", &new, "--branch"])?.ok()?;
        let merge = format!("merge orchestra/{new}");
        let first = "next: commit or stash what is not committed, then";
        branch.complains(&[&format!("{first} {git} {merge}\n")])?;
        ensure!(
            project
                .git(&["merge", &format!("orchestra/{new}")])
                .is_err()
        );
        project.git(&["stash", "-u"])?;
        let branch = cluster.ctl(&["apply", &new, "--branch"])?.ok()?;
        branch.complains(&[&format!("next: {git} {merge}\n")])?;
        let before = add("echo made > made.txt")?;
        let text = "echo three >> README.md";
        let after = cluster.add(&project, &[text, "--agent", "shell", "--after", &before])?;
        cluster.succeeded(&after, Deadline::SOON)?;
        let both = cluster.ctl_in(project.dir(), &["apply", &after])?.ok()?;
        both.complains(&["next: git status\n"])?;
        several(cluster, &project)
    })
}

/// Tasks of which the second conflicts with the first.
fn several(cluster: &Cluster, project: &Project) -> anyhow::Result<()> {
    project.git(&["add", "-A"])?;
    project.git(&["commit", "-qm", "all"])?;
    let add = |text: &str| cluster.add(project, &[text, "--agent", "shell"]);
    let first = add("echo first > README.md")?;
    let second = add("echo second > README.md")?;
    let third = add("echo third > third.txt")?;
    for task in [&first, &second, &third] {
        cluster.succeeded(task, Deadline::SOON)?;
    }
    let apply = ["apply", &first, &second, &third];
    let stopped = cluster.ctl_in(project.dir(), &apply)?.exits(5)?;
    let text = format!("{second} is not applied; applied before it: {first}; not tried: {third}");
    let stopped = stopped.complains(&[&text, "next: git diff\n"])?;
    ensure!(
        stopped
            .stdout
            .contains(&format!("{first}:\n✓ applied 1 file")),
        "{stopped}"
    );
    ensure!(!project.has("third.txt"), "it went on");
    let json = [&["--json"], &apply[..]].concat();
    let stopped = cluster.ctl_in(project.dir(), &json)?.exits(5)?;
    let document: Value = serde_json::from_str(&stopped.stdout)?;
    ensure!(document["tasks"][0]["id"] == *first, "{document}");
    ensure!(
        document["not_applied"] == json!([second, third]),
        "{document}"
    );
    let both = cluster
        .ctl_in(project.dir(), &["apply", &first, &third])?
        .ok()?;
    let both = both.complains(&["next: git status\n"])?;
    ensure!(both.stdout.contains("there already"), "{both}");
    ensure!(project.has("third.txt"), "it is not applied");
    Ok(())
}

fn hints_of_a_list() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let add = ["sleep 60", "--agent", "shell", "--budget", "1s"];
        let task = cluster.add(&project, &add)?;
        cluster.wait_for(&task, &["needs_review"], Deadline::SOON)?;
        let head = cluster.json(&["status"])?["listen"].clone();
        let head = head.as_str().unwrap_or_default();
        let said = cluster.ctl(&["--head", head, "tasks"])?.ok()?;
        let row = said.stdout.contains("budget_exceeded: ") && !said.stdout.contains("ctl");
        ensure!(row, "{said}");
        let hint = format!("`ctl --head {head} budget {task} --time +1h`");
        said.complains(&[&format!("{task}: "), &hint])?;
        let document = cluster.json(&["--head", head, "tasks"])?;
        let message = document["tasks"][0]["reason"]["message"].as_str();
        let plain = format!("`ctl budget {task} --time +1h`");
        ensure!(message.is_some_and(|m| m.contains(&plain)), "{document}");
        // It is not open, and who cancels everything is told.
        let stays = format!("{task} waits for a person and stays; `ctl cancel {task}` cancels");
        cluster
            .ctl(&["cancel", "--all"])?
            .ok()?
            .complains(&[&stays])?;
        ensure!(cluster.status(&task)? == "needs_review");
        let open = cluster.json(&["tasks", "--status", "open"])?;
        ensure!(open["tasks"] == serde_json::json!([]), "{open}");
        cluster.ctl(&["cancel", "--status", "needs_review"])?.ok()?;
        ensure!(cluster.status(&task)? == "cancelled");
        Ok(())
    })
}

/// As with other programs that list: a script asks for failed tasks and goes on.
fn empty_lists() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let nothing: [&[&str]; 5] = [
            &["tasks"],
            &["tasks", "--status", "failed"],
            &["tasks", "--label", "a=b", "--runner", "shell"],
            &["tasks", "--submitter", "nobody"],
            &["schedules"],
        ];
        for args in nothing {
            let said = cluster.ctl(args)?.ok()?.complains(&["no "])?;
            ensure!(said.stdout.is_empty(), "{said}");
        }
        let document = cluster.json(&["tasks", "--status", "failed"])?;
        ensure!(document["tasks"] == json!([]), "{document}");
        cluster.ctl(&["tasks", "--project", "none"])?.exits(4)?;
        Ok(())
    })
}

/// A script need not read words to know which of several tasks was refused.
fn refusals() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        for _ in 0..2 {
            let add = ["add", "--wait", "--agent", "noop", "--no-repo", "x"];
            cluster.ctl(&add)?.ok()?;
        }
        let refused = |args: &[&str], code, tasks: &[Value]| {
            let said = cluster.ctl(&[&["--json"], args].concat())?.exits(code)?;
            let lines = said.stderr.lines().map(serde_json::from_str::<Value>);
            let errors = lines.collect::<Result<Vec<_>, _>>()?;
            let about: Vec<_> = errors
                .iter()
                .map(|line| line["error"]["task"].clone())
                .collect();
            ensure!(about == tasks, "{args:?} is about {tasks:?}\n{said}");
            let last = errors.last().map(|line| line["error"]["exit_code"].clone());
            ensure!(last == Some(code.into()), "{said}");
            anyhow::Ok(said)
        };
        let [first, second, none] = ["task_001", "task_002", "task_009"].map(Value::from);
        let several = ["cancel", "1", "9", "2"];
        let said = refused(&several, 5, &[none.clone(), second, first.clone()])?;
        ensure!(said.json()?["tasks"] == json!([]), "{said}");
        refused(&["retry", "9", "1"], 4, &[first.clone(), none.clone()])?;
        for command in ["show", "wait", "diff", "files", "logs", "apply", "budget"] {
            refused(&[command, "9"], 4, std::slice::from_ref(&none))?;
        }
        refused(&["apply", "1", "2"], 4, std::slice::from_ref(&first))?;
        refused(&["priority", "9", "high"], 4, std::slice::from_ref(&none))?;
        let after = ["add", "x", "--agent", "noop", "--no-repo", "--after", "9"];
        refused(&after, 4, &[none])?;
        refused(&["tasks", "--project", "none"], 4, &[Value::Null])?;
        Ok(())
    })
}

fn closed_pipe() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let mut command = std::process::Command::new("bash");
    let ctl = orchestra_tests::Binaries::get().ctl();
    command
        .args([
            "-c",
            "\"$0\" man --help >/dev/full; \"$0\" --help | true; echo ${PIPESTATUS[0]}",
        ])
        .arg(ctl);
    let output = orchestra_tests::run(command, b"")?.ok()?;
    ensure!(output.stdout.trim() == "0", "{output}");
    ensure!(!output.stderr.contains("panicked"), "{output}");
    cluster.expect_no_process()
}

fn unread_end() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let ctl = orchestra_tests::Binaries::get().ctl();
        let environment = cluster.command(project.dir(), &[] as &[&str]);
        let add = "add 'exit 1' --agent shell --wait";
        for line in [add, "wait 1", "wait 1 --json"] {
            let mut command = std::process::Command::new("bash");
            // Nobody has the pipe open for reading any more when it begins.
            let script =
                format!("( sleep 0.2; exec \"$0\" {line} ) | true; echo ${{PIPESTATUS[0]}}");
            command.args(["-c", &script]).arg(&ctl);
            command.current_dir(project.dir());
            for (name, value) in environment.get_envs() {
                command.env(name, value.unwrap_or_default());
            }
            let output = orchestra_tests::run(command, b"")?.ok()?;
            ensure!(output.stdout.trim() == "6", "{line}\n{output}");
        }
        Ok(())
    })
}

fn cut_list() -> anyhow::Result<()> {
    scene(Setup::new().agents("shell:1"), |cluster| {
        let lines =
            "{\"description\": \"true\", \"agent\": \"shell\", \"at\": \"+9h\"}\n".repeat(1002);
        let file = cluster.path("tasks.jsonl");
        std::fs::write(&file, lines)?;
        let file = file.to_string_lossy().into_owned();
        cluster.ctl(&["add", "-f", &file, "--no-repo"])?.ok()?;
        let count = |args: &[&str]| -> anyhow::Result<_> {
            let said = cluster.ctl(args)?.ok()?;
            let document = said.json()?;
            let ids = document["tasks"].as_array().map_or(0, Vec::len);
            let warned = said.stderr.contains("only the latest");
            Ok((ids, document["truncated"] == true, warned))
        };
        ensure!(count(&["tasks", "--json"])? == (50, true, true));
        let most = count(&["tasks", "--json", "-n", "1001"])?;
        ensure!(most == (1001, true, true), "{most:?}");
        let all = count(&["tasks", "--json", "-n", "5000"])?;
        ensure!(all == (1002, false, false), "{all:?}");
        Ok(())
    })
}

fn shell_files() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    for shell in ["bash", "zsh", "fish"] {
        let output = cluster.ctl(&["completions", shell])?.ok()?;
        ensure!(
            output.stdout.contains("follow"),
            "no completions for {shell}\n{output}"
        );
        for value in ["needs_review", "normal", "codex"] {
            ensure!(
                output.stdout.contains(value),
                "no completion of `{value}` for {shell}"
            );
        }
    }
    cluster.expect_no_process()
}
