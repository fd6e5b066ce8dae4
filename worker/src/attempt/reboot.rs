//! Where an attempt goes on after the machine was started anew: its CLI is gone, and its files are
//! what the disk had of them.

use orchestra_types::{Exit, Failure, FailureCode, Outcome, Timestamp};

use super::{
    files::Files,
    record::{self, Ended, Phase},
};
use crate::{blobs, cli::Kept};

/// The phase to go on with, instead of the one that was reached in another boot.
///
/// IMPORTANT: nothing is started. The head has given the attempt up, and may have given the task to
/// somebody else; what was done is collected and kept.
pub fn phase(files: &Files, reached: Phase, now: Timestamp) -> Phase {
    match reached {
        Phase::Reported { seq } => Phase::Reported { seq },
        Phase::Collected if is_whole(files) => Phase::Collected,
        Phase::Accepted | Phase::Prepared | Phase::Collected => ended(now),
        Phase::Started(started) => ended(started.at),
        Phase::Ended(ended) => Phase::Ended(ended),
    }
}

/// Whether the outcome and each of its artifacts are as they were written.
fn is_whole(files: &Files) -> bool {
    let outcome = record::load_outcome(files).ok();
    let outcome = outcome.and_then(|outcome| Outcome::try_from(outcome).ok());
    outcome.is_some_and(|outcome| {
        outcome.artifacts.iter().all(|artifact| {
            let found = blobs::describe(artifact.kind, &files.artifact(artifact.kind));
            found.is_ok_and(|found| found == *artifact)
        })
    })
}

fn ended(started_at: Timestamp) -> Phase {
    let why = "the machine was started anew while it ran; what it had done is kept";
    Phase::Ended(Box::new(Ended {
        started_at,
        ended_at: None,
        exit: Exit::Unknown,
        failure: Some(Failure::new(FailureCode::WorkerLost, why)),
        text: String::new(),
        kept: Kept::default(),
        usage: Default::default(),
        session: String::new(),
        model: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;
    use orchestra_types::{ArtifactKind, AttemptId, TaskId};

    use super::{
        super::{record::Started, run::nothing},
        *,
    };

    const NOW: Timestamp = Timestamp(7);

    fn files(dir: &std::path::Path) -> Files {
        let attempt = AttemptId {
            task: TaskId(1),
            number: 1,
        };
        let files = Files::new(dir, dir, attempt);
        std::fs::create_dir_all(files.results()).unwrap();
        files
    }

    /// A collected attempt with one artifact.
    fn collect(files: &Files) {
        let path = files.artifact(ArtifactKind::Output);
        std::fs::write(&path, "done").unwrap();
        let mut outcome = nothing(Failure::new(FailureCode::AgentFailed, "no"), NOW);
        let artifact = blobs::describe(ArtifactKind::Output, &path).unwrap();
        outcome.artifacts = vec![artifact];
        record::save_message(files.outcome(), &v1::Outcome::from(outcome)).unwrap();
    }

    #[test]
    fn nothing_is_started_after_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let started = Phase::Started(Started {
            at: Timestamp(5),
            since_boot_ms: 6,
        });
        assert_eq!(phase(&files, started, NOW), ended(Timestamp(5)));
        for reached in [Phase::Accepted, Phase::Prepared] {
            assert_eq!(phase(&files, reached, NOW), ended(NOW));
        }
    }

    #[test]
    fn a_result_goes_on_only_when_the_disk_has_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        assert_eq!(phase(&files, Phase::Collected, NOW), ended(NOW));
        collect(&files);
        assert_eq!(phase(&files, Phase::Collected, NOW), Phase::Collected);
        std::fs::write(files.artifact(ArtifactKind::Output), "").unwrap();
        assert_eq!(phase(&files, Phase::Collected, NOW), ended(NOW));
        let reported = Phase::Reported { seq: 3 };
        assert_eq!(phase(&files, reported.clone(), NOW), reported);
    }
}
