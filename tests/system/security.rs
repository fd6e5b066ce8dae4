//! Nobody without a certificate from this cluster gets in, and who is in is not believed more than needed.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Deadline, GATE, Setup, Test, run, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_peer_that_speaks_no_tls_is_refused", plain_peer),
        Test::new(
            "credentials_of_another_cluster_are_refused",
            foreign_credentials,
        ),
        Test::new("keys_are_readable_by_their_owner_only", key_files),
        Test::new(
            "whatever_the_umask_nobody_else_may_write_to_what_orchestra_keeps",
            open_umask,
        ),
        Test::new(
            "an_open_file_of_whoever_starts_it_goes_to_no_agent",
            inherited,
        ),
        Test::new(
            "of_a_worker_that_sends_another_change_than_it_tells_nothing_is_taken",
            liar,
        ),
    ]
}

fn plain_peer() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let listen = listen(cluster)?;
        let mut stream = TcpStream::connect(&listen).context("failed to connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        let mut answer = Vec::new();
        // A reset is as good a refusal as an alert.
        drop(stream.read_to_end(&mut answer));
        // A server's HTTP/2 preface is a SETTINGS frame: type 4 in the fourth byte.
        ensure!(
            answer.get(3) != Some(&4),
            "it speaks HTTP/2 without TLS: {answer:?}"
        );
        Ok(())
    })
}

fn foreign_credentials() -> anyhow::Result<()> {
    let mine = Setup::new();
    scene(mine, |cluster| {
        scene(Setup::new(), |other| {
            for stolen in [
                &["ca.pem", "cert.pem", "key.pem"][..],
                &["cert.pem", "key.pem"],
            ] {
                let dir = cluster.path("foreign");
                copy_credentials(cluster, other, &dir, stolen)?;
                let output = cluster.ctl(&["--state", &dir.to_string_lossy(), "status"])?;
                ensure!(
                    output.code != Some(0),
                    "a foreign certificate was let in\n{output}"
                );
                ensure!(output.stdout.is_empty(), "{output}");
            }
            Ok(())
        })
    })
}

/// A state directory that points at `cluster` but has some credentials of `other`.
fn copy_credentials(
    cluster: &Cluster,
    other: &Cluster,
    dir: &std::path::Path,
    foreign: &[&str],
) -> anyhow::Result<()> {
    let client = dir.join("client");
    fs::create_dir_all(&client)?;
    for name in ["endpoint", "ca.pem", "cert.pem", "key.pem"] {
        let from = if foreign.contains(&name) {
            other
        } else {
            cluster
        };
        let source = from.state().join("client").join(name);
        fs::copy(&source, client.join(name))
            .with_context(|| format!("failed to copy `{}`", source.display()))?;
    }
    Ok(())
}

/// Not that anybody gets into the directories above. Files of a project, and of git, are as the umask says.
fn open_umask() -> anyhow::Result<()> {
    let cluster = Cluster::new(Setup::new())?;
    let project = cluster.repository("project")?;
    let open = |args: &[&str]| {
        let ctl = cluster.command(project.dir(), args);
        let mut command = Command::new("sh");
        command.args(["-c", "umask 000 && exec \"$@\"", "sh"]);
        command.arg(ctl.get_program()).args(ctl.get_args());
        command.envs(
            ctl.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.current_dir(project.dir());
        run(command, b"")?.ok()
    };
    open(&["start", "--detach"])?;
    let gate = GATE.replace("@DIR@", &cluster.path("").to_string_lossy());
    // What it says is there while it waits.
    let gate = format!("echo said; echo aside >&2; {gate}");
    for script in ["echo new >> new.txt; echo said >&2", &gate] {
        open(&["add", "--agent", "shell", script])?;
    }
    cluster.succeeded("task_001", Deadline::SOON)?;
    cluster.wait_for("task_002", &["running"], Deadline::SOON)?;
    let mut wide = Vec::new();
    look(&cluster.state(), &mut wide)?;
    cluster.open_gate()?;
    cluster.succeeded("task_002", Deadline::SOON)?;
    look(&cluster.state(), &mut wide)?;
    cluster.stop()?;
    ensure!(wide.is_empty(), "others may use {wide:#?}");
    cluster.expect_no_process()
}

/// What is there that others may do anything with.
fn look(dir: &Path, wide: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // It may be over meanwhile.
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        let is_of_git = path.ends_with("git") || path.join("HEAD").exists();
        let is_of_project = path
            .parent()
            .is_some_and(|above| above.ends_with("workspaces"));
        if found.permissions().mode() & 0o077 != 0 && !path.ends_with("orchestra.yaml") {
            wide.push(path.clone());
        }
        if found.is_dir() && !is_of_git && !is_of_project {
            look(&path, wide)?;
        }
    }
    Ok(())
}

