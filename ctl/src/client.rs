//! The connection to the head: one for calls, another one for bulk data.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orchestra_proto::{
    client::{self, ConnectError, Credentials, CredentialsError, Whereabouts},
    v1::{self, admin_client::AdminClient, bulk_client::BulkClient},
};
use orchestra_types::limits;
use tokio::sync::OnceCell;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    error::{Error, Missing, Result},
    exit::Exit,
    local::record,
    renewal,
    ui::now,
};

/// How long a call is tried again while the head is away, for example while it restarts.
pub const RETRY_FOR: Duration = Duration::from_secs(30);
/// How long the first retry waits.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long a later retry waits at most.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);

/// What finds out how much more is lost where something is.
pub const NAMES_LOSSES: &str = "`ctl check` names all that is lost or damaged";

/// Largest answer of the head: lists and manifests.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection to the head.
#[derive(Clone, Debug)]
pub struct Client {
    credentials: Credentials,
    head: Whereabouts,
    channel: Channel,
    bulk: Arc<OnceCell<Channel>>,
}

impl Client {
    /// Connects with the credentials in `dir` to `head`, or to the head that `dir` names, wherever that
    /// is then.
    pub async fn connect(dir: PathBuf, named: Option<&str>) -> Result<Self> {
        let head = match named {
            Some(endpoint) => Whereabouts::from(endpoint),
            None => written(&dir)?,
        };
        let credentials = Credentials::load(&dir).map_err(|e| credentials_error(&dir, named, e))?;
        let channel = client::connect(&credentials, head.clone())
            .await
            .map_err(connect_error)?;
        let credentials = renewal::if_due(&dir, credentials, &channel, now()).await;
        Ok(Self {
            credentials,
            head,
            channel,
            bulk: Arc::default(),
        })
    }

    /// Where the head is.
    pub fn head(&self) -> &Whereabouts {
        &self.head
    }

    /// Whether the head does not answer a call that is made once, within `limit`.
    pub async fn is_gone(&self, limit: Duration) -> bool {
        let mut admin = self.admin();
        let asked = tokio::time::timeout(limit, admin.get_status(v1::GetStatusRequest {})).await;
        match asked {
            Ok(Ok(_)) => false,
            Ok(Err(status)) => is_away(&status),
            Err(_) => true,
        }
    }

    /// Calls of the admin service.
    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// Bulk data, on a TCP connection of its own, which is made when it is first wanted.
    pub async fn bulk(&self) -> Result<BulkClient<Channel>> {
        let connect = async || {
            client::connect(&self.credentials, self.head.clone())
                .await
                .map_err(connect_error)
        };
        let channel = self.bulk.get_or_try_init(connect).await?.clone();
        Ok(BulkClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX))
    }
}

