//! What is the matter with the surroundings of a command: its current directory is gone, or there is no
//! room for temporary files. Both come out anywhere, in the words of whoever met them.

use std::{env, error::Error as StdError, io, path::Path};

use orchestra_repo::says_full;

/// How the names of temporary directories begin.
const TEMPORARY: &str = "orchestra-tmp-";
/// Where less is free, git says of a file only that it could not be written.
const FREE_MIN: u64 = 64 * 1024;

/// What to do about an error with these causes, which `text` tells, where it came of the surroundings.
pub fn advice(causes: &(dyn StdError + 'static), text: &str) -> Option<String> {
    if is_about_a_missing_file(causes) && env::current_dir().is_err_and(|e| is_not_found(&e)) {
        return Some("the current directory was removed: `cd` to one that is there".to_owned());
    }
    let place = env::temp_dir();
    let is_of_git = any(causes, |cause| cause.is::<orchestra_repo::Error>());
    no_room(text, is_of_git, &place, || is_full(&place))
}

fn no_room(
    text: &str,
    is_of_git: bool,
    place: &Path,
    is_full: impl FnOnce() -> bool,
) -> Option<String> {
    let is_there = text.contains(&*place.join(TEMPORARY).to_string_lossy());
    let place = place.display();
    match (is_there, says_full(text)) {
        (true, said) if said || is_full() => Some(format!(
            "`{place}`, where temporary files are made, is full: free space there, or name another directory \
             by TMPDIR"
        )),
        // It does not say of which of the two.
        (false, true) if is_of_git => Some(format!(
            "temporary files are made in `{place}`: free space there and where the repository is, or name \
             another directory by TMPDIR"
        )),
        (_, _) => None,
    }
}

fn is_full(place: &Path) -> bool {
    rustix::fs::statvfs(place).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < FREE_MIN)
}

fn is_about_a_missing_file(causes: &(dyn StdError + 'static)) -> bool {
    any(causes, |cause| {
        cause.downcast_ref().is_some_and(is_not_found)
    })
}

fn is_not_found(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether such a one is among the causes.
fn any(causes: &(dyn StdError + 'static), is: impl Fn(&(dyn StdError + 'static)) -> bool) -> bool {
    let mut next = Some(causes);
    while let Some(cause) = next {
        if is(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_place_for_temporary_files_is_named() {
        let advice = |text, is_of_git, full: bool| {
            no_room(text, is_of_git, Path::new("/t"), || full).unwrap_or_default()
        };
        let ours = "failed to write `/t/orchestra-tmp-a/bundle`: No space left on device";
        assert!(
            advice(ours, false, false).starts_with("`/t`, where temporary files are made, is full")
        );
        let git = "error: failed to write /t/orchestra-tmp-a/config.lock";
        assert!(advice(git, true, true).contains("`/t`"));
        assert_eq!(advice(git, true, false), "", "for whatever reason");
        let unnamed = "unable to write loose object file: No space left on device";
        assert!(advice(unnamed, true, false).contains("`/t`: free space there and"));
        assert_eq!(
            advice(
                "the head's disk is full: No space left on device",
                false,
                true
            ),
            ""
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_found_among_the_causes() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        assert!(is_about_a_missing_file(&missing()));
        assert!(is_about_a_missing_file(
            &crate::error::Error::failed("x").because(missing())
        ));
        assert!(!is_about_a_missing_file(&io::Error::other("x")));
    }
}
