//! A worker on another machine, which shares nothing with the head but a network.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use orchestra_tests::{
    Binaries, Cable, Cluster, Deadline, GATE, Need, Neighbour, Output, Project, Setup, Test, run,
    scene, until,
};
use serde_json::Value;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_worker_joins_by_token_from_another_network_and_runs_a_task",
            joins,
        )
        .needs(&[Need::Isolation]),
        Test::new("a_result_arrives_once_after_the_network_broke", cut).needs(&[Need::Isolation]),
        Test::new(
            "whoever_follows_is_told_that_an_attempt_was_given_up_and_which_result_is_not_the_last",
            given_up,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "a_dirty_repository_comes_back_byte_for_byte_and_only_what_is_new_is_sent",
            dirty,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "a_worker_on_another_machine_is_asked_to_keep_house",
            keeps_house,
        )
        .needs(&[Need::Isolation]),
        Test::new(
            "a_worker_that_can_begin_nothing_costs_no_task_and_is_given_no_more",
            cannot_begin,
        )
        .needs(&[Need::Isolation]),
        Test::new("a_join_token_works_once", token_once).needs(&[Need::Isolation]),
        Test::new(
            "a_submitter_on_another_machine_applies_and_carries_the_context",
            far_submitter,
        )
        .needs(&[Need::Isolation]),
    ]
}

fn joins() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let project = cluster.repository("project")?;
        let neighbour = joined(cluster, cable)?;
        let command = "test ! -e README.md || echo from afar > afar.txt";
        let task = cluster.add(
            &project,
            &[command, "--agent", "shell", "--require", "where=far"],
        )?;
        let document = cluster
            .succeeded(&task, Deadline::SOON)
            .with_context(|| neighbour.log())?;
        ensure!(
            document["files"][0]["path"] == "afar.txt",
            "the files are {}",
            document["files"]
        );
        cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        ensure!(
            project.read("afar.txt")? == "from afar\n",
            "another text came back"
        );
        Ok(())
    })
}

fn keeps_house() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let neighbour = joined(cluster, cable)?;
        let bundle = cluster.path("far/state/worker/cache/bundles/old");
        fs::write(&bundle, "nobody needs it")?;
        let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
        fs::File::open(&bundle)?.set_modified(long_ago)?;

        let gc = ["workers", "gc", "far"];
        let would = cluster.json(&["workers", "gc", "far", "--dry-run"])?;
        ensure!(would["worker"] == "far", "{would:#}");
        let removal = &would["removals"][0];
        let path = removal["path"].as_str().unwrap_or_default();
        ensure!(path.ends_with("bundles/old"), "{would:#}");
        ensure!(removal["why"] == "not used for 7d", "{would:#}");
        ensure!(bundle.exists(), "a dry run removes");
        cluster.ctl(&gc)?.ok()?.complains(&["are free again"])?;
        ensure!(!bundle.exists(), "it is still there");
        let nothing = cluster.ctl(&gc)?.ok()?;
        nothing.complains(&["nothing to remove on far"])?;
        let here = cluster.json(&["workers", "gc", "--dry-run"])?;
        ensure!(here["worker"].is_null(), "{here:#}");

        drop(neighbour);
        connected(cluster, 1)?;
        let away = cluster.ctl(&gc)?;
        away.complains(&["worker `far` is not connected", "ctl workers"])?;
        let unknown = cluster.ctl(&["workers", "gc", "fat"])?;
        unknown.complains(&["there is no worker `fat`", "far"])?;
        Ok(())
    })
}

/// The worker that fails everything at once is the one that is always free.
fn cannot_begin() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let project = cluster.repository("project")?;
        let neighbour = joined(cluster, cable)?;
        let cache = cluster.state().join("worker/cache/repositories");
        fs::write(&cache, "no directory")?;
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let add = |number: u32| {
            let command = format!("{gate}; echo {number} > {number}.txt");
            cluster.add(&project, &[&command, "--agent", "shell"])
        };
        let tasks: Vec<String> = (0..8).map(add).collect::<anyhow::Result<_>>()?;
        let reason = until("it rests", Deadline::SOON, || {
            let near = runner_of(cluster, "near", "shell")?;
            let reason = near["reason"].as_str();
            Ok(reason
                .map(str::to_owned)
                .filter(|_| near["state"] == "not_ready"))
        })?;
        ensure!(reason.contains("could not begin here"), "{reason}");
        ensure!(reason.contains("workspace_failed"), "{reason}");
        cluster.open_gate()?;
        for task in tasks {
            let document = cluster
                .succeeded(&task, Deadline::SOON)
                .with_context(|| neighbour.log())?;
            let last = document["attempts"].as_array().and_then(|all| all.last());
            let files = last.map(|last| &last["changes"]["files"]);
            ensure!(files == Some(&1.into()), "{document:#}");
        }
        Ok(())
    })
}

