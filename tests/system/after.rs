//! Tasks that come after others begin with their changes.

use anyhow::{Context, ensure};
use orchestra_tests::{
    Cluster, Deadline, GATE, Output, Project, Setup, Test, alive, kill_9, scene, until,
};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_chain_builds_on_itself_and_is_applied_at_once", chain),
        Test::new("a_chain_is_applied_one_after_the_other", step_by_step),
        Test::new("a_task_that_changed_nothing_brings_its_chain", pipeline),
        Test::new("the_head_applies_a_chain_as_it_grows", grows),
        Test::new("a_chain_that_is_there_is_not_applied_in_parts", backwards),
        Test::new("what_was_applied_elsewhere_is_not_here", elsewhere),
        Test::new("a_task_may_be_queued_when_a_part_is_applied", queued_later),
        Test::new("changes_that_conflict_are_left_out_and_told", conflict),
        Test::new(
            "what_a_failed_task_did_is_at_hand_and_not_built_on",
            unfinished,
        ),
        Test::new("a_killed_worker_still_knows_what_was_built_on", killed),
        Test::new("a_directory_without_git_is_built_on_too", directory),
        Test::new("a_first_commit_cuts_nothing_off", first_commit),
        Test::new("an_agent_is_told_what_its_files_have", told),
    ]
}

fn shell(
    cluster: &Cluster,
    project: &Project,
    command: &str,
    after: &[&str],
) -> anyhow::Result<String> {
    let after: Vec<&str> = after.iter().flat_map(|id| ["--after", id]).collect();
    let add = [&["--agent", "shell", command][..], &after];
    cluster.add(project, &add.concat())
}

fn apply(cluster: &Cluster, project: &Project, task: &str) -> anyhow::Result<Output> {
    cluster.ctl_in(project.dir(), &["apply", task])?.ok()
}

fn latest(task: &Value) -> &Value {
    let attempts = task["attempts"].as_array();
    attempts.and_then(|all| all.last()).unwrap_or(&Value::Null)
}

const PLAN: &str = "echo one > new.txt";
const IMPLEMENT: &str = "grep -qx one new.txt && echo two >> new.txt";
const REVIEW: &str = "cat new.txt";
const FIX: &str = "grep -qx two new.txt && echo three >> new.txt";

fn chain() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let second = shell(cluster, &project, IMPLEMENT, &[&first])?;
        let review = shell(cluster, &project, REVIEW, &[&second])?;
        let fix = shell(cluster, &project, FIX, &[&review])?;
        let fixed = cluster.succeeded(&fix, Deadline::SOON)?;
        ensure!(latest(&fixed)["built_on"] == json!([review]), "{fixed:#}");
        let diff = cluster.ctl(&["diff", &fix])?.ok()?.stdout;
        ensure!(diff.contains("+three") && !diff.contains("+two"), "{diff}");
        let shown = cluster.ctl(&["show", &fix])?.ok()?.stdout;
        ensure!(shown.contains(&format!("built on    {review}")), "{shown}");

        let reviewed = cluster.show(&review)?;
        ensure!(
            reviewed["branch"].is_null(),
            "it changed nothing: {reviewed:#}"
        );
        let applied = apply(cluster, &project, &fix)?.stdout;
        let with = format!("with the changes of {first}, {second}, on which {fix} is built");
        ensure!(applied.contains(&with), "{applied}");
        ensure!(project.read("new.txt")? == "one\ntwo\nthree\n");
        for task in [&first, &second, &fix] {
            let task = cluster.show(task)?;
            ensure!(task["apply"]["result"] == "applied", "{task:#}");
        }
        let branch = project.git(&["show", &format!("orchestra/{fix}:new.txt")])?;
        ensure!(branch.trim_end() == "one\ntwo\nthree", "{branch}");
        Ok(())
    })
}

