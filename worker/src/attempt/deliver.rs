//! Brings the result to the head: artifacts by hash, all events, then the final report.

use orchestra_proto::v1;
use orchestra_types::{Artifact, Failure, FailureCode, Outcome};
use tokio::time::sleep;

use super::{
    record::{self, Phase},
    run::{Attempt, Error, Stage, chain},
};
use crate::{blobs, bulk::RETRY_AFTER};

impl Attempt {
    /// From a collected result to a final report in the spool. Waits for a head that is away.
    pub async fn deliver(&mut self) -> Result<Phase, Error> {
        self.control.stage.send_replace(Stage::Delivering);
        self.hurry.cancel();
        let mut outcome = Outcome::try_from(record::load_outcome(&self.files)?)?;
        for artifact in std::mem::take(&mut outcome.artifacts) {
            match self.upload(artifact).await {
                Ok(()) => outcome.artifacts.push(artifact),
                Err(error) => self.on_refused(&mut outcome, artifact, &error)?,
            }
        }
        self.settle().await?;
        self.events_delivered().await;
        let seq = self
            .report(v1::report::Body::Finished(outcome.into()))
            .await?;
        Ok(Phase::Reported { seq })
    }

    /// An error only where waiting cannot help.
    async fn upload(&self, artifact: Artifact) -> Result<(), blobs::Error> {
        let path = self.files.artifact(artifact.kind);
        loop {
            match blobs::upload(&self.shared.bulk, artifact, &path).await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(attempt = %self.id, %error, "a result waits for the head");
                    sleep(RETRY_AFTER).await;
                }
                done => return done,
            }
        }
    }

    /// One part that cannot be stored costs none of the others.
    fn on_refused(
        &mut self,
        outcome: &mut Outcome,
        artifact: Artifact,
        error: &blobs::Error,
    ) -> Result<(), Error> {
        let kind = artifact.kind.as_str();
        let message = format!(
            "the {kind} could not be stored at the head: {}",
            chain(error)
        );
        tracing::warn!(attempt = %self.id, kind, error = chain(error), "an artifact was refused");
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
