//! Nobody without a certificate from this cluster gets in.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, ensure};
use orchestra_tests::{Cluster, Setup, Test, scene};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("a_peer_that_speaks_no_tls_is_refused", plain_peer),
        Test::new(
            "credentials_of_another_cluster_are_refused",
            foreign_credentials,
        ),
        Test::new("keys_are_readable_by_their_owner_only", key_files),
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

fn listen(cluster: &Cluster) -> anyhow::Result<String> {
    let status = cluster.json(&["status"])?;
    Ok(status["listen"]
        .as_str()
        .context("status says where the head listens")?
        .to_owned())
}
