//! Events.

use orchestra_types::{
    Event, EventKind,
    event::{Gap, GapReason, TextForm, ToolStatus},
    limits,
};

use super::{Refused, Result, text, timestamp};
use crate::v1::{self, event::Kind};

/// Longest id, tool name or title in an event.
const SHORT_MAX: usize = 8 * 1024;

impl TryFrom<v1::Event> for Event {
    type Error = Refused;

    fn try_from(wire: v1::Event) -> Result<Self> {
        if wire.seq == 0 {
            return Err(Refused::new("event", "events count from 1"));
        }
        let kind = wire
            .kind
            .ok_or_else(|| Refused::new("event", "has no kind"))?;
        Ok(Self {
            seq: wire.seq,
            time: timestamp(wire.time_ms),
            agent: short(wire.agent)?,
            kind: event_kind(kind)?,
            raw: text("event", wire.raw, limits::EVENT_RAW_BYTES_MAX)?,
        })
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        Self {
            seq: event.seq,
            time_ms: event.time.0,
            agent: event.agent,
            raw: event.raw,
            kind: Some(event.kind.into()),
        }
    }
}

impl From<Gap> for v1::EventGap {
    fn from(gap: Gap) -> Self {
        let Gap { from, to, why } = gap;
        let why = why.as_str().to_owned();
        Self { from, to, why }
    }
}

impl TryFrom<v1::EventGap> for Gap {
    type Error = Refused;

    fn try_from(wire: v1::EventGap) -> Result<Self> {
        let v1::EventGap { from, to, why } = wire;
        if from == 0 || to < from {
            return Err(Refused::new("gap", "its numbers are not a range"));
        }
        let why = match why.as_str() {
            "age" => GapReason::Age,
            "total" => GapReason::Total,
            "attempt" => GapReason::Attempt,
            "damaged" => GapReason::Damaged,
            _ => return Err(Refused::new("gap", "unknown reason")),
        };
        Ok(Self { from, to, why })
    }
}

impl From<EventKind> for Kind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::SessionStarted { session, model } => {
                Self::SessionStarted(v1::event::SessionStarted { session, model })
            }
            EventKind::Message {
                message_id,
                text,
                form,
            } => Self::Message(wire_text(message_id, text, form)),
            EventKind::Thinking {
                message_id,
                text,
                form,
            } => Self::Thinking(wire_text(message_id, text, form)),
            EventKind::ToolCall {
                call_id,
                tool,
                title,
                input,
            } => Self::ToolCall(v1::event::ToolCall {
                call_id,
                tool,
                title,
                input,
            }),
            EventKind::ToolResult {
                call_id,
                status,
                output,
            } => {
                let status = match status {
                    ToolStatus::Ok => "ok",
                    ToolStatus::Error => "error",
                    ToolStatus::Aborted => "aborted",
                };
                Self::ToolResult(v1::event::ToolResult {
                    call_id,
                    status: status.to_owned(),
                    output,
                })
            }
            EventKind::Usage(usage) => Self::Usage(usage.into()),
            EventKind::PermissionRequest {
                request_id,
                tool,
                title,
                decision,
            } => Self::PermissionRequest(v1::event::PermissionRequest {
                request_id,
                tool,
                title,
                decision,
            }),
            EventKind::Plan { text } => Self::Plan(text),
            EventKind::Status {
                phase,
                text,
                fields,
            } => Self::Status(v1::event::Status {
                phase,
                text,
                fields,
            }),
            EventKind::Final { text } => Self::Final(text),
            EventKind::Raw => Self::RawOnly(true),
        }
    }
}

fn wire_text(message_id: String, text: String, form: TextForm) -> v1::event::Text {
    let delta = match form {
        TextForm::Delta => true,
        TextForm::Snapshot => false,
    };
    v1::event::Text {
        message_id,
        text,
        delta,
    }
}

fn event_kind(wire: Kind) -> Result<EventKind> {
    Ok(match wire {
        Kind::SessionStarted(s) => EventKind::SessionStarted {
            session: short(s.session)?,
            model: short(s.model)?,
        },
        Kind::Message(t) => {
            let (message_id, text, form) = text_parts(t)?;
            EventKind::Message {
                message_id,
                text,
                form,
            }
        }
        Kind::Thinking(t) => {
            let (message_id, text, form) = text_parts(t)?;
            EventKind::Thinking {
                message_id,
                text,
                form,
            }
        }
        Kind::ToolCall(c) => EventKind::ToolCall {
            call_id: short(c.call_id)?,
            tool: short(c.tool)?,
            title: short(c.title)?,
            input: long(c.input)?,
        },
        Kind::ToolResult(r) => EventKind::ToolResult {
            call_id: short(r.call_id)?,
            status: tool_status(&r.status)?,
            output: long(r.output)?,
        },
        Kind::Usage(usage) => EventKind::Usage(usage.into()),
        Kind::PermissionRequest(p) => EventKind::PermissionRequest {
            request_id: short(p.request_id)?,
            tool: short(p.tool)?,
            title: short(p.title)?,
            decision: short(p.decision)?,
        },
        Kind::Plan(text) => EventKind::Plan { text: long(text)? },
        Kind::Status(s) => EventKind::Status {
            phase: short(s.phase)?,
            text: long(s.text)?,
            fields: s.fields,
        },
        Kind::Final(text) => EventKind::Final { text: long(text)? },
        Kind::RawOnly(_) => EventKind::Raw,
    })
}

fn text_parts(wire: v1::event::Text) -> Result<(String, String, TextForm)> {
    let form = if wire.delta {
        TextForm::Delta
    } else {
        TextForm::Snapshot
    };
    Ok((short(wire.message_id)?, long(wire.text)?, form))
}

fn tool_status(wire: &str) -> Result<ToolStatus> {
    match wire {
        "ok" => Ok(ToolStatus::Ok),
        "error" => Ok(ToolStatus::Error),
        "aborted" => Ok(ToolStatus::Aborted),
        _ => Err(Refused::new("event", "unknown status of a tool result")),
    }
}

fn short(wire: String) -> Result<String> {
    text("event", wire, SHORT_MAX)
}

fn long(wire: String) -> Result<String> {
    text("event", wire, limits::EVENT_TEXT_BYTES_MAX)
}