pub fn runner_of(cluster: &Cluster, worker: &str, runner: &str) -> anyhow::Result<Value> {
    let document = cluster.json(&["workers"])?;
    let workers = document["workers"].as_array().context("no workers")?;
    let worker = workers.iter().find(|known| known["name"] == worker);
    let runners = worker.and_then(|worker| worker["runners"].as_array());
    let mut runners = runners.into_iter().flatten();
    let runner = runners.find(|known| known["name"] == runner);
    runner
        .cloned()
        .with_context(|| format!("no such runner in {document:#}"))
}

fn cut() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let project = cluster.repository("project")?;
        let neighbour = joined(cluster, cable)?;
        let dir = cluster.path("");
        let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
        let command = format!(
            "touch {0}/began; {gate}; echo late > late.txt; echo x >> {0}/ended",
            dir.display()
        );
        let add = [
            command.as_str(),
            "--agent",
            "shell",
            "--require",
            "where=far",
        ];
        let task = cluster.add(&project, &add)?;
        until("it works", Deadline::SOON, || {
            Ok(dir.join("began").exists().then_some(()))
        })
        .with_context(|| neighbour.log())?;
        cable.unplug()?;
        cluster.open_gate()?;
        until("it ended", Deadline::SOON, || {
            Ok(dir.join("ended").exists().then_some(()))
        })?;
        cable.plug()?;
        let document = cluster
            .succeeded(&task, Deadline::secs(90))
            .with_context(|| neighbour.log())?;
        ensure!(
            document["attempt"] == 1,
            "it needed {} attempts",
            document["attempt"]
        );
        ensure!(
            fs::read_to_string(dir.join("ended"))? == "x\n",
            "it ran more than once"
        );
        ensure!(
            document["files"][0]["path"] == "late.txt",
            "the files are {}",
            document["files"]
        );
        Ok(())
    })
}

fn given_up() -> anyhow::Result<()> {
    with_configured_head(
        "queue: {lease: 5s, retry_delay: 100ms}\n",
        |cluster, cable| {
            let neighbour = joined(cluster, cable)?;
            cluster.ctl(&["workers", "cordon", "near"])?.ok()?;
            let dir = cluster.path("");
            let gate = GATE.replace("@DIR@", &dir.to_string_lossy());
            let command = format!("echo begun; {gate}");
            let shell = ["--agent", "shell", "--no-repo", &command];
            let add = [&["add", "--follow"][..], &shell].concat();
            let mut follower = cluster.begin(&dir, &add)?;
            // It is queued only then, and shown as running a moment later.
            follower.prints("begun")?;
            cluster
                .wait_for("task_001", &["running"], Deadline::SOON)
                .with_context(|| neighbour.log())?;
            cluster.ctl(&["workers", "uncordon", "near"])?.ok()?;
            cable.unplug()?;
            follower.prints("  attempt 2\n")?;
            cluster.open_gate()?;
            let followed = follower.end()?.ok()?;
            let at = |what| followed.stdout.find(what);
            let told = at("  attempt 1 ✗ worker_lost: worker far gave no sign of life");
            ensure!(told.is_some() && told < at("  attempt 2\n"), "{followed}");
            cable.plug()?;
            let late = "1 shell on far  ✓ succeeded; attempt 2 came after it";
            until("the first result is there", Deadline::secs(60), || {
                let shown = cluster.ctl(&["show", "task_001"])?.ok()?;
                Ok(shown.stdout.contains(late).then_some(()))
            })
            .with_context(|| neighbour.log())?;
            let shown = cluster.ctl(&["show", "task_001"])?.ok()?;
            ensure!(
                shown.stdout.contains("2 shell on near  ✓ succeeded"),
                "{shown}"
            );
            Ok(())
        },
    )
}

/// What the agent does in its copy; the test does the same in a copy of its own.
const WORK: &str = r#"set -e
printf 'agent\r\n' >> tracked.txt; printf '\000\001\377' > new.bin; : > empty
chmod +x plain.sh; chmod -x tool.sh; mv old-name.txt 'new name.txt'; rm gone.txt
ln -s tracked.txt link; mkdir -p "deep/er"; printf x > "$(printf 'deep/er/odd\n\t\377"name')"
printf '\342\200\256' > "$(printf 'deep/\303\251')"; printf done > untracked-dir/result"#;