/// What is applied only when the tests have passed, by the head and by a person.
fn pipeline() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let second = shell(cluster, &project, IMPLEMENT, &[&first])?;
        let add = ["--agent", "shell", REVIEW, "--after", &second];
        let test = cluster.add(&project, &[&add[..], &["--apply"]].concat())?;
        let tested = cluster.succeeded(&test, Deadline::SOON)?;
        ensure!(tested["apply"]["result"] == "applied", "{tested:#}");
        ensure!(project.read("new.txt")? == "one\ntwo\n");
        let again = apply(cluster, &project, &test)?.stdout;
        ensure!(again.contains("there already"), "{again}");
        let document = cluster.ctl_in(project.dir(), &["apply", &second, "--json"])?;
        let document: Value = serde_json::from_str(&document.ok()?.stdout)?;
        ensure!(document["already"] == true, "{document}");
        ensure!(document["files"] == 0, "{document}");

        let other = cluster.repository("other")?;
        let first = shell(cluster, &other, PLAN, &[])?;
        let test = shell(cluster, &other, "test -e new.txt", &[&first])?;
        cluster.succeeded(&test, Deadline::SOON)?;
        ensure!(other.git(&["branch", "--list", &format!("orchestra/{test}")])? == "");
        let branch = ["apply", &test, "--branch"];
        cluster.ctl_in(other.dir(), &branch)?.ok()?;
        ensure!(!other.has("new.txt"));
        let applied = apply(cluster, &other, &test)?.stdout;
        let with = format!("with the changes of {first}, on which {test} is built");
        ensure!(
            applied.contains("applied 1 file") && applied.contains(&with),
            "{applied}"
        );
        ensure!(other.read("new.txt")? == "one\n");
        let first = cluster.show(&first)?;
        ensure!(first["apply"]["result"] == "applied", "{first:#}");
        let diff = cluster.ctl_in(other.dir(), &["diff", &test])?.ok()?;
        ensure!(diff.stdout.is_empty(), "{}", diff.stdout);
        Ok(())
    })
}

fn step_by_step() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let second = shell(cluster, &project, IMPLEMENT, &[&first])?;
        cluster.succeeded(&second, Deadline::SOON)?;
        // Nothing is committed in between.
        for (task, text) in [(&first, "one\n"), (&second, "one\ntwo\n")] {
            let applied = apply(cluster, &project, task)?.stdout;
            ensure!(!applied.contains("with the changes"), "{applied}");
            ensure!(project.read("new.txt")? == text);
        }
        Ok(())
    })
}

fn backwards() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let second = shell(cluster, &project, "mv new.txt moved.txt", &[&first])?;
        cluster.succeeded(&second, Deadline::SOON)?;
        apply(cluster, &project, &second)?;
        for _ in 0..2 {
            let again = apply(cluster, &project, &first)?.stdout;
            let branch = format!("orchestra/{second}");
            ensure!(again.contains("there already") && again.contains(&branch));
            ensure!(!project.has("new.txt") && project.read("moved.txt")? == "one\n");
            let document = cluster.ctl_in(project.dir(), &["apply", &first, "--json"])?;
            let document: Value = serde_json::from_str(&document.ok()?.stdout)?;
            ensure!(document["within"] == branch, "{document}");
            project.git(&["add", "-A"])?;
            project.git(&["commit", "-q", "--allow-empty", "-m", "both"])?;
        }
        Ok(())
    })
}

fn elsewhere() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        project.write("f", "1\n2\n3\n4\n5\n6\n7\n8\n9\n")?;
        project.git(&["add", "f"])?;
        project.git(&["commit", "-q", "-m", "lines"])?;
        let other = Project::plain(&cluster.path("other"))?;
        let from = project.dir().to_str().context("a plain path")?;
        other.git(&["clone", "-q", from, "."])?;
        let first = shell(cluster, &project, "sed -i s/1/ONE/ f", &[])?;
        let second = shell(cluster, &project, "sed -i s/9/NINE/ f", &[&first])?;
        cluster.succeeded(&second, Deadline::SOON)?;
        apply(cluster, &project, &first)?;
        // Another clone, with an edit of the same file: nothing is there yet.
        other.write("f", "1\n2\n3\n4\nmine\n6\n7\n8\n9\n")?;
        other.git(&["commit", "-q", "-am", "mine"])?;
        let both = "ONE\n2\n3\n4\nmine\n6\n7\n8\nNINE\n";
        let applied = apply(cluster, &other, &second)?.stdout;
        ensure!(applied.contains("with the changes of"), "{applied}");
        ensure!(other.read("f")? == both, "{}", other.read("f")?);
        // The same one after taking it back, where the later one is a branch only.
        other.git(&["checkout", "-q", "."])?;
        let again = apply(cluster, &other, &first)?.stdout;
        ensure!(!again.contains("there already"), "{again}");
        ensure!(other.read("f")? == both.replace("NINE", "9"));
        // Merged, it has both, whatever is applied.
        other.git(&["checkout", "-q", "."])?;
        other.git(&["merge", "-q", "--no-edit", &format!("orchestra/{second}")])?;
        let merged = apply(cluster, &other, &first)?.stdout;
        ensure!(merged.contains("there already"), "{merged}");
        ensure!(other.read("f")? == both);
        Ok(())
    })
}

