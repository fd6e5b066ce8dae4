//! Events as lines of JSON.

use orchestra_types::{AttemptId, Event, EventKind, TaskId, event::Gap};
use serde::Serialize;

use super::time::Time;
use crate::follow::Piece;

/// One line. It borrows: there may be very many.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Document<'a> {
    /// An event.
    Event(EventLine<'a>),
    /// Events that are not there any more.
    Gap(GapLine),
}

/// One event: `task attempt seq time agent type …`, with the fields of its type, and `raw` where
/// the CLI's own line is kept.
#[derive(Debug, Serialize)]
pub struct EventLine<'a> {
    task: TaskId,
    attempt: u32,
    seq: u64,
    time: Time,
    agent: Option<&'a str>,
    #[serde(flatten)]
    kind: &'a EventKind,
    raw: Option<&'a str>,
}

/// Events that are not there any more: `task attempt type from to why`.
#[derive(Debug, Serialize)]
pub struct GapLine {
    task: TaskId,
    attempt: u32,
    r#type: &'static str,
    from: u64,
    to: u64,
    why: &'static str,
}

/// What came of an attempt, a document for each line.
pub fn documents(attempt: AttemptId, piece: &Piece) -> Vec<Document<'_>> {
    match piece {
        Piece::Events(events) => {
            let events = events.iter().map(|e| Document::Event(event(attempt, e)));
            events.collect()
        }
        Piece::Gap(missing) => vec![Document::Gap(gap(attempt, missing))],
    }
}

fn gap(attempt: AttemptId, gap: &Gap) -> GapLine {
    GapLine {
        task: attempt.task,
        attempt: attempt.number,
        r#type: "gap",
        from: gap.from,
        to: gap.to,
        why: gap.why.as_str(),
    }
}

fn event(attempt: AttemptId, event: &Event) -> EventLine<'_> {
    let known = |text| Some(text).filter(|text: &&str| !text.is_empty());
    EventLine {
        task: attempt.task,
        attempt: attempt.number,
        seq: event.seq,
        time: Time(event.time),
        agent: known(&event.agent),
        kind: &event.kind,
        raw: known(&event.raw),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::{EventKind, TaskId, Timestamp, Usage, event::TextForm};

    use super::*;

    fn line(kind: EventKind) -> String {
        let attempt = AttemptId {
            task: TaskId(1),
            number: 2,
        };
        let time = Timestamp(1_790_000_000_000);
        let happened = Event {
            seq: 3,
            time,
            agent: String::new(),
            kind,
            raw: String::new(),
        };
        serde_json::to_string(&event(attempt, &happened)).unwrap()
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let message = EventKind::Message {
            message_id: "m1".into(),
            text: "hi".into(),
            form: TextForm::Delta,
        };
        assert_eq!(
            line(message),
            r#"{"task":"task_001","attempt":2,"seq":3,"time":"2026-09-21T14:13:20.000Z","agent":null,"type":"message","message_id":"m1","text":"hi","form":"delta","raw":null}"#
        );
        assert_eq!(
            line(EventKind::Raw),
            r#"{"task":"task_001","attempt":2,"seq":3,"time":"2026-09-21T14:13:20.000Z","agent":null,"type":"raw","raw":null}"#
        );
        let usage = line(EventKind::Usage(Usage {
            input_tokens: 5,
            ..Usage::default()
        }));
        let missing = Gap {
            from: 1,
            to: 9,
            why: orchestra_types::event::GapReason::Age,
        };
        let attempt = AttemptId {
            task: TaskId(1),
            number: 2,
        };
        assert_eq!(
            serde_json::to_string(&documents(attempt, &Piece::Gap(missing))).unwrap(),
            r#"[{"task":"task_001","attempt":2,"type":"gap","from":1,"to":9,"why":"age"}]"#
        );
        assert!(
            usage.contains(r#""type":"usage","input_tokens":5,"output_tokens":0"#),
            "{usage}"
        );
    }
}