fn key_files() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        let mut find = std::process::Command::new("find");
        find.arg(cluster.state())
            .args(["-name", "*key*", "-type", "f", "-printf", "%m %p\n"]);
        let found = orchestra_tests::run(find, b"")?.ok()?;
        ensure!(
            found.stdout.lines().count() >= 3,
            "want keys of CA, head and ctl\n{found}"
        );
        let open: Vec<&str> = found
            .stdout
            .lines()
            .filter(|line| !line.starts_with("600 "))
            .collect();
        ensure!(open.is_empty(), "others can read {open:?}");
        Ok(())
    })
}

/// A git that makes a worker lie: the commit of its result has a file more than list and patch tell.
const LYING_GIT: &str = r#"#!/bin/sh
PATH=/usr/local/bin:/usr/bin:/bin
tree= last=
for word in "$@"; do
    [ "$last" = commit-tree ] && tree=$word
    last=$word
done
case "$tree:$GIT_DIR" in
?*:*/worker/*)
    blob=$(echo 'rm -rf ~' | git hash-object -w --stdin)
    evil=$({ git ls-tree "$tree"; printf '100755 blob %s\tevil.sh\n' "$blob"; } | git mktree)
    for word in "$@"; do
        shift
        [ "$word" = "$tree" ] && word=$evil
        set -- "$@" "$word"
    done
    ;;
esac
exec git "$@"
"#;

fn liar() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let git = dir.path().join("git");
    fs::write(&git, LYING_GIT)?;
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.path().display());
    scene(Setup::new().env("PATH", &path), |cluster| {
        let project = cluster.repository("project")?;
        let nothing_came = || -> anyhow::Result<()> {
            let status = project.git(&["status", "--porcelain"])?;
            let branches = project.git(&["branch", "--list", "orchestra/*"])?;
            ensure!(
                status.is_empty() && branches.is_empty(),
                "{status}{branches}"
            );
            Ok(())
        };
        let add = ["echo new > new.txt", "--agent", "shell"];
        let task = cluster.add(&project, &add)?;
        cluster.succeeded(&task, Deadline::SOON)?;
        let diff = cluster.ctl(&["diff", &task])?.ok()?;
        ensure!(
            diff.stdout.contains("new.txt") && !diff.stdout.contains("evil"),
            "{diff}"
        );
        nothing_came()?;
        for how in [&["apply", &task][..], &["apply", &task, "--branch"]] {
            let refused = cluster.ctl_in(project.dir(), how)?;
            ensure!(refused.code == Some(5), "{refused}");
            refused.complains(&["`evil.sh`", "do not trust the worker", "ctl workers cordon"])?;
            nothing_came()?;
        }
        let task = cluster.add(&project, &[&add[..], &["--apply"]].concat())?;
        let document = cluster.wait_for(&task, &["needs_review"], Deadline::SOON)?;
        let reason = document["reason"]["message"].as_str().unwrap_or_default();
        ensure!(reason.contains("`evil.sh`"), "{document:#}");
        nothing_came()
    })
}

/// A lock that a script holds while it starts everything, say.
fn inherited() -> anyhow::Result<()> {
    scene(Setup::new(), |cluster| {
        cluster.stop()?;
        let dir = cluster.path("");
        let ctl = cluster.command(&dir, &["start", "--detach"]);
        let mut script = Command::new("sh");
        script
            .args(["-c", "exec 9>held; \"$0\" \"$@\""])
            .arg(ctl.get_program())
            .args(ctl.get_args())
            .current_dir(&dir)
            .env_clear();
        for (name, value) in ctl.get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        orchestra_tests::run(script, b"")?.ok()?;
        for pid in [cluster.head_pid()?, cluster.worker_pid()?] {
            let file = fs::read_link(format!("/proc/{pid}/fd/9")).unwrap_or_default();
            ensure!(file != cluster.path("held"), "{pid} has {}", file.display());
        }
        let project = cluster.repository("project")?;
        let look = "! ls -l /proc/self/fd | grep /held";
        let task = cluster.add(&project, &[look, "--agent", "shell"])?;
        cluster.succeeded(&task, Deadline::SOON)?;
        Ok(())
    })
}

fn listen(cluster: &Cluster) -> anyhow::Result<String> {
    let status = cluster.json(&["status"])?;
    Ok(status["listen"]
        .as_str()
        .context("status says where the head listens")?
        .to_owned())
}
