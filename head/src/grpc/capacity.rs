//! What a worker says of itself while it is attached: each of it is written to disk, so it is taken
//! now and then only, and only when it is new.

use std::{
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

use orchestra_proto::{Refused, v1};
use orchestra_types::runner::WorkerInfo;
use prost::Message;
use tokio::time::Instant;

/// How often it is taken. What comes in between waits; the last of it counts.
const EVERY: Duration = Duration::from_secs(1);
/// Longest description of a worker: about 40 runners with 1 KiB of texts each. Its row lies in the
/// database, which takes up to 60 KiB; a worker with twelve runners and a reason for each says 4 KiB.
const BYTES_MAX: usize = 40 * 1024;

/// Reads what a worker says of itself.
pub(super) fn read(wire: v1::WorkerInfo) -> Result<WorkerInfo, Refused> {
    let bytes = wire.encoded_len();
    if bytes > BYTES_MAX {
        let why = format!(
            "says {bytes} bytes of itself, more than {BYTES_MAX}: give it fewer runners or labels"
        );
        return Err(Refused::new("worker", why));
    }
    WorkerInfo::try_from(wire)
}

/// What one session has said.
#[derive(Debug, Default)]
pub(super) struct Capacities {
    /// Boxed: most sessions have nothing that waits.
    waiting: Option<Box<WorkerInfo>>,
    /// What the engine was told last, by its checksum.
    told: Option<u64>,
    /// When it may be told the next time.
    not_before: Option<Instant>,
    /// Which installation the Hello was of: nothing else says so.
    installation: Box<str>,
}

impl Capacities {
    /// With what a Hello has told.
    pub fn after(hello: &WorkerInfo) -> Self {
        Self {
            told: Some(sum(hello)),
            installation: hello.installation.as_str().into(),
            ..Self::default()
        }
    }

    /// Takes what the worker says now in the place of what waits.
    pub fn offer(&mut self, mut info: Box<WorkerInfo>) {
        info.installation = self.installation.to_string();
        let known = self.told == Some(sum(&info));
        self.waiting = (!known).then_some(info);
    }

    /// When the engine is to be told; none when there is nothing to tell.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let _ = self.waiting.as_ref()?;
        Some(self.not_before.unwrap_or(now))
    }

    /// What the engine is told at this moment.
    pub fn take(&mut self, now: Instant) -> Option<Box<WorkerInfo>> {
        if self.due(now)? > now {
            return None;
        }
        self.put_off(now);
        let info = self.waiting.take()?;
        self.told = Some(sum(&info));
        Some(info)
    }

    /// Lets it wait for another while.
    pub fn put_off(&mut self, now: Instant) {
        self.not_before = Some(now + EVERY);
    }
}

fn sum(info: &WorkerInfo) -> u64 {
    let mut hasher = DefaultHasher::new();
    let wire = v1::WorkerInfo::from(info.clone()).encode_to_vec();
    hasher.write(&wire);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reason: &str) -> v1::WorkerInfo {
        v1::WorkerInfo {
            id: "w1".to_owned(),
            machine: "m1".to_owned(),
            runners: vec![v1::RunnerInfo {
                name: "claude".to_owned(),
                readiness: "not_ready".to_owned(),
                reason: reason.to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn info(reason: &str) -> Box<WorkerInfo> {
        Box::new(read(wire(reason)).unwrap())
    }

    #[test]
    fn what_would_not_fit_in_the_database_is_refused() {
        let mut large = wire(&"x".repeat(4000));
        large.runners = vec![large.runners[0].clone(); 9];
        assert!(read(large.clone()).is_ok());
        large.runners.push(large.runners[0].clone());
        large.runners.push(large.runners[0].clone());
        let refused = read(large).unwrap_err().to_string();
        assert!(refused.contains("more than 40960"), "{refused}");
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        let now = Instant::now();
        let mut said = Capacities::after(&info("a"));
        said.offer(info("a"));
        assert_eq!(said.due(now), None);
        said.offer(info("b"));
        assert_eq!(said.take(now), Some(info("b")));
        said.offer(info("b"));
        assert_eq!(said.take(now + EVERY), None);
        // What was taken back before it was told was never said.
        said.offer(info("c"));
        said.offer(info("b"));
        assert_eq!(said.due(now + EVERY), None);
    }

    #[test]
    fn of_many_in_a_row_the_first_and_the_last_are_told() {
        let start = Instant::now();
        let mut said = Capacities::default();
        let mut told = Vec::new();
        for n in 0..100_u32 {
            let now = start + EVERY * n / 100;
            said.offer(info(&n.to_string()));
            told.extend(said.take(now));
        }
        assert_eq!(told, [info("0")]);
        assert_eq!(said.due(start), Some(start + EVERY));
        assert_eq!(said.take(start + EVERY), Some(info("99")));
        assert_eq!(said.due(start + EVERY), None);
    }

    #[test]
    fn what_finds_no_room_waits() {
        let now = Instant::now();
        let mut said = Capacities::default();
        said.offer(info("a"));
        said.put_off(now);
        assert_eq!(said.take(now), None);
        assert_eq!(said.take(now + EVERY), Some(info("a")));
    }
}
