//! Measures supervisors on this machine, without a head, and prints one JSON document: how long it
//! takes from the order to start a CLI until it runs, and how fast its output gets into its log and
//! to its worker, beside what a bare process and a bare pipe reach in the same run.
//!
//! `cargo run --release -p orchestra-worker --example supervisor -- [STARTS [MEGABYTES]]`
//!
//! The supervisor is the built `orchestra-worker`, where it lies beside this program's directory, else
//! this program. Everything lies in the current directory's file system.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use orchestra_types::Exit;
use orchestra_worker::{
    SelfCommand,
    process::{
        ExitRecord, Limits, Nursery, Process, ProcessEvent, Spawn, nursery_main, supervise_main,
    },
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const STARTS: usize = 200;
const MEGABYTES: u64 = 1000;
const CHUNK_BYTES: usize = 64 * 1024;
/// A line of output as CLIs print them.
const LINE_BYTES: usize = 128;

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["supervise", dir] => return Ok(supervise_main(Path::new(dir))),
        ["nursery"] => return Ok(nursery_main()),
        ["stamp"] => println!("{}", now_us()),
        ["print", megabytes] => print(megabytes.parse()?)?,
        [] => measure(STARTS, MEGABYTES)?,
        [starts] => measure(starts.parse()?, MEGABYTES)?,
        [starts, megabytes, ..] => measure(starts.parse()?, megabytes.parse()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn measure(starts: usize, megabytes: u64) -> anyhow::Result<()> {
    let me = std::env::current_exe()?;
    let beside = me
        .parent()
        .and_then(Path::parent)
        .map(|dir| dir.join("orchestra-worker"));
    let supervisor = SelfCommand {
        exe: beside.filter(|exe| exe.exists()).unwrap_or(me.clone()),
        prefix: Vec::new(),
    };
    let tmp = tempfile::tempdir_in(".")?;
    let bench = Bench {
        me,
        supervisors: Nursery::new(supervisor),
        dir: tmp.path().canonicalize()?,
    };
    let document = json!({
        "start": bench.starts(starts).await?,
        "output_megabytes_per_second": bench.output(megabytes).await?,
    });
    writeln!(io::stdout(), "{document:#}")?;
    Ok(())
}

struct Bench {
    me: PathBuf,
    supervisors: Nursery,
    dir: PathBuf,
}

impl Bench {
    /// From the order to the first thing that the CLI does, and the same of a bare process.
    async fn starts(&self, count: usize) -> anyhow::Result<Value> {
        let (mut supervised, mut bare) = (Vec::new(), Vec::new());
        for number in 0..count {
            let began = now_us();
            let output = Command::new(&self.me).arg("stamp").output()?;
            bare.push(stamp(&output.stdout)? - began);
            let spawn = self.spawn(&format!("start-{number}"), &["stamp"])?;
            let began = now_us();
            let process = Process::start(&self.supervisors, &spawn).await?;
            let (_, record) = to_the_end(process).await?;
            ensure!(
                record.exit == Exit::Code(0),
                "it ended with {:?}",
                record.exit
            );
            supervised.push(stamp(&fs::read(spawn.dir.join("stdout.log"))?)? - began);
        }
        Ok(json!({
            "starts": count,
            "order_to_exec_ms": percentiles(supervised),
            "bare_process_ms": percentiles(bare),
        }))
    }

    /// How fast output is taken, with and without a worker that reads it.
    async fn output(&self, megabytes: u64) -> anyhow::Result<Value> {
        let text = megabytes.to_string();
        let bytes = megabytes << 20;
        let mut unread = Vec::new();
        let mut read = Vec::new();
        for round in 0..2 {
            let spawn = self.spawn(&format!("unread-{round}"), &["print", &text])?;
            let began = Instant::now();
            let process = Process::start(&self.supervisors, &spawn).await?;
            let exit = spawn.dir.join("exit.json");
            while !exit.exists() {
                thread::sleep(Duration::from_millis(2));
            }
            unread.push(rate(bytes, began));
            complete(&to_the_end(process).await?, bytes)?;
            fs::remove_dir_all(&spawn.dir)?;

            let spawn = self.spawn(&format!("read-{round}"), &["print", &text])?;
            let began = Instant::now();
            let process = Process::start(&self.supervisors, &spawn).await?;
            let done = to_the_end(process).await?;
            read.push(rate(bytes, began));
            complete(&done, bytes)?;
            fs::remove_dir_all(&spawn.dir)?;
        }
        Ok(json!({
            "megabytes": megabytes,
            "into_the_log": best(&unread),
            "into_the_log_and_read_by_line": best(&read),
            "bare_pipe": self.pipe(&text, bytes, None)?,
            "bare_pipe_into_a_file": self.pipe(&text, bytes, Some("raw"))?,
        }))
    }

    /// What a pipe takes when nobody is between, and perhaps a file.
    fn pipe(&self, megabytes: &str, bytes: u64, file: Option<&str>) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut child = Command::new(&self.me)
            .args(["print", megabytes])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut from = child.stdout.take().context("it is piped")?;
        let mut to = file
            .map(|name| File::create(self.dir.join(name)))
            .transpose()?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            if let Some(to) = &mut to {
                to.write_all(&chunk[..count])?;
            }
        }
        child.wait()?;
        Ok(rate(bytes, began))
    }

    fn spawn(&self, name: &str, args: &[&str]) -> anyhow::Result<Spawn> {
        let dir = self.dir.join(name);
        fs::create_dir(&dir)?;
        Ok(Spawn {
            dir,
            program: self.me.clone(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: BTreeMap::new(),
            cwd: self.dir.clone(),
            stdin: Vec::new(),
            keep_stdin: false,
            limits: Limits::default(),
            log_bytes_max: u64::MAX,
            ballast: PathBuf::new(),
        })
    }
}

/// How many bytes of lines came, and the end.
async fn to_the_end(mut process: Process) -> anyhow::Result<(u64, ExitRecord)> {
    let mut bytes = 0;
    loop {
        match process.next().await? {
            ProcessEvent::Line(line) => bytes += line.end - line.offset,
            ProcessEvent::Exited(record) => return Ok((bytes, record)),
        }
    }
}

fn complete((came, record): &(u64, ExitRecord), bytes: u64) -> anyhow::Result<()> {
    let kept = (record.stdout.kept, record.stdout.dropped, *came);
    ensure!(
        kept == (bytes, 0, bytes),
        "not all of {bytes} bytes: {kept:?}"
    );
    Ok(())
}

/// The CLI: prints so many megabytes of lines.
fn print(megabytes: u64) -> io::Result<()> {
    let mut line = [b'x'; LINE_BYTES];
    line[LINE_BYTES - 1] = b'\n';
    let chunk = line.repeat(CHUNK_BYTES / LINE_BYTES);
    let mut out = io::stdout().lock();
    for _ in 0..(megabytes << 20) / CHUNK_BYTES as u64 {
        out.write_all(&chunk)?;
    }
    out.flush()
}

fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    u64::try_from(micros).unwrap_or(0)
}

fn stamp(text: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(text)?;
    text.trim()
        .parse()
        .with_context(|| format!("no time: {text:?}"))
}

fn percentiles(mut micros: Vec<u64>) -> Value {
    micros.sort_unstable();
    let at = |share: f64| {
        let place = (micros.len() as f64 * share) as usize;
        micros.get(place).map(|micros| *micros as f64 / 1e3)
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)})
}

fn rate(bytes: u64, began: Instant) -> f64 {
    (bytes as f64 / (1 << 20) as f64 / began.elapsed().as_secs_f64()).round()
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}
