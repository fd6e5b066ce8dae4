//! Real agents of the built worker: shell commands that write every byte they say into a file of
//! their own run as well, so that what came to the head can be compared with what was said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use orchestra_tests::{Project, run};
use serde_json::Value;

use crate::head::Site;

/// The file that each agent changes.
pub const RESULT: &str = "result.txt";
/// Where programs are that agents and workers need.
pub const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// What agents are asked for and what they wrote.
#[derive(Debug)]
pub struct Agents {
    site: Site,
    ctl: PathBuf,
    project: Project,
    side: PathBuf,
    home: PathBuf,
    /// Every task that was asked for.
    pub tasks: BTreeSet<u64>,
}

/// How long an agent works, and where it may.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// How often it says three lines.
    pub steps: u32,
    /// How long it rests in between, in milliseconds.
    pub rest_ms: u32,
}

/// What one run of an agent wrote beside.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What it said on standard output.
    pub out: Vec<u8>,
    /// What it said on standard error.
    pub err: Vec<u8>,
    /// Whether it came to its end.
    pub whole: bool,
}

impl Work {
    /// Short, middling or long: a few hundredths of a second up to `long_ms`.
    #[must_use]
    pub fn some(rng: &mut fastrand::Rng, long_ms: u32) -> Self {
        let whole = match rng.u8(0..3) {
            0 => rng.u32(0..100),
            1 => rng.u32(100..=long_ms.max(400) / 3),
            _ => rng.u32(long_ms / 3..=long_ms),
        };
        let rest_ms = rng.u32(20..120);
        Self {
            steps: 1 + whole / rest_ms,
            rest_ms,
        }
    }
}

impl Agents {
    /// Agents for the cluster of `site`, with a repository and side files below `dir`.
    pub fn new(site: &Site, dir: &Path) -> anyhow::Result<Self> {
        let ctl = site.binary.with_file_name("ctl");
        ensure!(
            ctl.exists(),
            "there is no `{}`; build it with `cargo build -p orchestra-ctl` and the same profile",
            ctl.display()
        );
        let (side, home) = (dir.join("side"), dir.join("home"));
        for dir in [&side, &home] {
            fs::create_dir_all(dir)?;
        }
        Ok(Self {
            site: site.clone(),
            ctl,
            project: Project::repository(&dir.join("project"))?,
            side,
            home,
            tasks: BTreeSet::new(),
        })
    }

    /// Asks for one task each, by `ctl add`.
    pub fn add(&mut self, works: &[Work], more: &Value) -> anyhow::Result<()> {
        if works.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = works.iter().map(|work| self.line(*work, more)).collect();
        let answer = self.ctl(&["add", "-f", "-"], &lines.join("\n"))?;
        let ids = answer["tasks"].as_array().into_iter().flatten();
        let ids: Vec<u64> = ids.filter_map(id).collect();
        ensure!(ids.len() == works.len(), "another answer came: {answer}");
        self.tasks.extend(ids);
        Ok(())
    }

    /// `ctl ARGS --json`, in the repository.
    pub fn ctl(&self, args: &[&str], input: &str) -> anyhow::Result<Value> {
        let mut ctl = Command::new(&self.ctl);
        ctl.args(args)
            .args(["--json", "--state"])
            .arg(&self.site.state)
            .current_dir(self.project.dir())
            .env_clear()
            .env("PATH", PROGRAMS)
            .env("HOME", &self.home);
        run(ctl, input.as_bytes())?.ok()?.json()
    }

    fn line(&self, work: Work, more: &Value) -> String {
        let mut task = serde_json::json!({
            "description": self.script(work),
            "agent": "shell",
        });
        if let (Some(task), Some(more)) = (task.as_object_mut(), more.as_object()) {
            task.extend(more.clone());
        }
        task.to_string()
    }

    fn script(&self, Work { steps, rest_ms }: Work) -> String {
        let side = self.side.display();
        let rest = f64::from(rest_ms) / 1000.0;
        format!(
            r#"me={side}/$ORCHESTRA_ATTEMPT.$$; echo >> $me.began
{{ n=0; while [ $n -lt {steps} ]; do n=$((n+1)); sleep {rest}
for k in 1 2 3; do echo "step $n.$k of $me"; done; done; echo "the end"; }} | tee $me.out
echo "aside $me" | tee $me.err >&2
until cp $me.out {RESULT} 2> /dev/null; do sleep 0.1; done; mv $me.began $me.whole"#
        )
    }

    /// What the runs of one attempt wrote, however many there were.
    pub fn said(&self) -> anyhow::Result<BTreeMap<(u64, u32), Vec<Said>>> {
        let mut runs: BTreeMap<String, Said> = BTreeMap::new();
        for entry in fs::read_dir(&self.side)? {
            let path = entry?.path();
            let name = path.file_stem().context("a name")?.to_string_lossy();
            let said = runs.entry(name.into_owned()).or_default();
            match path.extension().and_then(|end| end.to_str()) {
                Some("out") => said.out = fs::read(&path)?,
                Some("err") => said.err = fs::read(&path)?,
                Some("whole") => said.whole = true,
                _ => {}
            }
        }
        let mut attempts: BTreeMap<(u64, u32), Vec<Said>> = BTreeMap::new();
        for (name, said) in runs {
            let attempt = attempt(&name).with_context(|| format!("whose is `{name}`?"))?;
            attempts.entry(attempt).or_default().push(said);
        }
        Ok(attempts)
    }
}

/// `task_001.1.4711`: the attempt, and the process that ran.
fn attempt(name: &str) -> Option<(u64, u32)> {
    let mut parts = name.strip_prefix("task_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn id(task: &Value) -> Option<u64> {
    task["id"].as_str()?.strip_prefix("task_")?.parse().ok()
}
