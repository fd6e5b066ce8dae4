//! A fake head: speaks the real protocol over real mTLS, decides nothing, and remembers what it
//! was told. It can go away and come back on the same port with its memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use orchestra_proto::v1::{
    self,
    bulk_server::{Bulk, BulkServer},
    fleet_server::{Fleet, FleetServer},
    head_message, order, report, worker_message,
};
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use super::{pki::Pki, wait_for};

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Key = (u64, u32);

/// What the fake head was told.
#[derive(Default)]
pub struct Seen {
    pub hellos: Vec<v1::Hello>,
    /// The worker as it described itself last.
    pub worker: Option<v1::WorkerInfo>,
    /// How long a report is on its way.
    pub distance: Duration,
    pub reports: Vec<v1::Report>,
    pub events: BTreeMap<Key, Vec<v1::Event>>,
    /// How often it was told of attempts without an event.
    pub signs: BTreeMap<Key, u32>,
    pub blobs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How many hashes each question named for what it has.
    pub asked: Vec<usize>,
    /// What came up, by its hash.
    pub uploads: Vec<Vec<u8>>,
    /// Where each download began.
    pub downloads: Vec<u64>,
    /// How many of the next downloads break in the middle of what is left.
    pub cuts: usize,
    /// Whether another process has the worker's identity now.
    pub is_taken: bool,
    /// Whether it comes from a backup that knows nothing of what workers hold.
    pub knows_nothing: bool,
    orders: Option<mpsc::Sender<Result<v1::HeadMessage, Status>>>,
}

#[derive(Clone, Default)]
struct Service {
    seen: Arc<Mutex<Seen>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

pub struct FakeHead {
    pub pki: Pki,
    pub address: SocketAddr,
    service: Service,
    server: Option<(oneshot::Sender<()>, JoinSet<()>)>,
}

impl FakeHead {
    pub async fn start() -> Self {
        let mut head = Self {
            pki: Pki::new(),
            address: "127.0.0.1:0".parse().unwrap(),
            service: Service::default(),
            server: None,
        };
        head.come_back().await;
        head
    }

    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(
                &self.pki.head_pem,
                &self.pki.head_key_pem,
            ))
            .client_ca_root(Certificate::from_pem(&self.pki.ca_pem));
        let router = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(FleetServer::new(self.service.clone()))
            .add_service(BulkServer::new(self.service.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            tokio::select! {
                served = router.serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                _ = stopped => {}
            }
        });
        self.server = Some((stop, tasks));
    }

    /// Cuts every connection, as a crash would.
    pub async fn go_away(&mut self) {
        let (_stop, mut tasks) = self.server.take().unwrap();
        tasks.shutdown().await;
        let mut streams = std::mem::take(&mut *self.service.tasks.lock().unwrap());
        streams.shutdown().await;
        self.seen().orders = None;
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.service.seen.lock().unwrap()
    }

    /// Sends an order as soon as a worker is there.
    pub async fn order(&self, body: order::Body) {
        let orders = wait_for("a worker", || self.seen().orders.clone(), || self.picture()).await;
        let order = v1::Order { body: Some(body) };
        let orders_of_one = v1::Orders {
            orders: vec![order],
        };
        orders
            .send(Ok(down(head_message::Body::Orders(orders_of_one))))
            .await
            .unwrap();
    }

    /// Waits for the final report of attempt 1 of a task.
    pub async fn finished(&self, task: u64) -> v1::Outcome {
        let find = || {
            self.seen().reports.iter().find_map(|r| match &r.body {
                Some(report::Body::Finished(outcome)) if id(&r.attempt) == (task, 1) => {
                    Some(outcome.clone())
                }
                _ => None,
            })
        };
        wait_for("the final report", find, || self.picture()).await
    }

    /// Waits for an event of attempt 1 whose text holds `text`.
    pub async fn said(&self, task: u64, text: &str) {
        let find = || {
            self.messages(task)
                .iter()
                .any(|m| m.contains(text))
                .then_some(())
        };
        wait_for(text, find, || self.picture()).await;
    }

    /// The texts of attempt 1, in order.
    pub fn messages(&self, task: u64) -> Vec<String> {
        let seen = self.seen();
        let events = seen
            .events
            .get(&(task, 1))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let texts = events.iter().filter_map(|event| match &event.kind {
            Some(v1::event::Kind::Message(text)) => Some(text.text.trim_end().to_owned()),
            _ => None,
        });
        texts.collect()
    }

    /// The bytes of an artifact of an outcome.
    pub fn artifact(&self, outcome: &v1::Outcome, kind: &str) -> Option<Vec<u8>> {
        let found = outcome.artifacts.iter().find(|a| a.kind == kind)?;
        self.seen().blobs.get(&found.digest).cloned()
    }

    /// Stores bytes that a worker may ask for; their digest.
    pub fn store(&self, bytes: Vec<u8>) -> [u8; 32] {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        self.seen().blobs.insert(digest.to_vec(), bytes);
        digest
    }

    pub fn picture(&self) -> String {
        let seen = self.seen();
        format!("reports: {:#?}\nevents: {:#?}", seen.reports, seen.events)
    }
}