fn grows() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let add = |command: &str, more: &[&str]| {
            let add = ["--agent", "shell", command, "--apply"];
            cluster.add(&project, &[&add, more].concat())
        };
        let first = add(PLAN, &[])?;
        let second = add(IMPLEMENT, &["--after", &first])?;
        let third = add(FIX, &["--after", &second])?;
        let end = cluster.succeeded(&third, Deadline::SOON)?;
        ensure!(end["apply"]["result"] == "applied", "{end:#}");
        ensure!(project.read("new.txt")? == "one\ntwo\nthree\n");
        Ok(())
    })
}

fn queued_later() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let second = shell(cluster, &project, IMPLEMENT, &[&first])?;
        cluster.succeeded(&second, Deadline::SOON)?;
        apply(cluster, &project, &first)?;
        // Its snapshot has the first change, and not the second.
        let third = shell(cluster, &project, FIX, &[&second])?;
        cluster.succeeded(&third, Deadline::SOON)?;
        apply(cluster, &project, &third)?;
        ensure!(project.read("new.txt")? == "one\ntwo\nthree\n");
        Ok(())
    })
}

fn conflict() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(
            cluster,
            &project,
            "echo one > same.txt; echo 1 > a.txt",
            &[],
        )?;
        let second = shell(
            cluster,
            &project,
            "echo two > same.txt; echo 2 > b.txt",
            &[],
        )?;
        // The other one is a branch of the clone.
        let look = format!(
            "test -e a.txt && test ! -e b.txt && git show orchestra/{second}:same.txt | grep -qx two"
        );
        let third = shell(cluster, &project, &look, &[&first, &second])?;
        let end = cluster.succeeded(&third, Deadline::SOON)?;
        ensure!(latest(&end)["built_on"] == json!([first]), "{end:#}");
        ensure!(latest(&end)["left_out"] == json!([second]), "{end:#}");
        let logs = cluster.ctl(&["logs", &third])?.ok()?.stdout;
        let told = format!("the change of {second} is left out: it conflicts in `same.txt`");
        ensure!(logs.contains(&told), "{logs}");
        let shown = cluster.ctl(&["show", &third])?.ok()?.stdout;
        ensure!(shown.contains("left out"), "{shown}");
        // Whose change goes first is said by the order.
        let turned = shell(cluster, &project, "true", &[&second, &first])?;
        let end = cluster.succeeded(&turned, Deadline::SOON)?;
        ensure!(end["after"] == json!([second, first]), "{end:#}");
        ensure!(latest(&end)["built_on"] == json!([second]), "{end:#}");
        ensure!(latest(&end)["left_out"] == json!([first]), "{end:#}");
        let last = shell(cluster, &project, "echo last > last.txt", &[&third])?;
        cluster.succeeded(&last, Deadline::SOON)?;
        let warning = format!("the change of {second} was left out");
        let warned = [
            &warning[..],
            &format!("conflicts with the change of {first}"),
        ];
        apply(cluster, &project, &third)?.complains(&warned)?;
        ensure!(!project.has("b.txt"));
        let document = cluster.ctl_in(project.dir(), &["apply", &third, "--json"])?;
        let document: Value = serde_json::from_str(&document.ok()?.stdout)?;
        ensure!(document["left_out"] == json!([second]), "{document}");
        // The end of a chain says it, too.
        let below =
            format!("the change of {second} was left out of {third}, on which {last} is built");
        apply(cluster, &project, &last)?.complains(&[&below])?;
        cluster.ctl(&["show", &last])?.ok()?.complains(&[&below])?;
        let document = cluster.ctl_in(project.dir(), &["apply", &last, "--json"])?;
        let document: Value = serde_json::from_str(&document.ok()?.stdout)?;
        ensure!(document["left_out"] == json!([second]), "{document}");
        let add = [
            "add", "--agent", "shell", "true", "--after", &first, "--after", &second,
        ];
        let waited = cluster.ctl_in(project.dir(), &[&add[..], &["--wait", "--apply"]].concat())?;
        waited.ok()?.complains(&warned)?;
        Ok(())
    })
}

