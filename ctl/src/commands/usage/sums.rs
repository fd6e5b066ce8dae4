//! What attempts have used, summed up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestra_proto::v1;
use orchestra_types::Timestamp;
use serde::{Serialize, Serializer};

use super::group::{By, Key, Names};

/// Which attempts count.
#[derive(Debug)]
pub struct Window {
    /// Those that ended then or later.
    pub since: Timestamp,
    /// Those of this runner; none for all.
    pub runner: Option<String>,
}

/// One row, and one of the `rows` of `ctl usage --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    pub key: Option<String>,
    pub id: Option<String>,
    pub tasks: u64,
    pub attempts: u64,
    #[serde(rename = "time_seconds", serialize_with = "seconds")]
    pub time_ms: u64,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// None where no attempt says a cost, and none has a price.
    pub cost_microusd: Option<u64>,
    /// How many attempts used tokens whose price is not known.
    pub unpriced: u64,
}

fn seconds<S: Serializer>(ms: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(Duration::from_millis(*ms).as_secs_f64())
}

/// The sums so far.
#[derive(Debug)]
pub struct Sums {
    by: By,
    window: Window,
    workers: Names,
    rows: BTreeMap<Key, Row>,
    total: Row,
    /// How many attempts have not ended.
    pub running: u64,
    /// Whether there was any task.
    pub any: bool,
    /// Whether a task had begun of which no attempt was told, and whether one was.
    untold: bool,
    told: bool,
}

impl Sums {
    pub fn new(by: By, window: Window, workers: Names) -> Self {
        Self {
            by,
            window,
            workers,
            rows: BTreeMap::new(),
            total: Row::default(),
            running: 0,
            any: false,
            untold: false,
            told: false,
        }
    }

    /// Whether there is nothing that was asked for.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.running == 0
    }

    /// Whether the head has said nothing of attempts that there were.
    pub fn knows_nothing(&self) -> bool {
        self.untold && !self.told
    }

    /// Takes a task with its attempts.
    pub fn add(&mut self, task: &v1::Task) {
        self.any = true;
        self.told |= !task.attempts.is_empty();
        self.untold |= task.attempts.is_empty() && task.attempt > 0;
        let Some(spec) = &task.spec else {
            return;
        };
        let mut keys = BTreeSet::new();
        let mut ended = false;
        for attempt in &task.attempts {
            let other = self.window.runner.as_ref();
            if other.is_some_and(|wanted| *wanted != attempt.runner) {
                continue;
            }
            let Some((outcome, end)) = attempt.outcome.as_ref().zip(attempt.finished_at_ms) else {
                self.running += u64::from(attempt.started_at_ms.is_some());
                continue;
            };
            let used = used(attempt, outcome, end);
            if Timestamp(end) < self.window.since || has_not_begun(attempt, &used) {
                continue;
            }
            let key = self.by.key(spec, attempt, Timestamp(end), &self.workers);
            self.rows.entry(key.clone()).or_default().take(&used);
            self.total.take(&used);
            ended = true;
            keys.insert(key);
        }
        for key in keys {
            self.rows.entry(key).or_default().tasks += 1;
        }
        self.total.tasks += u64::from(ended);
    }

    /// All together.
    pub fn total(&self) -> Row {
        self.total.clone()
    }

    /// The rows: days in their order, all else by cost and tokens, most first.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.rows.iter();
        let mut rows: Vec<Row> = rows
            .map(|(key, row)| Row {
                key: key.name.clone(),
                id: key.id.clone(),
                ..row.clone()
            })
            .collect();
        if self.by != By::Day {
            rows.sort_by_key(|row| {
                let tokens = row.input_tokens.saturating_add(row.output_tokens);
                std::cmp::Reverse((row.cost_microusd, tokens, row.time_ms))
            });
        }
        rows
    }
}

/// That an attempt has begun is known by its result alone where its worker was lost before it could say so.
fn has_not_begun(attempt: &v1::Attempt, used: &Row) -> bool {
    let anything = used.time_ms > 0 || used.input_tokens > 0 || used.output_tokens > 0;
    attempt.started_at_ms.is_none() && !anything
}

/// For how long an attempt ran. Of one that nobody has told to have begun its result says it.
fn ran(attempt: &v1::Attempt, outcome: &v1::Outcome, end: u64) -> u64 {
    use v1::exit::Exit as Kind;
    let exit = outcome.exit.as_ref().and_then(|exit| exit.exit.as_ref());
    match (attempt.started_at_ms, exit) {
        (Some(started), _) => end.saturating_sub(started),
        (None, Some(Kind::Code(_) | Kind::Signal(_) | Kind::Stopped(_))) => {
            outcome.finished_at_ms.saturating_sub(outcome.started_at_ms)
        }
        (None, Some(Kind::NotStarted(_) | Kind::Unknown(_)) | None) => 0,
    }
}

fn used(attempt: &v1::Attempt, outcome: &v1::Outcome, end: u64) -> Row {
    let usage = outcome.usage.unwrap_or_default();
    let has_tokens = usage.input_tokens > 0 || usage.output_tokens > 0;
    Row {
        attempts: 1,
        time_ms: ran(attempt, outcome, end),
        input_tokens: usage.input_tokens,
        cached_tokens: usage.cached_tokens,
        output_tokens: usage.output_tokens,
        cost_microusd: attempt.cost_microusd,
        unpriced: u64::from(has_tokens && attempt.cost_microusd.is_none()),
        ..Row::default()
    }
}

