//! What becomes of an attempt whose own files cannot be used: its process is ended, its files are
//! put aside for a person, and the head is told once.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use orchestra_proto::v1;
use orchestra_types::{AttemptId, Exit, Failure, FailureCode, Outcome};

use super::{
    files::Files,
    record,
    run::{Error, Shared, chain, nothing, record_report},
};
use crate::{
    blocking::blocking,
    clock, disk,
    process::{Offsets, Process, Reattach},
};

/// Ends the name of what was put aside and is not reported yet. A rename needs no room on the disk.
const UNREPORTED: &str = ".unreported";

/// Ends an attempt that cannot go on, and reports that it came to nothing.
///
/// IMPORTANT: the files go first. An attempt that was reported and is still found at the next
/// start would run again.
pub async fn fail(shared: Arc<Shared>, attempt: AttemptId, error: Error) -> Result<(), Error> {
    let files = shared.files_begun(attempt);
    end_process(&files).await;
    let begun = files.process().exists();
    let to = shared.aside.clone();
    let put = blocking(move || put(&files, to, UNREPORTED)).await;
    let place = put.unwrap_or_else(|problem| {
        tracing::error!(%attempt, error = %problem, "the attempt's files cannot be put aside");
        None
    });
    let failure = Failure::new(code(&error), chain(&error));
    report(&shared, attempt, outcome(failure, begun), place).await
}

/// What a worker that was killed had put aside and not reported.
pub fn unreported(aside: &Path) -> io::Result<Vec<(AttemptId, PathBuf)>> {
    let entries = match fs::read_dir(aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(UNREPORTED));
        if let Some((name, attempt)) = name.and_then(|name| Some((name, named(name)?))) {
            found.push((attempt, aside.join(name)));
        }
    }
    Ok(found)
}

/// The attempt whose files were put aside under this name.
pub fn named(name: &str) -> Option<AttemptId> {
    let name = name.strip_suffix(UNREPORTED).unwrap_or(name);
    name.split('-').next()?.parse().ok()
}

/// Reports what [`unreported`] has found. Why it could not go on is not known any more.
pub async fn report_late(
    shared: Arc<Shared>,
    attempt: AttemptId,
    place: PathBuf,
) -> Result<(), Error> {
    let message = "the worker was killed while it gave this attempt up";
    let failure = Failure::new(FailureCode::ResultFailed, message);
    let begun = Files::process_in(&place).exists();
    report(&shared, attempt, outcome(failure, begun), Some(place)).await
}

/// The outcome of an attempt that cannot go on. Where its CLI may have begun, nobody knows how that ended.
fn outcome(failure: Failure, begun: bool) -> Outcome {
    let outcome = nothing(failure, clock::now());
    match begun {
        true => Outcome {
            exit: Exit::Unknown,
            ..outcome
        },
        false => outcome,
    }
}

/// Says why an attempt came to nothing, and where its files are, which are no longer unreported then.
async fn report(
    shared: &Shared,
    attempt: AttemptId,
    mut outcome: Outcome,
    place: Option<PathBuf>,
) -> Result<(), Error> {
    if let (Some(place), Some(failure)) = (&place, &mut outcome.failure) {
        let (worker, place) = (&shared.name, place.display());
        let place = format!("; its files are on worker {worker}, in `{place}`");
        failure.message.push_str(&place);
    }
    let body = v1::report::Body::Finished(outcome.into());
    record_report(&shared.spool, attempt, body).await?;
    let reported = place.map_or(Ok(()), |place| {
        fs::rename(with_end(&place, UNREPORTED), place)
    });
    if let Err(error) = reported {
        tracing::error!(%attempt, %error, "what was put aside will be reported again");
    }
    Ok(())
}

fn code(error: &Error) -> FailureCode {
    match error {
        _ if disk::is_full(error) => FailureCode::DiskFull,
        Error::Order(_) => FailureCode::BadRequest,
        Error::Process(_) => FailureCode::SpawnFailed,
        // The worker's disk.
        Error::Record(record::Error::File { .. }) | Error::Journal(_) | Error::Dir { .. } => {
            FailureCode::ResultFailed
        }
        Error::Record(record::Error::Malformed { .. })
        | Error::Stopping(_)
        | Error::NoRoom
        | Error::Left
        | Error::Groundless
        | Error::Panicked(_) => FailureCode::Internal,
    }
}

/// Nobody would ever look after a CLI that still runs.
async fn end_process(files: &Files) {
    let dir = files.process();
    let found = blocking(move || Process::reattach(&dir, Offsets::default())).await;
    if let Ok(Reattach::Running(mut process)) = found {
        process.end().await;
    }
}