fn unfinished() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, "echo half > half.txt; exit 1", &[])?;
        let look = format!("test ! -e half.txt && git show orchestra/{first}:half.txt");
        let add = ["--agent", "shell", &look, "--after", &first];
        let run = ["--on-dependency-failure", "run"];
        let second = cluster.add(&project, &[&add[..], &run].concat())?;
        let end = cluster.succeeded(&second, Deadline::SOON)?;
        ensure!(latest(&end)["built_on"] == json!([]), "{end:#}");
        Ok(())
    })
}

fn killed() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let second = shell(
            cluster,
            &project,
            &format!("{IMPLEMENT} && {gate}"),
            &[&first],
        )?;
        cluster.wait_for(&second, &["running"], Deadline::SOON)?;
        let pid = cluster.worker_pid()?;
        kill_9(pid)?;
        until("it is dead", Deadline::SOON, || {
            Ok((!alive(pid)).then_some(()))
        })?;
        cluster.start()?;
        cluster.open_gate()?;
        let end = cluster.succeeded(&second, Deadline::SOON)?;
        ensure!(end["attempt"] == 1, "{end:#}");
        ensure!(latest(&end)["built_on"] == json!([first]), "{end:#}");
        apply(cluster, &project, &second)?;
        ensure!(project.read("new.txt")? == "one\ntwo\n");
        Ok(())
    })
}

fn directory() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = Project::plain(&cluster.path("plain"))?;
        project.write("notes.txt", "zero\n")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        project.write("notes.txt", "zero, edited\n")?;
        let second = shell(cluster, &project, IMPLEMENT, &[&first])?;
        let third = shell(cluster, &project, FIX, &[&second])?;
        cluster.succeeded(&third, Deadline::SOON)?;
        for task in [&second, &third] {
            apply(cluster, &project, task)?;
        }
        ensure!(project.read("new.txt")? == "one\ntwo\nthree\n");
        ensure!(project.read("notes.txt")? == "zero, edited\n");
        let again = apply(cluster, &project, &second)?.stdout;
        ensure!(again.contains("there already"), "{again}");
        ensure!(project.read("new.txt")? == "one\ntwo\nthree\n");
        Ok(())
    })
}

fn first_commit() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        for (name, is_repository) in [("new", true), ("plain", false)] {
            let project = Project::plain(&cluster.path(name))?;
            project.write("notes.txt", "notes\n")?;
            if is_repository {
                project.git(&["init", "-q"])?;
            }
            let first = shell(cluster, &project, PLAN, &[])?;
            cluster.succeeded(&first, Deadline::SOON)?;
            project.git(&["init", "-q"])?;
            // Before there is a commit, too.
            apply(cluster, &project, &first)?;
            ensure!(project.read("new.txt")? == "one\n");
            std::fs::remove_file(project.dir().join("new.txt"))?;
            project.git(&["add", "notes.txt"])?;
            project.git(&["commit", "-q", "-m", "first"])?;
            let second = shell(cluster, &project, IMPLEMENT, &[&first])?;
            let second = cluster.succeeded(&second, Deadline::SOON)?;
            ensure!(latest(&second)["built_on"] == json!([first]), "{second:#}");
            apply(cluster, &project, &first)?;
            ensure!(project.read("new.txt")? == "one\n");
            let second = second["id"].as_str().context("it has an id")?;
            apply(cluster, &project, second)?;
            ensure!(project.read("new.txt")? == "one\ntwo\n");
            ensure!(project.read("notes.txt")? == "notes\n");
        }
        Ok(())
    })
}

fn told() -> anyhow::Result<()> {
    let script = "rules:\n- steps: [{say: Done.}]\n";
    scene(Setup::new().model(script), |cluster| {
        let project = cluster.repository("project")?;
        let first = shell(cluster, &project, PLAN, &[])?;
        let add = ["--agent", "agent", "Go on", "--after", &first];
        let second = cluster.add(&project, &add)?;
        cluster.succeeded(&second, Deadline::SOON)?;
        let prompts = cluster.model().prompts()?;
        let prompt = prompts.first().context("the model was not asked")?;
        let told = format!("The change of {first} is in your working directory already.");
        ensure!(prompt.contains(&told), "{prompt}");
        Ok(())
    })
}
