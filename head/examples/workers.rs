//! Measures what connected workers cost a head: opens many control streams, each over a mutual-TLS
//! connection of its own with a certificate of its own, and reads the head's memory. Prints one JSON
//! document.
//!
//! `cargo run --release -p orchestra-head --example workers -- target/release/orchestra-head
//! [WORKERS [SLOTS]]`. The limit of open files must be above the number of workers, here and for
//! the head.

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use orchestra_proto::{
    client::{self, Credentials},
    v1::{self, fleet_client::FleetClient, head_message, worker_message},
};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use support::Head;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const WORKERS: u32 = 2000;
const SLOTS: u32 = 4;
/// Handshakes at once.
const DIALS: usize = 32;
/// How long the head is watched while nothing but heartbeats happens.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let binary = args.next().context("name the built orchestra-head")?;
    let workers = args.next().map_or(Ok(WORKERS), |n| n.parse())?;
    let slots = args.next().map_or(Ok(SLOTS), |n| n.parse())?;
    let mut head = Head::start_binary(binary.as_ref()).await;
    let pid = head.process().id();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle_kb = resident_kb(pid);
    let idle_cpu = cpu_share(pid, WATCHED).await;

    let issuer = Local::open(head.state())?;
    let began = Instant::now();
    let mut dials = JoinSet::new();
    let mut connected = Vec::new();
    for number in 0..workers {
        if dials.len() == DIALS
            && let Some(worker) = dials.join_next().await
        {
            connected.push(worker??);
        }
        let (credentials, endpoint) = (issuer.credentials(number)?, issuer.endpoint.clone());
        dials.spawn(async move { attach(credentials, &endpoint, number, slots).await });
    }
    while let Some(worker) = dials.join_next().await {
        connected.push(worker??);
    }
    let took = began.elapsed();
    let connected_kb = resident_kb(pid);
    let connected_cpu = cpu_share(pid, WATCHED).await;
    let more = connected_kb.saturating_sub(idle_kb);
    let document = serde_json::json!({
        "workers": connected.len(),
        "slots_each": slots,
        "cores": std::thread::available_parallelism()?.get(),
        "idle_head_kb": idle_kb,
        "idle_head_cpu_percent": idle_cpu,
        "head_kb": connected_kb,
        "kb_per_worker": more / u64::from(workers.max(1)),
        "connected_and_silent_cpu_percent": connected_cpu,
        "attached_per_second": (f64::from(workers) / took.as_secs_f64()) as u64,
    });
    writeln!(std::io::stdout(), "{document:#}")?;
    drop(connected);
    Ok(())
}

/// A worker's stream, kept open.
struct Attached {
    _up: mpsc::Sender<v1::WorkerMessage>,
    _down: Streaming<v1::HeadMessage>,
}

async fn attach(
    credentials: Credentials,
    endpoint: &str,
    number: u32,
    slots: u32,
) -> anyhow::Result<Attached> {
    let channel = client::connect(&credentials, endpoint).await?;
    let (up, messages) = mpsc::channel(4);
    let info = v1::WorkerInfo {
        id: id(number),
        name: format!("machine-{number}"),
        hostname: format!("machine-{number}.example"),
        machine: format!("m{number}"),
        slots,
        runners: ["claude", "codex", "gemini", "agent"]
            .map(|name| v1::RunnerInfo {
                name: name.to_owned(),
                version: "1.2.3".to_owned(),
                path: format!("/usr/local/bin/{name}"),
                readiness: "ready".to_owned(),
                slots,
                agentic: true,
                ..v1::RunnerInfo::default()
            })
            .into(),
        ..v1::WorkerInfo::default()
    };
    let hello = v1::Hello {
        worker: Some(info),
        held: Vec::new(),
        first_unacked_report: 0,
        collects_garbage: false,
        installation: String::new(),
    };
    let hello = worker_message::Body::Hello(hello);
    up.send(v1::WorkerMessage { body: Some(hello) }).await?;
    let mut fleet = FleetClient::new(channel);
    let answer = fleet.attach(ReceiverStream::new(messages)).await?;
    let mut down = answer.into_inner();
    let first = down.message().await?.and_then(|message| message.body);
    let welcome = matches!(first, Some(head_message::Body::Welcome(_)));
    anyhow::ensure!(welcome, "{number} is not welcome");
    Ok(Attached {
        _up: up,
        _down: down,
    })
}

fn id(number: u32) -> String {
    format!("fake-worker-{number}")
}

/// Makes certificates of workers with the head's own authority, as `Join` does.
struct Local {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    cluster: String,
    key: KeyPair,
    endpoint: String,
}

impl Local {
    fn open(state: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = state.join(name);
            std::fs::read_to_string(&path)
                .with_context(|| format!("failed to read `{}`", path.display()))
        };
        let ca_pem = read("head/pki/ca.pem")?;
        let key = KeyPair::from_pem(&read("head/pki/ca.key.pem")?)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&ca_pem, key)?,
            cluster: cluster_of(&ca_pem)?,
            key: KeyPair::generate()?,
            endpoint: read("client/endpoint")?.trim().to_owned(),
            ca_pem,
        })
    }

    fn credentials(&self, number: u32) -> anyhow::Result<Credentials> {
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let uri = format!("{}/worker/{}", self.cluster, id(number));
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        Ok(Credentials {
            ca_pem: self.ca_pem.clone(),
            cert_pem: params.signed_by(&self.key, &self.issuer)?.pem(),
            key_pem: self.key.serialize_pem(),
        })
    }
}

/// The URI that the authority's certificate carries.
fn cluster_of(ca_pem: &str) -> anyhow::Result<String> {
    use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};
    let (_, pem) = parse_x509_pem(ca_pem.as_bytes())?;
    let certificate = pem.parse_x509()?;
    let names = certificate.subject_alternative_name()?;
    let mut names = names.iter().flat_map(|names| &names.value.general_names);
    let uri = names.find_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uri.context("the authority names no cluster")
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The share of one processor that a process takes, in per cent.
async fn cpu_share(pid: u32, during: Duration) -> f64 {
    let before = cpu(pid);
    tokio::time::sleep(during).await;
    let took = cpu(pid).saturating_sub(before);
    (took.as_secs_f64() / during.as_secs_f64() * 10_000.0).round() / 100.0
}

/// Time on a processor of all threads that run, by the scheduler's own count.
fn cpu(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
