//! Compares what the head has of agents with what they themselves wrote down.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use orchestra_proto::{
    batch::decode,
    v1::{self, TaskStatus, admin_client::AdminClient, bulk_client::BulkClient, event::Kind},
};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Status, transport::Channel};

use crate::{
    agents::{Agents, RESULT, Said},
    client::Admin,
    head::Site,
    verify::list,
};

/// How much of an output goes into a violation.
const TEXT_BYTES: usize = 200;

/// How often a task may have been run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Once: nothing has ended its lease. What waited at a worker may have been called back before it began.
    Once,
    /// Once; attempts before that one may have been given back without having begun.
    OnceBegun,
    /// Again, each time under another number, after a lease has ended.
    Again,
    /// The same, or it fails and says why.
    AgainOrFailed,
}

/// What was compared, so that nobody takes nothing for a proof.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Tasks.
    pub tasks: u64,
    /// Events.
    pub events: u64,
    /// Bytes of output.
    pub bytes: u64,
    /// Attempts beyond the first.
    pub again: u64,
    /// Results of attempts that were given up, which came all the same.
    pub late: u64,
}

/// What an attempt's events say.
#[derive(Default)]
struct Heard {
    numbers: Vec<u64>,
    out: Vec<u8>,
    err: Vec<u8>,
    gaps: Vec<String>,
    /// Whether the last one is there.
    complete: bool,
}

/// The tasks that have not ended.
pub async fn open(site: &Site, agents: &Agents) -> anyhow::Result<BTreeSet<u64>> {
    let mut admin = AdminClient::new(site.admin_channel().await?);
    let tasks = list(&mut admin, 0).await?;
    let open = tasks.iter().filter(|task| {
        agents.tasks.contains(&task.id)
            && matches!(
                task.status(),
                TaskStatus::Blocked
                    | TaskStatus::Queued
                    | TaskStatus::Assigned
                    | TaskStatus::Running
            )
    });
    Ok(open.map(|task| task.id).collect())
}

/// Every difference of every task, in words. `runs` says how often each may have been run.
pub async fn compare(
    site: &Site,
    agents: &Agents,
    runs: impl Fn(u64) -> Runs,
    compared: &mut Compared,
) -> anyhow::Result<Vec<String>> {
    let channel = site.admin_channel().await?;
    let mut asker = Asker {
        admin: AdminClient::new(channel.clone()),
        bulk: BulkClient::new(channel),
    };
    let said = agents.said()?;
    let mut found = Vec::new();
    for id in &agents.tasks {
        let differences = asker.task(*id, runs(*id), &said, compared).await;
        let differences = differences.with_context(|| format!("failed to ask for task {id}"))?;
        found.extend(
            differences
                .into_iter()
                .map(|text| format!("task {id}: {text}")),
        );
        compared.tasks += 1;
    }
    Ok(found)
}

struct Asker {
    admin: Admin,
    bulk: BulkClient<Channel>,
}

impl Asker {
    async fn task(
        &mut self,
        id: u64,
        runs: Runs,
        said: &BTreeMap<(u64, u32), Vec<Said>>,
        compared: &mut Compared,
    ) -> anyhow::Result<Vec<String>> {
        let task = self.admin.get_task(v1::GetTaskRequest { id }).await?;
        let task = task.into_inner();
        let mut found = Vec::new();
        let may_fail = runs == Runs::AgainOrFailed && task.reason.is_some();
        let failed = matches!(task.status(), TaskStatus::Failed | TaskStatus::NeedsReview);
        if task.status() != TaskStatus::Succeeded && !(failed && may_fail) {
            found.push(format!("it is {:?}: {:?}", task.status(), task.reason));
        }
        for ((_, number), runs) in said.range((id, 0)..=(id, u32::MAX)) {
            if runs.len() > 1 {
                found.push(format!("attempt {number} was run {} times", runs.len()));
            }
        }
        let numbers: Vec<u32> = task.attempts.iter().map(|a| a.number).collect();
        let ran = |number: &u32| said.contains_key(&(id, *number));
        let right = match (runs, numbers.as_slice()) {
            (Runs::Once | Runs::OnceBegun, [before @ .., last]) => {
                let told =
                    runs == Runs::OnceBegun || task.attempts.iter().all(is_good_or_given_back);
                told && ran(last) && !before.iter().any(ran)
            }
            (Runs::Once | Runs::OnceBegun, []) => false,
            (Runs::Again | Runs::AgainOrFailed, _) => true,
        };
        if !right {
            found.push(format!("its attempts are {numbers:?}"));
        }
        compared.again += (numbers.len() as u64).saturating_sub(1);
        for attempt in &task.attempts {
            let said = said.get(&(id, attempt.number));
            let said = said.and_then(|runs| runs.first());
            found.extend(self.events_of(id, attempt, said, compared).await?);
        }
        // The latest attempt's result is the task's. An attempt that was given up may still have told
        // what it came to, later; that is kept beside it.
        let good: Vec<_> = task.attempts.iter().filter(|a| is_good(a)).collect();
        let is_good = good.iter().any(|attempt| attempt.number == task.attempt);
        if !(is_good || (failed && may_fail)) {
            found.push(format!("attempt {} is not a success", task.attempt));
        }
        compared.late += (good.len() as u64).saturating_sub(1);
        for attempt in good {
            let number = attempt.number;
            match said.get(&(id, number)).map(Vec::as_slice) {
                Some([run]) if run.whole => {
                    let differences = self.attempt(attempt, run).await?.into_iter();
                    found.extend(differences.map(|text| format!("attempt {number}: {text}")));
                    compared.bytes += (run.out.len() + run.err.len()) as u64;
                }
                other => found.push(format!("attempt {number} is a success and wrote {other:?}")),
            }
        }
        Ok(found)
    }