impl Row {
    fn take(&mut self, more: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.attempts, more.attempts);
        add(&mut self.time_ms, more.time_ms);
        add(&mut self.input_tokens, more.input_tokens);
        add(&mut self.cached_tokens, more.cached_tokens);
        add(&mut self.output_tokens, more.output_tokens);
        add(&mut self.unpriced, more.unpriced);
        if let Some(cost) = more.cost_microusd {
            add(self.cost_microusd.get_or_insert(0), cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(runner: &str, ended: Option<u64>, tokens: u64, cost: Option<u64>) -> v1::Attempt {
        let outcome = v1::Outcome {
            usage: Some(v1::Usage {
                input_tokens: tokens,
                ..Default::default()
            }),
            ..Default::default()
        };
        v1::Attempt {
            runner: runner.to_owned(),
            started_at_ms: Some(1_000),
            finished_at_ms: ended,
            outcome: ended.map(|_| outcome),
            cost_microusd: cost,
            ..Default::default()
        }
    }

    fn task(team: &str, attempts: Vec<v1::Attempt>) -> v1::Task {
        let mut spec = v1::TaskSpec::default();
        spec.labels.insert("team".to_owned(), team.to_owned());
        v1::Task {
            spec: Some(spec),
            attempt: 1,
            attempts,
            ..Default::default()
        }
    }

    fn summed(by: &str, since: u64, runner: Option<&str>) -> Sums {
        let window = Window {
            since: Timestamp(since),
            runner: runner.map(str::to_owned),
        };
        let mut sums = Sums::new(by.parse().unwrap(), window, Names::new());
        let mut unstarted = attempt("claude", Some(9_000), 0, None);
        unstarted.started_at_ms = None;
        let of_a = vec![
            attempt("claude", Some(2_000), 10, Some(500)),
            attempt("codex", Some(4_000), 20, None),
            unstarted,
        ];
        sums.add(&task("a", of_a));
        let of_b = vec![
            attempt("claude", Some(3_000), 5, Some(100)),
            attempt("claude", None, 0, None),
        ];
        sums.add(&task("b", of_b));
        sums
    }

    #[test]
    fn each_ended_attempt_counts_once_in_its_row_and_in_the_total() {
        let sums = summed("runner", 0, None);
        let said = |row: &Row| (row.tasks, row.attempts, row.time_ms, row.input_tokens);
        let rows = sums.rows();
        assert_eq!(rows[0].key.as_deref(), Some("claude"));
        assert_eq!(said(&rows[0]), (2, 2, 3_000, 15));
        assert_eq!((rows[0].cost_microusd, rows[0].unpriced), (Some(600), 0));
        assert_eq!(said(&rows[1]), (1, 1, 3_000, 20));
        assert_eq!((rows[1].cost_microusd, rows[1].unpriced), (None, 1));
        assert_eq!(said(&sums.total()), (2, 3, 6_000, 35));
        assert_eq!(sums.running, 1);
    }

    #[test]
    fn what_an_attempt_used_counts_though_nobody_has_told_that_it_began() {
        let mut sums = summed("runner", 9_000, None);
        let mut lost = attempt("claude", Some(9_000), 7, Some(70));
        lost.started_at_ms = None;
        sums.add(&task("a", vec![lost]));
        let total = sums.total();
        assert_eq!((total.attempts, total.input_tokens), (1, 7));
        assert_eq!((total.time_ms, total.cost_microusd), (0, Some(70)));
        // One without tokens has begun if it ran.
        let mut command = attempt("shell", Some(9_000), 0, None);
        command.started_at_ms = None;
        let outcome = command.outcome.as_mut().unwrap();
        (outcome.started_at_ms, outcome.finished_at_ms) = (2_000, 5_000);
        sums.add(&task("a", vec![command.clone()]));
        assert_eq!(sums.total().attempts, 1, "it was never started");
        let outcome = command.outcome.as_mut().unwrap();
        outcome.exit = Some(orchestra_types::Exit::Code(0).into());
        sums.add(&task("a", vec![command]));
        let total = sums.total();
        assert_eq!((total.attempts, total.time_ms), (2, 3_000));
    }

    #[test]
    fn rows_are_by_what_is_asked_for_and_of_what_is_asked_for() {
        let keys = |sums: Sums| -> Vec<Option<String>> {
            sums.rows().into_iter().map(|row| row.key).collect()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(keys(summed("label:team", 0, None)), [some("a"), some("b")]);
        assert_eq!(keys(summed("label:other", 0, None)), [None]);
        assert_eq!(keys(summed("runner", 3_500, None)), [some("codex")]);
        assert_eq!(keys(summed("label:team", 0, Some("codex"))), [some("a")]);
    }

    #[test]
    fn a_head_that_says_nothing_of_attempts_is_told_from_tasks_without_any() {
        let window = || Window {
            since: Timestamp(0),
            runner: None,
        };
        let mut sums = Sums::new(By::Runner, window(), Names::new());
        sums.add(&v1::Task::default());
        assert!(!sums.knows_nothing());
        sums.add(&task("a", Vec::new()));
        assert!(sums.knows_nothing());
    }
}
