//! Joins a cluster: the key is made here and never leaves this machine; the head is known by the
//! CA fingerprint in the token before anything is sent to it.

use std::{fs, io, path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use orchestra_config::durable;
use orchestra_proto::{
    client::{self, Credentials, Life},
    token::JoinToken,
    v1::{self, join_client::JoinClient},
};
use orchestra_types::{Digest, Timestamp, WorkerId, shell};
use rcgen::{CertificateParams, KeyPair};

use crate::{
    args::{JoinArgs, RunArgs},
    clock,
    identity::Home,
    self_command::SelfCommand,
    setup,
};

/// Holds the head's address, beside the certificate.
const ENDPOINT_FILE: &str = "endpoint";
/// Where it is noted that the head has revoked the key beside it.
const REVOKED_FILE: &str = "revoked";
/// What a member is told.
const JOINED: &str = "This machine has joined the cluster already";
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
    let pki = dir.join("pki");
    let plan = plan(
        member_of(&pki, clock::now())?,
        args.head.as_deref(),
        &args.token,
    )?;
    match tried(plan, &args, &dir)? {
        Plan::Enrol(token) => join(&args, &token, &dir)?,
        Plan::Again { token, member } => join_again(&args, &token, &member, &dir)?,
        Plan::Member(member) => {
            eprintln!("{JOINED}.");
            if let Standing::Over(ended) = member.standing {
                let day = client::day(ended);
                eprintln!(
                    "warning: its certificate has expired on {day}; {}",
                    rejoin(state.path())
                );
            }
        }
        Plan::Done => {}
        Plan::Elsewhere { member, head } => move_to(&member, &head, &pki)?,
        Plan::OtherCluster { member } => return Err(belongs_elsewhere(&member, &pki)),
    }
    drop(home);
    if !args.only {
        return setup::run(run_args(args), me);
    }
    let next = next(&me, state.path(), args.name.as_deref());
    eprintln!("Next: run the worker with `{next}`.");
    Ok(ExitCode::SUCCESS)
}

/// Notes that the head has revoked this worker, so that it joins again with another key.
pub fn note_revoked(pki: &Path) {
    let noted = durable::write(&pki.join(REVOKED_FILE), b"", durable::Access::Private);
    if let Err(error) = noted {
        tracing::warn!(%error, "that this worker was revoked cannot be noted; move `{}` away before it joins again", pki.display());
    }
}

/// What a person does about a certificate that has expired.
pub fn rejoin(state: &Path) -> String {
    let dir = state.display().to_string();
    format!(
        "the certificate of this worker has to be made anew: get a token with `ctl token create` on the head's machine, stop \
         this worker, and run `orchestra-worker join --state {} --token TOKEN`",
        shell::word(&dir)
    )
}

/// A certificate that is good for a while yet is made anew if that can be, for example by the token of a
/// compose file, which was used long ago.
fn tried(plan: Plan, args: &JoinArgs, dir: &Path) -> anyhow::Result<Plan> {
    match plan {
        Plan::Again { token, member } if member.standing == Standing::Due => {
            match join_again(args, &token, &member, dir) {
                Ok(()) => Ok(Plan::Done),
                Err(error) => {
                    eprintln!("warning: the certificate was not made anew: {error:#}");
                    let head = args.head.as_deref().or(Some(&token.head));
                    Ok(as_member(member.clone(), head))
                }
            }
        }
        plan => Ok(plan),
    }
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
    /// It is a member whose certificate has ended, or ends before long: it gets another one for its key.
    Again {
        token: JoinToken,
        member: Member,
    },
    /// It is a member of the cluster that is meant, whose head is where it is said to be.
    Member(Member),
    /// It has been done.
    Done,
    /// It is a member, and the head is said to be here now.
    Elsewhere {
        member: Member,
        head: String,
    },
    /// It is a member of another cluster than the token's.
    OtherCluster {
        member: Member,
    },
}

/// The cluster that this machine belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    /// Its CA.
    ca: Digest,
    /// Where its head is.
    head: String,
    standing: Standing,
}

/// How long a certificate is good yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// It is to be renewed.
    Due,
    /// It has ended.
    Over(Timestamp),
    /// The head has said that it is revoked.
    Revoked,
}

impl Standing {
    /// Of a certificate of this life. One that cannot be read is as good as none.
    fn of(life: Option<Life>, now: Timestamp) -> Self {
        match life {
            Some(life) if life.is_over(now) => Self::Over(life.ends),
            Some(life) if life.is_due(now) => Self::Due,
            Some(_) => Self::Good,
            None => Self::Over(Timestamp(0)),
        }
    }
}

