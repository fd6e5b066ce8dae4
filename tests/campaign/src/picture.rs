//! Everything that a head serves of its store, to be compared with what another one serves.

use std::{collections::BTreeMap, error::Error, fs};

use anyhow::Context;
use futures::{StreamExt, stream};
use orchestra_proto::v1::{self, admin_client::AdminClient, bulk_client::BulkClient};
use sha2::{Digest, Sha256};
use tonic::{Code, Status, transport::Channel};

use crate::{
    client::Admin,
    head::Site,
    verify::{list, read_events},
};

/// How many questions are on the way at once.
const AT_ONCE: usize = 16;
/// How the questions for events begin.
const EVENTS: &str = "events of task ";
/// Any will do: the bodies are only compared.
const BODY_SEED: u64 = 11;
/// A project that has context.
const PROJECT: &str = "dir-1";
/// Names the uploaded bodies, beside the state.
const UPLOADED: &str = "uploaded.json";

/// The answers to all questions, by question.
#[derive(Debug, Default)]
pub struct Picture(BTreeMap<String, Result<String, Refusal>>);

/// A question that the head refused, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    code: Code,
    message: String,
}

/// How another picture differs.
#[derive(Debug)]
pub enum Difference {
    /// Not at all.
    None,
    /// Some questions were refused, with a reason; all other answers are the same.
    Refused,
    /// Events are missing, and nothing else differs.
    Events(String),
    /// An answer is another one.
    Other(String),
}

impl Picture {
    /// How many answers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every question was answered.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(Result::is_ok)
    }

    /// How `other` differs from this one.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Difference {
        let (mut refused, mut events) = (false, None);
        for (question, answer) in &self.0 {
            match other.0.get(question) {
                Some(now) if now == answer => {}
                Some(Err(why)) if why.names_damage() => refused = true,
                // A list that was refused asks for none of its tasks, a task for none of its events.
                None if other.has_refused() => refused = true,
                now => {
                    let text = format!("{question}: {answer:?} became {now:?}");
                    if !question.starts_with(EVENTS) {
                        return Difference::Other(text);
                    }
                    events = Some(text);
                }
            }
        }
        let new = other
            .0
            .keys()
            .find(|question| !self.0.contains_key(*question));
        match (new, events, refused) {
            (Some(new), _, _) => Difference::Other(format!("{new} was not there before")),
            (None, Some(text), _) => Difference::Events(text),
            (None, None, true) => Difference::Refused,
            (None, None, false) => Difference::None,
        }
    }

    fn has_refused(&self) -> bool {
        self.0.values().any(Result::is_err)
    }

    fn put(&mut self, question: String, answer: Result<String, Status>) -> anyhow::Result<()> {
        let answer = match answer {
            Ok(answer) => Ok(answer),
            // A reason of the head's own; anything else is a head that is gone.
            Err(status) if status.source().is_none() => Err(Refusal {
                code: status.code(),
                message: status.message().to_owned(),
            }),
            Err(status) => return Err(status).with_context(|| format!("no answer to {question}")),
        };
        self.0.insert(question, answer);
        Ok(())
    }
}

impl Refusal {
    /// Not there, or not yet, is a wrong answer for what was there before.
    fn names_damage(&self) -> bool {
        matches!(self.code, Code::DataLoss | Code::Internal)
    }
}

