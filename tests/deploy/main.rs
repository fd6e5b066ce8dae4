//! Tests of `deploy/`: the units are valid, and the containers really run.
//!
//! Outside the namespace of the other tests, because podman makes networks of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, ensure};
use orchestra_tests::{Binaries, Need, Suite, Test, run};
use tempfile::TempDir;

fn main() -> ExitCode {
    if let Err(error) = Binaries::build() {
        eprintln!("error: {error:?}");
        return ExitCode::FAILURE;
    }
    Suite::default().with("deploy", tests()).run()
}

fn tests() -> Vec<Test> {
    vec![
        Test::new("systemd_finds_nothing_wrong_with_the_units", units)
            .needs(&[Need::Program("systemd-analyze")]),
        Test::new(
            "agents_and_workers_get_what_they_need_to_go_on_or_to_end",
            endings,
        ),
        Test::new("a_head_and_two_workers_run_in_containers", compose).needs(&[
            Need::Root,
            Need::Program("podman"),
            Need::Program("podman-compose"),
            Need::Program("runc"),
        ]),
    ]
}

/// The units name programs in /usr/local/bin, which need not be installed here: the copies that
/// are checked name the built ones.
fn units() -> anyhow::Result<()> {
    let dir = TempDir::new()?;
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for unit in ["orchestra-head.service", "orchestra-worker.service"] {
        let text = fs::read_to_string(deploy().join("systemd").join(unit))?;
        let bins = Binaries::get().dir().to_string_lossy();
        let copy = dir.path().join(unit);
        fs::write(&copy, text.replace("/usr/local/bin", &bins))?;
        verify.arg(copy);
    }
    // It exits with 0 for an unknown key too; what it has to say is on standard error.
    let output = run(verify, b"")?.ok()?;
    ensure!(output.stderr.is_empty(), "{output}");
    Ok(())
}

/// What no run of a few seconds shows.
fn endings() -> anyhow::Result<()> {
    let unit = fs::read_to_string(deploy().join("systemd/orchestra-worker.service"))?;
    let has = |line: &str| unit.lines().any(|it| it == line);
    ensure!(has("KillMode=process"), "agents outlive a restart");
    ensure!(!has("PrivateTmp=yes"), "a restart would empty their /tmp");
    let compose = fs::read_to_string(deploy().join("compose.yaml"))?;
    ensure!(compose.contains("orchestra-worker join --only; exec orchestra-worker\n"));
    ensure!(compose.contains("\n    stop_grace_period: 30s\n"));
    Ok(())
}

fn compose() -> anyhow::Result<()> {
    let conf = tests_dir().join("compose/containers.conf");
    let mut base = Command::new(tests_dir().join("compose/base-image.sh"));
    base.arg(Binaries::get().ctl())
        .env("CONTAINERS_CONF", &conf);
    run(base, b"")?
        .ok()
        .context("failed to make a base image of this machine's files")?;
    let mut script = Command::new(deploy().join("try-compose.sh"));
    script
        .arg(Binaries::get().dir())
        .env("CONTAINERS_CONF", &conf)
        .env("BASE", "localhost/orchestra-test-base");
    let output = run(script, b"")?.ok()?;
    ensure!(output.stdout.contains("everything worked"), "{output}");
    Ok(())
}

fn tests_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn deploy() -> PathBuf {
    tests_dir().with_file_name("deploy")
}
