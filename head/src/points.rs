//! Fail points: places where a test can make a write, a sync or a rename fail, or end the process.
//!
//! Without the feature `fail-points` they are nothing. With it, the variable
//! `ORCHESTRA_FAIL_POINTS` says what happens, as `journal.sync=kill@3,blob.rename=error@1`: the
//! third time that the journal is synced the process is killed, and the first renaming of a blob
//! fails.

/// All points, for the test that walks through them.
pub const ALL: &[&str] = &[
    "journal.make",
    "journal.write",
    "journal.sync",
    "journal.rename",
    "journal.sync-directory",
    "store.made",
    "mark.write",
    "database.apply",
    "database.flush",
    "database.sync",
    "blob.make",
    "blob.write",
    "blob.sync",
    "blob.rename",
    "blob.sync-directory",
    "events.write",
    "events.sync",
    "events.seal",
    "events.former",
    "events.listed",
    "compact.copy",
    "compact.exchange",
    "compact.remove",
];

/// Passes a point; an error is what a test wants it to be.
#[cfg(not(feature = "fail-points"))]
pub fn reach(_point: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "fail-points")]
pub use armed::reach;

#[cfg(feature = "fail-points")]
mod armed {
    use std::{
        collections::BTreeMap,
        io,
        sync::{Mutex, OnceLock},
    };

    #[derive(Clone, Copy)]
    enum Act {
        Kill,
        Fail(i32),
    }

    /// For each point: what happens, and at which passing, counted down.
    type Armed = BTreeMap<String, (Act, u32)>;

    static ARMED: OnceLock<Mutex<Armed>> = OnceLock::new();

    /// Passes a point; an error is what a test wants it to be.
    pub fn reach(point: &'static str) -> io::Result<()> {
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var("ORCHESTRA_FAIL_POINTS").unwrap_or_default();
            Mutex::new(text.split(',').filter_map(parse).collect())
        });
        let mut armed = armed.lock().unwrap_or_else(|broken| broken.into_inner());
        let Some((act, left)) = armed.get_mut(point) else {
            return Ok(());
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Ok(());
        }
        match *act {
            Act::Kill => {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
                loop {
                    std::thread::park();
                }
            }
            Act::Fail(errno) => {
                armed.remove(point);
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn parse(text: &str) -> Option<(String, (Act, u32))> {
        let (point, act) = text.split_once('=')?;
        let (act, at) = act.split_once('@')?;
        let act = match act {
            "kill" => Act::Kill,
            "error" => Act::Fail(rustix::io::Errno::IO.raw_os_error()),
            "full" => Act::Fail(rustix::io::Errno::NOSPC.raw_os_error()),
            _ => return None,
        };
        Some((point.to_owned(), (act, at.parse().ok()?)))
    }
}