fn dirty() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let project = cluster.repository("project")?;
        make_dirty(&project)?;
        let neighbour = joined(cluster, cable)?;
        let copy = cluster.path("copy");
        shell(project.dir(), &format!("cp -a . '{}'", copy.display()))?;
        shell(&copy, WORK)?;

        let far = [WORK, "--agent", "shell", "--require", "where=far"];
        let task = cluster.add(&project, &far)?;
        cluster
            .succeeded(&task, Deadline::SOON)
            .with_context(|| neighbour.log())?;
        cluster.ctl_in(project.dir(), &["apply", &task])?.ok()?;
        let (found, wanted) = (picture(project.dir())?, picture(&copy)?);
        ensure!(found == wanted, "the files are\n{found}\nand not\n{wanted}");

        let first = bundles(cluster)?;
        project.git(&["add", "-A"])?;
        project.git(&["commit", "-q", "-m", "second"])?;
        let task = cluster.add(
            &project,
            &["true", "--agent", "shell", "--require", "where=far"],
        )?;
        cluster
            .succeeded(&task, Deadline::SOON)
            .with_context(|| neighbour.log())?;
        let new = bundles(cluster)? - first;
        ensure!(new < BALLAST / 10, "the second task sent {new} bytes");
        Ok(())
    })
}

/// Bytes that do not compress, and need be sent once.
const BALLAST: u64 = 1_000_000;

/// Committed files, edits that are not, and files that git does not know.
fn make_dirty(project: &Project) -> anyhow::Result<()> {
    shell(
        project.dir(),
        &format!("head -c {BALLAST} /dev/urandom > ballast.bin"),
    )?;
    for name in [
        "tracked.txt",
        "plain.sh",
        "tool.sh",
        "old-name.txt",
        "gone.txt",
        "edited.txt",
    ] {
        project.write(name, &format!("{name}\nsecond\nthird\n"))?;
    }
    shell(project.dir(), "chmod +x tool.sh")?;
    project.git(&["add", "-A"])?;
    project.git(&["commit", "-q", "-m", "files"])?;
    project.write("edited.txt", "edited, not committed\r\n")?;
    project.write("staged.txt", "staged\n")?;
    project.git(&["add", "staged.txt"])?;
    shell(
        project.dir(),
        "mkdir untracked-dir; printf mine > untracked-dir/mine; ln -s edited.txt untracked-link",
    )
}

/// How many bytes of bundles the worker has fetched.
fn bundles(cluster: &Cluster) -> anyhow::Result<u64> {
    let dir = cluster.path("far").join("state/worker/cache/bundles");
    fs::read_dir(&dir)
        .with_context(|| format!("failed to read `{}`", dir.display()))?
        .try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}

/// Every file but those of git and of the context: its kind and mode, its name, its bytes.
fn picture(dir: &Path) -> anyhow::Result<String> {
    let line = r"find . \( -path ./.git -o -path ./context \) -prune -o -printf '%y %m %P %l\n' -type f -exec sha256sum {} + | LC_ALL=C sort";
    let mut sh = Command::new("sh");
    sh.args(["-c", line]).current_dir(dir);
    Ok(run(sh, b"")?.ok()?.stdout)
}

pub fn shell(dir: &Path, line: &str) -> anyhow::Result<()> {
    let mut sh = Command::new("sh");
    sh.args(["-c", line]).current_dir(dir);
    run(sh, b"")?.ok().map(drop)
}

fn token_once() -> anyhow::Result<()> {
    with_head(|cluster, cable| {
        let token = token(cluster)?;
        let first = join(cluster, cable, &token, "far")?;
        connected(cluster, 2).with_context(|| first.log())?;
        drop(first);
        let cable = Cable::new()?;
        let second = join(cluster, cable, &token, "thief")?;
        until("the second one is refused", Deadline::SOON, || {
            Ok(second.log().contains("token").then_some(()))
        })
        .with_context(|| second.log())?;
        ensure!(known(cluster)? == 2, "it got in");
        Ok(())
    })
}

/// The head cannot reach this submitter's checkout: ctl does there what the head does otherwise.
fn far_submitter() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let project = cluster.repository("project")?;
        let far = Elsewhere::new(cluster)?;
        let add = ["add", "echo far > far.txt", "--agent", "shell", "--apply"];
        far.ctl(&project, &add)?.exits(2)?.complains(&["--wait"])?;
        let waits = [add.as_slice(), &["--wait"]].concat();
        far.ctl(&project, &waits)?.ok()?;
        ensure!(project.read("far.txt")? == "far\n", "it was not applied");

        ensure!(!project.has("context"), "the head wrote to this machine");
        far.ctl(&project, &["context", "pull"])?.ok()?;
        let output = project.read("context/agent_outputs/task_001_output.md")?;
        ensure!(output.contains("succeeded"), "the output is {output}");
        project.write("context/project_overview.md", "Project: Far System\n")?;
        far.ctl(&project, &["context", "push"])?.ok()?;
        let shown = far.ctl(&project, &["context", "show"])?.ok()?.stdout;
        ensure!(shown.contains("Far System"), "the head has {shown}");
        Ok(())
    })
}

