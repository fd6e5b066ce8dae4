//! A cluster of its own for one test: state, home and projects in a temporary directory.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Background, Binaries, Deadline, Marker, Model, Output, Project, Setup, clis, machine,
    processes::MARK, run, suite::causes, until,
};

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    setup: Setup,
    marker: Marker,
    model: Option<Model>,
}

/// Runs `body` on a started cluster, then stops it and checks that no process is left. A failure
/// comes with a picture of the cluster at that moment.
pub fn scene(
    setup: Setup,
    body: impl FnOnce(&Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Cluster::new(setup)?;
    let told = cluster.start().and_then(|()| body(&cluster));
    let told = told.map_err(|error| anyhow!("{}\n\n{}", causes(&error), cluster.picture()));
    let stopped = cluster.stop();
    let left = cluster.expect_no_process();
    told.and(stopped.map(drop)).and(left)
}

impl Cluster {
    /// A cluster that is not started yet.
    pub fn new(setup: Setup) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("orchestra-").context("failed to make a directory")?;
        let marker = Marker::new(dir.path().to_owned());
        let model = match &setup.script {
            Some(script) => Some(Model::start(dir.path(), script, &marker)?),
            None => None,
        };
        let cluster = Self {
            dir,
            setup,
            marker,
            model,
        };
        cluster.write_files()?;
        Ok(cluster)
    }

    /// Starts head and local worker with `ctl start --detach`.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut args = vec!["start", "--detach"];
        let agents = self.setup.agents.join(",");
        if !agents.is_empty() {
            args.extend(["--agents", &agents]);
        }
        self.ctl(&args)?.ok()?;
        Ok(())
    }

    /// Stops everything with `ctl stop --now`.
    pub fn stop(&self) -> anyhow::Result<Output> {
        self.ctl(&["stop", "--now"])?.ok()
    }

    /// Fails if a process of this cluster lives; the model does not count.
    pub fn expect_no_process(mut self) -> anyhow::Result<()> {
        drop(self.model.take());
        self.marker.expect_none()
    }

    /// Runs `ctl` in the cluster's directory and waits for its end.
    pub fn ctl<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Output> {
        self.ctl_in(self.dir.path(), args)
    }

    /// Runs `ctl` in `dir`, as a user does who stands there.
    pub fn ctl_in<S: AsRef<OsStr>>(&self, dir: &Path, args: &[S]) -> anyhow::Result<Output> {
        self.marker.note_cgroups();
        run(self.command(dir, args), b"")
    }

    /// Starts `ctl ARGS` in `dir`, and does not wait for its end.
    pub fn begin<S: AsRef<OsStr>>(&self, dir: &Path, args: &[S]) -> anyhow::Result<Background> {
        let mut command = self.command(dir, args);
        command.stdin(Stdio::null());
        Background::start(command, self.dir.path())
    }

    /// `ctl ARGS` in `dir`, not run yet.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, dir: &Path, args: &[S]) -> Command {
        let mut command = Command::new(Binaries::get().ctl());
        command
            .args(args)
            .current_dir(dir)
            .env_clear()
            .envs(self.environment());
        command
    }

    /// `ctl ARGS --json`, which must succeed, as a document.
    pub fn json<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Value> {
        let mut args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        args.push(OsStr::new("--json"));
        self.ctl(&args)?.ok()?.json()
    }

    /// `ctl add ARGS --json` in the project; the task's id.
    pub fn add<S: AsRef<OsStr>>(&self, project: &Project, args: &[S]) -> anyhow::Result<String> {
        let mut line: Vec<&OsStr> = vec![OsStr::new("add")];
        line.extend(args.iter().map(AsRef::as_ref));
        line.push(OsStr::new("--json"));
        let output = self.ctl_in(project.dir(), &line)?.ok()?;
        let document = output.json()?;
        let id = document["tasks"][0]["id"]
            .as_str()
            .or(document["id"].as_str());
        Ok(id
            .with_context(|| format!("no id in the answer\n{output}"))?
            .to_owned())
    }

    /// `ctl show TASK --json`.
    pub fn show(&self, task: &str) -> anyhow::Result<Value> {
        self.json(&["show", task])
    }

    /// The task's status.
    pub fn status(&self, task: &str) -> anyhow::Result<String> {
        let document = self.show(task)?;
        Ok(document["status"]
            .as_str()
            .context("a task has a status")?
            .to_owned())
    }

    /// Waits until the task has one of `statuses`, and gives its document.
    pub fn wait_for(
        &self,
        task: &str,
        statuses: &[&str],
        deadline: Deadline,
    ) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let found = until(
            &format!("{task} is {}", statuses.join(" or ")),
            deadline,
            || {
                last = self.show(task)?;
                let status = last["status"].as_str().unwrap_or_default();
                Ok(statuses.contains(&status).then(|| last.clone()))
            },
        );
        found.with_context(|| format!("last seen: {last:#}"))
    }

    /// Waits until the task has ended; it must have succeeded.
    pub fn succeeded(&self, task: &str, deadline: Deadline) -> anyhow::Result<Value> {
        let ended = ["succeeded", "failed", "cancelled", "needs_review"];
        let document = self.wait_for(task, &ended, deadline)?;
        ensure!(
            document["status"] == "succeeded",
            "{task} did not succeed: {document:#}"
        );
        Ok(document)
    }

    /// Submits `shell` tasks that append their numbers, from 1 on, to `done.txt` of the project; their ids.
    pub fn add_numbered(&self, project: &Project, tasks: u32) -> anyhow::Result<Vec<String>> {
        let line = |n| {
            let command = format!("echo {n} >> done.txt");
            json!({"description": command, "agent": "shell", "in_place": true}).to_string()
        };
        let lines: Vec<String> = (1..=tasks).map(line).collect();
        project.write("tasks.jsonl", &lines.join("\n"))?;
        let added = self.ctl_in(project.dir(), &["add", "-f", "tasks.jsonl"])?;
        let words = added.ok()?.stdout;
        let ids = words.split_whitespace().filter(|w| w.starts_with("task_"));
        Ok(ids.map(str::to_owned).collect())
    }

    /// The events of a task's latest attempt.
    pub fn events(&self, task: &str) -> anyhow::Result<Vec<Value>> {
        let output = self.ctl(&["logs", task, "--json"])?.ok()?;
        let lines = output.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).context("an event is JSON"))
            .collect()
    }

    /// A git repository below the cluster's directory.
    pub fn repository(&self, name: &str) -> anyhow::Result<Project> {
        Project::repository(&self.path(name))
    }

    /// A directory below the cluster's own.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path("state/orchestra")
    }

    /// Lets the scripts go on that wait at [`crate::GATE`].
    pub fn open_gate(&self) -> anyhow::Result<()> {
        fs::write(self.path("gate"), "").context("failed to open the gate")
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        self.model.as_ref().expect("this test's set-up has a model")
    }

    /// The mark on every process of this cluster.
    #[must_use]
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// The head's process, as `ctl status` says it.
    pub fn head_pid(&self) -> anyhow::Result<u32> {
        pid(&self.json(&["status"])?["pid"])
    }

    /// The local worker's process, as its own file says it.
    pub fn worker_pid(&self) -> anyhow::Result<u32> {
        let path = self.state().join("worker/worker.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read `{}`", path.display()))?;
        pid(&serde_json::from_str::<Value>(&text)?["pid"])
    }

    /// Everything that helps to understand a failure.
    #[must_use]
    pub fn picture(&self) -> String {
        let tasks = self
            .ctl(&["tasks", "--json"])
            .map_or_else(|e| format!("{e:#}"), |o| o.to_string());
        let mut picture = format!("the cluster at that moment:\n{tasks}\n");
        for log in ["head/head.log", "worker/worker.log"] {
            picture.push_str(&format!("--- {log}\n{}\n", tail(&self.state().join(log))));
        }
        picture.push_str(&format!(
            "--- processes\n{}\n",
            self.marker.processes().join("\n")
        ));
        picture
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("HOME".to_owned(), self.text("home")),
            ("XDG_STATE_HOME".to_owned(), self.text("state")),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("PATH".to_owned(), self.program_path()),
            (MARK.to_owned(), self.marker.name().to_owned()),
            ("GIT_CONFIG_SYSTEM".to_owned(), "/dev/null".to_owned()),
            ("NO_PROXY".to_owned(), "127.0.0.1,localhost".to_owned()),
        ]);
        if let Some(model) = &self.model {
            env.extend(clis::environment(&self.base_url(model)));
        }
        env.extend(self.setup.env.clone());
        env
    }

    fn base_url(&self, model: &Model) -> String {
        format!("http://{}{}", model.address(), self.setup.scenario)
    }

    fn program_path(&self) -> String {
        let machine = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
        match self.setup.real_clis {
            true => format!("{}:{machine}", machine::tools().display()),
            false => machine.to_owned(),
        }
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn write_files(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.path("home")).context("failed to make a home")?;
        fs::create_dir_all(self.state()).context("failed to make a state directory")?;
        let mut runners = self.setup.runners.clone();
        if let Some(model) = &self.model {
            let base = self.base_url(model);
            clis::write_files(&self.path("home"), &base)?;
            runners
                .entry("agent".to_owned())
                .or_insert_with(|| clis::agent_runner(&base));
        }
        let mut config = self.setup.config.clone();
        if !runners.is_empty() {
            config.push_str("runners:\n");
        }
        for (name, yaml) in runners {
            config.push_str(&format!("  {name}: {yaml}\n"));
        }
        fs::write(self.state().join("orchestra.yaml"), config).context("failed to write the config")
    }
}

impl Drop for Cluster {
    /// A test that failed half-way leaves nothing behind either.
    fn drop(&mut self) {
        drop(self.model.take());
        self.marker.kill_all();
    }
}

fn pid(value: &Value) -> anyhow::Result<u32> {
    let number = value.as_u64().with_context(|| format!("no pid: {value}"))?;
    Ok(u32::try_from(number)?)
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
