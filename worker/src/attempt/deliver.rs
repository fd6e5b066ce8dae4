//! Brings the result to the head: artifacts by hash, all events, then the final report.

use std::collections::BTreeMap;

use futures::{StreamExt, stream::FuturesUnordered};
use orchestra_proto::v1;
use orchestra_types::{Artifact, Digest, Failure, FailureCode, Outcome};
use tokio::time::sleep;

use super::{
    record::{self, Phase},
    run::{Attempt, Error, chain},
};
use crate::{blobs, bulk::RETRY_AFTER};

impl Attempt {
    /// From a collected result to a final report in the spool. Waits for a head that is away.
    pub async fn deliver(&mut self) -> Result<Phase, Error> {
        self.free_slot();
        self.hurry.cancel();
        let mut outcome = Outcome::try_from(record::load_outcome(&self.files)?)?;
        // Not known yet where an earlier worker process has collected it.
        if let Some(ran) = outcome.ran() {
            self.shared.meters.ran(self.id, ran);
        }
        let artifacts = std::mem::take(&mut outcome.artifacts);
        let refused = self.upload_all(&artifacts).await;
        for artifact in artifacts {
            match refused.get(&artifact.digest) {
                None => outcome.artifacts.push(artifact),
                Some(why) => self.on_refused(&mut outcome, artifact, why)?,
            }
        }
        self.settle().await?;
        self.events_delivered().await;
        self.judge_slot(outcome.failure.is_none());
        let seq = self
            .report(v1::report::Body::Finished(outcome.into()))
            .await?;
        Ok(Phase::Reported { seq })
    }

    /// Stores what the head lacks, all of it at once: each part waits for the head's disk. Why a part
    /// was refused, where waiting cannot help.
    async fn upload_all(&self, artifacts: &[Artifact]) -> BTreeMap<Digest, String> {
        // The same bytes may be there as two kinds.
        let parts: BTreeMap<Digest, Artifact> =
            artifacts.iter().map(|part| (part.digest, *part)).collect();
        let parts: Vec<Artifact> = parts.into_values().collect();
        let mut uploads = FuturesUnordered::new();
        for (part, from) in self.lacking(&parts).await {
            uploads.push(async move { (part.digest, self.upload(part, from).await) });
        }
        let mut refused = BTreeMap::new();
        while let Some((digest, done)) = uploads.next().await {
            if let Err(error) = done {
                refused.insert(digest, chain(&error));
            }
        }
        refused
    }

    /// What the head lacks of these, and how much of each it has. Waits for a head that is away.
    async fn lacking(&self, parts: &[Artifact]) -> Vec<(Artifact, u64)> {
        if parts.is_empty() {
            return Vec::new();
        }
        loop {
            match blobs::lacking(&self.shared.bulk, parts).await {
                Ok(lacking) => return lacking,
                Err(error) if error.is_transient() => self.wait_for_head(&error).await,
                // The answer to each part will say why.
                Err(_) => return parts.iter().map(|part| (*part, 0)).collect(),
            }
        }
    }

    /// An error only where waiting cannot help.
    async fn upload(&self, artifact: Artifact, mut from: u64) -> Result<(), blobs::Error> {
        let path = self.files.artifact(artifact.kind);
        loop {
            match blobs::upload(&self.shared.bulk, artifact, &path, from).await {
                Err(error) if error.is_transient() => self.wait_for_head(&error).await,
                done => return done,
            }
            match self.lacking(&[artifact]).await.first() {
                Some((_, has)) => from = *has,
                None => return Ok(()),
            }
        }
    }

    async fn wait_for_head(&self, error: &blobs::Error) {
        tracing::debug!(attempt = %self.id, %error, "a result waits for the head");
        sleep(RETRY_AFTER).await;
    }

    /// One part that cannot be stored costs none of the others.
    fn on_refused(
        &mut self,
        outcome: &mut Outcome,
        artifact: Artifact,
        why: &str,
    ) -> Result<(), Error> {
        let kind = artifact.kind.as_str();
        let message = format!("the {kind} could not be stored at the head: {why}");
        tracing::warn!(attempt = %self.id, kind, error = why, "an artifact was refused");
        self.tell("result_refused", message.clone())?;
        outcome
            .failure
            .get_or_insert_with(|| Failure::new(FailureCode::ResultFailed, message));
        Ok(())
    }

    /// Waits until the head has all events, or does not want them.
    async fn events_delivered(&mut self) {
        let last = *self.journal.last().borrow();
        let done = self
            .pushed
            .wait_for(|pushed| pushed.is_done(last))
            .await
            .is_ok();
        if !done {
            // The pusher ends only when the head refuses.
            tracing::debug!(attempt = %self.id, "the head does not want these events");
        }
    }
}
