//! How many files a process may have open: as many as it is allowed to for head and worker, what the user's
//! shell has for what an agent runs.
//!
//! The usual 1024 are for programs that `select`, and some go through all numbers up to the limit. A head or a
//! worker has a file for each connection, attempt and transfer.

use std::{env, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
}