/// Puts an attempt's files aside, among them as `workspace` what holds the agent's directory. Where they are then,
/// but for an end of the name; none where there are none. An agent's directory on another file system
/// stays where it is.
pub(super) fn put(files: &Files, to: PathBuf, end: &str) -> io::Result<Option<PathBuf>> {
    let Some(name) = files.dir().file_name().filter(|_| files.dir().exists()) else {
        return Ok(None);
    };
    match fs::rename(files.area(), files.dir().join("workspace")) {
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
    let path = free_place(&to, name);
    fs::rename(files.dir(), with_end(&path, end))?;
    Ok(Some(path))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Where [`put`] takes an attempt's files to: a place of their own, as one that was put aside can have
/// been ordered again. `task_001.1-2` is the second of its name.
fn free_place(aside: &Path, name: &OsStr) -> PathBuf {
    let later = (2..).map(|n| {
        let mut other = name.to_owned();
        other.push(format!("-{n}"));
        aside.join(other)
    });
    let mut places = std::iter::once(aside.join(name)).chain(later);
    places
        .find(|path| {
            [path, &with_end(path, UNREPORTED)]
                .iter()
                .all(|path| is_free(path))
        })
        .expect("there is always another number")
}

fn is_free(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err()
}

/// Where the agent's directory lies once [`put`] was called.
pub(super) fn workspace_after(files: &Files, aside: &Path) -> PathBuf {
    let name = files.dir().file_name().unwrap_or_default();
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    if device(files.area()) != device(files.dir()) {
        return files.workspace().to_owned();
    }
    let below = files.workspace().strip_prefix(files.area());
    let area = free_place(aside, name).join("workspace");
    // Joined to nothing, a path would end with a slash. What the agent has moved lies beside it.
    let is_there = files.workspace().symlink_metadata().is_ok();
    match below
        .ok()
        .filter(|below| is_there && !below.as_os_str().is_empty())
    {
        Some(below) => area.join(below),
        None => area,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_before_is_never_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        let (attempts, workspaces) = (tmp.path().join("attempts"), tmp.path().join("workspaces"));
        let aside = tmp.path().join("aside");
        let files = Files::new(&attempts, &workspaces, "task_001.1".parse().unwrap());
        for expected in ["task_001.1", "task_001.1-2", "task_001.1-3"] {
            fs::create_dir_all(files.dir()).unwrap();
            fs::create_dir_all(files.workspace()).unwrap();
            let told = workspace_after(&files, &aside);
            let place = put(&files, aside.clone(), "").unwrap().unwrap();
            assert_eq!(place, aside.join(expected));
            assert_eq!(told, place.join("workspace/task_001.1"));
            assert!(told.is_dir());
        }
    }

    #[test]
    fn the_directory_of_an_earlier_version_is_put_aside_as_it_is() {
        let tmp = tempfile::tempdir().unwrap();
        let (attempts, workspaces) = (tmp.path().join("attempts"), tmp.path().join("workspaces"));
        let id = "task_001.1".parse().unwrap();
        fs::create_dir_all(attempts.join("task_001.1")).unwrap();
        fs::create_dir_all(workspaces.join("task_001.1/src")).unwrap();
        let line = r#"{"format":1,"attempt":"task_001.1","boot":"b","phase":"prepared"}"#;
        fs::write(attempts.join("task_001.1/attempt.json"), line).unwrap();
        let files = Files::begun(&attempts, &workspaces, id);
        assert_eq!(files.workspace(), workspaces.join("task_001.1"));
        let aside = tmp.path().join("aside");
        let told = workspace_after(&files, &aside);
        put(&files, aside.clone(), "").unwrap();
        assert_eq!(told, aside.join("task_001.1/workspace"));
        assert!(told.join("src").is_dir());
    }

    #[test]
    fn what_is_not_reported_has_its_place_and_is_found() {
        let tmp = tempfile::tempdir().unwrap();
        let (attempts, workspaces) = (tmp.path().join("attempts"), tmp.path().join("workspaces"));
        let aside = tmp.path().join("aside");
        assert_eq!(unreported(&aside).unwrap(), []);
        let id = "task_001.1".parse().unwrap();
        let files = Files::new(&attempts, &workspaces, id);
        let mut expected = Vec::new();
        for _ in 0..2 {
            fs::create_dir_all(files.dir()).unwrap();
            let place = put(&files, aside.clone(), UNREPORTED).unwrap().unwrap();
            assert!(is_free(&place));
            expected.push((id, place));
        }
        fs::create_dir_all(aside.join("task_002.1")).unwrap();
        fs::create_dir_all(aside.join("other.unreported")).unwrap();
        let mut found = unreported(&aside).unwrap();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_disk_that_refuses_is_no_bug_of_ours() {
        let refused = |kind: io::ErrorKind| {
            let error = record::Error::File {
                doing: "write",
                path: "attempt.json".into(),
                source: kind.into(),
            };
            code(&error.into())
        };
        assert_eq!(refused(io::ErrorKind::StorageFull), FailureCode::DiskFull);
        assert_eq!(refused(io::ErrorKind::QuotaExceeded), FailureCode::DiskFull);
        let other = refused(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(other, FailureCode::ResultFailed);
        assert!(other.advice().contains("disk space"));
    }
}
