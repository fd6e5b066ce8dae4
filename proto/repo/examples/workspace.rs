//! How long a workspace and a manifest take, beside what the machine's own tools take for the same
//! files in the same run.
//!
//! ```sh
//! cargo run --release -p orchestra-repo --example workspace -- 10000 100
//! ```
//!
//! The numbers are the files of the repository and how many of them an agent changes. It prints one JSON
//! document: milliseconds, the median of several rounds.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use orchestra_repo::{Cache, Checkout, Collect, Plan, Workspace, scratch};

const ROUNDS: usize = 7;
const BRANCH: &str = "orchestra/task_001";
const DATE: i64 = 1_790_000_000;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (files, changed) = (number(10_000)?, number(100)?);
    let tmp = tempfile::tempdir()?;
    let bench = Bench::new(tmp.path(), files)?;
    let hard_links = median(|at| bench.copy("-al", at))?;
    let copy = median(|at| bench.copy("-a", at))?;
    let status = median(|_| run(&mut bench.git("status")))?;
    let spawn = median(|_| run(&mut bench.git("version")))?;
    let cold = median(|at| bench.workspace(at).map(drop))?;
    let spare = median_of(|at| bench.spare(at))?;
    let warm = median_of(|at| {
        bench.cache.make_spare(&bench.commit)?;
        timed(|| bench.workspace(at).map(drop))
    })?;
    let manifest = median_of(|at| bench.manifest(at, changed))?;
    println!(
        "{:#}",
        serde_json::json!({
            "files": files,
            "changed": changed,
            "unit": "ms, median",
            "raw": {
                "cp_hard_links": hard_links,
                "cp": copy,
                "git_status": status,
                "git_version": spawn,
            },
            "workspace_without_spare": cold,
            "spare_made_in_the_background": spare,
            "workspace_warm": warm,
            "collect_manifest_patch_and_bundle": manifest,
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

    fn workspace(&self, at: usize) -> Result<Workspace> {
        let place = tempfile::Builder::new()
            .prefix(&format!("at{at}-"))
            .tempdir_in(&self.tmp)?
            .keep();
        Ok(Workspace::create(&Plan {
            cache: &self.cache,
            commit: &self.commit,
            head: &self.commit,
            branch: BRANCH,
            dir: &place.join("agent"),
            git_dir: &place.join("own"),
        })?)
    }

    fn spare(&self, at: usize) -> Result<f64> {
        let time = timed(|| Ok(self.cache.make_spare(&self.commit)?))?;
        // Taken, so that the next one is made again.
        self.workspace(at)?;
        Ok(time)
    }

    fn manifest(&self, at: usize, changed: usize) -> Result<f64> {
        let workspace = self.workspace(at)?;
        write(workspace.dir(), changed, "second")?;
        let out = self.tmp.join(format!("out{at}"));
        timed(|| {
            let collected = workspace.collect(&Collect {
                out: &out,
                message: "work",
                exclude: &[],
                secret: &[],
            })?;
            match collected.manifest.entries.len() == changed {
                true => Ok(()),
                false => Err("the manifest is wrong".into()),
            }
        })
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

fn median(mut work: impl FnMut(usize) -> Result) -> Result<f64> {
    median_of(|at| timed(|| work(at)))
}

fn median_of(work: impl FnMut(usize) -> Result<f64>) -> Result<f64> {
    let mut times = (0..ROUNDS).map(work).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    Ok((times[ROUNDS / 2] * 10.0).round() / 10.0)
}

fn timed(work: impl FnOnce() -> Result) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}
