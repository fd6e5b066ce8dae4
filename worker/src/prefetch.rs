//! How many orders of a runner may wait here for a slot: as many as end while the head hears of an end.
//!
//! ```text
//! slot:   ├── an attempt ──┤· · · collected, reported, acknowledged · · ·├── the next ──┤
//!              its turn                       its pause
//! ```
//!
//! Where attempts take minutes, the pause is nothing, and it is best that the head chooses as late as it can.
//! Where they take milliseconds, or the head is far away, a slot would be empty for most of the time. So the worker
//! looks at the latest attempts of a runner, and grants a prefetch that fills the pause: of `shell`, unless the
//! configuration says how much it is, and of others where `runners.NAME.prefetch` is `auto`. An agent's task has
//! an account, and better waits where another one can still be chosen.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use orchestra_config::{self as config, RunnerConfig};
use orchestra_types::{
    RunnerName,
    runner::{RunnerInfo, SHELL},
};
use tokio::sync::watch;

/// So many of the latest attempts are looked at, and there must be so many.
const LOOKED_AT: usize = 8;
/// A pause that is longer was none of the network's: the head was away, or a disk was full.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The share of its time that a slot is empty from which on a prefetch is granted, in percent, and below which
/// it is taken back.
const EMPTY_FROM: u128 = 5;
const EMPTY_UNTIL: u128 = 2;
/// The most that is granted.
const DEPTH_MAX: u32 = 256;

/// How long an attempt had its slot, and then until the head had made its end durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    pub turn: Duration,
    pub pause: Duration,
}

/// What is known of a runner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pace {
    /// Its latest attempts, the last one last.
    latest: VecDeque<Ran>,
    depth: u32,
    /// How often in a row a smaller one would have done.
    smaller: usize,
    /// Whether an order of it waits here.
    waits: bool,
}

impl Pace {
    fn note(&mut self, ran: Ran, slots: u32) {
        if self.latest.len() == LOOKED_AT {
            self.latest.pop_front();
        }
        self.latest.push_back(ran);
        if self.latest.len() == LOOKED_AT {
            let median = |of: fn(&Ran) -> Duration| {
                let mut all: Vec<Duration> = self.latest.iter().map(of).collect();
                all.sort_unstable();
                all[all.len() / 2]
            };
            let (turn, pause) = (median(|ran| ran.turn), median(|ran| ran.pause));
            self.follow(depth(Ran { turn, pause }, slots, self.depth));
        }
    }

    /// Grows at once, and shrinks when a smaller one has done for a while: short and long attempts may take turns.
    fn follow(&mut self, wanted: u32) {
        self.smaller = if wanted < self.depth {
            self.smaller + 1
        } else {
            0
        };
        if wanted > self.depth || self.smaller >= LOOKED_AT {
            (self.depth, self.smaller) = (wanted, 0);
        }
    }

    /// What waits can be called back only as long as there is a prefetch.
    fn granted(&self) -> u32 {
        self.depth.max(u32::from(self.waits))
    }
}

/// How many of a runner with so many slots may wait, where `now` may. It is a power of two, and does not follow
/// small changes: each other number is told to the head.
fn depth(ran: Ran, slots: u32, now: u32) -> u32 {
    let turn = ran.turn.as_micros().max(1);
    let pause = ran.pause.as_micros();
    let empty = pause * 100 / (turn + pause);
    if empty < if now == 0 { EMPTY_FROM } else { EMPTY_UNTIL } {
        return 0;
    }
    let ends = (pause * u128::from(slots)).div_ceil(turn);
    let ends = u32::try_from(ends).unwrap_or(DEPTH_MAX);
    let depth = ends.clamp(1, DEPTH_MAX).next_power_of_two();
    match depth > now || depth * 2 < now {
        true => depth,
        false => now,
    }
}

/// What is granted to each runner; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Prefetch {
    auto: Arc<BTreeSet<RunnerName>>,
    known: watch::Sender<BTreeMap<RunnerName, Pace>>,
}

impl Prefetch {
    /// For these runners.
    #[must_use]
    pub fn of(runners: &BTreeMap<RunnerName, RunnerConfig>) -> Self {
        let is_auto = |name: &&RunnerName| {
            let configured = runners.get(*name).and_then(|of| of.prefetch);
            configured.map_or(name.as_str() == SHELL, |of| of == config::Prefetch::Auto)
        };
        let shell: RunnerName = SHELL.parse().expect("a constant name is a name");
        let auto = runners.keys().chain([&shell]).filter(is_auto);
        Self {
            auto: Arc::new(auto.cloned().collect()),
            known: watch::Sender::default(),
        }
    }

    /// An attempt of a runner that has so many slots has done its work. One that failed says nothing of the next.
    pub fn ran(&self, runner: &RunnerName, ran: Ran, slots: u32) {
        if ran.pause <= PAUSE_MAX {
            self.change(runner, |pace| pace.note(ran, slots));
        }
    }

    /// An order of a runner waits, or none does any more.
    pub fn waits(&self, runner: &RunnerName, waits: bool) {
        self.change(runner, |pace| pace.waits = waits);
    }

    /// Whether a runner is granted what it needs. What finds no slot waits then, whatever was granted: the head
    /// may have given it before it heard of less, or gives it again after a restart.
    #[must_use]
    pub fn is_auto(&self, runner: &RunnerName) -> bool {
        self.auto.contains(runner)
    }

    /// For whoever describes the runners.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            known: self.known.subscribe(),
        }
    }

    fn change(&self, runner: &RunnerName, change: impl FnOnce(&mut Pace)) {
        if !self.is_auto(runner) {
            return;
        }
        self.known.send_if_modified(|known| {
            let pace = known.entry(runner.clone()).or_default();
            let before = pace.granted();
            change(pace);
            let granted = pace.granted();
            if granted != before {
                tracing::debug!(%runner, before, granted, "another prefetch");
            }
            granted != before
        });
    }
}

