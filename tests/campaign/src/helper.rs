//! What lies outside of the head and of Rust: file systems of a round's own, and two small C
//! programs that are compiled when they are needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use orchestra_tests::{Deadline, Need, run, until};

/// What file systems of one's own want.
pub const FILE_SYSTEMS: &[Need] = &[
    Need::Root,
    Need::Program("mount"),
    Need::Program("mkfs.ext4"),
    Need::Program("cc"),
    Need::LoopDevice,
];

/// What a preloaded library wants.
pub const PRELOAD: &[Need] = &[Need::Program("cc")];

const SHUTDOWN: &str = include_str!("../c/shutdown.c");
const FAULT: &str = include_str!("../c/fault.c");

/// Compiles the program that shuts a file system down.
pub fn shutdown_program(dir: &Path) -> anyhow::Result<PathBuf> {
    compile(dir, "shutdown", SHUTDOWN, &[])
}

/// Compiles the library that makes system calls fail.
pub fn fault_library(dir: &Path) -> anyhow::Result<PathBuf> {
    compile(dir, "fault.so", FAULT, &["-shared", "-fPIC", "-ldl"])
}

fn compile(dir: &Path, name: &str, source: &str, flags: &[&str]) -> anyhow::Result<PathBuf> {
    let made = dir.join(name);
    if !made.exists() {
        let text = dir.join(format!("{name}.c"));
        fs::write(&text, source)?;
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-o"]).arg(&made).arg(&text).args(flags);
        run(cc, b"")?.ok()?;
    }
    Ok(made)
}

/// Which calls a preloaded library hits, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// Only files whose path contains this.
    pub path: &'a Path,
    /// Which calls, as `,write,sync,`.
    pub calls: &'a str,
    /// The first that is hit, counted from 1.
    pub at: u64,
    /// How many are hit; 0 for all from then on.
    pub count: u64,
    /// What they answer; 0 for success, without having done anything.
    pub errno: i32,
    /// Where a line is written for each hit.
    pub log: &'a Path,
    /// Where calls are counted, hit or not: see [`CALLS`]. All processes with this file count together.
    pub counts: Option<&'a Path>,
}

/// The kinds of calls that can be hit, in the order in which they are counted.
pub const CALLS: [&str; 7] = [
    "write", "sync", "range", "rename", "truncate", "open", "mkdir",
];

/// Makes an empty file of counts.
pub fn new_counts(path: &Path) -> anyhow::Result<()> {
    fs::write(path, [0; (CALLS.len() + 1) * 8]).context("failed to make the file of counts")
}

/// How often each kind of call was made.
pub fn counts(path: &Path) -> anyhow::Result<Vec<u64>> {
    let bytes = fs::read(path).context("failed to read the file of counts")?;
    let (numbers, _) = bytes.as_chunks::<8>();
    Ok(numbers[..CALLS.len()]
        .iter()
        .map(|number| u64::from_ne_bytes(*number))
        .collect())
}

impl Fault<'_> {
    /// The environment of a process that is hit.
    pub fn environment(&self, library: &Path) -> Vec<(String, String)> {
        let counts = self.counts.map(|path| ("FAULT_CALLS", text(path)));
        let settings = [
            ("LD_PRELOAD", text(library)),
            ("FAULT_PATH", text(self.path)),
            ("FAULT_OPS", self.calls.to_owned()),
            ("FAULT_AT", self.at.to_string()),
            ("FAULT_COUNT", self.count.to_string()),
            ("FAULT_ERR", self.errno.to_string()),
            ("FAULT_LOG", text(self.log)),
        ];
        let settings = settings.into_iter().chain(counts);
        settings
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// A file system that is unmounted when it is dropped.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    image: PathBuf,
}

impl Mount {
    /// A new ext4 in an image of `megabytes` beside `dir`, mounted on `dir`.
    pub fn ext4(dir: &Path, megabytes: u64) -> anyhow::Result<Self> {
        let image = dir.with_extension("img");
        drop(fs::remove_file(&image));
        fs::File::create(&image)?.set_len(megabytes << 20)?;
        command("mkfs.ext4", &["-q", "-F", &text(&image)])?;
        let mount = Self {
            dir: dir.to_owned(),
            image,
        };
        mount.mount()?;
        Ok(mount)
    }

    /// Mounts the image again, as after the power has come back.
    pub fn mount(&self) -> anyhow::Result<()> {
        command(
            "mount",
            &["-o", "loop", &text(&self.image), &text(&self.dir)],
        )
    }

    /// Unmounts it, as soon as nobody uses it any more.
    pub fn unmount(&self) -> anyhow::Result<()> {
        until("the file system is unmounted", Deadline::SOON, || {
            let tried = command("umount", &[&text(&self.dir)]);
            Ok(tried.is_ok().then_some(()))
        })
    }
}

/// A file system on which every change waits, until this is dropped.
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Mount {
    /// Lets every change wait, as a disk that takes very long.
    pub fn freeze(&self) -> anyhow::Result<Frozen> {
        command("fsfreeze", &["--freeze", &text(&self.dir)])?;
        Ok(Frozen(self.dir.clone()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = command("fsfreeze", &["--unfreeze", &text(&self.0)]) {
            eprintln!("a file system stays frozen: {error:#}");
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It may be unmounted already; a head that was killed may hold it for another moment.
        drop(command("umount", &["--lazy", &text(&self.dir)]));
    }
}

/// Runs a program of the machine.
pub fn command(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("failed to run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
