//! How many files a process may have open: as many as it is allowed to for head and worker, what the user's
//! shell has for what an agent runs.
//!
//! The usual 1024 are for programs that `select`, and some go through all numbers up to the limit. A head or a
//! worker has a file for each connection, attempt and transfer.

use std::{env, error::Error, io, sync::OnceLock};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Below this a head or a worker starts, and fails in the middle of its work.
const DAEMON_MIN: u64 = 256;
/// What is advised.
const ADVISED: u64 = 1024;

/// Says to our own processes what the limit was before it was raised.
const BEFORE: &str = "ORCHESTRA_OPEN_FILES";

/// What the limit of this process was before it was raised.
static RAISED_FROM: OnceLock<u64> = OnceLock::new();

/// Lets this process open as many files as it is allowed to.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // Without it there is room for fewer.
    if setrlimit(Resource::Nofile, limit).is_ok()
        && let Some(before) = current
    {
        RAISED_FROM.get_or_init(|| before);
    }
}

/// The limit does not do for a head or a worker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too few open files are allowed, {DAEMON_MIN} are needed: {advice}")]
pub struct TooFew {
    advice: String,
}

/// Refuses a limit that is too low for a head or a worker, once it was raised.
///
/// # Errors
/// When it is.
pub fn require() -> Result<(), TooFew> {
    enough(getrlimit(Resource::Nofile))
}

fn enough(limit: Rlimit) -> Result<(), TooFew> {
    match limit.current {
        Some(current) if current < DAEMON_MIN => Err(TooFew {
            advice: advice_for(limit),
        }),
        Some(_) | None => Ok(()),
    }
}

/// What to do where this process may open no more files, if that is why something failed.
#[must_use]
pub fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    is_lack(error).then(|| advice_for(getrlimit(Resource::Nofile)))
}

fn is_lack(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.and_then(io::Error::raw_os_error) == Some(Errno::MFILE.raw_os_error())
    })
}

/// Anybody may raise the soft limit up to the hard one.
fn advice_for(limit: Rlimit) -> String {
    let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    match limit.maximum {
        Some(hard) if hard < ADVISED => format!(
            "`ulimit -Hn` is {hard} here, which only root may raise: `ulimit -n {ADVISED}` in the shell that \
             starts this one, `nofile` in /etc/security/limits.conf, or `LimitNOFILE` of a systemd unit"
        ),
        Some(_) | None => format!(
            "`ulimit -n` is {} here; `ulimit -n {ADVISED}` raises it",
            number(limit.current)
        ),
    }
}

/// What a process of our own that starts others must have in its environment for [`give_back`].
#[must_use]
pub fn variable() -> Option<(&'static str, String)> {
    RAISED_FROM.get().map(|before| (BEFORE, before.to_string()))
}

/// Gives this process, and what it starts, the limit from before it was raised.
pub fn give_back() {
    let before = env::var(BEFORE).ok().and_then(|text| text.parse().ok());
    let Some(before) = before else {
        return;
    };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(before),
        maximum,
    };
    // One that is above what is allowed is refused, and would be none.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_open_what_it_is_allowed_to_and_says_what_it_was() {
        let before = getrlimit(Resource::Nofile);
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        let said = variable().map(|(_, value)| value);
        assert_eq!(said, before.current.map(|before| before.to_string()));
    }

    #[test]
    fn a_limit_that_is_too_low_is_named_with_what_raises_it() {
        let limit = |current, maximum| Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        assert_eq!(enough(limit(256, 256)), Ok(()));
        let refused = enough(limit(32, 32)).unwrap_err().to_string();
        assert!(
            refused.contains("`ulimit -Hn` is 32 here, which only root"),
            "{refused}"
        );
        assert_eq!(
            advice_for(limit(32, 4096)),
            "`ulimit -n` is 32 here; `ulimit -n 1024` raises it"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open `x`")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn only_what_failed_for_want_of_files_is_given_the_advice() {
        let lack = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert!(advice(&Wrapped(lack)).is_some());
        assert_eq!(advice(&io::Error::from(io::ErrorKind::NotFound)), None);
    }
}
