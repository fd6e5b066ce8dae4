//! A test that hangs fails, and says what runs at that moment; it does not hold up the whole run.

use std::{
    fs,
    panic::resume_unwind,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::processes;

/// Far more than any test takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// Runs `body` on a thread of its own. One that is not through within `limit` is left to itself.
pub(crate) fn within(
    limit: Duration,
    name: &str,
    body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let (tell, told) = mpsc::channel();
    // The kernel keeps 15 bytes of a name: the last words tell tests apart best.
    let short = name.get(name.len().saturating_sub(15)..).unwrap_or("test");
    let thread = thread::Builder::new()
        .name(short.to_owned())
        // Nobody listens any more when it was given up.
        .spawn(move || drop(tell.send(body())))
        .context("failed to start a thread")?;
    match told.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => bail!("the test ended without a result"),
        },
        Err(RecvTimeoutError::Timeout) => bail!(
            "it hangs: it still runs after {limit:?}\n--- processes of all tests that run\n{}\n--- \
             threads of the tests\n{}",
            processes::of_this_run().join("\n"),
            threads().join("\n")
        ),
    }
}

/// What each thread of this process waits for.
fn threads() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten();
    let line = |dir: std::path::PathBuf| {
        let read = |name| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let (comm, place, call) = (read("comm"), read("wchan"), read("syscall"));
        format!("{:16} {place:24} {}", comm.trim(), call.trim())
    };
    entries.flatten().map(|entry| line(entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_a_test_says_is_passed_on() {
        assert!(within(LIMIT, "a::test", || Ok(())).is_ok());
        let failed = within(LIMIT, "a::test", || Err(anyhow!("no"))).unwrap_err();
        assert_eq!(failed.to_string(), "no");
        let panicked = std::panic::catch_unwind(|| within(LIMIT, "a::test", || panic!("oh")));
        assert!(panicked.is_err());
    }

    #[test]
    fn one_that_hangs_is_given_up_with_a_picture() {
        let (tell, told) = mpsc::channel::<()>();
        let hangs = move || {
            let _ = told.recv();
            Ok(())
        };
        let error = within(Duration::from_millis(1), "a::test_that_hangs", hangs).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("it hangs: it still runs after 1ms"),
            "{said}"
        );
        assert!(
            said.contains("test_that_hangs"),
            "its thread is named: {said}"
        );
        drop(tell);
    }
}