/// A machine of another identity that has the cluster's credentials and nothing else of it.
struct Elsewhere<'a> {
    cluster: &'a Cluster,
    state: PathBuf,
    identity: PathBuf,
}

impl<'a> Elsewhere<'a> {
    fn new(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let state = cluster.path("elsewhere");
        let client = state.join("client");
        fs::create_dir_all(&client)?;
        for file in fs::read_dir(cluster.state().join("client"))? {
            let file = file?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), client.join(file.file_name()))?;
            }
        }
        let identity = cluster.path("elsewhere-id");
        fs::write(&identity, "0123456789abcdef0123456789abcdef\n")?;
        Ok(Self {
            cluster,
            state,
            identity,
        })
    }

    /// `ctl ARGS` in the project, with another machine's id in a mount namespace of its own.
    fn ctl(&self, project: &Project, args: &[&str]) -> anyhow::Result<Output> {
        /// Where a machine has no id, ctl keeps one in its state directory, which is another one.
        const ELSEWHERE: &str =
            "[ ! -e /etc/machine-id ] || mount --bind \"$0\" /etc/machine-id; exec \"$@\"";
        let ctl = self.cluster.command(project.dir(), args);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", ELSEWHERE])
            .arg(&self.identity)
            .arg(ctl.get_program())
            .arg("--state")
            .arg(&self.state)
            .args(ctl.get_args())
            .current_dir(project.dir())
            .env_clear()
            .envs(
                ctl.get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        run(command, b"")
    }
}

/// A head that listens to its neighbours as well.
pub fn with_head(body: impl FnOnce(&Cluster, Cable) -> anyhow::Result<()>) -> anyhow::Result<()> {
    with_configured_head("", body)
}

/// The same with more in its configuration.
fn with_configured_head(
    more: &str,
    body: impl FnOnce(&Cluster, Cable) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cable = Cable::new()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = format!(
        "head:\n  listen: 0.0.0.0:{port}\n  advertise: {}:{port}\nworker:\n  name: near\n{more}",
        cable.here()
    );
    scene(Setup::new().config(&config), |cluster| body(cluster, cable))
}

pub fn token(cluster: &Cluster) -> anyhow::Result<String> {
    let document = cluster.json(&["token", "create"])?;
    Ok(document["token"]
        .as_str()
        .with_context(|| format!("no token in {document}"))?
        .to_owned())
}

/// A worker `far` that has joined and is connected, besides the one of the head's machine.
pub fn joined(cluster: &Cluster, cable: Cable) -> anyhow::Result<Neighbour> {
    joined_by(cluster, cable, &token(cluster)?)
}

/// The same with this token, which one that has joined before does not need.
pub fn joined_by(cluster: &Cluster, cable: Cable, token: &str) -> anyhow::Result<Neighbour> {
    let neighbour = join(cluster, cable, token, "far")?;
    connected(cluster, 2).with_context(|| neighbour.log())?;
    Ok(neighbour)
}

pub fn join(cluster: &Cluster, cable: Cable, token: &str, name: &str) -> anyhow::Result<Neighbour> {
    let home = cluster.path(name);
    let state = home.join("state");
    fs::create_dir_all(&state)?;
    fs::write(
        state.join("orchestra.yaml"),
        format!("worker:\n  labels: {{where: {name}}}\n"),
    )?;
    let document = cluster.json(&["status"])?;
    let port = document["listen"]
        .as_str()
        .and_then(|listen| listen.rsplit(':').next());
    let head = format!(
        "{}:{}",
        cable.here(),
        port.context("status says where it listens")?
    );
    let worker = Binaries::get().worker();
    let line = [
        &worker.to_string_lossy(),
        "join",
        "--head",
        &head,
        "--token",
        token,
        "--state",
        &state.to_string_lossy(),
        "--name",
        name,
    ]
    .map(str::to_owned);
    let hidden = ["project", "state", "home"].map(|dir| cluster.path(dir));
    let hidden: Vec<_> = hidden.into_iter().filter(|dir| dir.exists()).collect();
    Neighbour::start(cable, &line, &home, &hidden, cluster.marker())
}

pub fn connected(cluster: &Cluster, count: u64) -> anyhow::Result<()> {
    until(
        &format!("{count} workers are connected"),
        Deadline::SOON,
        || Ok((cluster.json(&["status"])?["workers"]["connected"] == count).then_some(())),
    )
}

fn known(cluster: &Cluster) -> anyhow::Result<usize> {
    let document = cluster.json(&["workers"])?;
    Ok(document["workers"].as_array().map_or(0, Vec::len))
}