fn plan(member: Option<Member>, head: Option<&str>, token: &str) -> anyhow::Result<Plan> {
    let token: Option<JoinToken> = match token.trim() {
        // A compose file must name some default.
        "" | "none" => None,
        token => Some(token.parse()?),
    };
    let Some(member) = member else {
        let none = "this machine has not joined a cluster, and there is no token: `ctl token create` where the head \
                    runs makes one, for `--token` or ORCHESTRA_TOKEN";
        return token.map(Plan::Enrol).context(none);
    };
    if token
        .as_ref()
        .is_some_and(|token| token.ca_fingerprint != member.ca)
    {
        return Ok(Plan::OtherCluster { member });
    }
    match (token, member.standing) {
        (Some(token), Standing::Due | Standing::Over(_)) => Ok(Plan::Again { token, member }),
        // Not with the key that somebody may have a copy of.
        (Some(token), Standing::Revoked) => Ok(Plan::Enrol(token)),
        (token, _) => Ok(as_member(
            member,
            head.or(token.as_ref().map(|token| token.head.as_str())),
        )),
    }
}

/// What is left to do for a member whose head is said to be here.
fn as_member(member: Member, head: Option<&str>) -> Plan {
    match head {
        Some(head) if head != member.head => Plan::Elsewhere {
            head: head.to_owned(),
            member,
        },
        Some(_) | None => Plan::Member(member),
    }
}

/// The cluster that this machine belongs to, if it has joined one.
fn member_of(pki: &Path, now: Timestamp) -> anyhow::Result<Option<Member>> {
    let endpoint = pki.join(ENDPOINT_FILE);
    // The endpoint is written last.
    let head = match fs::read_to_string(&endpoint) {
        Ok(head) => head.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read `{}`", endpoint.display()));
        }
    };
    let credentials = Credentials::load(pki)?;
    let standing = match pki.join(REVOKED_FILE).exists() {
        true => Standing::Revoked,
        false => Standing::of(credentials.life(), now),
    };
    let ca = credentials.ca_fingerprint();
    Ok(ca.map(|ca| Member { ca, head, standing }))
}

/// Notes that the head of this machine's cluster is somewhere else now, if it is.
fn move_to(member: &Member, head: &str, pki: &Path) -> anyhow::Result<()> {
    let found = runtime()?.block_on(client::connect_pinned(head, member.ca));
    found.map_err(|error| {
        let context = format!(
            "this machine has joined a cluster already, whose head was at {}; failed to reach that head at {head}; {}",
            member.head,
            error.advice()
        );
        anyhow::Error::new(error).context(context)
    })?;
    save_endpoint(pki, head)?;
    eprintln!("{JOINED}; its head is at {head} from now on.");
    Ok(())
}

fn belongs_elsewhere(member: &Member, pki: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "this machine belongs to another cluster than the token, to the one whose head is at {} (CA {}); give the new one a \
         directory of its own with `--state DIR`; if it is the same cluster, restored without its keys, move `{}` away \
         and join again",
        member.head,
        member.ca,
        pki.display()
    )
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")
}

fn save_endpoint(pki: &Path, head: &str) -> anyhow::Result<()> {
    let endpoint = pki.join(ENDPOINT_FILE);
    let line = format!("{head}\n");
    durable::write(&endpoint, line.as_bytes(), durable::Access::Private)
        .with_context(|| format!("failed to write `{}`", endpoint.display()))
}

fn join(args: &JoinArgs, token: &JoinToken, dir: &Path) -> anyhow::Result<()> {
    let head = args.head.as_ref().unwrap_or(&token.head);
    let worker = orchestra_config::worker_id(dir)?;
    let pki = dir.join("pki");
    let key = KeyPair::generate().context("failed to make a key")?;
    let cluster = runtime()?.block_on(enrol(key, token, &args.token, head, &worker, &pki))?;
    let revoked = pki.join(REVOKED_FILE);
    match fs::remove_file(&revoked) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to remove `{}`", revoked.display()));
        }
        Ok(()) | Err(_) => {}
    }
    eprintln!("Joined cluster {cluster} at {head} as worker {worker}.");
    Ok(())
}

/// Gets another certificate for the key that is there.
fn join_again(
    args: &JoinArgs,
    token: &JoinToken,
    member: &Member,
    dir: &Path,
) -> anyhow::Result<()> {
    // Where its head is was said to it, or to the token that it has joined with.
    let head = args.head.as_ref().unwrap_or(&token.head);
    let worker = orchestra_config::worker_id(dir)?;
    let pki = dir.join("pki");
    let key = KeyPair::from_pem(&Credentials::load(&pki)?.key_pem);
    let key = key.with_context(|| format!("failed to read the key in `{}`", pki.display()))?;
    let enrolled = enrol(key, token, &args.token, head, &worker, &pki);
    let cluster = runtime()?.block_on(enrolled)?;
    let was = match member.standing {
        Standing::Over(ended) => format!("had expired on {}", client::day(ended)),
        Standing::Good | Standing::Due | Standing::Revoked => "was about to expire".to_owned(),
    };
    eprintln!("Worker {worker} of cluster {cluster} has a new certificate; the one before {was}.");
    Ok(())
}