/// Sees what is granted.
#[derive(Debug)]
pub struct Watch {
    known: watch::Receiver<BTreeMap<RunnerName, Pace>>,
}

impl Watch {
    /// The runners with what is granted to them; what is configured stands.
    #[must_use]
    pub fn grant(&mut self, mut runners: Vec<RunnerInfo>) -> Vec<RunnerInfo> {
        let known = self.known.borrow_and_update();
        for runner in &mut runners {
            if let Some(pace) = known.get(&runner.name) {
                runner.prefetch = runner.prefetch.max(pace.granted());
            }
        }
        runners
    }

    /// Waits until something else is granted; for ever once nobody says so any more.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(turn_ms: u64, pause_ms: u64) -> Ran {
        Ran {
            turn: Duration::from_millis(turn_ms),
            pause: Duration::from_millis(pause_ms),
        }
    }

    #[test]
    fn a_prefetch_fills_the_pause_and_no_more() {
        // An agent's minutes, on a worker beside the head and on one far away.
        assert_eq!(depth(ran(60_000, 5), 4, 0), 0);
        assert_eq!(depth(ran(60_000, 1_000), 4, 0), 0);
        // Some milliseconds, beside the head and 100 ms away.
        assert_eq!(depth(ran(12, 4), 2, 0), 1);
        assert_eq!(depth(ran(12, 100), 2, 0), 32, "2 x 100 / 12, rounded up");
        assert_eq!(depth(ran(0, 9_000), 1000, 0), DEPTH_MAX);
        assert_eq!(depth(ran(0, 0), 2, 0), 0);
    }

    #[test]
    fn a_prefetch_does_not_follow_small_changes() {
        assert_eq!(depth(ran(96, 4), 2, 0), 0, "4 % are no reason to grant one");
        assert_eq!(depth(ran(96, 4), 2, 1), 1, "and none to take one back");
        assert_eq!(depth(ran(99, 1), 2, 1), 0);
        assert_eq!(depth(ran(10, 100), 2, 16), 32);
        assert_eq!(depth(ran(10, 60), 2, 32), 32, "16 would do");
        assert_eq!(depth(ran(10, 30), 2, 32), 8);
    }

    fn shell() -> RunnerName {
        "shell".parse().unwrap()
    }

    fn configured(prefetch: config::Prefetch) -> Prefetch {
        let runner = RunnerConfig {
            prefetch: Some(prefetch),
            ..RunnerConfig::default()
        };
        Prefetch::of(&[(shell(), runner)].into())
    }

    fn granted(watch: &mut Watch) -> u32 {
        watch.grant(vec![RunnerInfo::ready(shell())])[0].prefetch
    }

    #[test]
    fn it_follows_the_latest_attempts_and_one_that_is_odd_changes_nothing() {
        let prefetch = configured(config::Prefetch::Auto);
        let mut watch = prefetch.watch();
        for _ in 1..LOOKED_AT {
            prefetch.ran(&shell(), ran(12, 100), 2);
        }
        assert_eq!(granted(&mut watch), 0, "too few");
        prefetch.ran(&shell(), ran(60_000, 100), 2);
        assert_eq!(granted(&mut watch), 32, "all but one");
        for _ in 0..LOOKED_AT {
            prefetch.ran(&shell(), ran(12, 3_600_000), 2);
        }
        assert_eq!(granted(&mut watch), 32, "the head was away");
        for _ in 0..LOOKED_AT {
            prefetch.ran(&shell(), ran(60_000, 100), 2);
        }
        assert_eq!(granted(&mut watch), 32, "for a while");
        for _ in 0..LOOKED_AT {
            prefetch.ran(&shell(), ran(60_000, 100), 2);
        }
        assert_eq!(granted(&mut watch), 0);
    }

    #[test]
    fn it_is_for_commands_and_for_what_is_configured() {
        let is_auto = |prefetch: &Prefetch, name: &str| prefetch.is_auto(&name.parse().unwrap());
        let none = Prefetch::of(&BTreeMap::new());
        assert!(is_auto(&none, "shell"));
        assert!(!is_auto(&none, "claude") && !is_auto(&none, "noop"));
        let runner = |prefetch| RunnerConfig {
            prefetch,
            ..RunnerConfig::default()
        };
        let some = Prefetch::of(
            &[
                (shell(), runner(None)),
                (
                    "claude".parse().unwrap(),
                    runner(Some(config::Prefetch::Auto)),
                ),
                ("codex".parse().unwrap(), runner(None)),
            ]
            .into(),
        );
        assert!(is_auto(&some, "shell") && is_auto(&some, "claude") && !is_auto(&some, "codex"));
    }

    #[test]
    fn what_is_configured_stands() {
        let prefetch = configured(config::Prefetch::Fixed(3));
        let mut watch = prefetch.watch();
        for _ in 0..LOOKED_AT {
            prefetch.ran(&shell(), ran(12, 100), 2);
        }
        prefetch.waits(&shell(), true);
        assert_eq!(granted(&mut watch), 0);
    }

    #[test]
    fn it_stays_for_as_long_as_an_order_waits_that_could_not_be_called_back_else() {
        let prefetch = configured(config::Prefetch::Auto);
        let mut watch = prefetch.watch();
        prefetch.waits(&shell(), true);
        assert_eq!(granted(&mut watch), 1);
        prefetch.waits(&shell(), false);
        assert_eq!(granted(&mut watch), 0);
        prefetch.waits(&shell(), false);
        assert!(
            !watch.known.has_changed().unwrap(),
            "nobody is woken for nothing"
        );
    }
}
