//! Events as lines of JSON.

use orchestra_types::{AttemptId, Event, event::Gap};
use serde_json::{Map, Value, json};

use super::time::Time;
use crate::follow::Piece;

/// What came of an attempt, a document for each line.
pub fn documents(attempt: AttemptId, piece: &Piece) -> Vec<Value> {
    match piece {
        Piece::Events(events) => events.iter().map(|e| event(attempt, e)).collect(),
        Piece::Gap(missing) => vec![gap(attempt, missing)],
    }
}

/// Events that are not there any more: `task attempt type from to why`.
fn gap(attempt: AttemptId, gap: &Gap) -> Value {
    json!({
        "task": attempt.task,
        "attempt": attempt.number,
        "type": "gap",
        "from": gap.from,
        "to": gap.to,
        "why": gap.why.as_str(),
    })
}

/// One event: `task attempt seq time agent type …`, with the fields of its type, and `raw` where
/// the CLI's own line is kept.
fn event(attempt: AttemptId, event: &Event) -> Value {
    let mut document = Map::new();
    document.insert("task".to_owned(), json!(attempt.task));
    document.insert("attempt".to_owned(), json!(attempt.number));
    document.insert("seq".to_owned(), json!(event.seq));
    document.insert("time".to_owned(), json!(Time(event.time)));
    document.insert(
        "agent".to_owned(),
        json!((!event.agent.is_empty()).then_some(&event.agent)),
    );
    if let Ok(Value::Object(kind)) = serde_json::to_value(&event.kind) {
        document.extend(kind);
    }
    document.insert(
        "raw".to_owned(),
        json!((!event.raw.is_empty()).then_some(&event.raw)),
    );
    Value::Object(document)
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
        event(
            attempt,
            &Event {
                seq: 3,
                time,
                agent: String::new(),
                kind,
                raw: String::new(),
            },
        )
        .to_string()
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
            documents(attempt, &Piece::Gap(missing))[0].to_string(),
            r#"{"task":"task_001","attempt":2,"type":"gap","from":1,"to":9,"why":"age"}"#
        );
        assert!(
            usage.contains(r#""type":"usage","input_tokens":5,"output_tokens":0"#),
            "{usage}"
        );
    }
}