/// Runs `call` until it is answered: again while the head is away, for `RETRY_FOR` at most. Only
/// for calls that change nothing; `changing` has those for the others.
pub async fn patiently<T, F>(call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
{
    let answer = until_answered(call).await;
    answer.map_err(|failed| status_error(&failed.status))
}

/// How a call ended that was made again and again.
#[derive(Debug)]
pub struct Failed {
    /// What came of it the last time.
    pub status: Status,
    /// Whether the head may have done what it was asked for, this time or an earlier one.
    pub may_be_done: bool,
}

impl Failed {
    /// Of a call that was made once.
    pub fn of_one(status: Status) -> Self {
        let may_be_done = may_have_arrived(&status);
        Self {
            status,
            may_be_done,
        }
    }
}

/// Runs `call` again while the head is away, for `RETRY_FOR` at most.
pub async fn until_answered<T, F>(mut call: impl FnMut() -> F) -> std::result::Result<T, Failed>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
{
    let deadline = tokio::time::Instant::now() + RETRY_FOR;
    let mut delay = RETRY_DELAY;
    let mut may_be_done = false;
    loop {
        let status = match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        may_be_done |= may_have_arrived(&status);
        if !is_away(&status) || tokio::time::Instant::now() + delay >= deadline {
            let may_be_done = may_be_done && is_no_answer(&status);
            return Err(Failed {
                status,
                may_be_done,
            });
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

/// Whether the request may have reached a head that did not answer it: no connection, no request.
fn may_have_arrived(status: &Status) -> bool {
    is_away(status) && ConnectError::below(status).is_none()
}

/// Whether the head has said nothing to the request.
fn is_no_answer(status: &Status) -> bool {
    is_away(status) || ConnectError::below(status).is_some()
}

/// Whether the head is away for a moment, so that the same call may work later.
pub fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        // A connection that breaks while an answer is on its way.
        Code::Unknown | Code::Internal | Code::Cancelled => {
            std::error::Error::source(status).is_some() && certificate_trouble(status).is_none()
        }
        _ => false,
    }
}

/// Whether a stream that ended so can be opened again where it was: the head went away for a
/// moment, or ended it because nothing was read from it for long.
pub fn may_resume(status: &Status) -> bool {
    is_away(status) || status.code() == Code::ResourceExhausted
}

/// Why who answers there is not our head, or does not take us for its client.
pub fn certificate_trouble(status: &Status) -> Option<&ConnectError> {
    ConnectError::below(status).filter(|error| match error {
        ConnectError::WrongHead { .. }
        | ConnectError::HeadOutOfDate { .. }
        | ConnectError::Expired { .. }
        | ConnectError::CertificateRefused { .. } => true,
        ConnectError::NotRunning { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::Timeout { .. }
        | ConnectError::Broken { .. }
        | ConnectError::Endpoint { .. }
        | ConnectError::Credentials { .. } => false,
    })
}

/// What the head's refusal means for the person.
pub fn status_error(status: &Status) -> Error {
    if let Some(error) = ConnectError::below(status) {
        return Error::new(connect_exit(error), error.to_string()).hint(error.advice());
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => Error::new(Exit::NotFound, message).of_missing(missing(status)),
        Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Aborted
        | Code::ResourceExhausted => Error::new(Exit::Refused, message),
        Code::Unavailable => Error::new(
            Exit::HeadNotRunning,
            or(message, "the head is not available"),
        )
        .hint("is it stopping or starting? `ctl status`; start it with `ctl start`"),
        Code::Unauthenticated | Code::PermissionDenied => {
            Error::failed(or(message, "the head refused this client"))
                .hint(
                    "name the state directory that the head was started with: `--state DIR`; on another machine, \
                     copy its directory `client` anew",
                )
        }
        Code::Unimplemented => Error::failed("the head does not know this request")
            .hint("ctl and head have different versions: compare `ctl --version` and `ctl status`"),
        Code::InvalidArgument | Code::OutOfRange => Error::failed(message),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal => Error::failed(or(message, "the connection to the head broke"))
            .hint("the head's log has more: `head/head.log` in its state directory"),
        Code::DataLoss => {
            Error::failed(or(message, "what the head has stored is damaged")).hint(NAMES_LOSSES)
        }
    }
}

/// What it does not know, where it says so apart from the words for people.
fn missing(status: &Status) -> Option<Missing> {
    let info = status.get_details_resource_info()?;
    Some(Missing {
        kind: info.resource_type,
        name: info.resource_name,
    })
}

fn or(message: String, otherwise: &str) -> String {
    if message.is_empty() {
        otherwise.to_owned()
    } else {
        message
    }
}

fn written(dir: &Path) -> Result<Whereabouts> {
    let path = dir.join("endpoint");
    match Whereabouts::written_in(path.clone()) {
        Ok(head) => Ok(head),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(not_running()),
        Err(e) => Err(record::unreadable(&path, e)),
    }
}

/// There is no head.
pub fn not_running() -> Error {
    Error::new(Exit::HeadNotRunning, "the head is not running").hint("start it with `ctl start`")
}

fn credentials_error(dir: &Path, head: Option<&str>, error: CredentialsError) -> Error {
    let dir = dir.display();
    let hint = match head {
        None => "`ctl start` makes them; from another machine, copy the head's `client` directory"
            .into(),
        Some(_) => format!(
            "copy the directory `client` of the head's state directory to `{dir}`, or name another \
             state directory with `--state DIR`"
        ),
    };
    Error::failed(format!("the credentials in `{dir}` cannot be used"))
        .because(error)
        .hint(hint)
}

fn connect_error(error: ConnectError) -> Error {
    let exit = connect_exit(&error);
    let hint = error.advice();
    match error {
        ConnectError::NotRunning { endpoint, .. } => Error::new(
            exit,
            format!("the head is not running (nothing listens at {endpoint})"),
        )
        .hint(hint),
        other => Error::new(exit, other.to_string())
            .because(other)
            .hint(hint),
    }
}

fn connect_exit(error: &ConnectError) -> Exit {
    match error {
        ConnectError::NotRunning { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::Timeout { .. }
        | ConnectError::Broken { .. } => Exit::HeadNotRunning,
        ConnectError::Endpoint { .. } => Exit::Usage,
        ConnectError::Credentials { .. }
        | ConnectError::WrongHead { .. }
        | ConnectError::HeadOutOfDate { .. }
        | ConnectError::Expired { .. }
        | ConnectError::CertificateRefused { .. } => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::again::Again;

    #[test]
    fn each_refusal_of_the_head_has_its_exit_code() {
        let exit = |code| status_error(&Status::new(code, "m")).exit();
        assert_eq!(exit(Code::NotFound), Exit::NotFound);
        assert_eq!(exit(Code::FailedPrecondition), Exit::Refused);
        assert_eq!(exit(Code::InvalidArgument), Exit::Failed);
        assert_eq!(exit(Code::Unavailable), Exit::HeadNotRunning);
    }

    #[tokio::test]
    async fn without_an_endpoint_the_head_is_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::connect(dir.path().to_owned(), None)
            .await
            .unwrap_err();
        assert_eq!(error.exit(), Exit::HeadNotRunning);
        let hint = error.next_step(Again::default()).unwrap();
        assert!(hint.contains("ctl start"), "{hint}");
    }

    #[tokio::test]
    async fn where_a_head_is_named_no_hint_says_to_make_credentials_by_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let connected = Client::connect(dir.path().to_owned(), Some("h:7117")).await;
        let error = connected.unwrap_err();
        let hint = error.next_step(Again::default()).unwrap();
        assert!(hint.starts_with("copy the directory `client`"), "{hint}");
    }

    fn refused() -> Status {
        let source = std::io::ErrorKind::ConnectionRefused.into();
        let endpoint = "h:1".to_owned();
        Status::from_error(Box::new(ConnectError::NotRunning { endpoint, source }))
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_reached_the_head_once_may_be_done() {
        let broken = || Status::from_error(Box::new(std::io::Error::other("cut")));
        let failed = async |first: fn() -> Status, then: fn() -> Status| {
            let mut calls = 0;
            let call = || {
                calls += 1;
                let status = if calls == 1 { first() } else { then() };
                async move { Err::<tonic::Response<()>, _>(status) }
            };
            until_answered(call).await.unwrap_err()
        };
        assert!(!failed(refused, refused).await.may_be_done, "never sent");
        assert!(failed(broken, refused).await.may_be_done);
        assert!(
            failed(|| Status::unavailable("stops"), refused)
                .await
                .may_be_done
        );
        let known = failed(broken, || Status::not_found("no such task")).await;
        assert!(!known.may_be_done, "the head has said what came of it");
        assert!(Failed::of_one(broken()).may_be_done);
        assert!(!Failed::of_one(refused()).may_be_done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_while_the_head_is_away_and_no_longer() {
        let mut calls = 0;
        let answer = patiently(|| {
            calls += 1;
            let away = calls < 4;
            async move {
                if away {
                    Err(Status::unavailable("restarting"))
                } else {
                    Ok(tonic::Response::new(7))
                }
            }
        });
        assert_eq!(answer.await.unwrap(), 7);
        assert_eq!(calls, 4);
        let never = patiently::<(), _>(|| async { Err(Status::unavailable("away")) }).await;
        assert_eq!(never.unwrap_err().exit(), Exit::HeadNotRunning);
        let refused = patiently::<(), _>(|| async { Err(Status::not_found("no such task")) }).await;
        assert_eq!(refused.unwrap_err().exit(), Exit::NotFound);
    }
}
