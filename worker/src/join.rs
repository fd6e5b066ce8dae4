//! Joins a cluster: the key is made here and never leaves this machine; the head is known by the
//! CA fingerprint in the token before anything is sent to it.

use std::{
    ffi::OsString, fs, io, os::unix::process::CommandExt, path::Path, process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use orchestra_config::{StateDir, durable};
use orchestra_proto::{
    client::{self, Credentials},
    token::JoinToken,
    v1::{self, join_client::JoinClient},
};
use orchestra_types::{Timestamp, WorkerId, shell, time::write_duration};
use rcgen::{CertificateParams, KeyPair};

use crate::{
    args::{JoinArgs, RunArgs, TOKEN_VARIABLE},
    clock,
    identity::{Home, InUse},
    self_command::SelfCommand,
    setup,
};

mod plan;

use self::plan::{Member, Plan, Standing, as_member, plan};

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
    if !args.only {
        // Before a token is used up: it would go on as a worker that cannot start.
        setup::load(&state, &args.config)?;
    }
    let pki = dir.join("pki");
    let home = match Home::lock(&dir) {
        Ok(home) => home,
        Err(error) if error.is::<InUse>() => return beside(&args, &state, error),
        Err(error) => return Err(error),
    };
    let plan = plan(
        member_of(&pki, clock::now())?,
        args.head.as_deref(),
        &args.token,
    )?;
    match tried(plan, &args, &dir)? {
        Plan::Enrol(token) => join(&args, &token, &dir)?,
        Plan::Again { token, member } => join_again(&args, &token, &member, &dir)?,
        // The one of the head's directory has had a new key since, or gets it by a start.
        Plan::Revoked if state.head().exists() => eprintln!("{JOINED}."),
        Plan::Revoked => anyhow::bail!("this worker was revoked; {}", readmission(&state)),
        Plan::Member(member) => match expired(&member, &state) {
            // Nothing that comes after this could work.
            Some(why) if args.only => anyhow::bail!("{JOINED}, but {why}"),
            // The clock may be wrong yet, and what its agents did is kept: it tries.
            Some(why) => eprintln!("{JOINED}.\nwarning: {why}"),
            None => eprintln!("{JOINED}."),
        },
        Plan::Done => {}
        Plan::Elsewhere { member, head } => move_to(&member, &head, &pki)?,
        Plan::OtherCluster { member } => return Err(belongs_elsewhere(&member, &pki)),
    }
    drop(home);
    let options = options(&args)?;
    if !args.only {
        if plan::parse_token(&args.token)?.is_some() {
            forget_token(&me, state.path(), &options);
        }
        return setup::run(run_args(args), me);
    }
    let next = next(&me, state.path(), &options);
    eprintln!("Next: run the worker with `{next}`.");
    Ok(ExitCode::SUCCESS)
}

/// Becomes the worker as a program that was never told the token: as long as this one runs, its arguments and its
/// environment can be read in `/proc`. It returns where that cannot be done.
fn forget_token(me: &SelfCommand, state: &Path, options: &[OsString]) {
    let error = std::process::Command::new(&me.exe)
        .args(&me.prefix)
        .arg("--state")
        .arg(state)
        .args(options)
        .env_remove(TOKEN_VARIABLE)
        .exec();
    eprintln!(
        "warning: the token can be read in what this process was started with: failed to run `{}`: {error}",
        me.exe.display()
    );
}

/// What can be done while the worker runs here: it reads the head's address anew each time that it dials.
fn beside(args: &JoinArgs, state: &StateDir, in_use: anyhow::Error) -> anyhow::Result<ExitCode> {
    let pki = &state.worker().join("pki");
    let plan = plan(
        member_of(pki, clock::now())?,
        args.head.as_deref(),
        &args.token,
    )?;
    match plan {
        Plan::Elsewhere { member, head } => {
            move_to(&member, &head, pki)?;
            eprintln!(
                "The worker that runs here looks for it there when its connection ends, and its agents go on."
            );
            Ok(ExitCode::SUCCESS)
        }
        Plan::Member(member) if args.only => match expired(&member, state) {
            Some(why) => anyhow::bail!("{JOINED}, and its worker runs, but {why}"),
            None => Ok(runs()),
        },
        // One that runs has had a new key since.
        Plan::Revoked if args.only => Ok(runs()),
        Plan::OtherCluster { member } => Err(belongs_elsewhere(&member, pki)),
        Plan::Member(_) | Plan::Revoked | Plan::Enrol(_) | Plan::Again { .. } | Plan::Done => {
            Err(in_use)
        }
    }
}

fn runs() -> ExitCode {
    eprintln!("{JOINED}, and its worker runs.");
    ExitCode::SUCCESS
}

/// Notes that the head has revoked this worker, so that it joins again with another key.
pub fn note_revoked(pki: &Path) {
    let noted = durable::write(&pki.join(REVOKED_FILE), b"", durable::Access::Private);
    if let Err(error) = noted {
        tracing::warn!(%error, "that this worker was revoked cannot be noted; move `{}` away before it joins again", pki.display());
    }
}