fn run_args(args: JoinArgs) -> RunArgs {
    RunArgs {
        place: args.place,
        config: None,
        head: args.head,
        credentials: None,
        capacity: args.capacity,
        stop_within: args.stop_within,
        name: args.name,
        log_json: false,
        own_session: false,
    }
}

/// Gets a certificate and keeps it with its key and the head's address; the cluster's name.
async fn enrol(
    key: KeyPair,
    token: &JoinToken,
    token_text: &str,
    head: &str,
    worker: &WorkerId,
    pki: &Path,
) -> anyhow::Result<String> {
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
    save_endpoint(pki, head)?;
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

    fn member(ca: u8) -> Option<Member> {
        Some(Member {
            ca: Digest([ca; 32]),
            head: "10.0.0.1:7117".to_owned(),
            standing: Standing::Good,
        })
    }

    fn standing(standing: Standing) -> Option<Member> {
        member(7).map(|member| Member { standing, ..member })
    }

    #[test]
    fn a_member_whose_certificate_ends_gets_another_one_for_a_token_of_its_cluster() {
        for left in [Standing::Due, Standing::Over(Timestamp(1))] {
            let again = plan(standing(left), None, &token());
            assert!(matches!(again, Ok(Plan::Again { .. })), "{again:?}");
            let none = plan(standing(left), None, "none");
            assert!(matches!(none, Ok(Plan::Member(_))), "{none:?}");
            let other = Member {
                ca: Digest([1; 32]),
                ..standing(left).unwrap()
            };
            let other = plan(Some(other), None, &token());
            assert!(matches!(other, Ok(Plan::OtherCluster { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_certificate_stands_by_what_is_left_of_its_life() {
        let life = Life {
            begins: Timestamp(0),
            ends: Timestamp(300),
        };
        for (now, standing) in [
            (199, Standing::Good),
            (200, Standing::Due),
            (300, Standing::Due),
            (301, Standing::Over(Timestamp(300))),
        ] {
            assert_eq!(Standing::of(Some(life), Timestamp(now)), standing, "{now}");
        }
        assert!(matches!(
            Standing::of(None, Timestamp(0)),
            Standing::Over(_)
        ));
    }

    #[test]
    fn what_mends_an_expired_certificate_may_be_pasted() {
        let told = rejoin(Path::new("/path with space"));
        let command = "`orchestra-worker join --state '/path with space' --token TOKEN`";
        assert!(told.ends_with(command), "{told}");
    }

    #[test]
    fn a_machine_that_has_joined_needs_no_token_and_uses_up_none() {
        for token in [String::new(), "none".to_owned(), token()] {
            for head in [None, Some("10.0.0.1:7117")] {
                let plan = plan(member(7), head, &token);
                assert!(matches!(plan, Ok(Plan::Member(_))), "{plan:?}");
            }
        }
    }

    #[test]
    fn a_new_machine_joins_with_a_token() {
        let revoked = || standing(Standing::Revoked);
        assert!(matches!(
            plan(revoked(), None, &token()),
            Ok(Plan::Enrol(_))
        ));
        assert!(matches!(plan(revoked(), None, "none"), Ok(Plan::Member(_))));
        assert!(matches!(plan(None, None, &token()), Ok(Plan::Enrol(_))));
        assert!(plan(None, None, "").is_err());
        assert!(plan(member(7), None, "nonsense").is_err());
    }

    #[test]
    fn a_head_at_another_address_must_be_found_there() {
        for token in [String::new(), token()] {
            let plan = plan(member(7), Some("10.0.0.2:7117"), &token);
            let Ok(Plan::Elsewhere { head, .. }) = plan else {
                panic!("{plan:?}");
            };
            assert_eq!(head, "10.0.0.2:7117");
        }
    }

    #[test]
    fn a_member_of_another_cluster_is_refused_with_what_it_belongs_to_and_what_to_do() {
        let plan = plan(member(1), Some("10.0.0.2:7117"), &token());
        let Ok(Plan::OtherCluster { member }) = plan else {
            panic!("{plan:?}");
        };
        let error = belongs_elsewhere(&member, Path::new("/s/worker/pki")).to_string();
        assert!(error.contains("10.0.0.1:7117"), "{error}");
        assert!(error.contains(&"01".repeat(32)), "{error}");
        assert!(error.contains("--state"), "{error}");
    }
}
