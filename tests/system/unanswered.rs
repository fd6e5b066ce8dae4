//! A head that goes away before it has answered what was to change something.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    thread,
};

use anyhow::{Context, ensure};
use orchestra_tests::{Background, Cluster, Output, Setup, Test, scene};

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "a_submission_that_was_sent_and_not_answered_is_said_to_be_in_doubt",
        in_doubt,
    )]
}

/// A submission is longer than this, and all that comes before it shorter.
const CUT_AFTER: usize = 100_000;

fn in_doubt() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let status = cluster.json(&["status"])?;
        let head = status["listen"].as_str().context("no address")?;
        let text = "x".repeat(2 * CUT_AFTER);
        let said = cut(cluster, head, &["add", "--json"], &text)?.exits(10)?;
        let document: serde_json::Value = serde_json::from_str(said.stderr.trim())?;
        let error = &document["error"];
        let message = error["message"].as_str().context("no message")?;
        ensure!(message.contains("the tasks may be queued"), "{said}");
        let hint = error["hint"].as_str().context("no hint")?;
        ensure!(hint.contains("tasks` first"), "{said}");
        let key = hint.split("--key ").nth(1);
        let key = key
            .and_then(|rest| rest.split('`').next())
            .context("no key")?;
        let add = add(cluster, &["add", "--key", key], &text)?;
        ensure!(add.ok()?.stdout.trim() == "task_001");
        let tasks = cluster.json(&["tasks"])?;
        let count = tasks["tasks"].as_array().map(Vec::len);
        ensure!(count == Some(1), "{tasks}");
        Ok(())
    })
}

/// `ctl ARGS` of a task with this text, through a connection that is cut after the text has gone through;
/// after that there is none.
fn cut(cluster: &Cluster, head: &str, args: &[&str], text: &str) -> anyhow::Result<Output> {
    let door = TcpListener::bind("127.0.0.1:0")?;
    let address = door.local_addr()?.to_string();
    thread::scope(|scope| {
        let passes = scope.spawn(move || pass(door, head));
        let said = add(cluster, &[&["--head", &address], args].concat(), text);
        passes
            .join()
            .map_err(|_| anyhow::anyhow!("it panicked"))??;
        said
    })
}

/// Passes on what one client says and hears, up to the cut.
fn pass(door: TcpListener, head: &str) -> anyhow::Result<()> {
    let (mut client, _) = door.accept()?;
    drop(door);
    let mut head = TcpStream::connect(head)?;
    let (mut heard, mut back) = (head.try_clone()?, client.try_clone()?);
    thread::scope(|scope| {
        scope.spawn(move || std::io::copy(&mut heard, &mut back));
        let (mut bytes, mut passed) = (vec![0; 16 * 1024], 0);
        while passed < CUT_AFTER {
            let read = client.read(&mut bytes)?;
            ensure!(read > 0, "it ended after {passed} bytes");
            head.write_all(&bytes[..read])?;
            passed += read;
        }
        for end in [&client, &head] {
            end.shutdown(Shutdown::Both)?;
        }
        Ok(())
    })
}

fn add(cluster: &Cluster, args: &[&str], text: &str) -> anyhow::Result<Output> {
    let more = ["--agent", "noop", "--no-repo", "--at", "+9h", "-"];
    let dir = cluster.path("");
    let mut command = cluster.command(&dir, &[args, &more].concat());
    let input = cluster.path("input");
    std::fs::write(&input, text)?;
    command.stdin(Stdio::from(std::fs::File::open(&input)?));
    Background::start(command, &dir)?.end()
}