    /// Output and files of the attempt that is recorded as the success.
    async fn attempt(&mut self, attempt: &v1::Attempt, said: &Said) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        let outcome = attempt.outcome.clone().unwrap_or_default();
        for (kind, want) in [("log", &said.out), ("stderr", &said.err)] {
            let digest = artifact(&outcome, kind).map(|artifact| artifact.digest.clone());
            if digest.as_deref() != Some(Sha256::digest(want).as_slice()) {
                let size = artifact(&outcome, kind).map(|artifact| artifact.size);
                found.push(format!(
                    "its {kind} has {size:?} bytes, not those {}",
                    want.len()
                ));
            }
        }
        let files = self.files(&outcome).await?;
        let wrote = Sha256::digest(&said.out).to_vec();
        match files.as_slice() {
            [entry] if entry.path == RESULT && entry.sha256 == wrote => {}
            _ => found.push(format!(
                "its {RESULT} is another one: {files:?}, {:?}",
                outcome.exit
            )),
        }
        Ok(found)
    }

    /// The events of an attempt are in order, none is missing, none is there twice; what they say is
    /// what the agent said, or, of an attempt that was given up, the beginning of it.
    async fn events_of(
        &mut self,
        id: u64,
        attempt: &v1::Attempt,
        said: Option<&Said>,
        compared: &mut Compared,
    ) -> anyhow::Result<Vec<String>> {
        let heard = self.events(id, attempt.number).await?;
        let nothing = Said::default();
        let said = said.unwrap_or(&nothing);
        let mut found: Vec<String> = Vec::new();
        compared.events += heard.numbers.len() as u64;
        found.extend(
            heard
                .gaps
                .iter()
                .map(|gap| format!("its events have a gap: {gap}")),
        );
        let want: Vec<u64> = (1..=heard.numbers.len() as u64).collect();
        if heard.numbers != want {
            found.push(format!("its events are numbered {:?}", heard.numbers));
        }
        let whole = heard.complete || is_good(attempt);
        let other = whole && (heard.out != said.out || heard.err != said.err);
        if other || !said.out.starts_with(&heard.out) || !said.err.starts_with(&heard.err) {
            found.push(format!(
                "the events of attempt {} say {:?} and {:?}, it said {:?} and {:?}",
                attempt.number,
                text(&heard.out),
                text(&heard.err),
                text(&said.out),
                text(&said.err)
            ));
        }
        Ok(found)
    }

    /// The files that the agent made, as the manifest has them.
    async fn files(&mut self, outcome: &v1::Outcome) -> anyhow::Result<Vec<v1::ManifestEntry>> {
        let Some(artifact) = artifact(outcome, "manifest") else {
            return Ok(Vec::new());
        };
        let request = v1::DownloadRequest {
            digest: artifact.digest.clone(),
            offset: 0,
        };
        let mut stream = self.bulk.download(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.message().await? {
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(v1::Manifest::decode(bytes.as_slice())?.entries)
    }

    async fn events(&mut self, task: u64, attempt: u32) -> Result<Heard, Status> {
        let request = v1::FollowEventsRequest {
            task,
            attempt,
            ..v1::FollowEventsRequest::default()
        };
        let mut stream = self.admin.follow_events(request).await?.into_inner();
        let mut heard = Heard::default();
        while let Some(batch) = stream.message().await? {
            heard.gaps.extend(batch.gap.map(|gap| format!("{gap:?}")));
            let events = decode(&batch.events);
            let events = events.map_err(|error| Status::data_loss(error.to_string()))?;
            for event in events {
                heard.take(event);
            }
        }
        Ok(heard)
    }
}

impl Heard {
    fn take(&mut self, event: v1::Event) {
        self.numbers.push(event.seq);
        match event.kind {
            Some(Kind::Message(said)) => self.out.extend_from_slice(said.text.as_bytes()),
            Some(Kind::RawOnly(_)) => {
                self.err.extend_from_slice(event.raw.as_bytes());
                self.err.push(b'\n');
            }
            Some(Kind::Status(status)) if status.phase == "finished" => self.complete = true,
            Some(_) | None => {}
        }
    }
}

fn is_good(attempt: &v1::Attempt) -> bool {
    let outcome = attempt.outcome.as_ref();
    outcome.is_some_and(|outcome| outcome.failure.is_none())
}

/// Nobody has given up such an attempt: its worker said what it came to.
fn is_good_or_given_back(attempt: &v1::Attempt) -> bool {
    let outcome = attempt.outcome.as_ref();
    outcome.is_some_and(|outcome| match &outcome.failure {
        None => true,
        Some(failure) => failure.code == "cancelled",
    })
}

fn artifact<'a>(outcome: &'a v1::Outcome, kind: &str) -> Option<&'a v1::Artifact> {
    outcome
        .artifacts
        .iter()
        .find(|artifact| artifact.kind == kind)
}

/// The end of it: where two outputs differ, one of them mostly ends too early.
fn text(bytes: &[u8]) -> String {
    let end = &bytes[bytes.len().saturating_sub(TEXT_BYTES)..];
    format!("{} bytes, …{}", bytes.len(), String::from_utf8_lossy(end))
}
