//! How long a workspace and a manifest take, beside what the machine's own tools take for the same
//! files in the same run.
//!
//! ```sh
//! cargo run --release -p orchestra-repo --example workspace -- 10000 100
//! ```
//!
//! The numbers are the files of the repository, how many of them an agent changes, and the rounds (7). It
//! prints one JSON document.
//!
//! A manifest is measured as [`Workspace::look`] makes it while the agent works, and as a part of all that
//! is collected at its end.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use orchestra_repo::{Cache, Checkout, Collect, Plan, Workspace, scratch, spread};
use orchestra_types::Manifest;

const BRANCH: &str = "orchestra/task_001";
const DATE: i64 = 1_790_000_000;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (files, changed, rounds) = (number(10_000)?, number(100)?, number(7)?);
    let tmp = tempfile::tempdir()?;
    let bench = Bench::new(tmp.path(), files)?;
    let (mut raw, mut without, mut with) = (Times::default(), Times::default(), Times::default());
    // Before `cp`, since a file with one more link is one that changed.
    for _ in 0..rounds {
        raw.note("git_status", || run(&mut bench.git("status")))?;
        raw.note("git_version", || run(&mut bench.git("version")))?;
    }
    for at in 0..rounds {
        raw.note("cp_hard_links", || bench.copy("-al", at))?;
        raw.note("cp", || bench.copy("-a", at))?;
        bench.attempt(at, changed, &mut without)?;
        with.note("spare_made_in_the_background", || {
            Ok(bench.cache.make_spare(&bench.commit)?)
        })?;
        bench.attempt(at, changed, &mut with)?;
    }
    println!(
        "{:#}",
        serde_json::json!({
            "files": files,
            "changed": changed,
            "unit": "ms; of the processor, the mean of the rounds",
            "raw": raw.json(),
            "without_spare": without.json(),
            "with_spare": with.json(),
        })
    );
    Ok(())
}

struct Bench {
    tmp: PathBuf,
    user: PathBuf,
    cache: Cache,
    commit: String,
}

impl Bench {
    fn new(tmp: &Path, files: usize) -> Result<Self> {
        spread(tmp);
        let user = tmp.join("user");
        write(&user, files, "first")?;
        scratch(&user, "begin", DATE)?;
        let checkout = Checkout::discover(&user)?.ok_or("no checkout")?;
        let snapshot = checkout.snapshot()?;
        let bundle = tmp.join("bundle");
        snapshot.bundle(&[], &bundle)?;
        let cache = Cache::open(&tmp.join("cache"), &snapshot.commit)?;
        cache.fetch_bundles(&[bundle], &snapshot.commit)?;
        Ok(Self {
            tmp: tmp.to_owned(),
            user,
            cache,
            commit: snapshot.commit,
        })
    }

    fn copy(&self, how: &str, at: usize) -> Result {
        let to = self.tmp.join(format!("copy{how}{at}"));
        run(Command::new("cp").arg(how).arg(&self.user).arg(to))
    }

    fn git(&self, command: &str) -> Command {
        let mut git = Command::new("git");
        git.current_dir(&self.user).arg(command);
        git
    }

    fn workspace(&self, place: &Path) -> Result<Workspace> {
        Ok(Workspace::create(&Plan {
            cache: &self.cache,
            commit: &self.commit,
            start: &self.commit,
            head: &self.commit,
            branch: BRANCH,
            others: &[],
            ignore_rules: "",
            dir: &place.join("agent"),
            git_dir: &place.join("own"),
        })?)
    }

    /// All of an attempt: each of its steps is noted.
    fn attempt(&self, at: usize, changed: usize, times: &mut Times) -> Result {
        let place = tempfile::tempdir_in(&self.tmp)?;
        let workspace = times.note("workspace", || self.workspace(place.path()))?;
        write(workspace.dir(), changed, "second")?;
        let right = |manifest: &Manifest| match manifest.entries.len() == changed {
            true => Ok(()),
            false => Err("the manifest is wrong"),
        };
        // The first look comes when the agent has worked for a second.
        thread::sleep(Duration::from_secs(1));
        times.note("settle", || Ok(workspace.settle()?))?;
        right(&times.note("manifest", || Ok(workspace.look(&[], &[])?))?)?;
        let out = self.tmp.join(format!("out{at}"));
        let collected = times.note("collect_manifest_patch_and_bundle", || {
            Ok(workspace.collect(&Collect {
                out: &out,
                area: workspace.dir(),
                message: "work",
                attempt: 1,
                exclude: &[],
                secret: &[],
            })?)
        })?;
        Ok(right(&collected.manifest)?)
    }
}

/// Files of 50 to 150 lines, a hundred in each directory.
fn write(dir: &Path, files: usize, word: &str) -> Result {
    for file in 0..files {
        let dir = dir.join(format!("d{}/e{}", file / 1000, file / 100));
        if file % 100 == 0 {
            fs::create_dir_all(&dir)?;
        }
        let text = format!("// {word} {file}\n") + &"let line = 1;\n".repeat(50 + file % 100);
        fs::write(dir.join(format!("f{file}.rs")), text)?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// What each step took, in milliseconds.
#[derive(Default)]
struct Times(BTreeMap<&'static str, Step>);

#[derive(Default)]
struct Step {
    wall: Vec<f64>,
    cpu: f64,
}

impl Times {
    fn note<T>(&mut self, step: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (start, cpu) = (Instant::now(), cpu_ms()?);
        let value = work()?;
        let step = self.0.entry(step).or_default();
        step.wall.push(start.elapsed().as_secs_f64() * 1000.0);
        step.cpu += cpu_ms()? - cpu;
        Ok(value)
    }

    fn json(self) -> BTreeMap<&'static str, serde_json::Value> {
        let rounded = |ms: f64| (ms * 10.0).round() / 10.0;
        let told = |(name, mut step): (&'static str, Step)| {
            step.wall.sort_by(f64::total_cmp);
            let rounds = step.wall.len();
            let value = serde_json::json!({
                "median": rounded(step.wall[rounds / 2]),
                "best": rounded(step.wall[0]),
                "cpu": rounded(step.cpu / rounds as f64),
            });
            (name, value)
        };
        self.0.into_iter().map(told).collect()
    }
}

/// Processor time of this process and of those that it waited for; the kernel counts in steps of 10 ms.
fn cpu_ms() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
    let ticks = fields.split(' ').skip(11).take(4).map(str::parse::<f64>);
    Ok(ticks.sum::<std::result::Result<f64, _>>()? * 10.0)
}
