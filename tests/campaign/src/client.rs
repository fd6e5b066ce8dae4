//! Connections to one head process, and what its answers mean.

use orchestra_proto::v1::{self, admin_client::AdminClient};
use tonic::{Code, Status, transport::Channel};

use crate::{
    head::Site,
    ledger::{Kind, description},
};

/// Connections that all submitters share: a handshake for each would be most of a round.
const CONNECTIONS: usize = 4;
/// How long a task of the campaign may run; nothing here waits for it.
const TIMEOUT_MS: u64 = 3_600_000;

/// A client of the head, as `ctl` is.
pub type Admin = AdminClient<Channel>;

/// Connections to one head process.
#[derive(Clone, Debug)]
pub struct Clients(Vec<Admin>);

impl Clients {
    /// Connects.
    pub async fn connect(site: &Site) -> anyhow::Result<Self> {
        let mut clients = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            clients.push(AdminClient::new(site.admin_channel().await?));
        }
        Ok(Self(clients))
    }

    /// One of them.
    #[must_use]
    pub fn nth(&self, n: usize) -> Admin {
        self.0[n % self.0.len()].clone()
    }
}

/// What an error means for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is gone: whether it was done is unknown.
    Cut,
    /// The disk is full, and the head says so.
    Full,
    /// The head refused.
    Refused,
}

/// What an error means.
#[must_use]
pub fn meaning(status: &Status) -> Answer {
    match status.code() {
        Code::ResourceExhausted => Answer::Full,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Answer::Refused,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => Answer::Cut,
    }
}

/// Cancels a task.
///
/// # Errors
/// Why it was not.
pub async fn cancel(admin: &mut Admin, id: u64) -> Result<(), Status> {
    let request = v1::CancelTasksRequest { ids: vec![id] };
    let answers = admin.cancel_tasks(request).await?.into_inner().answers;
    match answers.into_iter().next().and_then(|answer| answer.answer) {
        Some(v1::cancelled::Answer::Task(_)) => Ok(()),
        Some(v1::cancelled::Answer::Refused(why)) => {
            Err(Status::new(Code::from_i32(why.code), why.message))
        }
        None => Err(Status::data_loss("the answer is empty")),
    }
}

/// A submission: the same key always asks for the same.
#[must_use]
pub fn submission(key: &str, count: usize, kind: Kind) -> v1::SubmitRequest {
    let tasks = (0..count).map(|index| new_task(description(key, index), kind));
    v1::SubmitRequest {
        idempotency_key: key.to_owned(),
        tasks: tasks.collect(),
    }
}

fn new_task(description: String, kind: Kind) -> v1::NewTask {
    let requires = match kind {
        Kind::Waits => [("nobody".to_owned(), "has".to_owned())].into(),
        Kind::Runs => [].into(),
    };
    let place = v1::place::Place::Empty(v1::place::Empty {});
    v1::NewTask {
        spec: Some(v1::TaskSpec {
            description,
            timeout_ms: TIMEOUT_MS,
            requires,
            place: Some(v1::Place { place: Some(place) }),
            ..v1::TaskSpec::default()
        }),
        ..v1::NewTask::default()
    }
}