/// Asks everything.
pub async fn take(site: &Site) -> anyhow::Result<Picture> {
    let channel = site.admin_channel().await?;
    let mut admin = AdminClient::new(channel.clone());
    let asks = admin.clone();
    let mut picture = Picture::default();
    let ids = match list(&mut admin, 0).await {
        Ok(tasks) => {
            let ids: Vec<u64> = tasks.iter().map(|task| task.id).collect();
            picture.put("list".to_owned(), Ok(format!("{ids:?}")))?;
            for task in tasks {
                picture.put(
                    format!("task {} in the list", task.id),
                    Ok(format!("{task:?}")),
                )?;
            }
            ids
        }
        Err(status) => {
            picture.put("list".to_owned(), Err(status))?;
            Vec::new()
        }
    };
    let ask = |id| ask_of(AdminClient::clone(&asks), id);
    let mut asked = stream::iter(ids).map(ask).buffered(AT_ONCE);
    while let Some((id, task, events)) = asked.next().await {
        picture.put(format!("task {id}"), task)?;
        if let Some(events) = events {
            picture.put(format!("{EVENTS}{id}"), events)?;
        }
    }
    let request = v1::GetContextRequest {
        project: PROJECT.to_owned(),
    };
    let context = admin.get_context(request).await;
    let context = context.map(|context| {
        let documents = context.into_inner().documents;
        format!("{:?}", documents.into_iter().collect::<BTreeMap<_, _>>())
    });
    picture.put("context".to_owned(), context)?;
    let mut bulk = BulkClient::new(channel);
    for digest in uploaded(site)? {
        let body = download(&mut bulk, digest.clone()).await;
        picture.put(format!("body {digest:?}"), body)?;
    }
    Ok(picture)
}

/// A task, and its events when it has attempts.
async fn ask_of(
    mut admin: Admin,
    id: u64,
) -> (u64, Result<String, Status>, Option<Result<String, Status>>) {
    let task = admin.get_task(v1::GetTaskRequest { id }).await;
    let task = task.map(tonic::Response::into_inner);
    let attempts = task.as_ref().map_or(0, |task| task.attempts.len());
    let events = match attempts {
        0 => None,
        _ => Some(events(&mut admin, id).await),
    };
    (id, task.map(|task| format!("{task:?}")), events)
}

/// Gives a project context.
pub async fn put_context(site: &Site) -> anyhow::Result<()> {
    let mut admin = AdminClient::new(site.admin_channel().await?);
    let documents = [
        ("project_overview.md", "What owls do at night. ".repeat(200)),
        ("current_state.md", "They sleep. ".repeat(100)),
    ];
    let request = v1::PutContextRequest {
        project: PROJECT.to_owned(),
        documents: documents.map(|(name, text)| (name.to_owned(), text)).into(),
    };
    admin.put_context(request).await?;
    Ok(())
}

/// Uploads bodies of all sizes, and notes beside the state what they are called.
pub async fn upload(site: &Site, count: usize, bytes_max: usize) -> anyhow::Result<()> {
    let mut bulk = BulkClient::new(site.admin_channel().await?);
    let mut rng = fastrand::Rng::with_seed(BODY_SEED);
    let mut digests = Vec::new();
    for n in 1..=count {
        let body: Vec<u8> = (0..bytes_max * n / count).map(|_| rng.u8(..)).collect();
        let digest = Sha256::digest(&body).to_vec();
        let artifact = v1::Artifact {
            kind: "output".to_owned(),
            digest: digest.clone(),
            size: body.len() as u64,
        };
        let chunk = v1::UploadChunk {
            artifact: Some(artifact),
            offset: 0,
            data: body.into(),
        };
        bulk.upload(tokio_stream::once(chunk)).await?;
        digests.push(digest);
    }
    fs::write(site.state.join(UPLOADED), serde_json::to_vec(&digests)?)?;
    Ok(())
}

fn uploaded(site: &Site) -> anyhow::Result<Vec<Vec<u8>>> {
    Ok(serde_json::from_slice(&fs::read(
        site.state.join(UPLOADED),
    )?)?)
}

/// A gap that says `damaged` is named as an error is.
async fn events(admin: &mut Admin, id: u64) -> Result<String, Status> {
    let events = read_events(admin, id).await?;
    match events
        .iter()
        .find(|(_, text)| text.contains("why: \"damaged\""))
    {
        Some((seq, text)) => Err(Status::data_loss(format!("{seq} {text}"))),
        None => Ok(format!("{events:?}")),
    }
}

async fn download(bulk: &mut BulkClient<Channel>, digest: Vec<u8>) -> Result<String, Status> {
    let request = v1::DownloadRequest { digest, offset: 0 };
    let mut stream = bulk.download(request).await?.into_inner();
    let mut hash = Sha256::new();
    while let Some(chunk) = stream.message().await? {
        hash.update(&chunk.data);
    }
    Ok(format!("{:?}", hash.finalize()))
}
