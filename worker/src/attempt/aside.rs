//! What becomes of an attempt whose own files cannot be used: its process is ended, its files are
//! put aside for a person, and the head is told once.

use std::{fs, io, path::PathBuf};

use orchestra_proto::v1;
use orchestra_types::{AttemptId, Failure, FailureCode};

use super::{
    files::Files,
    record,
    run::{Error, Shared, blocking, chain, nothing, record_report},
};
use crate::{
    clock,
    process::{Offsets, Process, Reattach},
    spool,
};

/// Ends an attempt that cannot go on, and reports that it came to nothing.
///
/// IMPORTANT: the files go first. An attempt that was reported and is still found at the next
/// start would run again.
pub async fn fail(shared: &Shared, attempt: AttemptId, error: &Error) -> Result<(), spool::Closed> {
    let files = shared.files(attempt);
    end_process(&files).await;
    let to = shared.aside.clone();
    let message = match blocking(move || put(&files, to)).await {
        Ok(Some(path)) => format!("{}; its files are in `{}`", chain(error), path.display()),
        Ok(None) => chain(error),
        Err(problem) => {
            tracing::error!(%attempt, error = %problem, "the attempt's files cannot be put aside");
            chain(error)
        }
    };
    let outcome = nothing(Failure::new(code(error), message), clock::now());
    let body = v1::report::Body::Finished(outcome.into());
    record_report(&shared.spool, attempt, body).await.map(drop)
}

fn code(error: &Error) -> FailureCode {
    match error {
        Error::Order(_) => FailureCode::BadRequest,
        Error::Process(_) => FailureCode::SpawnFailed,
        // The worker's disk: most likely it is full.
        Error::Record(record::Error::File { .. }) | Error::Journal(_) | Error::Dir { .. } => {
            FailureCode::ResultFailed
        }
        Error::Record(record::Error::Malformed { .. })
        | Error::Stopping(_)
        | Error::Left
        | Error::Panicked(_) => FailureCode::Internal,
    }
}

/// Nobody would ever look after a CLI that still runs.
async fn end_process(files: &Files) {
    if let Ok(Reattach::Running(mut process)) =
        Process::reattach(&files.process(), Offsets::default())
    {
        process.kill().await;
    }
}

/// Puts an attempt's files aside, the agent's directory among them as `workspace`. Where they are then;
/// none where there are none. An agent's directory on another file system stays where it is.
pub(super) fn put(files: &Files, to: PathBuf) -> io::Result<Option<PathBuf>> {
    let Some(name) = files.dir().file_name().filter(|_| files.dir().exists()) else {
        return Ok(None);
    };
    match fs::rename(files.workspace(), files.dir().join("workspace")) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::CrossesDevices
            ) =>
        {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    orchestra_config::durable::create_private_dir(&to)?;
    let path = to.join(name);
    fs::rename(files.dir(), &path)?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_refuses_is_no_bug_of_ours() {
        let full = record::Error::File {
            doing: "write",
            path: "attempt.json".into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let advice = code(&full.into()).advice();
        assert!(advice.contains("disk space"), "{advice}");
    }
}
