//! What the agents of running attempts have changed so far.

use orchestra_proto::v1;
use orchestra_types::{AttemptId, Manifest, Timestamp, limits::INTERIM_BYTES_MAX};
use prost::Message;
use tokio::sync::watch;

use crate::board::Board;

/// The newest look at each. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Interims(Board<v1::Manifest>);

impl Interims {
    /// An agent has changed just this.
    pub fn note(&self, attempt: AttemptId, manifest: Manifest, at: Timestamp) {
        let mut manifest = short(manifest);
        manifest.interim_at_ms = Some(at.0);
        self.0.change(attempt, |newest| *newest = manifest);
    }

    /// The attempt is over: its outcome says the rest.
    pub fn end(&self, attempt: AttemptId) {
        self.0.end(attempt);
    }

    /// Resolves when there is something to tell.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.changes()
    }

    /// A new stream: the head must be told everything again.
    pub fn renew(&self) {
        self.0.renew();
    }

    /// One that the head has not been told.
    pub fn take(&self) -> Option<v1::InterimManifest> {
        let one = self.0.take(1, |attempt, manifest| v1::InterimManifest {
            attempt: Some(attempt.into()),
            manifest: Some(manifest.clone()),
        });
        one.into_iter().next()
    }
}

/// As much of it as one message may have.
fn short(manifest: Manifest) -> v1::Manifest {
    // What a field costs beside its bytes, and the last warning.
    const FIELD: usize = 8;
    let mut room = INTERIM_BYTES_MAX - 1024;
    let mut fits = |bytes: usize| {
        let left = room.checked_sub(bytes + FIELD);
        room = left.unwrap_or(0);
        left.is_some()
    };
    let v1::Manifest {
        mut entries,
        mut warnings,
        interim_at_ms,
    } = manifest.into();
    let listed = entries.iter().take_while(|e| fits(e.encoded_len())).count();
    let warned = warnings.iter().take_while(|w| fits(w.len())).count();
    let more = (entries.len() - listed, warnings.len() - warned);
    entries.truncate(listed);
    warnings.truncate(warned);
    match more {
        (0, 0) => {}
        (files, 0) => warnings.push(format!("{files} more files have changed")),
        (files, more) => warnings.push(format!(
            "{files} more files have changed, and {more} more are left out"
        )),
    }
    v1::Manifest {
        entries,
        warnings,
        interim_at_ms,
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::{FileChange, ManifestEntry, TaskId};

    use super::*;

    const ID: AttemptId = AttemptId {
        task: TaskId(1),
        number: 1,
    };

    fn changed(files: usize, name_bytes: usize) -> Manifest {
        let entry = |number| ManifestEntry {
            path: format!("{number:0>name_bytes$}"),
            path_quoted: None,
            renamed_from_quoted: None,
            change: FileChange::Added,
            size: 1,
            mode: 0o100_644,
            sha256: None,
            lines_added: Some(1),
            lines_removed: Some(0),
            binary: false,
        };
        Manifest {
            entries: (0..files).map(entry).collect(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_newest_is_told_once_and_again_on_a_new_stream() {
        let interims = Interims::default();
        interims.note(ID, changed(1, 4), Timestamp(1));
        interims.note(ID, changed(2, 4), Timestamp(2));
        let told = interims.take().unwrap().manifest.unwrap();
        assert_eq!((told.entries.len(), told.interim_at_ms), (2, Some(2)));
        assert_eq!(interims.take(), None);
        interims.renew();
        assert!(interims.take().is_some());
        interims.end(ID);
        interims.renew();
        assert_eq!(interims.take(), None);
    }

    #[test]
    fn a_message_has_no_more_than_it_may_and_says_so() {
        for (files, name_bytes) in [(100_000, 10), (1000, 4000), (3, 60_000)] {
            let interims = Interims::default();
            interims.note(ID, changed(files, name_bytes), Timestamp(1));
            let told = interims.take().unwrap().manifest.unwrap();
            assert!(told.encoded_len() <= INTERIM_BYTES_MAX);
            let more = files - told.entries.len();
            let said = format!("{more} more files have changed");
            assert_eq!(told.warnings, [said]);
        }
        let all = changed(100, 10);
        assert_eq!(short(all.clone()), all.into());
    }

    #[test]
    fn warnings_that_do_not_fit_are_counted() {
        let mut manifest = changed(1, 10);
        manifest.warnings = vec!["w".repeat(1000); 1000];
        let short = short(manifest);
        assert!(short.encoded_len() <= INTERIM_BYTES_MAX);
        assert!(
            short
                .warnings
                .last()
                .unwrap()
                .ends_with("more are left out")
        );
    }
}