/// What a person does so that a worker that was revoked is let in again. The one of the head's state
/// directory needs no token: the head gives it a new key when both are started.
pub fn readmission(state: &StateDir) -> &'static str {
    match state.head().exists() {
        true => "to let it in again, run `ctl start`, which starts it with a new key",
        false => {
            "to let it join again, run `orchestra-worker join` with a new token of `ctl token create`"
        }
    }
}

/// That the certificate has expired, and what a person does about it.
fn expired(member: &Member, state: &StateDir) -> Option<String> {
    match member.standing {
        Standing::Over(ended) => Some(format!(
            "its certificate has expired on {}; {}",
            client::day(ended),
            rejoin(state)
        )),
        Standing::Good | Standing::Due | Standing::Revoked => None,
    }
}

/// What a person does about a certificate that has expired. The one of the head's state directory has its made by
/// the head.
pub fn rejoin(state: &StateDir) -> String {
    if state.head().exists() {
        return "`ctl start` has it made anew".to_owned();
    }
    let dir = state.path().display().to_string();
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

/// What was said of the worker when it joined, which the command that runs it has to say again.
fn options(args: &JoinArgs) -> anyhow::Result<Vec<OsString>> {
    let config = args.config.config.as_ref().map(std::path::absolute);
    let config = config.transpose();
    let config = config.context("failed to find the configuration file")?;
    let agents = args.capacity.agents.iter();
    let agents: Vec<String> = agents
        .map(|agent| format!("{}:{}", agent.runner, agent.count))
        .collect();
    let all = [
        ("--config", config.map(OsString::from)),
        ("--name", args.name.clone().map(OsString::from)),
        (
            "--slots",
            args.capacity.slots.map(|slots| slots.to_string().into()),
        ),
        (
            "--agents",
            (!agents.is_empty()).then(|| agents.join(",").into()),
        ),
        (
            "--stop-within",
            args.stop_within.map(|time| write_duration(time).into()),
        ),
    ];
    let said = all
        .into_iter()
        .filter_map(|(name, value): (_, Option<OsString>)| Some((name, value?)));
    // In one word: a value may begin as an option does.
    let word = |(name, value): (&str, OsString)| {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value);
        word
    };
    Ok(said.map(word).collect())
}

/// The command line that runs the worker, for a shell.
fn next(me: &SelfCommand, state: &Path, options: &[OsString]) -> String {
    let mut words = me.words();
    words.extend(["--state".to_owned(), state.display().to_string()]);
    words.extend(
        options
            .iter()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let words: Vec<_> = words.iter().map(|word| shell::word(word)).collect();
    words.join(" ")
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
        config: args.config,
        // It was noted, and may be noted anew while the worker runs.
        head: None,
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
    use orchestra_types::Digest;

    use super::*;

    #[test]
    fn the_command_line_to_go_on_with_may_be_pasted() {
        let me = SelfCommand {
            exe: "/opt/my tools/orchestra-worker".into(),
            prefix: vec!["run".to_owned()],
        };
        assert_eq!(
            next(
                &me,
                Path::new("/path with space"),
                &["--name".into(), "we ird".into()]
            ),
            "'/opt/my tools/orchestra-worker' run --state '/path with space' --name 'we ird'"
        );
        assert_eq!(
            next(&me, Path::new("/s"), &[]),
            "'/opt/my tools/orchestra-worker' run --state /s"
        );
    }

    #[test]
    fn what_mends_an_expired_certificate_may_be_pasted() {
        let told = rejoin(&StateDir::new("/path with space"));
        let command = "`orchestra-worker join --state '/path with space' --token TOKEN`";
        assert!(told.ends_with(command), "{told}");
    }

    #[test]
    fn only_a_certificate_that_has_expired_is_told_with_what_mends_it() {
        let state = StateDir::new("/s");
        let told = |standing| {
            let member = Member {
                ca: Digest([1; 32]),
                head: "10.0.0.1:7117".to_owned(),
                standing,
            };
            expired(&member, &state)
        };
        for good in [Standing::Good, Standing::Due, Standing::Revoked] {
            assert_eq!(told(good), None);
        }
        let why = told(Standing::Over(Timestamp(1_767_225_600_000))).unwrap();
        assert!(why.starts_with("its certificate has expired on 2026-01-01; "));
        assert!(why.contains("`ctl token create`"), "{why}");
        let dir = tempfile::tempdir().unwrap();
        let own = StateDir::new(dir.path());
        std::fs::create_dir(own.head()).unwrap();
        assert_eq!(rejoin(&own), "`ctl start` has it made anew");
    }

    #[test]
    fn a_revoked_worker_of_the_head_s_directory_needs_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert!(readmission(&state).contains("with a new token of `ctl token create`"));
        std::fs::create_dir(state.head()).unwrap();
        assert!(readmission(&state).contains("run `ctl start`"));
        assert!(!readmission(&state).contains("token"));
    }

    #[test]
    fn a_member_of_another_cluster_is_told_what_it_belongs_to_and_what_to_do() {
        let member = Member {
            ca: Digest([1; 32]),
            head: "10.0.0.1:7117".to_owned(),
            standing: Standing::Good,
        };
        let error = belongs_elsewhere(&member, Path::new("/s/worker/pki")).to_string();
        assert!(error.contains("10.0.0.1:7117"), "{error}");
        assert!(error.contains(&"01".repeat(32)), "{error}");
        assert!(error.contains("--state"), "{error}");
    }
}