impl Service {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().spawn(task);
    }

    /// Remembers reports in their order; the cumulative acknowledgement.
    fn record(&self, reports: Vec<v1::Report>) -> u64 {
        let mut seen = self.seen();
        for report in reports {
            let last = seen.reports.last().map_or(0, |r| r.seq);
            assert!(report.seq <= last + 1, "a gap before report {}", report.seq);
            if report.seq == last + 1 {
                seen.reports.push(report);
            }
        }
        seen.reports.last().map_or(0, |r| r.seq)
    }

    fn append(&self, upload: v1::EventUpload) -> v1::EventAck {
        let mut seen = self.seen();
        if upload.events.is_empty() {
            *seen.signs.entry(id(&upload.attempt)).or_default() += 1;
        }
        let events = seen.events.entry(id(&upload.attempt)).or_default();
        let uploaded = orchestra_proto::batch::decode(&upload.events);
        for event in uploaded.expect("events can be read") {
            let last = events.len() as u64;
            assert!(event.seq <= last + 1, "a gap before event {}", event.seq);
            if event.seq == last + 1 {
                events.push(event);
            }
        }
        v1::EventAck {
            attempt: upload.attempt,
            up_to: events.len() as u64,
            refused: false,
        }
    }
}

#[tonic::async_trait]
impl Fleet for Service {
    type AttachStream = Outgoing<v1::HeadMessage>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|m| m.body);
        let Some(worker_message::Body::Hello(hello)) = first else {
            return Err(Status::invalid_argument("hello comes first"));
        };
        let known = self.seen().hellos.last().map(|h| h.installation.clone());
        let is_another = known.is_some_and(|known| known != hello.installation);
        if is_another || self.seen().is_taken {
            return Err(Status::already_exists("another worker uses this identity"));
        }
        let (orders, outgoing) = mpsc::channel(64);
        let held = hello.held.iter().filter_map(|held| held.attempt);
        let unknown: Vec<_> = held.filter(|_| self.seen().knows_nothing).collect();
        let welcome = Box::new(v1::Welcome {
            kill: unknown.clone(),
            unknown,
            cluster: "test".to_owned(),
            epoch: 1,
            acked_up_to: self.seen().reports.last().map_or(0, |r| r.seq),
            ..Default::default()
        });
        orders
            .send(Ok(down(head_message::Body::Welcome(welcome))))
            .await
            .unwrap();
        self.seen().hellos.push(hello);
        self.seen().orders = Some(orders.clone());
        let service = self.clone();
        self.spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                let answer = match message.body {
                    Some(worker_message::Body::Reports(reports)) => {
                        let distance = service.seen.lock().unwrap().distance;
                        tokio::time::sleep(distance).await;
                        let up_to = service.record(reports.reports);
                        head_message::Body::ReportAck(v1::ReportAck { up_to })
                    }
                    Some(worker_message::Body::Heartbeat(beat)) => {
                        let time_ms = beat.time_ms;
                        head_message::Body::HeartbeatAck(v1::HeartbeatAck { time_ms })
                    }
                    Some(worker_message::Body::Capacity(worker)) => {
                        service.seen.lock().unwrap().worker = Some(worker);
                        continue;
                    }
                    _ => continue,
                };
                if orders.send(Ok(down(answer))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

#[tonic::async_trait]
impl Bulk for Service {
    type DownloadStream = Outgoing<v1::DownloadChunk>;
    type PushEventsStream = Outgoing<v1::EventAck>;

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadChunk>>,
    ) -> Result<Response<v1::Artifact>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.unwrap();
        let artifact = first.artifact.unwrap();
        let mut bytes = first.data.to_vec();
        while let Some(chunk) = chunks.message().await? {
            bytes.extend_from_slice(&chunk.data);
        }
        if Sha256::digest(&bytes).as_slice() != artifact.digest {
            return Err(Status::invalid_argument("other bytes than named"));
        }
        let mut seen = self.seen();
        seen.uploads.push(artifact.digest.clone());
        seen.blobs.insert(artifact.digest.clone(), bytes);
        Ok(Response::new(artifact))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let request = request.into_inner();
        let mut seen = self.seen();
        seen.downloads.push(request.offset);
        let bytes = seen.blobs.get(&request.digest).cloned();
        let bytes = bytes.ok_or_else(|| Status::not_found("no such bytes"))?;
        let total = bytes.len() as u64;
        let left = &bytes[usize::try_from(request.offset).unwrap()..];
        let mut chunks: Vec<_> = left
            .chunks(1000)
            .map(|part| {
                Ok(v1::DownloadChunk {
                    total,
                    data: part.to_vec().into(),
                })
            })
            .collect();
        if seen.cuts > 0 {
            seen.cuts -= 1;
            chunks.truncate(chunks.len() / 2);
            chunks.push(Err(Status::unavailable("cut")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn have(
        &self,
        request: Request<v1::HaveRequest>,
    ) -> Result<Response<v1::HaveResponse>, Status> {
        let mut seen = self.seen();
        let digests = request.into_inner().digests;
        seen.asked.push(digests.len());
        let have = digests.iter().map(|d| seen.blobs.contains_key(d)).collect();
        let partial = vec![0; digests.len()];
        Ok(Response::new(v1::HaveResponse { have, partial }))
    }

    async fn push_events(
        &self,
        request: Request<Streaming<v1::EventUpload>>,
    ) -> Result<Response<Self::PushEventsStream>, Status> {
        let service = self.clone();
        let acks = request
            .into_inner()
            .map(move |upload| Ok(service.append(upload?)));
        Ok(Response::new(Box::pin(acks)))
    }
}

fn down(body: head_message::Body) -> v1::HeadMessage {
    v1::HeadMessage { body: Some(body) }
}

fn id(attempt: &Option<v1::AttemptId>) -> Key {
    attempt.map(|a| (a.task, a.number)).unwrap()
}
