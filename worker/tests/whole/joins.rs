//! `join` in a directory that has joined already.

use std::{fs, path::Path, process::Command};

use orchestra_proto::{
    client::Credentials,
    token::{JoinToken, Secret},
};
use orchestra_types::Digest;

use super::harness::Pki;

const HEAD: &str = "127.0.0.1:7117";
/// Nobody listens there.
const DEAD: &str = "127.0.0.1:1";

fn token(ca_fingerprint: Digest) -> String {
    let token = JoinToken {
        head: HEAD.to_owned(),
        ca_fingerprint,
        secret: Secret([9; 32]),
    };
    token.encode()
}

/// The exit code of `join --only`, and what it said.
fn join(state: &Path, head: &str, token: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_orchestra-worker"))
        .args([
            "join", "--only", "--head", head, "--token", token, "--state",
        ])
        .arg(state)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_member_stays_where_it_is_and_says_joined_only_of_the_cluster_that_is_meant() {
    let state = tempfile::tempdir().unwrap();
    let pki = state.path().join("worker/pki");
    let joined: Credentials = Pki::new().worker;
    joined.save(&pki).unwrap();
    fs::write(pki.join("endpoint"), format!("{HEAD}\n")).unwrap();
    let ours = token(joined.ca_fingerprint().unwrap());

    let (code, said) = join(state.path(), HEAD, &ours);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("has joined the cluster already"), "{said}");

    let (code, said) = join(state.path(), DEAD, &ours);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(HEAD) && said.contains(DEAD), "{said}");

    let (code, said) = join(state.path(), DEAD, &token(Digest([1; 32])));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("belongs to another cluster"), "{said}");
    assert!(said.contains(HEAD) && said.contains("--state"), "{said}");

    let (code, said) = join(state.path(), HEAD, "ORCH1.cut");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not a join token"), "{said}");
    let endpoint = fs::read_to_string(pki.join("endpoint")).unwrap();
    assert_eq!(endpoint.trim(), HEAD);
    let kept = Credentials::load(&pki).unwrap();
    assert_eq!(kept.cert_pem, joined.cert_pem);
}

#[test]
fn a_revoked_worker_without_a_token_is_told_that_it_needs_one() {
    let state = tempfile::tempdir().unwrap();
    let pki = state.path().join("worker/pki");
    Pki::new().worker.save(&pki).unwrap();
    fs::write(pki.join("endpoint"), format!("{HEAD}\n")).unwrap();
    fs::write(pki.join("revoked"), "").unwrap();
    for head in [HEAD, DEAD] {
        let (code, said) = join(state.path(), head, "none");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("this worker was revoked"), "{said}");
        assert!(said.contains("a new token"), "{said}");
        assert!(!said.contains("has joined"), "{said}");
    }
    // The head of this directory has given its worker a new key.
    fs::create_dir(state.path().join("head")).unwrap();
    let (code, said) = join(state.path(), HEAD, "none");
    assert_eq!(code, Some(0), "{said}");
}
