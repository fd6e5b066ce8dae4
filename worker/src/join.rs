//! Joins a cluster: the key is made here and never leaves this machine; the head is known by the
//! CA fingerprint in the token before anything is sent to it.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use orchestra_config::durable;
use orchestra_proto::{
    client::{self, Credentials},
    token::{JoinToken, ParseTokenError},
    v1::{self, join_client::JoinClient},
};
use orchestra_types::{Digest, WorkerId, shell};
use rcgen::{CertificateParams, KeyPair};

use crate::{
    args::{JoinArgs, RunArgs},
    identity::Home,
    self_command::SelfCommand,
    setup,
};

/// Holds the head's address, beside the certificate.
const ENDPOINT_FILE: &str = "endpoint";
/// How long the head may take to answer.
const ENROL_WITHIN: Duration = Duration::from_secs(30);

/// Joins, unless this machine has joined before, then goes on as the worker.
///
/// The same command can therefore stand where a machine is started again and again.
pub fn run(args: JoinArgs, me: SelfCommand) -> anyhow::Result<ExitCode> {
    let state = setup::state(&args.place)?;
    let dir = state.worker();
    state
        .make()
        .with_context(|| format!("failed to make `{}`", state.path().display()))?;
    let home = Home::lock(&dir)?;
    match plan(member_of(&dir.join("pki"))?, &args.token)? {
        Plan::Enrol(token) => join(&args, &token, &dir)?,
        Plan::Member => eprintln!("This machine has joined the cluster already."),
    }
    drop(home);
    if !args.only {
        return setup::run(run_args(args), me);
    }
    let next = next(&me, state.path(), args.name.as_deref());
    eprintln!("Next: run the worker with `{next}`.");
    Ok(ExitCode::SUCCESS)
}

/// The command line that runs the worker, for a shell.
fn next(me: &SelfCommand, state: &Path, name: Option<&str>) -> String {
    let mut words = me.words();
    words.extend(["--state".to_owned(), state.display().to_string()]);
    words.extend(
        name.iter()
            .flat_map(|name| ["--name".to_owned(), (*name).to_owned()]),
    );
    let words: Vec<_> = words.iter().map(|word| shell::word(word)).collect();
    words.join(" ")
}

/// What is left to do.
#[derive(Debug)]
enum Plan {
    Enrol(JoinToken),
    /// There is a certificate of the token's cluster, or of any cluster when there is no token.
    Member,
}

fn plan(member_of: Option<Digest>, token: &str) -> Result<Plan, ParseTokenError> {
    if member_of.is_some() && token.trim().is_empty() {
        return Ok(Plan::Member);
    }
    let token: JoinToken = token.parse()?;
    Ok(if member_of == Some(token.ca_fingerprint) {
        Plan::Member
    } else {
        Plan::Enrol(token)
    })
}

/// The CA of the cluster that this machine belongs to.
fn member_of(pki: &Path) -> anyhow::Result<Option<Digest>> {
    // The endpoint is written last.
    if !pki.join(ENDPOINT_FILE).exists() {
        return Ok(None);
    }
    Ok(Credentials::load(pki)?.ca_fingerprint())
}

fn join(args: &JoinArgs, token: &JoinToken, dir: &Path) -> anyhow::Result<()> {
    let head = args.head.as_ref().unwrap_or(&token.head);
    let worker = orchestra_config::worker_id(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let pki = dir.join("pki");
    let cluster = runtime.block_on(enrol(token, &args.token, head, &worker, &pki))?;
    eprintln!("Joined cluster {cluster} at {head} as worker {worker}.");
    Ok(())
}

fn run_args(args: JoinArgs) -> RunArgs {
    RunArgs {
        place: args.place,
        config: None,
        head: args.head,
        credentials: None,
        agents: Vec::new(),
        slots: None,
        stop_within: args.stop_within,
        name: args.name,
        log_json: false,
        own_session: false,
    }
}

/// Gets a certificate and keeps it with its key and the head's address; the cluster's name.
async fn enrol(
    token: &JoinToken,
    token_text: &str,
    head: &str,
    worker: &WorkerId,
    pki: &Path,
) -> anyhow::Result<String> {
    let key = KeyPair::generate().context("failed to make a key")?;
    let request = CertificateParams::new(Vec::new())
        .and_then(|params| params.serialize_request(&key))
        .and_then(|request| request.pem())
        .context("failed to make a certificate request")?;
    let channel = client::connect_pinned(head, token.ca_fingerprint)
        .await
        .map_err(|error| {
            let advice = error.advice();
            anyhow::Error::new(error).context(format!("failed to reach the head; {advice}"))
        })?;
    let mut request = tonic::Request::new(v1::EnrolRequest {
        token: token_text.trim().to_owned(),
        csr_pem: request,
        worker_id: worker.to_string(),
    });
    request.set_timeout(ENROL_WITHIN);
    let enrolled = JoinClient::new(channel)
        .enrol(request)
        .await
        .map_err(|status| anyhow::anyhow!("the head refused: {}", status.message()))?
        .into_inner();
    let credentials = Credentials {
        ca_pem: enrolled.ca_pem,
        cert_pem: enrolled.certificate_pem,
        key_pem: key.serialize_pem(),
    };
    credentials.save(pki)?;
    let endpoint = pki.join(ENDPOINT_FILE);
    durable::write(
        &endpoint,
        format!("{head}\n").as_bytes(),
        durable::Access::Private,
    )
    .with_context(|| format!("failed to write `{}`", endpoint.display()))?;
    Ok(enrolled.cluster)
}

#[cfg(test)]
mod tests {
    use orchestra_proto::token::Secret;

    use super::*;

    fn token() -> String {
        let token = JoinToken {
            head: "10.0.0.1:7117".to_owned(),
            ca_fingerprint: Digest([7; 32]),
            secret: Secret([9; 32]),
        };
        token.encode()
    }

    #[test]
    fn the_command_line_to_go_on_with_may_be_pasted() {
        let me = SelfCommand {
            exe: "/opt/my tools/orchestra-worker".into(),
            prefix: vec!["run".to_owned()],
        };
        assert_eq!(
            next(&me, Path::new("/path with space"), Some("we ird")),
            "'/opt/my tools/orchestra-worker' run --state '/path with space' --name 'we ird'"
        );
        assert_eq!(
            next(&me, Path::new("/s"), None),
            "'/opt/my tools/orchestra-worker' run --state /s"
        );
    }

    #[test]
    fn a_machine_that_has_joined_needs_no_token_and_uses_up_none() {
        let member = Some(Digest([7; 32]));
        assert!(matches!(plan(member, ""), Ok(Plan::Member)));
        assert!(matches!(plan(member, &token()), Ok(Plan::Member)));
    }

    #[test]
    fn a_new_machine_and_one_of_another_cluster_join() {
        assert!(matches!(plan(None, &token()), Ok(Plan::Enrol(_))));
        let other = Some(Digest([1; 32]));
        assert!(matches!(plan(other, &token()), Ok(Plan::Enrol(_))));
        assert!(plan(None, "").is_err() && plan(other, "nonsense").is_err());
    }
}
