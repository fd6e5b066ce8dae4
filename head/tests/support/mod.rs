//! Runs the built head on loopback with a state directory of its own, and speaks to it with the
//! credentials that it makes. The worker here is a fake: it only says what a test tells it to.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is the answer"
)]

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use orchestra_proto::{
    client::{self, Credentials},
    v1::{
        self, admin_client::AdminClient, bulk_client::BulkClient, fleet_client::FleetClient,
        head_message, order, report, worker_message,
    },
};
use orchestra_types::{Exit, Outcome, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// How long anything may take before a test says what it waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A head process.
pub struct Head {
    binary: OsString,
    dir: tempfile::TempDir,
    child: Child,
}

impl Head {
    /// Starts a head of its own.
    pub async fn start_binary(binary: &OsStr) -> Self {
        Self::start_in(binary.to_owned(), tempfile::tempdir().unwrap()).await
    }

    /// Starts one of this configuration.
    pub async fn start_configured(binary: &OsStr, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("orchestra.yaml"), config).unwrap();
        Self::start_in(binary.to_owned(), dir).await
    }

    async fn start_in(binary: OsString, dir: tempfile::TempDir) -> Self {
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(&binary)
            .args(["--listen", "127.0.0.1:0"])
            .arg("--state")
            .arg(dir.path())
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let head = Self { binary, dir, child };
        head.until_ready().await;
        head
    }

    /// Ends the process without warning, and starts another one in its place.
    pub async fn kill_and_start_again(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let empty = tempfile::tempdir().unwrap();
        let dir = std::mem::replace(&mut self.dir, empty);
        std::fs::remove_file(dir.path().join("head/head.json")).unwrap();
        Self::start_in(self.binary.clone(), dir).await
    }

    pub fn state(&self) -> &Path {
        self.dir.path()
    }

    pub fn process(&mut self) -> &mut Child {
        &mut self.child
    }

    async fn until_ready(&self) {
        let ready = self.state().join("head/head.json");
        let until = Instant::now() + PATIENCE;
        while !ready.exists() {
            let log = || std::fs::read_to_string(self.state().join("log"));
            assert!(
                Instant::now() < until,
                "the head does not serve: {:?}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn channel(&self, credentials: PathBuf) -> Channel {
        let endpoint = std::fs::read_to_string(credentials.join("endpoint")).unwrap();
        let credentials = Credentials::load(&credentials).unwrap();
        client::connect(&credentials, endpoint.trim())
            .await
            .unwrap()
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel(self.state().join("client")).await)
    }

    pub async fn bulk(&self) -> BulkClient<Channel> {
        BulkClient::new(self.channel(self.state().join("client")).await)
    }

    pub async fn worker_channel(&self) -> Channel {
        self.channel(self.state().join("worker/pki")).await
    }

    pub fn worker_id(&self) -> String {
        let id = std::fs::read_to_string(self.state().join("worker/id")).unwrap();
        id.trim().to_owned()
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker's control stream, driven by a test.
pub struct Worker {
    up: mpsc::Sender<v1::WorkerMessage>,
    down: Streaming<v1::HeadMessage>,
    orders: Vec<v1::Order>,
    pub welcome: v1::Welcome,
}

impl Worker {
    pub async fn attach(head: &Head, held: &[(v1::AttemptId, bool)]) -> Self {
        Self::try_attach(head, &head.worker_id(), held)
            .await
            .unwrap()
    }

    pub async fn try_attach(
        head: &Head,
        id: &str,
        held: &[(v1::AttemptId, bool)],
    ) -> Result<Self, tonic::Status> {
        Self::try_attach_installed(head, id, held, "").await
    }

    /// Attaches as the installation that is told.
    pub async fn try_attach_installed(
        head: &Head,
        id: &str,
        held: &[(v1::AttemptId, bool)],
        installation: &str,
    ) -> Result<Self, tonic::Status> {
        let (up, messages) = mpsc::channel(64);
        let hello = v1::Hello {
            worker: Some(info(id)),
            held: held
                .iter()
                .map(|(attempt, started)| v1::HeldAttempt {
                    attempt: Some(*attempt),
                    started: *started,
                    running_ms: None,
                })
                .collect(),
            first_unacked_report: 0,
            collects_garbage: false,
            installation: installation.to_owned(),
        };
        up.send(message(worker_message::Body::Hello(hello)))
            .await
            .unwrap();
        let mut fleet = FleetClient::new(head.worker_channel().await);
        let down = fleet.attach(ReceiverStream::new(messages)).await?;
        let mut worker = Self {
            up,
            down: down.into_inner(),
            orders: Vec::new(),
            welcome: v1::Welcome::default(),
        };
        match worker.next().await? {
            head_message::Body::Welcome(welcome) => worker.welcome = *welcome,
            other => panic!("not welcome: {other:?}"),
        }
        Ok(worker)
    }

    pub async fn report(&mut self, seq: u64, attempt: v1::AttemptId, body: report::Body) {
        let report = v1::Report {
            seq,
            attempt: Some(attempt),
            time_ms: 1,
            body: Some(body),
        };
        let reports = v1::Reports {
            reports: vec![report],
        };
        let reports = message(worker_message::Body::Reports(reports));
        self.up.send(reports).await.unwrap();
    }

    /// Is heard again and again until something has happened.
    pub async fn beat_until(&mut self, happened: impl Future<Output = ()>) {
        let beats = async {
            loop {
                let beat = worker_message::Body::Heartbeat(v1::Heartbeat { time_ms: 1 });
                self.up.send(message(beat)).await.unwrap();
                self.next().await.unwrap();
            }
        };
        tokio::select! {
            () = happened => {}
            () = beats => {}
        }
    }

    /// Waits for the acknowledgement of a report.
    pub async fn acked(&mut self, up_to: u64) {
        loop {
            match self.next().await.unwrap() {
                head_message::Body::ReportAck(ack) if ack.up_to >= up_to => return,
                head_message::Body::Orders(orders) => self.orders.extend(orders.orders),
                _ => {}
            }
        }
    }

    pub async fn order(&mut self) -> order::Body {
        while self.orders.is_empty() {
            if let head_message::Body::Orders(orders) = self.next().await.unwrap() {
                self.orders.extend(orders.orders);
            }
        }
        self.orders.remove(0).body.unwrap()
    }

    pub async fn start_order(&mut self) -> v1::Start {
        match self.order().await {
            order::Body::Start(start) => start,
            other => panic!("not an order to start: {other:?}"),
        }
    }

    async fn next(&mut self) -> Result<head_message::Body, tonic::Status> {
        let next = tokio::time::timeout(PATIENCE, self.down.message()).await;
        let next = next.expect("the head says something")?;
        Ok(next.expect("the stream goes on").body.unwrap())
    }
}

fn message(body: worker_message::Body) -> v1::WorkerMessage {
    v1::WorkerMessage { body: Some(body) }
}

fn info(id: &str) -> v1::WorkerInfo {
    v1::WorkerInfo {
        id: id.to_owned(),
        name: "fake".to_owned(),
        machine: "m1".to_owned(),
        slots: 2,
        runners: vec![v1::RunnerInfo {
            name: "agent".to_owned(),
            readiness: "ready".to_owned(),
            slots: 2,
            prefetch: 0,
            agentic: true,

            ..v1::RunnerInfo::default()
        }],
        ..v1::WorkerInfo::default()
    }
}

pub fn new_task(description: &str) -> v1::NewTask {
    v1::NewTask {
        spec: Some(v1::TaskSpec {
            description: description.to_owned(),
            timeout_ms: 60_000,
            place: Some(v1::Place {
                place: Some(v1::place::Place::Empty(v1::place::Empty {})),
            }),
            ..v1::TaskSpec::default()
        }),
        ..v1::NewTask::default()
    }
}

pub fn submission(key: &str, tasks: Vec<v1::NewTask>) -> v1::SubmitRequest {
    v1::SubmitRequest {
        idempotency_key: key.to_owned(),
        tasks,
    }
}

/// A success whose final text is `text`.
pub fn finished(text: &str) -> report::Body {
    let outcome = Outcome {
        text: text.to_owned(),
        finished_at: Timestamp(2),
        ..Outcome::bare(Exit::Code(0), Timestamp(1))
    };
    report::Body::Finished(outcome.into())
}

pub fn started() -> report::Body {
    report::Body::Started(report::Started::default())
}

/// Waits until a task has a status.
pub async fn until_status(
    admin: &mut AdminClient<Channel>,
    id: u64,
    status: v1::TaskStatus,
) -> v1::Task {
    let until = Instant::now() + PATIENCE;
    loop {
        let task = admin.get_task(v1::GetTaskRequest { id }).await;
        let task = task.unwrap().into_inner();
        if task.status() == status {
            return task;
        }
        assert!(Instant::now() < until, "not {status:?}: {task:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
