//! What running attempts have used so far. Readings are totals.

use std::{collections::BTreeMap, time::Duration};

use orchestra_proto::v1;
use orchestra_types::{AttemptId, EventKind, Limited, Timestamp, Usage, limits};
use tokio::sync::watch;

use crate::{board::Board, clock};

/// All readings. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Meters(Board<Reading>);

#[derive(Clone, Debug, Default)]
struct Reading {
    usage: Usage,
    model: String,
    limited: Option<Limited>,
    ran: Option<Duration>,
}

impl Meters {
    /// Takes what events say of an attempt.
    pub fn note<'a>(&self, attempt: AttemptId, events: impl Iterator<Item = &'a EventKind>) {
        for event in events {
            match event {
                EventKind::Usage(usage) => self.0.change(attempt, |r| r.usage = *usage),
                EventKind::SessionStarted { model, .. } if !model.is_empty() => {
                    self.0.change(attempt, |r| model.clone_into(&mut r.model));
                }
                EventKind::Status {
                    phase,
                    text,
                    fields,
                } => {
                    if let Some(limited) = limited(phase, text, fields) {
                        self.0.change(attempt, |r| r.limited = Some(limited));
                    }
                }
                EventKind::SessionStarted { .. }
                | EventKind::Message { .. }
                | EventKind::Thinking { .. }
                | EventKind::ToolCall { .. }
                | EventKind::ToolResult { .. }
                | EventKind::PermissionRequest { .. }
                | EventKind::Plan { .. }
                | EventKind::Final { .. }
                | EventKind::Raw => {}
            }
        }
    }

    /// The agent of an attempt has ended after so long, and its result is not at the head yet: its time is
    /// not to count on.
    pub fn ran(&self, attempt: AttemptId, ran: Duration) {
        self.0.change(attempt, |r| r.ran = Some(ran));
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

    /// What the head has not been told, at most one message's worth; none when there is nothing.
    pub fn take(&self) -> Option<v1::Meters> {
        let meters = self.0.take(limits::METERS_MAX, meter);
        (!meters.is_empty()).then_some(v1::Meters { meters })
    }
}

/// A limit is told once.
fn meter(attempt: AttemptId, reading: &mut Reading) -> v1::Meter {
    v1::Meter {
        attempt: Some(attempt.into()),
        usage: Some(reading.usage.into()),
        model: reading.model.clone(),
        limited: reading.limited.take().map(Into::into),
        ran_ms: reading.ran.map(clock::ms),
    }
}

/// The limit that a status tells: adapters say `rate_limited` when their CLI waits for one.
fn limited(phase: &str, text: &str, fields: &BTreeMap<String, String>) -> Option<Limited> {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    // A warning that the limit is near is no limit.
    if phase != "rate_limited" || field("state").starts_with("allowed") {
        return None;
    }
    let moment = |name: &str, unit: u64| {
        let number: u64 = field(name).parse().ok().filter(|n| *n > 0)?;
        number.checked_mul(unit).map(Timestamp)
    };
    Some(Limited {
        resets_at: moment("resets_at_ms", 1).or_else(|| moment("resets_at", 1000)),
        message: limits::cut(text, limits::LIMITED_TEXT_BYTES_MAX),
    })
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    fn id(task: u64) -> AttemptId {
        AttemptId {
            task: TaskId(task),
            number: 1,
        }
    }

    fn usage(tokens: u64) -> EventKind {
        EventKind::Usage(Usage {
            input_tokens: tokens,
            ..Usage::default()
        })
    }

    fn status(fields: &[(&str, &str)]) -> EventKind {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        EventKind::Status {
            phase: "rate_limited".to_owned(),
            text: "slow down".to_owned(),
            fields: fields.iter().map(owned).collect(),
        }
    }

    #[test]
    fn the_latest_total_of_each_attempt_is_told_once_and_all_of_them_on_a_new_stream() {
        let meters = Meters::default();
        meters.note(id(1), [usage(5), usage(9)].iter());
        meters.note(id(2), [usage(1)].iter());
        let told = meters.take().unwrap().meters;
        let tokens = |m: &v1::Meter| m.usage.unwrap_or_default().input_tokens;
        assert_eq!(told.iter().map(tokens).collect::<Vec<_>>(), [9, 1]);
        assert_eq!(meters.take(), None);
        meters.end(id(2));
        meters.renew();
        assert_eq!(meters.take().unwrap().meters.len(), 1);
    }

    #[test]
    fn the_end_of_an_agent_is_told_with_what_it_has_used_and_again_on_a_new_stream() {
        let meters = Meters::default();
        meters.note(id(1), [usage(5)].iter());
        meters.ran(id(1), Duration::from_secs(3));
        for _ in 0..2 {
            let told = meters.take().unwrap().meters.pop().unwrap();
            let tokens = told.usage.unwrap_or_default().input_tokens;
            assert_eq!((told.ran_ms, tokens), (Some(3000), 5));
            meters.renew();
        }
    }

    #[test]
    fn a_limit_is_told_once_with_its_reset_and_a_warning_is_none() {
        let meters = Meters::default();
        let at = |fields: &[(&str, &str)]| {
            meters.note(id(1), [status(fields)].iter());
            let told = meters.take()?.meters.pop()?.limited;
            told.map(|limited| limited.resets_at_ms)
        };
        assert_eq!(at(&[("status", "429"), ("delay_ms", "500")]), Some(None));
        assert_eq!(at(&[("resets_at", "7")]), Some(Some(7000)));
        assert_eq!(at(&[("resets_at_ms", "7")]), Some(Some(7)));
        assert_eq!(
            at(&[("state", "allowed_warning"), ("resets_at", "7")]),
            None
        );
        meters.note(id(1), [usage(1)].iter());
        assert_eq!(meters.take().unwrap().meters[0].limited, None);
    }
}
